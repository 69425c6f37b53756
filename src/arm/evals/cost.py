"""What a judged run will cost, estimated before the first question is asked.

Rules of thumb, and stated as such: 4 characters make a token of text; a picture takes 85 tokens and 170
for each tile of 512 pixels, after it is scaled to fit 2,048 pixels and its shorter side 768 (OpenAI's
rule for pictures at high detail). Other endpoints count differently: `tokens_per_image` gives their
number. Replies count with the largest length that is allowed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from arm.data.image_files import image_size
from arm.errors import InputError
from arm.evals.answers import answers_of, read_lines, unanswered
from arm.evals.benchmarks.base import Benchmark, Item
from arm.evals.benchmarks.files import Fingerprints
from arm.evals.making import picture_path
from arm.evals.requests import AnswerOptions
from arm.evals.scoring import matching_question, picture_questions
from arm.judge import Endpoint, Question

CHARACTERS = 4
TILE, BASE_TOKENS, TILE_TOKENS = 512, 85, 170
LONGEST, SHORTEST = 2048, 768

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Prices:
    """The price of a million tokens, in any currency."""

    read: float
    """For tokens that the judge reads."""
    written: float
    """For tokens that it writes."""


@dataclass(frozen=True)
class Estimate:
    """How many questions will be asked, and their tokens."""

    questions: int
    text: int
    """Tokens of text in the questions."""
    pictures: int
    """Tokens of the pictures."""
    replies: int
    """Tokens of the replies, at most."""
    kept: int = 0
    """Further questions whose reply is kept from an earlier run."""
    at_most: bool = False
    """Whether the number of questions depends on answers that the model has yet to give."""

    def cost(self, prices: Prices) -> float:
        """The highest possible cost, in the prices' currency."""
        return ((self.text + self.pictures) * prices.read + self.replies * prices.written) / 1e6

    def words(self, model: str, prices: Prices | None) -> str:
        """The line that a user reads before the first question."""
        line = (
            f"{'at most ' if self.at_most else ''}{self.questions:,} questions to {model}: about {self.text:,} tokens "
            f"of text ({CHARACTERS} characters each) and {self.pictures:,} of pictures, at most {self.replies:,} in "
            "replies"
        )
        if prices is not None:
            line += f"; at most {self.cost(prices):,.2f} at these prices"
        if self.kept:
            line += f"; {self.kept:,} replies are kept and not asked for again"
        return line


def picture_tokens(size: Size, min_side: int = 1) -> int:
    """Tokens of one picture, which `judge.png` first enlarges by a whole factor to `min_side` pixels."""
    factor = -(-min_side // min(size))
    width, height = size[0] * factor, size[1] * factor
    scale = min(1.0, LONGEST / max(width, height))
    scale *= min(1.0, SHORTEST / (min(width, height) * scale))
    tiles = math.ceil(round(width * scale, 6) / TILE) * math.ceil(round(height * scale, 6) / TILE)
    return BASE_TOKENS + TILE_TOKENS * tiles


def picture_size(path: Path | None) -> Size | None:
    """The size in a picture's header; None where there is no readable picture."""
    try:
        return None if path is None else image_size(path, str(path))
    except InputError:
        return None


def estimate(
    benchmark: Benchmark,
    items: Sequence[Item],
    directory: Path,
    made: Callable[[Item, int], Size | None],
    source: Callable[[Item], Size | None],
    min_side: int,
    reply_tokens: int,
    tokens_per_image: int | None = None,
    settled: Callable[[Item, int], Sequence[bool]] = lambda item, index: (),
) -> Estimate:
    """The questions about all pictures.

    made, source: the size of a picture; None where there is nothing to ask about. settled: for each
    question about a picture whether its reply is kept; () where none is.
    """

    def tokens(size: Size) -> int:
        return picture_tokens(size, min_side) if tokens_per_image is None else tokens_per_image

    questions = text = pictures = kept = 0
    for item in items:
        prompts = benchmark.judge_prompts(directory, item)
        before = source(item) if any(prompt.shows_source for prompt in prompts) else None
        for k in range(benchmark.images_per_item):
            after = made(item, k)
            done = () if after is None else settled(item, k)
            for prompt, is_kept in zip(prompts, done or [False] * len(prompts), strict=True):
                sizes = [before, after] if prompt.shows_source else [after]
                known = [size for size in sizes if size is not None]
                if is_kept:
                    kept += 1
                elif len(known) == len(sizes):
                    questions += 1
                    text += math.ceil(len(prompt.text) / CHARACTERS)
                    pictures += sum(map(tokens, known))
    return Estimate(questions, text, pictures, questions * reply_tokens, kept)


def estimate_matching(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Mapping[str, str],
    settled: Callable[[Question], bool],
    reply_tokens: int,
) -> Estimate:
    """The questions about answers that the rules cannot read.

    Exact for items in `answers`; each other item counts as one question.
    """
    questions = text = kept = 0
    for item in items:
        answer = answers.get(item.id)
        question = matching_question(benchmark, item, answer or "")
        if question is None:
            continue
        if answer is not None and settled(question):
            kept += 1
            continue
        questions += 1
        text += math.ceil(len(question.text) / CHARACTERS)
        text += AnswerOptions().max_text if answer is None else 0
    unknown = any(item.id not in answers for item in items)
    return Estimate(questions, text, 0, questions * reply_tokens, kept, unknown)


def estimate_answers(
    benchmark: Benchmark, items: Sequence[Item], images: Path, run: Path, endpoint: Endpoint
) -> Estimate:
    """The questions of a run about answers, of which some may be made already."""
    lines = read_lines(run)
    answers = answers_of(lines)
    for item in unanswered(items, lines, images, Fingerprints()):
        answers.pop(item.id, None)
    return estimate_matching(
        benchmark, items, answers, endpoint.is_settled, endpoint.config.max_tokens
    )


def estimate_pictures(
    benchmark: Benchmark,
    items: Sequence[Item],
    directory: Path,
    images: Path,
    folder: Path,
    run: Path,
    endpoint: Endpoint,
    unmade: Size | None,
    tokens_per_image: int | None,
) -> Estimate:
    """The questions of a run about the pictures in `folder`.

    unmade: the size of pictures that are still to be made; None where none will be.
    """
    # Every picture is read only where there are replies that may be kept.
    any_kept = any((run / "replies").glob("*/*.json"))

    def made(item: Item, index: int) -> Size | None:
        size = picture_size(picture_path(folder, item, index))
        impossible = benchmark.kind == "editing" and source(item) is None
        return size or (None if impossible else unmade)

    def source(item: Item) -> Size | None:
        return None if item.image is None else picture_size(images / item.image)

    def settled(item: Item, index: int) -> list[bool]:
        if not any_kept:
            return []
        asked = picture_questions(benchmark, directory, item, folder, images, index)
        return [question is not None and endpoint.is_settled(question) for question in asked]

    config = endpoint.config
    return estimate(
        benchmark, items, directory, made, source, config.min_side, config.max_tokens,
        tokens_per_image, settled,
    )  # fmt: skip
