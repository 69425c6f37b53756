"""What a domain offers: pictures to train on, tasks with a known truth, and a referee that scores pictures.

A domain is one kind of picture of which everything is known, such as the built-in world. Training,
reinforcement learning and evaluation receive one as an object and import none by name. The protocol has
three parts, since a domain need not offer all of them: `PictureDomain` feeds the tokenizer, the decoders
and the stand-ins; `ChainDomain` feeds the language model from code shards of its own; `TaskDomain` asks
and scores. A domain whose training data are a user's files needs `TaskDomain` alone.

Every sampling method is a pure function of its arguments. `truth` fields belong to the domain: others
carry them from its tasks to its referee and never look inside.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from arm.data.captioned import PictureBatch
from arm.data.images import GridWeight
from arm.data.mixture import Dropout, Mix, Ratios
from arm.sequence import Sample, Tokenize

Split = Literal["train", "dev", "test"]
"""What may be trained on, what choices are made on, and what is reported."""
PixelArray = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Canvas:
    """The sizes of pictures: token grids and how often a batch has each, the side of a token's patch in
    pixels, and `scale`, pixels a unit of domains that draw their own pictures.
    """

    grids: tuple[GridWeight, ...]
    patch: int
    scale: int = 1

    def size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels of the grid number `index`, counted round the grids."""
        grid = self.grids[index % len(self.grids)]
        return grid.height * self.patch, grid.width * self.patch


@dataclass(frozen=True, eq=False)
class DrawingTask:
    """A prompt. `kind`: the group that its score is averaged in."""

    kind: str
    text: str
    truth: Any


@dataclass(frozen=True, eq=False)
class EditingTask:
    """An instruction, the picture that it changes, and the picture that it asks for."""

    kind: str
    instruction: str
    source: PixelArray
    target: PixelArray
    truth: Any


@dataclass(frozen=True, eq=False)
class QuestionTask:
    """A question about a picture with one right, short answer; `kind` "existence" is answered yes or no."""

    kind: str
    picture: PixelArray
    text: str
    answer: str


@dataclass(frozen=True)
class EditScore:
    """GEdit's scores. follow, preserve and quality are in [0, 1]; sc, pq and overall in [0, 10]."""

    follow: float
    preserve: float
    quality: float

    @property
    def sc(self) -> float:
        """Semantic consistency: the change was made, and nothing else changed."""
        return 10 * min(self.follow, self.preserve)

    @property
    def pq(self) -> float:
        """Perceptual quality."""
        return 10 * self.quality

    @property
    def overall(self) -> float:
        return math.sqrt(self.sc * self.pq)


@dataclass(frozen=True)
class Recognition:
    """What the referee says of a reconstruction. exact: it shows the very same; clear: beyond doubt."""

    exact: bool
    clear: bool


@dataclass(frozen=True, eq=False)
class PatchLabels:
    """Dense labels of B pictures of N patches in row-major order, A attributes each.

    labels: (B, N, A), the class of each attribute, -1 where the patch shows nothing. offsets: (B, N, 2),
    from the patch's centre to that of the thing that it shows, x then y, in patches; 0 where there is none.
    """

    labels: Int[Tensor, "b n a"]
    offsets: Float[Tensor, "b n 2"]


class Referee(Protocol):
    """Scores pictures, uint8 RGB, by what they show."""

    def draws_right(self, task: DrawingTask, picture: PixelArray) -> bool:
        """Whether the picture shows what the prompt asks for."""
        ...

    def score_edit(self, task: EditingTask, picture: PixelArray) -> EditScore: ...

    def recognize(self, truth: Any, picture: PixelArray) -> Recognition:
        """Compares a reconstruction with the truth of the picture, from `PictureBatch.truths`."""
        ...

    def look_alike(self, first: PixelArray, second: PixelArray) -> bool:
        """Whether two pictures show the same."""
        ...


class PictureDomain(Protocol):
    """Captioned pictures in batches, for the tokenizer, the decoders and the stand-ins."""

    @property
    def class_names(self) -> Sequence[str]:
        """Noun phrases of the classes that zero-shot classification chooses from."""
        ...

    @property
    def label_sizes(self) -> Sequence[int]:
        """Number of classes of each attribute in `patch_labels`; empty where there are none."""
        ...

    def pictures(
        self,
        split: Split,
        seed: int,
        number: int,
        size: int,
        canvas: Canvas,
        *,
        singles: float = 0.0,
        twins: bool = False,
    ) -> PictureBatch:
        """Batch `number` of `size` pictures of one grid, with their truths.

        singles: share of pictures that show one thing alone, which has a class. twins: with a changed
        copy of each picture.
        """
        ...

    def class_of(self, truth: Any) -> int:
        """The index in `class_names` of what a picture of one thing shows."""
        ...

    def comparable(self, pictured: Sequence[Any], described: Sequence[Any]) -> Bool[Tensor, "b n"]:
        """Pairs (picture, caption) that a contrastive loss may use, given the truths of both."""
        ...

    def patch_labels(self, batch: PictureBatch, canvas: Canvas) -> PatchLabels: ...

    def text_tokenizer(self) -> Any:
        """A Hugging Face tokenizer that knows every word of the domain."""
        ...

    def referee(self, canvas: Canvas) -> Referee: ...


class EncodedChain(Protocol):
    """Pictures of one chain of edits as codes."""

    @property
    def codes(self) -> NDArray[np.uint16]:
        """(K, height, width)"""
        ...


class ChainDomain(Protocol):
    """Chains of pictures in code shards of the domain's own format, and the tasks made from them."""

    def read_chains(self, directory: Path) -> Iterable[EncodedChain]:
        """Every chain of a directory in order. Raises DataError for missing or damaged shards."""
        ...

    def chain_samples(
        self, chains: Sequence[Any], ratios: Ratios, dropout: Dropout, tokenize: Tokenize
    ) -> Mix:
        """Random training samples, each task as often as `ratios` says."""
        ...

    def text_tokenizer(self) -> Any:
        """A Hugging Face tokenizer that knows every word of the domain."""
        ...


class TaskDomain(Protocol):
    """Prompts, edits and questions with their truth, and the referee that scores what a model makes."""

    def prompts(self, split: Split, per_kind: int, seed: int) -> list[DrawingTask]: ...

    def knowledge_prompts(self, split: Split, count: int, seed: int) -> list[DrawingTask]:
        """Prompts that name what to draw indirectly, about `count` in all, as many of each kind."""
        ...

    def edits(
        self, split: Split, per_kind: int, seed: int, canvas: Canvas
    ) -> list[EditingTask]: ...

    def questions(
        self, split: Split, per_kind: int, seed: int, canvas: Canvas
    ) -> list[QuestionTask]: ...

    def sample_drawing(self, rng: np.random.Generator, canvas: Canvas, index: int) -> DrawingTask:
        """A training prompt for the grid number `index`, counted round the grids."""
        ...

    def sample_editing(self, rng: np.random.Generator, canvas: Canvas, index: int) -> EditingTask:
        """A training edit of a picture of the grid number `index`, counted round the grids."""
        ...

    def sample_understanding(
        self,
        rng: np.random.Generator,
        canvas: Canvas,
        count: int,
        encode: Callable[[PixelArray], NDArray[np.int64]],
        tokenize: Tokenize,
    ) -> list[Sample]:
        """Training conversations about at most `count` pictures; `encode` gives a picture's codes."""
        ...

    def referee(self, canvas: Canvas) -> Referee: ...


class Domain(PictureDomain, ChainDomain, TaskDomain, Protocol):
    """A domain that offers everything, as the built-in world does."""


def code_counts(chains: Iterable[EncodedChain], num_codes: int) -> NDArray[np.int64]:
    """How often each code occurs in the pictures of the chains, (num_codes,)."""
    counts = np.zeros(num_codes, dtype=np.int64)
    for chain in chains:
        counts += np.bincount(chain.codes.ravel(), minlength=num_codes)
    return counts
