"""Drawing, editing and chat as procedures that the engine runs.

The requests, seeds and places are those of `Arm.create`, `Arm.edit` and `Chat.say`, so the same seed gives the same
codes and pictures as the library does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from arm.data.images import ImageInput, fit_to_grid
from arm.generate import Guidance, Request, Result, answering_request, drawing_request
from arm.pipeline import Arm
from arm.sampling import GREEDY, Sampling
from arm.sequence import Image, Text, Turn
from arm.serve.engine import Batch, Procedure

UNDRAWN = (128, 128, 128)
"""The colour of patches of a partial picture that have no code yet."""


@dataclass
class Outcome:
    """The result of a job, with its token counts. complete: the text ended with <end>, not at the token limit."""

    pictures: list[Pillow.Image] = field(default_factory=list)
    text: str = ""
    complete: bool = True
    input_text: int = 0
    input_image: int = 0
    output: int = 0


@dataclass(frozen=True)
class Painting:
    """Settings of drawing and decoding; None takes the model's default.

    n: pictures. partial_images: how many pictures of the unfinished grid are passed to `on_partial`, as (index,
    picture).
    """

    n: int = 1
    seed: int = 0
    guidance: float | None = None
    num_steps: int | None = None
    partial_images: int = 0
    on_partial: Callable[[int, Pillow.Image], None] | None = None


@dataclass(frozen=True)
class Message:
    """One turn of a chat. parts: token ids of texts, and pictures that are not encoded yet."""

    parts: tuple[tuple[int, ...] | ImageInput, ...]
    assistant: bool = False


@dataclass(frozen=True)
class ChatSettings:
    """Settings of a chat's answer.

    picture: "never", "always", or "model" for the model to decide. max_text: the most tokens of text. on_text:
    called with each new piece of text as it is sampled.
    """

    picture: str = "model"
    max_text: int = 64
    texts: Sampling = GREEDY
    on_text: Callable[[str], None] | None = None


def draw(arm: Arm, prompt: tuple[int, ...], grid: tuple[int, int], painting: Painting) -> Procedure:
    """Pictures of a prompt, as `Arm.create`. Returns an Outcome."""
    sample = (Turn((Text(prompt),)),)
    return (yield from _draw(arm, sample, grid, painting, has_image=False))


def edit(arm: Arm, picture: ImageInput, instruction: tuple[int, ...], painting: Painting) -> Procedure:  # fmt: skip
    """Variants of an edited picture on its own grid; the first is that of `Arm.edit`. Returns an Outcome."""
    codes = arm.encode(picture)
    sample = (Turn((Image(codes), Text(instruction))),)
    return (yield from _draw(arm, sample, _shape(codes), painting, has_image=True))


def chat(
    arm: Arm, messages: Sequence[Message], settings: ChatSettings, painting: Painting
) -> Procedure:
    """An answer in words, by a picture, or both, as `Chat.say`. Returns an Outcome."""
    turns = tuple(Turn(tuple(_part(arm, p) for p in m.parts), m.assistant) for m in messages)
    shown = [part for turn in turns for part in turn.parts if isinstance(part, Image)]
    if settings.picture == "always":
        grid = _shape(shown[-1].codes) if shown else arm.defaults.grids[0]
        return (yield from _draw(arm, turns, grid, painting, bool(shown), plain=len(turns) > 1))
    request = answering_request(
        turns, arm.vocab, settings.max_text, allow_image=settings.picture == "model"
    )
    observer = _text_observer(arm, settings.on_text) if settings.on_text else None
    batch = Batch((request,), (painting.seed,), (0,), GREEDY, settings.texts, observer)
    (result,) = yield batch
    text = arm.text_tokenizer.text(result.text_ids)
    complete = result.wants_image is not None or result.ids[-1] == arm.vocab.end
    outcome = Outcome([], text, complete, output=len(result.ids))
    if result.wants_image is not None:
        drawn: Outcome = yield from _draw(
            arm, turns, result.wants_image, painting, bool(shown), plain=True,
            begun=tuple(result.text_ids), seed=painting.seed + len(turns),
        )  # fmt: skip
        outcome.pictures, outcome.output = drawn.pictures, outcome.output + drawn.output
    outcome.input_text, outcome.input_image = _input_tokens(request)
    return outcome


def fitted(arm: Arm, picture: Pillow.Image) -> Pillow.Image:
    """The picture as the model sees it: cut and scaled to one of its grids."""
    return Pillow.fromarray(fit_to_grid(picture, arm.defaults.grids, arm.tokenizer.patch))


def _draw(
    arm: Arm,
    turns: tuple[Turn, ...],
    grid: tuple[int, int],
    painting: Painting,
    has_image: bool,
    *,
    plain: bool = False,
    begun: tuple[int, ...] = (),
    seed: int | None = None,
) -> Procedure:
    """Samples `painting.n` grids and decodes them. plain: without guidance. seed: of the codes; None takes `painting.seed`."""
    defaults = arm.defaults
    sampling = defaults.edit_sampling if has_image else defaults.sampling
    guidance = defaults.edit_guidance if has_image else defaults.guidance
    if painting.guidance is not None:
        guidance = Guidance(painting.guidance, guidance.image)
    if plain:
        guidance = Guidance(1.0, 1.0)
    request = drawing_request(
        turns, arm.vocab, grid, guidance, has_image=has_image and not plain, begun=begun
    )
    seeds = (painting.seed if seed is None else seed,) * painting.n
    observer = _picture_observer(arm, grid, painting)
    places = tuple(range(painting.n))
    results = yield Batch((request,) * painting.n, seeds, places, sampling, on_step=observer)
    pictures = [_paint(arm, result.codes, painting) for result in results if result.codes is not None]  # fmt: skip
    input_text, input_image = _input_tokens(request)
    output = sum(len(result.ids) for result in results)
    return Outcome(pictures, "", True, input_text, input_image, output)


def _part(arm: Arm, part: tuple[int, ...] | ImageInput) -> Text | Image:
    return Text(part) if isinstance(part, tuple) else Image(arm.encode(part))


def _shape(codes: NDArray[np.int64]) -> tuple[int, int]:
    return codes.shape[0], codes.shape[1]


def _paint(arm: Arm, codes: NDArray[np.int64], painting: Painting) -> Pillow.Image:
    return arm.decode(codes, seed=painting.seed, num_steps=painting.num_steps)


def _input_tokens(request: Request) -> tuple[int, int]:
    """Tokens of a request's prompt: those that are no codes, and the codes."""
    prompt = request.streams[0]
    codes = int((prompt.codes >= 0).sum())
    return len(prompt) - codes, codes


def _text_observer(arm: Arm, on_text: Callable[[str], None]) -> Callable[[Sequence[Result]], None]:
    """Passes on the words that are new since the last step, where they extend the earlier ones."""
    sent = ""

    def observe(results: Sequence[Result]) -> None:
        nonlocal sent
        text = arm.text_tokenizer.text(results[0].text_ids)
        # A byte-level tokenizer shows the replacement character until all bytes of a character are there.
        if len(text) > len(sent) and text.startswith(sent) and not text.endswith("\ufffd"):
            on_text(text[len(sent) :])
            sent = text

    return observe


def _picture_observer(
    arm: Arm, grid: tuple[int, int], painting: Painting
) -> Callable[[Sequence[Result]], None] | None:
    """Paints the first picture's grid `partial_images` times, at equal intervals, as far as it is drawn."""
    on_partial, count = painting.on_partial, painting.partial_images
    if on_partial is None or not count:
        return None
    total = grid[0] * grid[1]
    due = [total * (i + 1) // (count + 1) for i in range(count)]

    def observe(results: Sequence[Result]) -> None:
        ids = results[0].ids
        while due and len(ids) >= max(1, due[0]) and len(ids) < total:
            due.pop(0)
            codes = [arm.vocab.code_of(token) for token in ids]
            on_partial(count - len(due) - 1, partial_picture(arm, codes, grid, painting))

    return observe


def partial_picture(
    arm: Arm, codes: Sequence[int], grid: tuple[int, int], painting: Painting
) -> Pillow.Image:
    """The picture of the first codes of a grid; patches without a code are grey.

    The decoder needs a whole grid: the missing codes are filled with the newest one before painting.
    """
    height, width = grid
    whole = np.full(height * width, codes[-1], dtype=np.int64)
    whole[: len(codes)] = codes
    pixels = np.array(_paint(arm, whole.reshape(grid), painting))
    drawn = (np.arange(height * width) < len(codes)).reshape(grid)
    side = pixels.shape[0] // height, pixels.shape[1] // width
    pixels[~drawn.repeat(side[0], 0).repeat(side[1], 1)] = UNDRAWN
    return Pillow.fromarray(pixels)
