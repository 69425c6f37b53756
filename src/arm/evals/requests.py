"""Requests as other harnesses make them: text and pictures in one order, for an answer or a picture.

lmms-eval and VLMEvalKit hand over parts; here they become a user's turn, and batches of turns become
answers, pictures, or the likelihoods of given answers. What a request samples depends on the seed and
on its place, not on its batch.

Shape suffixes: N requests, T tokens of the longest, V text vocabulary, D width.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
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
from arm.sequence import Image, Text, Turn, assistant, flatten, user

MARK = "<image>"
Part = str | ImageInput | Image
"""A string is text; a picture is anything else that `open_image` takes, or its codes."""
P = TypeVar("P")


@dataclass(frozen=True)
class Answering:
    """How an answer is sampled and where it ends: after `max_text` tokens, before any of `until`."""

    max_text: int = 64
    texts: Sampling = GREEDY
    until: tuple[str, ...] = ()


def answering(options: Mapping[str, Any]) -> Answering:
    """From options as transformers' `generate` names them, and `until`.

    Without do_sample a temperature above 0 samples, as the harnesses' own models have it.
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
    return Answering(int(options.get("max_new_tokens") or 64), texts, tuple(s for s in stops if s))


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the strings that end it."""
    for stop in until:
        text = text.split(stop, 1)[0]
    return text.strip()


def interleaved(text: str, pictures: Sequence[ImageInput]) -> tuple[Part, ...]:
    """Pictures where the text says <image>, or all before it where it says so nowhere.

    Raises InputError where the text marks another number of places than there are pictures.
    """
    pieces = text.split(MARK)
    if len(pieces) == 1:
        return (*pictures, text)
    if len(pieces) - 1 != len(pictures):
        raise InputError(f"{len(pieces) - 1} {MARK} in the text, but {len(pictures)} pictures")
    parts: list[Part] = [pieces[0]]
    for picture, piece in zip(pictures, pieces[1:], strict=True):
        parts += [picture, piece]
    return tuple(parts)


def placed(text: str, pictures: Mapping[str, P]) -> tuple[str | P, ...]:
    """Pictures where the text says the mark of each, as often as it does, or all before it where it says
    none: "is <image 2> red?" -> ("is ", pictures["<image 2>"], " red?").
    """
    marks = "|".join(re.escape(mark) for mark in pictures)
    pieces = re.split(f"({marks})", text) if marks else [text]
    if len(pieces) == 1:
        return (*pictures.values(), text)
    # The marks stand at the odd places.
    parts = [pictures[piece] if n % 2 else piece for n, piece in enumerate(pieces)]
    return tuple(part for part in parts if part != "")


def from_message(message: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    """VLMEvalKit's message: dicts with a `type`, text or image, and a `value`, the words or a path.

    Raises InputError for another type.
    """
    parts: list[Part] = []
    for part in message:
        if part["type"] not in ("text", "image"):
            raise InputError(f"the model takes text and pictures, not {part['type']}")
        parts.append(part["value"] if part["type"] == "text" else Path(part["value"]))
    return tuple(parts)


def as_turn(arm: Arm, parts: Sequence[Part], *, known_words: bool = False) -> Turn:
    """A user's turn of these parts. known_words: words that the model does not know are left out.

    Raises InputError for an unknown word, a broken picture, and where no word is left.
    """
    found: list[Text | Image] = []
    for part in parts:
        if not isinstance(part, str):
            found.append(part if isinstance(part, Image) else Image(arm.encode(part)))
            continue
        text = arm.text_tokenizer.known(part) if known_words else part
        if text.strip():
            found.append(Text(arm.text_tokenizer.ids(text)))
    if not any(isinstance(part, Text) for part in found):
        said = " ".join(part.strip() for part in parts if isinstance(part, str))
        raise InputError(f"the model knows no word of '{said}'" if said else "the text is empty")
    return user(*found)


def answer(
    arm: Arm,
    turns: Sequence[Turn],
    how: Answering,
    *,
    seed: int = 0,
    first: int | Sequence[int] = 0,
) -> list[str]:
    """One answer a turn, as one batch; `first` is the place of the first turn among all, or of each."""
    if not turns:
        return []
    requests = [answering_request((turn,), arm.vocab, how.max_text) for turn in turns]
    found = generate(
        arm.model, arm.vocab, requests, images=GREEDY, texts=how.texts, seed=seed, first=first
    )
    return [cut(arm.text_tokenizer.text(group[0].text_ids), how.until) for group in found]


def draw_codes(
    arm: Arm,
    turns: Sequence[Turn],
    *,
    seed: int | Sequence[int] = 0,
    first: int | Sequence[int] = 0,
) -> list[Codes]:
    """The codes of one picture a turn, as one batch, at the model's own sampling and guidance: an edit on
    the grid of its last picture where the turn has any, a drawing on the model's first grid elsewhere.

    seed: with one for each turn, a turn draws what it would alone with that seed, up to rounding (16-bit
    weights round more where a batch is larger). first: the place of the first turn among all, or of each.
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
        found = generate(arm.model, arm.vocab, requests, images=sampling, seed=seeds, first=places)
        codes |= {
            n: group[0].codes
            for n, group in zip(chosen, found, strict=True)
            if group[0].codes is not None
        }
    return [codes[n] for n in range(len(turns))]


def draw(
    arm: Arm, turns: Sequence[Turn], *, seed: int = 0, first: int | Sequence[int] = 0
) -> list[Pillow.Image]:
    """The picture of each turn, as `draw_codes` has them."""
    painted = paint_each(arm, draw_codes(arm, turns, seed=seed, first=first))
    return [Pillow.fromarray(picture) for picture in painted]


@torch.no_grad()
def likelihoods(
    arm: Arm, turns: Sequence[Turn], continuations: Sequence[str], *, whole: bool = False
) -> list[tuple[float, bool]]:
    """The log-probability (nats) of each continuation as an answer's first words, and whether greedy
    answering says exactly them. Words alone are in the running, and the end, as in `generate`.

    whole: as the whole answer, its end counted too.

    Raises InputError for an empty continuation or an unknown word.
    """
    if not turns:
        return []
    said = [arm.text_tokenizer.ids(text) for text in continuations]
    streams = [
        flatten((turn, assistant(Text(ids))), arm.vocab)
        for turn, ids in zip(turns, said, strict=True)
    ]
    longest = max(map(len, streams))
    device = arm.model.embed_tokens.weight.device

    def padded(name: str, fill: int) -> Tensor:
        rows = [
            np.pad(getattr(s, name), (0, longest - len(s)), constant_values=fill) for s in streams
        ]
        return torch.from_numpy(np.stack(rows)).to(device)

    fields = (padded(name, -1) for name in ("codes", "rows", "cols"))
    # Padding stands on the right, where causal attention never looks.
    hidden_NTD = arm.model(
        arm.model.embed(padded("ids", arm.vocab.pad), *fields), padded("positions", 0)
    )
    allowed_V = torch.zeros(arm.vocab.first_code, dtype=torch.bool, device=device)
    allowed_V[: arm.vocab.text_size] = True
    allowed_V[arm.vocab.end] = True
    found = []
    for hidden_TD, stream, ids in zip(hidden_NTD, streams, said, strict=True):
        # A stream ends in the continuation and <end>; each token is predicted by the one before it.
        start = len(stream) - 1 - len(ids)
        ids = (*ids, arm.vocab.end) if whole else ids
        logits = arm.model.text_logits(hidden_TD[start - 1 : start - 1 + len(ids)]).float()
        logprobs = logits.masked_fill(~allowed_V, -torch.inf).log_softmax(-1)
        wanted = torch.tensor(ids, device=device)
        total = logprobs.gather(-1, wanted[:, None]).sum()
        found.append((float(total), bool((logprobs.argmax(-1) == wanted).all())))
    return found


def save_picture(picture: Pillow.Image, path: Path) -> None:
    """Whole or not at all."""
    with atomic_write(path) as temporary:
        picture.save(temporary, "PNG")


def picture_reply(paths: Sequence[Path]) -> str:
    """lmms-eval's convention for a model that answers by pictures: JSON of a text and their paths."""
    return json.dumps({"text": "", "images": [str(path.resolve()) for path in paths]})
