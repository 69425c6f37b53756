"""Requests of benchmarks and of other harnesses: text and pictures in order, for an answer or a picture.

The parts of a request become a user's turn, and batches of turns become answers, pictures, or the
likelihoods of given answers. What a request samples depends on the seed and on its position among all
requests, not on its batch.

Shape suffixes: N requests, T tokens of the longest, V text vocabulary, D width.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image as Pillow
from torch import Tensor

from arm.data.images import ImageInput
from arm.errors import InputError
from arm.evals.painting import paint_each
from arm.files import atomic_write
from arm.generate import answering_request, drawing_request, generate, origins
from arm.pipeline import Arm, Codes
from arm.sampling import GREEDY, Sampling
from arm.sequence import Image, Text, Turn, assistant, flatten, pad_rows, user

MARK = "<image>"
Part = str | ImageInput | Image
"""Text as a string; a picture as anything else that `open_image` takes, or as its codes."""
P = TypeVar("P")


@dataclass(frozen=True)
class AnswerOptions:
    """How an answer is sampled and where it ends."""

    max_text: int = 64
    """The largest number of tokens."""
    texts: Sampling = GREEDY
    until: tuple[str, ...] = ()
    """Strings that end the answer and are not part of it."""


def answer_options(options: Mapping[str, Any]) -> AnswerOptions:
    """The options that a harness passes, named as in transformers' `generate`, with `until`.

    Where do_sample is not given, a temperature above 0 samples, as in the harnesses' own models.
    Raises InputError for values out of range.
    """
    temperature = float(options.get("temperature") or 0)
    texts = GREEDY
    if temperature > 0 and options.get("do_sample", True):
        top_p = float(options.get("top_p") or 1)
        try:
            texts = Sampling(temperature, int(options.get("top_k") or 0), top_p)
        except ValueError as error:
            raise InputError(f"generation options: {error}") from None
    until = options.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(until)
    return AnswerOptions(
        int(options.get("max_new_tokens") or 64), texts, tuple(s for s in stops if s)
    )


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the strings in `until`, stripped."""
    for stop in until:
        text = text.split(stop, 1)[0]
    return text.strip()


def interleaved(text: str, pictures: Sequence[ImageInput]) -> tuple[Part, ...]:
    """The text with pictures in the places of <image>, or after all pictures where it has no such place.

    Raises InputError where there are not as many places as pictures.
    """
    pieces = text.split(MARK)
    if len(pieces) == 1:
        return (*pictures, text)
    if len(pieces) - 1 != len(pictures):
        raise InputError(
            f"the text has {len(pieces) - 1} {MARK}, but there are {len(pictures)} pictures"
        )
    parts: list[Part] = [pieces[0]]
    for picture, piece in zip(pictures, pieces[1:], strict=True):
        parts += [picture, piece]
    return tuple(parts)


def placed(text: str, pictures: Mapping[str, P]) -> tuple[str | P, ...]:
    """The text with pictures in the places of their markers, or after all pictures where it has none.

    "is <image 2> red?" -> ("is ", pictures["<image 2>"], " red?"). A marker may occur several times.
    """
    marks = "|".join(re.escape(mark) for mark in pictures)
    pieces = re.split(f"({marks})", text) if marks else [text]
    if len(pieces) == 1:
        return (*pictures.values(), text)
    # The markers are at the odd indices.
    parts = [pictures[piece] if n % 2 else piece for n, piece in enumerate(pieces)]
    return tuple(part for part in parts if part != "")


def from_message(message: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    """The parts of a VLMEvalKit message: dicts with `type` "text" or "image" and `value` (text or path).

    Raises InputError for another type.
    """
    parts: list[Part] = []
    for part in message:
        if part["type"] not in ("text", "image"):
            raise InputError(f"the model takes text and pictures, not {part['type']}")
        parts.append(part["value"] if part["type"] == "text" else Path(part["value"]))
    return tuple(parts)


def as_turn(arm: Arm, parts: Sequence[Part], *, known_words: bool = False) -> Turn:
    """A user's turn of these parts.

    known_words: leave out words that the model does not know. Raises InputError for an unknown word,
    a broken picture, or a turn without any text.
    """
    turn: list[Text | Image] = []
    for part in parts:
        if not isinstance(part, str):
            turn.append(part if isinstance(part, Image) else Image(arm.encode(part)))
            continue
        text = arm.text_tokenizer.known(part) if known_words else part
        if text.strip():
            turn.append(Text(arm.text_tokenizer.ids(text)))
    if not any(isinstance(part, Text) for part in turn):
        text = " ".join(part.strip() for part in parts if isinstance(part, str))
        raise InputError(f"the model knows no word of '{text}'" if text else "the text is empty")
    return user(*turn)


def answer(
    arm: Arm,
    turns: Sequence[Turn],
    how: AnswerOptions,
    *,
    seed: int = 0,
    first: int | Sequence[int] = 0,
) -> list[str]:
    """One answer for each turn, as one batch.

    first: the position of the first turn among all requests, or of each turn.
    """
    if not turns:
        return []
    requests = [answering_request((turn,), arm.vocab, how.max_text) for turn in turns]
    outputs = generate(
        arm.model, arm.vocab, requests, images=GREEDY, texts=how.texts, seed=seed, first=first
    )
    return [cut(arm.text_tokenizer.text(group[0].text_ids), how.until) for group in outputs]


def draw_codes(
    arm: Arm,
    turns: Sequence[Turn],
    *,
    seed: int | Sequence[int] = 0,
    first: int | Sequence[int] = 0,
) -> list[Codes]:
    """The codes of one picture for each turn, as one batch, with the model's own sampling and guidance.

    A turn with pictures is an edit, on the grid of its last picture; one without is a drawing, on the
    model's first grid. seed: one, or one for each turn, which then draws what it would draw alone, up
    to rounding (larger for 16-bit weights in larger batches). first: the position of the first turn
    among all requests, or of each turn.
    """
    own = origins(len(turns), seed, first)
    sources = [[p.codes for p in turn.parts if isinstance(p, Image)] for turn in turns]
    codes: dict[int, Codes] = {}
    for has_image in (False, True):
        chosen = [n for n, source in enumerate(sources) if bool(source) == has_image]
        if not chosen:
            continue
        d = arm.defaults
        guidance, sampling = (
            (d.edit_guidance, d.edit_sampling) if has_image else (d.guidance, d.sampling)
        )
        requests = []
        for n in chosen:
            height, width = sources[n][-1].shape if has_image else d.grids[0]
            requests.append(
                drawing_request(
                    (turns[n],), arm.vocab, (height, width), guidance, has_image=has_image
                )
            )
        seeds, places = [own[n][0] for n in chosen], [own[n][1] for n in chosen]
        outputs = generate(
            arm.model, arm.vocab, requests, images=sampling, seed=seeds, first=places
        )
        codes |= {
            n: group[0].codes
            for n, group in zip(chosen, outputs, strict=True)
            if group[0].codes is not None
        }
    return [codes[n] for n in range(len(turns))]


def draw(
    arm: Arm, turns: Sequence[Turn], *, seed: int = 0, first: int | Sequence[int] = 0
) -> list[Pillow.Image]:
    """The picture of each turn, from the codes of `draw_codes`."""
    painted = paint_each(arm, draw_codes(arm, turns, seed=seed, first=first))
    return [Pillow.fromarray(picture) for picture in painted]


@torch.no_grad()
def likelihoods(
    arm: Arm, turns: Sequence[Turn], continuations: Sequence[str], *, whole: bool = False
) -> list[tuple[float, bool]]:
    """Each continuation's log-probability (nats), and whether greedy answering gives exactly its tokens.

    The continuation is the beginning of the answer; with `whole` it is the whole answer, and its end
    counts too. Only text tokens and the end token compete, as in `generate`. Raises InputError for an
    empty continuation or an unknown word.
    """
    if not turns:
        return []
    texts = [arm.text_tokenizer.ids(text) for text in continuations]
    streams = [
        flatten((turn, assistant(Text(ids))), arm.vocab)
        for turn, ids in zip(turns, texts, strict=True)
    ]
    device = arm.model.embed_tokens.weight.device

    def padded(name: str, fill: int) -> Tensor:
        return pad_rows([getattr(s, name) for s in streams], fill).to(device)

    fields = (padded(name, -1) for name in ("codes", "rows", "cols"))
    # Padding is on the right, where causal attention never looks.
    hidden_NTD = arm.model(
        arm.model.embed(padded("ids", arm.vocab.pad), *fields), padded("positions", 0)
    )
    allowed_V = torch.zeros(arm.vocab.first_code, dtype=torch.bool, device=device)
    allowed_V[: arm.vocab.text_size] = True
    allowed_V[arm.vocab.end] = True
    scores = []
    for hidden_TD, stream, ids in zip(hidden_NTD, streams, texts, strict=True):
        # A stream ends in the continuation and <end>; each token is predicted by the one before it.
        start = len(stream) - 1 - len(ids)
        ids = (*ids, arm.vocab.end) if whole else ids
        logits = arm.model.text_logits(hidden_TD[start - 1 : start - 1 + len(ids)]).float()
        logprobs = logits.masked_fill(~allowed_V, -torch.inf).log_softmax(-1)
        targets = torch.tensor(ids, device=device)
        total = logprobs.gather(-1, targets[:, None]).sum()
        scores.append((float(total), bool((logprobs.argmax(-1) == targets).all())))
    return scores


def save_picture(picture: Pillow.Image, path: Path) -> None:
    """Writes a PNG whole or not at all."""
    with atomic_write(path) as temporary:
        picture.save(temporary, "PNG")


def picture_reply(paths: Sequence[Path]) -> str:
    """The reply that lmms-eval expects of a model that answers with pictures: JSON with their paths."""
    return json.dumps({"text": "", "images": [str(path.resolve()) for path in paths]})
