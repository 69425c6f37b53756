"""Generation by batch size: guided and not, beside transformers' `generate`, one prefill or many.

All of it is greedy, so that every variant of a table must give the same tokens. The peer is the same
weights as an `ArmForCausalLM` that was exported and loaded again: transformers' loop, cache and
samplers around our network.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from arm.bench.rounds import Trial, Variant
from arm.domain import TaskDomain
from arm.evals.painting import canvas_of, encode_pictures
from arm.generate import Guidance, Request, answering_request, drawing_request, generate
from arm.pipeline import Arm
from arm.sampling import GREEDY
from arm.sequence import Image, Sample, Text, Tokens, pad_rows, user

MAX_TEXT = 8
"""Words of an answer at most."""

Drawn = list[list[int]]
"""Ids that each request got."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Endless prompts of each kind, as samples; more are the same again."""

    draw: tuple[Sample, ...]
    ask: tuple[Sample, ...]
    edit: tuple[Sample, ...]

    @classmethod
    def of(cls, arm: Arm, domain: TaskDomain, seed: int = 2026) -> "Prompts":
        """The domain's test prompts, questions and edits. Raises InputError for a model that does not
        know their words.
        """
        canvas, ids = canvas_of(arm), arm.text_tokenizer.ids
        questions = domain.questions("test", 4, seed, canvas)
        edits = domain.edits("test", 1, seed, canvas)
        seen = encode_pictures(arm, [question.picture for question in questions])
        sources = encode_pictures(arm, [edit.source for edit in edits])
        asked = zip(seen, questions, strict=True)
        changes = zip(sources, edits, strict=True)
        return cls(
            tuple((user(Text(ids(p.text))),) for p in domain.prompts("test", 6, seed)),
            tuple((user(Image(c), Text(ids(q.text))),) for c, q in asked),
            tuple((user(Image(c), Text(ids(e.instruction))),) for c, e in changes),
        )


def differ(first: Drawn, other: Drawn) -> str:
    """What tells the greedy tokens of the requests that both have apart, "" for nothing."""
    apart = sum(a != b for a, b in zip(first, other, strict=False))
    both = min(len(first), len(other))
    return f"its greedy tokens are others in {apart} of {both} rows" if apart else ""


def trials(
    arm: Arm,
    domain: TaskDomain,
    source: str,
    batches: Sequence[int],
    samples: int,
    peer: bool,
    device: torch.device,
) -> Iterator[Trial]:
    """Our engine by batch size; beside transformers at each size, drawing without and with guidance and
    answering; `samples` samples of one edit. source: what the peer is exported from.
    """
    prompts = Prompts.of(arm, domain)
    arm.model.to(device)
    grid, scale = arm.defaults.grids[0], max(1.5, arm.defaults.guidance.text)
    yield _by_batch(arm, prompts, batches, grid, scale)
    if peer:
        other = exported(source, device)
        for batch in batches:
            draw = list(islice(cycle(prompts.draw), batch))
            ask = list(islice(cycle(prompts.ask), batch))
            yield _drawing(arm, other, draw, grid, 1.0)
            yield _drawing(arm, other, draw, grid, scale)
            yield _answering(arm, other, ask)
    yield _sharing(arm, prompts.edit[0], grid, samples)


def exported(source: str, device: torch.device) -> Any:
    """The model as transformers loads it."""
    from arm.hf.files import copy_model
    from arm.hf.modeling import ArmForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        copy_model(source, Path(folder) / "model")
        model = ArmForCausalLM.from_pretrained(Path(folder) / "model", dtype=torch.float32)
    return model.to(device).eval()


def _variant(name: str, model: Any, run: Callable[[], Drawn], tokens: float) -> Variant:
    return Variant(name, tokens, run, alive=lambda: list(model.state_dict().values()))


def _ours(arm: Arm, requests: Sequence[Request]) -> Drawn:
    results = generate(arm.model, arm.vocab, requests, images=GREEDY)
    return [group[0].ids for group in results]


def _by_batch(
    arm: Arm, prompts: Prompts, batches: Sequence[int], grid: tuple[int, int], scale: float
) -> Trial:
    """Each kind of request at each size; the first requests of a batch are those of a smaller one."""

    def variant(kind: str, batch: int, requests: Sequence[Request]) -> Variant:
        tokens = float(sum(map(len, _ours(arm, requests))))
        made = _variant(f"{kind}, batch {batch}", arm.model, lambda: _ours(arm, requests), tokens)
        return replace(made, kind=kind)

    variants = []
    for kind, guidance in (("drawing", 1.0), (f"drawing, guidance {scale:g}", scale)):
        for batch in batches:
            chosen = islice(cycle(prompts.draw), batch)
            asked = [drawing_request(s, arm.vocab, grid, Guidance(guidance, 1.0)) for s in chosen]
            variants.append(variant(kind, batch, asked))
    for batch in batches:
        chosen = islice(cycle(prompts.ask), batch)
        asked = [answering_request(s, arm.vocab, MAX_TEXT) for s in chosen]
        variants.append(variant("answering", batch, asked))
    title = f"arm by batch size, {grid[0]} x {grid[1]} codes, answers of at most {MAX_TEXT} words"
    return Trial(title, "tokens", tuple(variants), differ)


def _drawing(
    arm: Arm, peer: Any, samples: Sequence[Sample], grid: tuple[int, int], scale: float
) -> Trial:
    requests = [drawing_request(s, arm.vocab, grid, Guidance(scale, 1.0)) for s in samples]
    codes = grid[0] * grid[1]
    options: dict[str, Any] = _left_padded([r.streams[0] for r in requests], arm.vocab.pad, peer)
    if scale != 1:
        empty = _left_padded([r.nulls[0] for r in requests], arm.vocab.pad, peer)
        options |= {
            "guidance_scale": scale,
            "negative_prompt_ids": empty["input_ids"],
            "negative_prompt_attention_mask": empty["attention_mask"],
        }

    def theirs() -> Drawn:
        out = peer.generate(**options, max_new_tokens=codes, do_sample=False)
        return out[:, -codes:].tolist()

    guided = f"guidance {scale:g}" if scale != 1 else "no guidance"
    title = f"drawing {grid[0]} x {grid[1]} codes, {guided}, batch {len(requests)}"
    return _beside(arm, peer, title, requests, theirs, float(codes * len(requests)))


def _answering(arm: Arm, peer: Any, samples: Sequence[Sample]) -> Trial:
    requests = [answering_request(s, arm.vocab, MAX_TEXT) for s in samples]
    lengths = [len(ids) for ids in _ours(arm, requests)]
    options = _left_padded([r.streams[0] for r in requests], arm.vocab.pad, peer)
    options |= {"suppress_tokens": [arm.vocab.image]}
    start = options["input_ids"].shape[1]

    def theirs() -> Drawn:
        out = peer.generate(**options, max_new_tokens=MAX_TEXT, do_sample=False)
        found = out[:, start:].tolist()
        return [ids[:length] for ids, length in zip(found, lengths, strict=True)]

    title = f"answering, at most {MAX_TEXT} words, batch {len(requests)}"
    return _beside(arm, peer, title, requests, theirs, float(sum(lengths)))


def _beside(
    arm: Arm, peer: Any, title: str, requests: Sequence[Request],
    theirs: Callable[[], Drawn], tokens: float,
) -> Trial:  # fmt: skip
    ours = _variant("arm", arm.model, lambda: _ours(arm, requests), tokens)
    other = _variant("transformers generate", peer, theirs, tokens)
    return Trial(title, "tokens", (ours, other), differ)


def _sharing(arm: Arm, sample: Sample, grid: tuple[int, int], samples: int) -> Trial:
    """`samples` drawings of one prompt that holds a picture."""
    request = drawing_request(sample, arm.vocab, grid, arm.defaults.edit_guidance, has_image=True)

    def shared() -> Drawn:
        results = generate(
            arm.model, arm.vocab, [request], images=GREEDY, num_samples=samples
        )  # fmt: skip
        return [result.ids for result in results[0]]

    ways: dict[str, Callable[[], Drawn]] = {
        "one prefill, shared": shared,
        "a prefill each, in one batch": lambda: _ours(arm, [request] * samples),
        "one after the other": lambda: [_ours(arm, [request])[0] for _ in range(samples)],
    }
    tokens = float(samples * grid[0] * grid[1])
    variants = tuple(_variant(name, arm.model, run, tokens) for name, run in ways.items())
    prompt = sum(len(stream) for stream in request.streams)
    title = f"{samples} samples of one edit, {prompt} tokens of prompt in {len(request.streams)} streams"
    return Trial(title, "tokens", variants, differ)


def _left_padded(streams: Sequence[Tokens], pad: int, peer: Any) -> dict[str, Any]:
    """Prompts as transformers takes them, on the peer's device."""
    ids = pad_rows([stream.ids for stream in streams], pad, left=True).to(peer.device)
    return {"input_ids": ids, "attention_mask": (ids != pad).long()}
