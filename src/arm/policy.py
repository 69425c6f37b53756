"""The distribution that `generate` draws codes from, once more and with gradients.

Reinforcement learning trains this one and no other: the visual head alone, the same streams with the
same guidance weights, the same temperature and the same cut to top-k and top-p. A prompt is the
very token sequence that generation read, extended by the codes that it drew.

Shape suffixes: N requests, S streams of all requests, P tokens of the longest stream, T codes of
the largest picture, C visual codes, K codes that are kept (all C without top-k), D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arm.generate import Request, Sampling, truncate
from arm.models.qwen2 import Qwen2
from arm.sequence import Tokens
from arm.vocab import Vocab


@dataclass(frozen=True)
class CodePolicy:
    """kept_NTK: the codes that top-k keeps, None for all; logprobs_NTK: theirs, -inf where top-p cuts;
    slot_NT: where among them the drawn code stands; mask_NT: 1 on codes, 0 on padding of smaller pictures.
    """

    kept_NTK: Tensor | None
    logprobs_NTK: Tensor
    slot_NT: Tensor
    mask_NT: Tensor

    @property
    def drawn_NT(self) -> Tensor:
        """Log-probabilities of the drawn codes."""
        return self.logprobs_NTK.gather(-1, self.slot_NT[..., None])[..., 0]


def extended(prompt: Tokens, codes_HW: NDArray[np.int64], vocab: Vocab) -> Tokens:
    """A prompt that ends in an open image, and the codes that were drawn after it."""
    rows, cols = (index.ravel() for index in np.indices(codes_HW.shape))
    codes = codes_HW.ravel()
    added = {
        "ids": codes + vocab.first_code,
        "codes": codes,
        "rows": rows,
        "cols": cols,
        "weights": np.ones(codes.size, dtype=np.float32),
        "positions": prompt.following + np.arange(codes.size),
    }
    joined = {name: np.concatenate([getattr(prompt, name), new]) for name, new in added.items()}
    return Tokens(**joined, following=prompt.following + codes.size)


def code_policy(
    model: Qwen2,
    vocab: Vocab,
    requests: Sequence[Request],
    pictures: Sequence[NDArray[np.int64]],
    sampling: Sampling,
    support: CodePolicy | None = None,
) -> CodePolicy:
    """The policy at every code of `pictures` (each (H, W), as its request's grid asks).

    A drawn code is never cut: when the policy has moved so far that it left the top k, it takes the
    place of the last of them. support: keep exactly the codes that this policy keeps, as a reference
    must. Raises ValueError for greedy sampling, which is no distribution.
    """
    if sampling.temperature == 0:
        raise ValueError("a policy needs a temperature above 0: greedy sampling cannot be trained")
    device = model.embed_tokens.weight.device
    streams = [
        extended(stream, codes, vocab)
        for request, codes in zip(requests, pictures, strict=True)
        for stream in request.streams
    ]
    counts = [codes.size for codes in pictures]
    owners = [n for n, request in enumerate(requests) for _ in request.streams]
    owner_S = torch.tensor(owners, device=device)
    weight_S = torch.tensor([w for r in requests for w in r.coefficients], device=device)

    def padded(name: str, fill: int, length: int) -> Tensor:
        rows = [
            np.pad(getattr(s, name), (0, length - len(s)), constant_values=fill) for s in streams
        ]
        return torch.from_numpy(np.stack(rows)).to(device)

    longest = max(map(len, streams))
    fields = (padded(name, -1, longest) for name in ("codes", "rows", "cols"))
    x_SPD = model.embed(padded("ids", vocab.pad, longest), *fields)
    # Padding stands on the right, where causal attention never looks.
    hidden_SPD = model(x_SPD, padded("positions", 0, longest))
    most = max(counts)
    # The code number t of a stream is predicted by the token before it.
    starts = [len(s) - counts[n] - 1 for s, n in zip(streams, owners, strict=True)]
    at_ST = torch.tensor(starts, device=device)[:, None] + torch.arange(most, device=device)
    at_ST = at_ST.clamp(max=longest - 1)
    hidden_STD = hidden_SPD.gather(1, at_ST[..., None].expand(-1, -1, hidden_SPD.shape[-1]))
    logits_NTC = model.visual_logits(hidden_STD).float()
    if not bool((weight_S == 1).all()):
        logits_NTC = logits_NTC * weight_S[:, None, None]
    if len(streams) > len(requests):
        mixed_NTC = logits_NTC.new_zeros(len(requests), *logits_NTC.shape[1:])
        logits_NTC = mixed_NTC.index_add(0, owner_S, logits_NTC)
    if support is not None:
        return _on(logits_NTC, support, sampling)
    codes = np.stack([np.pad(c.ravel(), (0, most - c.size)) for c in pictures])
    codes_NT = torch.from_numpy(codes).to(device)
    mask_NT = torch.arange(most, device=device) < torch.tensor(counts, device=device)[:, None]
    kept_NTK, slot_NT = None, codes_NT
    if 0 < sampling.top_k < logits_NTC.shape[-1]:
        kept_NTK = logits_NTC.detach().topk(sampling.top_k, -1).indices
        inside_NT = (kept_NTK == codes_NT[..., None]).any(-1)
        kept_NTK[..., -1] = torch.where(inside_NT, kept_NTK[..., -1], codes_NT)
        slot_NT = (kept_NTK == codes_NT[..., None]).int().argmax(-1)
        logits_NTC = logits_NTC.gather(-1, kept_NTK)
    rest = Sampling(sampling.temperature, top_p=sampling.top_p)
    logprobs = truncate(logits_NTC.flatten(0, 1), rest, keep=slot_NT.flatten())
    return CodePolicy(kept_NTK, logprobs.unflatten(0, codes_NT.shape), slot_NT, mask_NT.float())


def _on(logits_NTC: Tensor, support: CodePolicy, sampling: Sampling) -> CodePolicy:
    """The policy of these logits on the codes that `support` keeps."""
    if support.kept_NTK is not None:
        logits_NTC = logits_NTC.gather(-1, support.kept_NTK)
    logits_NTK = logits_NTC / sampling.temperature
    if sampling.top_p < 1:
        logits_NTK = logits_NTK.masked_fill(support.logprobs_NTK == -torch.inf, -torch.inf)
    return replace(support, logprobs_NTK=logits_NTK.log_softmax(-1))
