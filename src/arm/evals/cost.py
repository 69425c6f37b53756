"""What a judged run will cost, counted before the first question is asked.

Rules of thumb, and named as such: 4 characters make a token of text; a picture takes 85 tokens and 170 for
each tile of 512 pixels, after it was made to fit 2,048 pixels and its shorter side 768 (the rule that
OpenAI states for its high-detail pictures). Other endpoints count otherwise: `tokens_per_image` names
their number. Replies are counted at the most that they may be.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as Pillow

from arm.evals.benchmarks.base import Item
from arm.evals.benchmarks.registry import Benchmark
from arm.evals.matching import question_about
from arm.evals.requests import Answering
from arm.judge import Question

CHARACTERS = 4
TILE, BASE_TOKENS, TILE_TOKENS = 512, 85, 170
LONGEST, SHORTEST = 2048, 768

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Prices:
    """Of a million tokens that the judge reads and writes, in whatever currency."""

    read: float
    written: float


@dataclass(frozen=True)
class Estimate:
    """How many questions, and their tokens; `kept` more have a reply already. at_most: what is asked
    depends on answers that the model has yet to give.
    """

    questions: int
    text: int
    pictures: int
    replies: int
    kept: int = 0
    at_most: bool = False

    def cost(self, prices: Prices) -> float:
        """At most, in the prices' currency."""
        return ((self.text + self.pictures) * prices.read + self.replies * prices.written) / 1e6

    def words(self, model: str, prices: Prices | None) -> str:
        """What a user reads before the first question."""
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
    """Tokens of one picture, that `judge.png` enlarges by a whole factor to `min_side` first."""
    factor = -(-min_side // min(size))
    width, height = size[0] * factor, size[1] * factor
    scale = min(1.0, LONGEST / max(width, height))
    scale *= min(1.0, SHORTEST / (min(width, height) * scale))
    tiles = math.ceil(round(width * scale, 6) / TILE) * math.ceil(round(height * scale, 6) / TILE)
    return BASE_TOKENS + TILE_TOKENS * tiles


def picture_size(path: Path | None) -> Size | None:
    """From the file's head; None where there is no readable picture."""
    try:
        if path is not None:
            with Pillow.open(path) as image:
                return image.size
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError):
        pass
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
    """Counts the questions about all pictures. `made` and `source` give the size of a picture; where it
    is None there is nothing to ask. `settled` says of each question about a picture whether its reply is
    kept; () where none is.
    """

    def tokens(size: Size) -> int:
        return picture_tokens(size, min_side) if tokens_per_image is None else tokens_per_image

    questions = text = pictures = kept = 0
    for item in items:
        calls = benchmark.calls(directory, item)
        before = source(item) if any(call.with_source for call in calls) else None
        for k in range(benchmark.pictures):
            after = made(item, k)
            done = () if after is None else settled(item, k)
            for call, is_kept in zip(calls, done or [False] * len(calls), strict=True):
                sizes = [before, after] if call.with_source else [after]
                known = [size for size in sizes if size is not None]
                if is_kept:
                    kept += 1
                elif len(known) == len(sizes):
                    questions += 1
                    text += math.ceil(len(call.text) / CHARACTERS)
                    pictures += sum(map(tokens, known))
    return Estimate(questions, text, pictures, questions * reply_tokens, kept)


def estimate_matching(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Mapping[str, str],
    settled: Callable[[Question], bool],
    reply_tokens: int,
) -> Estimate:
    """Counts the questions about answers that the rules cannot read: exactly where `answers` has an
    item's answer, one where it has not.
    """
    questions = text = kept = 0
    for item in items:
        answer = answers.get(item.id)
        question = question_about(benchmark, item, answer or "")
        if question is None:
            continue
        if answer is not None and settled(question):
            kept += 1
            continue
        questions += 1
        text += math.ceil(len(question.text) / CHARACTERS)
        text += Answering().max_text if answer is None else 0
    unknown = any(item.id not in answers for item in items)
    return Estimate(questions, text, 0, questions * reply_tokens, kept, unknown)
