"""Generation (ARM section 5): prefill, decode and guidance; ids and log-probabilities.

A request is one or more streams (prompts) that share every sampled token; its logits are the
weighted sum of the streams' logits, which is what classifier-free guidance is:

    drawing    s * full + (1 - s) * empty
    editing    s_text * full + (s_image - s_text) * no_text + (1 - s_image) * empty

All streams of all requests form one batch, left-padded. Requests may differ in kind: one draws a
7x7 grid, one a 6x8, one answers in text; each row may only sample what its state allows.

R requests, B = streams of all requests, V text vocabulary, C codes, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arm.models.kv_cache import KVCache
from arm.models.qwen2 import Cache, Qwen2
from arm.sampling import GREEDY, Sampling, row_generator, sample_rows
from arm.sequence import Sample, Tokens, drop_condition, flatten, pad_rows
from arm.vocab import Vocab

MOST_GUIDANCE = 100
"""The largest scale of guidance."""


@dataclass(frozen=True)
class Guidance:
    """Scales of classifier-free guidance; 1 switches a branch off. The paper: 1.5 and 1.25.

    Of scales beyond `MOST_GUIDANCE` either way nothing but rounding errors is left of the logits.
    """

    text: float = 1.5
    image: float = 1.25

    def __post_init__(self) -> None:
        if not (abs(self.text) <= MOST_GUIDANCE and abs(self.image) <= MOST_GUIDANCE):
            raise ValueError(
                f"guidance scales must be numbers from -{MOST_GUIDANCE} to {MOST_GUIDANCE}: {self}"
            )


@dataclass(frozen=True)
class Request:
    """Streams with their weights. With a `grid` (H, W) it draws H * W codes and stops; without one
    it answers in text until <end>, <image> with its shape tokens, or `max_text` tokens. `nulls` are
    the branches that guidance leans on, whether or not this request is guided.
    """

    streams: tuple[Tokens, ...]
    coefficients: tuple[float, ...]
    grid: tuple[int, int] | None = None
    max_text: int = 64
    allow_image: bool = False
    nulls: tuple[Tokens, ...] = ()


@dataclass
class Result:
    """What one request sampled. `logprobs` are under the distribution that was sampled from
    (guided, tempered, cut to top-k and top-p), one a token of `ids`.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    codes: NDArray[np.int64] | None = None
    text_ids: list[int] = field(default_factory=list)
    wants_image: tuple[int, int] | None = None


def drawing_request(
    sample: Sample,
    vocab: Vocab,
    grid: tuple[int, int],
    guidance: Guidance,
    *,
    has_image: bool = False,
    begun: Sequence[int] = (),
) -> Request:
    """A request to draw what a sample asks for, or (`has_image`) to edit the picture in it, after the words
    `begun` of the answer.

    The branches without text or picture leave out those of every user's turn.
    """

    def stream(**dropped: bool) -> Tokens:
        return flatten(drop_condition(sample, **dropped), vocab, open_image=grid, begun=begun)

    full, no_text = stream(text=False, image=False), stream(text=True, image=False)
    nulls = (no_text,)
    if not has_image:
        parts = [(full, guidance.text), (no_text, 1 - guidance.text)]
    else:
        empty = stream(text=True, image=True)
        nulls = (no_text, empty)
        parts = [
            (full, guidance.text),
            (no_text, guidance.image - guidance.text),
            (empty, 1 - guidance.image),
        ]
    kept = [(tokens, weight) for tokens, weight in parts if weight != 0]
    streams, weights = tuple(t for t, _ in kept), tuple(w for _, w in kept)
    return Request(streams, weights, grid, nulls=nulls)


def answering_request(
    sample: Sample, vocab: Vocab, max_text: int = 64, allow_image: bool = False
) -> Request:
    """A request to answer the last user's turn in text."""
    prompt = flatten(sample, vocab, open_answer=True)
    return Request((prompt,), (1.0,), None, max_text, allow_image)


class _Row:
    """The state of one request: what it may sample next, and what it has sampled."""

    def __init__(self, request: Request, vocab: Vocab, generator: torch.Generator) -> None:
        self.request, self.vocab, self.generator = request, vocab, generator
        self.result = Result()
        self.codes: list[int] = []
        self.done = False

    @property
    def draws(self) -> bool:
        return self.request.grid is not None

    def allowed(self) -> Tensor:
        """Text-head rows that may come next, bool (V,)."""
        vocab = self.vocab
        mask = torch.zeros(vocab.first_code, dtype=torch.bool)
        last = self.result.ids[-1] if self.result.ids else None
        if last == vocab.image:
            mask[vocab.heights().start : vocab.heights().stop] = True
        elif last is not None and last in vocab.heights():
            mask[vocab.widths().start : vocab.widths().stop] = True
        else:
            mask[: vocab.text_size] = True
            mask[vocab.end] = True
            mask[vocab.image] = self.request.allow_image
        return mask

    def take(self, token: int, logprob: float) -> None:
        vocab, result = self.vocab, self.result
        result.ids.append(token)
        result.logprobs.append(logprob)
        if self.request.grid is not None:
            self.codes.append(vocab.code_of(token))
            height, width = self.request.grid
            if len(self.codes) == height * width:
                result.codes = np.array(self.codes, dtype=np.int64).reshape(height, width)
                self.done = True
        elif token == vocab.end:
            self.done = True
        elif token in vocab.widths():
            result.wants_image = (vocab.side(result.ids[-2]), vocab.side(token))
            self.done = True
        else:
            if token < vocab.text_size:
                result.text_ids.append(token)
            inside = token == vocab.image or token in vocab.heights()
            self.done = len(result.ids) >= self.request.max_text and not inside

    def place(self, index: int) -> tuple[int, int]:
        """Row and column of the picture's code number `index`; -1 where there is none."""
        if self.request.grid is None or index == self.request.grid[0] * self.request.grid[1]:
            return -1, -1
        return divmod(index, self.request.grid[1])

    def newest(self) -> tuple[int, ...]:
        """Id, code, row and column of the newest token, row and column of the next; -1: no code."""
        code = self.codes[-1] if self.codes else -1
        places = self.place(len(self.codes) - 1), self.place(len(self.codes))
        return self.result.ids[-1], code, *places[0], *places[1]


def left_padding(streams: Sequence[Tokens], device: torch.device) -> Tensor:
    """How many tokens of padding stand before each stream, (B,), for all to end together."""
    longest = max(map(len, streams))
    return torch.tensor([longest - len(s) for s in streams], device=device)


def read_prompts(
    model: Qwen2, vocab: Vocab, streams: Sequence[Tokens], draws: Sequence[bool], cache: Cache
) -> Tensor:
    """Last hidden state (B, D) of left-padded streams. The cache, which must hide the padding, takes them in.

    draws: whether a stream's next token is the first code of a picture, in row and column 0.
    """
    device = model.embed_tokens.weight.device

    def padded(name: str, fill: int) -> Tensor:
        return pad_rows([getattr(s, name) for s in streams], fill, left=True).to(device)

    first_B1 = torch.tensor(draws, device=device)[:, None].long() - 1
    places = (torch.cat([padded(name, -1), first_B1], 1) for name in ("rows", "cols"))
    fields = (padded("ids", vocab.pad), padded("codes", -1), *places)
    return model(model.embed(*fields), padded("positions", 0), kv_cache=cache)[:, -1]


def _prefill(
    model: Qwen2, vocab: Vocab, streams: Sequence[Tokens], draws: Sequence[bool], room: int
) -> tuple[Tensor, KVCache, Tensor]:
    """Last hidden state (B, D), the cache, and the next position (B,) of all streams."""
    weight = model.embed_tokens.weight
    tokens = max(map(len, streams)) + room
    cache = KVCache.empty(model.config, len(streams), tokens, weight.dtype, weight.device)
    padding_B = left_padding(streams, weight.device)
    if bool(padding_B.any()):
        cache.hide_left(padding_B)
    hidden = read_prompts(model, vocab, streams, draws, cache)
    following = torch.tensor([s.following for s in streams], device=weight.device)
    return hidden, cache, following


def _sample_step(
    model: Qwen2,
    rows: Sequence[_Row],
    hidden_BD: Tensor,
    owner_B: Tensor,
    weight_B: Tensor,
    images: Sampling,
    texts: Sampling,
) -> None:
    """Samples one token for every row that is not done; draws use the visual head alone."""
    for drawing in (True, False):
        chosen = [r for r, row in enumerate(rows) if not row.done and row.draws == drawing]
        if not chosen:
            continue
        device = hidden_BD.device
        slot = torch.full((len(rows),), -1, device=device)
        slot[chosen] = torch.arange(len(chosen), device=device)
        mine = slot[owner_B] >= 0
        head = model.visual_logits if drawing else model.text_logits
        logits = head(hidden_BD[mine]).float() * weight_B[mine, None]
        mixed = torch.zeros(len(chosen), logits.shape[-1], device=device)
        mixed.index_add_(0, slot[owner_B[mine]], logits)
        if not drawing:
            allowed = torch.stack([rows[r].allowed() for r in chosen]).to(device)
            mixed = mixed.masked_fill(~allowed, -torch.inf)
        generators = [rows[r].generator for r in chosen]
        index, logprob = sample_rows(mixed, images if drawing else texts, generators)
        for r, i, p in zip(chosen, index.tolist(), logprob.tolist(), strict=True):
            rows[r].take(rows[r].vocab.code(i) if drawing else i, p)


def origins(
    count: int, seed: int | Sequence[int], first: int | Sequence[int] = 0
) -> list[tuple[int, int]]:
    """The seed and the place by which each of `count` requests samples.

    With one seed the places count from `first`; with a seed for each request all have the place `first`.
    A list of places is taken as it is. Raises ValueError for a list of another length.
    """
    alone = not isinstance(seed, int)
    seeds = [seed] * count if isinstance(seed, int) else seed
    if isinstance(first, int):
        first = [first if alone else first + q for q in range(count)]
    if not len(seeds) == len(first) == count:
        raise ValueError(f"{len(seeds)} seeds and {len(first)} places for {count} requests")
    return list(zip(seeds, first, strict=True))


@torch.no_grad()
def generate(
    model: Qwen2,
    vocab: Vocab,
    requests: Sequence[Request],
    *,
    images: Sampling | None = None,
    texts: Sampling = GREEDY,
    seed: int | Sequence[int] = 0,
    first: int | Sequence[int] = 0,
    num_samples: int = 1,
    on_step: Callable[[Sequence[Result]], None] | None = None,
) -> list[list[Result]]:
    """Runs all requests as one batch; `num_samples` results for each, from one shared prefill.

    images, texts: how codes and words are sampled. Sample k of request q depends on the seed, on
    first + q (or first[q]) and on k, not on its batch; with a seed for each request, on q's own and on
    k, as if it were alone. `on_step` is called after each step with what has been sampled so far, one Result
    a sample, all samples of a request in a row; it must not change them. Raises ValueError for no request.
    """
    if not requests:
        raise ValueError("there is nothing to generate: no requests")
    images = images or Sampling()
    room = max(r.grid[0] * r.grid[1] if r.grid else r.max_text + 2 for r in requests)
    streams = [stream for request in requests for stream in request.streams]
    draws = [request.grid is not None for request in requests for _ in request.streams]
    hidden, cache, position = _prefill(model, vocab, streams, draws, room)
    if num_samples > 1:
        cache = cache.repeat(num_samples)
        hidden, position = (x.repeat_interleave(num_samples, 0) for x in (hidden, position))
    rows = [
        _Row(request, vocab, row_generator(*origin, k))
        for request, origin in zip(requests, origins(len(requests), seed, first), strict=True)
        for k in range(num_samples)
    ]
    # Stream b of request q, sample k belongs to row q * num_samples + k.
    owners = [
        q * num_samples + k
        for q, request in enumerate(requests)
        for _ in request.streams
        for k in range(num_samples)
    ]
    weights = [w for r in requests for w in r.coefficients for _ in range(num_samples)]
    owner = torch.tensor(owners, device=hidden.device)
    weight = torch.tensor(weights, device=hidden.device)
    while True:
        _sample_step(model, rows, hidden, owner, weight, images, texts)
        if on_step is not None:
            on_step([row.result for row in rows])
        active = torch.tensor([not row.done for row in rows], device=owner.device)[owner]
        if not bool(active.any()):
            break
        if int(active.sum()) <= len(active) // 2:
            keep = active.nonzero()[:, 0]
            cache, owner, weight, position = (
                cache.select(keep),
                owner[keep],
                weight[keep],
                position[keep],
            )
        last = torch.tensor([row.newest() for row in rows], device=owner.device)[owner]
        ids, codes = last.T[:2, :, None]
        ids = torch.where(codes >= 0, vocab.pad, ids)
        embedded = model.embed(ids, codes, last[:, [2, 4]], last[:, [3, 5]])
        hidden = model(embedded, position[:, None], kv_cache=cache)[:, 0]
        position = position + 1
    results = [row.result for row in rows]
    return [results[i : i + num_samples] for i in range(0, len(results), num_samples)]
