"""`Arm`: the whole model behind six verbs, for people and for benchmarks.

    arm = Arm.from_pretrained("micro")
    arm.ask(image, "how many stars are there?")
    image, = arm.create("a red star left of a blue ring")
    arm.edit(image, "make the star green")

Codes are the common currency: a picture is encoded once, and everything else works on its codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image as Pillow

from arm.data.images import ImageInput, fit_to_grid, open_image, to_bytes, to_float
from arm.errors import InputError, WeightsError, checked_int
from arm.generate import (
    MOST_GUIDANCE,
    Guidance,
    Request,
    Result,
    answering_request,
    drawing_request,
    generate,
)
from arm.model_directory import (
    Defaults,
    find_model,
    load_defaults,
    load_detokenizer,
    model_files,
)
from arm.models.backbone import Materialize, load_backbone, on_cpu
from arm.models.detokenizer import Detokenizer
from arm.models.pretrained import load_siglip, load_text_tokenizer
from arm.models.qwen2 import Qwen2
from arm.models.text import TextTokenizer
from arm.models.tokenizer import VisualTokenizer
from arm.sampling import GREEDY, Sampling
from arm.sequence import Image, Sample, Text, Turn, assistant, user
from arm.vocab import Vocab

Codes = Int[np.ndarray, "gh gw"]
Picture = ImageInput
BATCH = 64
CACHE_BYTES = 8 * 2**30
"""Room for the keys and values of requests that go through the model together."""


@dataclass
class Reply:
    """One answer of a chat: words, a picture, or both."""

    text: str
    image: Pillow.Image | None = None


@dataclass
class Chat:
    """Interleaved turns with one model; `history` is the sample so far."""

    arm: "Arm"
    seed: int = 0
    history: list[Turn] = field(default_factory=list)

    def say(self, text: str, image: Picture | None = None) -> Reply:
        """Adds a user's turn, lets the model answer in words or by a picture, and keeps both.

        Raises InputError for empty text, unknown words, or a picture that cannot be read.
        """
        arm = self.arm
        parts = [Image(arm.encode(image))] if image is not None else []
        turns = (*self.history, user(*parts, Text(arm.text_tokenizer.ids(text))))
        request = answering_request(turns, arm.vocab, allow_image=True)
        result = generate(arm.model, arm.vocab, [request])[0][0]
        if result.wants_image is None:
            self.history = [*turns, assistant(Text(tuple(result.text_ids)))]
            return Reply(arm.text_tokenizer.text(result.text_ids))
        # A chat's earlier pictures and words are all condition; no branch was trained without
        # them, so pictures in a chat are drawn without guidance.
        seen = any(isinstance(part, Image) for turn in turns for part in turn.parts)
        sampling = arm.defaults.edit_sampling if seen else arm.defaults.sampling
        said = tuple(result.text_ids)
        plain, grid = Guidance(1.0, 1.0), result.wants_image
        request = drawing_request(turns, arm.vocab, grid, plain, begun=said)
        codes = arm.run([request], images=sampling, seed=self.seed + len(turns))[0].codes
        assert codes is not None
        words = (Text(said),) if said else ()
        self.history = [*turns, assistant(*words, Image(codes))]
        return Reply(arm.text_tokenizer.text(said), arm.decode(codes, seed=self.seed))


class Arm:
    """A loaded model. Make one with `from_pretrained`. `directory` holds the parts but the backbone."""

    def __init__(
        self,
        directory: Path,
        model: Qwen2,
        vocab: Vocab,
        text_tokenizer: TextTokenizer,
        tokenizer: VisualTokenizer,
        detokenizer: Detokenizer,
        defaults: Defaults,
    ) -> None:
        self.directory, self.model, self.vocab = directory, model, vocab
        self.text_tokenizer = text_tokenizer
        self.tokenizer, self.detokenizer, self.defaults = tokenizer, detokenizer, defaults

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "micro",
        detokenizer: str | None = None,
        materialize: Materialize = on_cpu,
        dtype: torch.dtype | None = torch.float32,
    ) -> "Arm":
        """Loads a shipped name or a directory. `detokenizer`: pixel, flux or sana (None: the default).
        `materialize` gives the backbone its storage, see `load_backbone`; `dtype` is its weights' type (None: as they lie).

        Raises WeightsError that names what is missing, damaged or unknown.
        """
        own = find_model(source)
        defaults, files = load_defaults(own), model_files(own)
        directory = files.parts
        tokenizer = VisualTokenizer.load(directory, load_siglip(directory / "siglip").vision_model)
        text_tokenizer = TextTokenizer(load_text_tokenizer(files.text_tokenizer))
        model, vocab = load_backbone(files.backbone, materialize, dtype)
        # A published text table has a few rows more than its tokenizer has ids.
        size, has_own = text_tokenizer.size, files.has_own_text_tokenizer
        fits = size <= vocab.text_size if has_own else size == vocab.text_size
        if not fits or tokenizer.fsq.num_codes != vocab.num_codes:
            raise WeightsError(
                f"{own}: its parts do not belong together: {text_tokenizer.size} words and "
                f"{tokenizer.fsq.num_codes} codes beside a backbone of {vocab}"
            )
        if vocab.max_side and max(map(max, defaults.grids)) > vocab.max_side:
            raise WeightsError(
                f"{files.settings}: grids have sides above {vocab.max_side}, the most of this backbone"
            )
        painter = load_detokenizer(directory, tokenizer, detokenizer or defaults.detokenizer)
        return cls(directory, model, vocab, text_tokenizer, tokenizer, painter, defaults)

    def to(self, device: torch.device | str) -> "Arm":
        """Moves every part to a device, in place."""
        for part in (self.model, self.tokenizer, self.detokenizer):
            part.to(device)
        return self

    # Pictures and codes

    def encode(self, image: Picture) -> Codes:
        """A picture, in any form of `ImageInput`, -> its codes (H, W). Raises InputError for what is no picture."""
        array = fit_to_grid(open_image(image), self.defaults.grids, self.tokenizer.patch)
        return self.tokenizer.encode(to_float(array[None]))[0].cpu().numpy()

    def decode(
        self,
        codes: Codes,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> Pillow.Image:
        """Codes (H, W) -> a picture. The same codes and seed give the same picture."""
        seed = checked_int("seed", seed)
        num_steps = None if num_steps is None else checked_int("num_steps", num_steps, least=1)
        codes = np.asarray(codes)
        if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer) or not codes.size:
            raise InputError(
                f"codes must be a grid of integers (H, W), not {codes.dtype} {codes.shape}"
            )
        if codes.min() < 0 or codes.max() >= self.vocab.num_codes:
            raise InputError(f"codes must be in 0..{self.vocab.num_codes - 1}")
        if guidance_scale is not None and not abs(guidance_scale) <= MOST_GUIDANCE:
            raise InputError(
                f"guidance_scale must be a number from -{MOST_GUIDANCE} to {MOST_GUIDANCE}, not "
                f"{guidance_scale}"
            )
        batch = torch.from_numpy(codes.astype(np.int64))[None]
        painted = self.detokenizer.decode(
            batch, seed=seed, num_steps=num_steps, guidance_scale=guidance_scale
        )
        return Pillow.fromarray(to_bytes(painted)[0])

    def grid_for(self, width: int, height: int) -> tuple[int, int]:
        """The (height, width) grid of a picture size in pixels.

        Raises InputError where the patches do not fit or the model has no such shape tokens.
        """
        width, height = checked_int("width", width), checked_int("height", height)
        patch = self.tokenizer.patch
        most = max(side for grid in self.defaults.grids for side in grid)
        if (
            width % patch
            or height % patch
            or not 0 < width <= most * patch
            or not 0 < height <= most * patch
        ):
            known = ", ".join(f"{w * patch}x{h * patch}" for h, w in self.defaults.grids)
            raise InputError(
                f"a picture of {width}x{height} does not fit: width and height must be multiples of "
                f"{patch} up to {most * patch}; this model was trained on {known}"
            )
        return height // patch, width // patch

    # The three tasks, in batches of codes

    def run(self, requests: Sequence[Request], *, images: Sampling, seed: int) -> list[Result]:
        """Requests in chunks, one result each, which depends on the seed and the request's place."""
        results, count = [], self.max_batch(requests)
        for start in range(0, len(requests), count):
            chunk = requests[start : start + count]
            found = generate(self.model, self.vocab, chunk, images=images, seed=seed, first=start)
            results += [group[0] for group in found]
        return results

    def max_batch(self, requests: Sequence[Request]) -> int:
        """How many of the requests fit into one batch: at most `BATCH`, and `CACHE_BYTES` of keys and values."""
        config, weight = self.model.config, self.model.embed_tokens.weight
        token = (
            2 * config.num_layers * config.num_kv_heads * config.head_size * weight.element_size()
        )
        longest = max((len(s) + (r.grid[0] * r.grid[1] if r.grid else r.max_text + 2)
                       for r in requests for s in r.streams), default=1)  # fmt: skip
        most = max((len(r.streams) for r in requests), default=1)
        return max(1, min(BATCH, CACHE_BYTES // (token * longest * most)))

    def draw(
        self,
        samples: Sequence[Sample],
        grids: Sequence[tuple[int, int]],
        *,
        sampling: Sampling | None = None,
        guidance: Guidance | None = None,
        has_image: bool = False,
        seed: int = 0,
    ) -> list[Codes]:
        """Codes for samples that end in a user's turn, each on its own grid."""
        if has_image:
            sampling, guidance = (
                sampling or self.defaults.edit_sampling,
                guidance or self.defaults.edit_guidance,
            )
        sampling, guidance = sampling or self.defaults.sampling, guidance or self.defaults.guidance
        requests = [
            drawing_request(sample, self.vocab, grid, guidance, has_image=has_image)
            for sample, grid in zip(samples, grids, strict=True)
        ]
        return [
            r.codes for r in self.run(requests, images=sampling, seed=seed) if r.codes is not None
        ]

    def draw_prompts(
        self, prompts: Sequence[str], grid: tuple[int, int] | None = None,
        sampling: Sampling | None = None, guidance: Guidance | None = None, seed: int = 0,
    ) -> list[Codes]:  # fmt: skip
        """Codes of one picture a prompt. Raises InputError for empty or unknown words."""
        samples = [(user(Text(self.text_tokenizer.ids(prompt))),) for prompt in prompts]
        grids = [grid or self.defaults.grids[0]] * len(prompts)
        return self.draw(samples, grids, sampling=sampling, guidance=guidance, seed=seed)

    def edit_codes(
        self, sources: Sequence[Codes], instructions: Sequence[str],
        sampling: Sampling | None = None, guidance: Guidance | None = None, seed: int = 0,
    ) -> list[Codes]:  # fmt: skip
        """Codes of the edited pictures, on their sources' grids."""
        samples = [
            (user(Image(codes), Text(self.text_tokenizer.ids(text))),)
            for codes, text in zip(sources, instructions, strict=True)
        ]
        grids = [(codes.shape[0], codes.shape[1]) for codes in sources]
        return self.draw(
            samples, grids, sampling=sampling, guidance=guidance, has_image=True, seed=seed
        )

    def answer_codes(
        self, pictures: Sequence[Codes], questions: Sequence[str], max_text: int = 64
    ) -> list[str]:
        """Greedy answers to one question a picture."""
        requests = [
            answering_request(
                (user(Image(codes), Text(self.text_tokenizer.ids(question))),), self.vocab, max_text
            )
            for codes, question in zip(pictures, questions, strict=True)
        ]
        return [
            self.text_tokenizer.text(r.text_ids) for r in self.run(requests, images=GREEDY, seed=0)
        ]

    # For people

    def ask(self, image: Picture, question: str) -> str:
        """The answer to a question about a picture. No decoder runs."""
        return self.answer_codes([self.encode(image)], [question])[0]

    def create(
        self,
        prompt: str,
        *,
        size: tuple[int, int] | None = None,
        num_images: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
        guidance: Guidance | None = None,
    ) -> list[Pillow.Image]:
        """Pictures of a prompt. `size` is (width, height) in pixels, None the model's first grid."""
        num_images = checked_int("num_images", num_images, least=1)
        seed = checked_int("seed", seed)
        grid = self.grid_for(*size) if size is not None else None
        found = self.draw_prompts([prompt] * num_images, grid, sampling, guidance, seed)
        return [self.decode(codes, seed=seed) for codes in found]

    def edit(
        self,
        image: Picture,
        instruction: str,
        *,
        seed: int = 0,
        sampling: Sampling | None = None,
        guidance: Guidance | None = None,
    ) -> Pillow.Image:
        """The picture after the instruction, at the size the model sees it."""
        seed = checked_int("seed", seed)
        codes = self.edit_codes([self.encode(image)], [instruction], sampling, guidance, seed)[0]
        return self.decode(codes, seed=seed)

    def chat(self, seed: int = 0) -> Chat:
        """A conversation in words and pictures."""
        return Chat(self, checked_int("seed", seed))
