"""The distribution that `generate` draws codes from, once more and with gradients.

Reinforcement learning trains this one and no other: the visual head alone, the same streams with the
same guidance weights, the same temperature and the same cut to top-k and top-p. A prompt is the
very token sequence that generation read, extended by the codes that it drew.

Shape suffixes: N requests, S streams of all requests, P tokens of the longest stream, T codes of
the largest picture, C visual codes, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """logprobs_NTC: over all codes at each place of each picture, -inf where cut; codes_NT: those that
    were drawn; mask_NT: 1 on codes, 0 on padding of smaller pictures.
    """

    logprobs_NTC: Tensor
    codes_NT: Tensor
    mask_NT: Tensor

    @property
    def drawn_NT(self) -> Tensor:
        """Log-probabilities of the drawn codes."""
        return self.logprobs_NTC.gather(-1, self.codes_NT[..., None])[..., 0]


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
) -> CodePolicy:
    """The policy at every code of `pictures` (each (H, W), as its request's grid asks).

    A drawn code is never cut: when the policy has moved so far that it left the top k, its
    log-probability stays finite. Raises ValueError for greedy sampling, which is no distribution.
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
    logits_STC = model.visual_logits(hidden_STD).float()
    if all(len(request.streams) == 1 for request in requests):
        logits_NTC = logits_STC * weight_S[:, None, None]
    else:
        logits_NTC = logits_STC.new_zeros(len(requests), *logits_STC.shape[1:]).index_add(
            0, owner_S, logits_STC * weight_S[:, None, None]
        )
    codes_NT = torch.from_numpy(
        np.stack([np.pad(c.ravel(), (0, most - c.size)) for c in pictures])
    ).to(device)
    mask_NT = torch.arange(most, device=device) < torch.tensor(counts, device=device)[:, None]
    logprobs = truncate(logits_NTC.flatten(0, 1), sampling, keep=codes_NT.flatten())
    return CodePolicy(logprobs.unflatten(0, codes_NT.shape), codes_NT, mask_NT.float())


def on_support(reference: CodePolicy, policy: CodePolicy) -> Tensor:
    """The reference's log-probabilities (N, T, C), cut to the codes that the policy keeps.

    `reference` is to be made with the policy's temperature and without a cut of its own.
    """
    cut_NTC = policy.logprobs_NTC == -torch.inf
    return reference.logprobs_NTC.masked_fill(cut_NTC, -torch.inf).log_softmax(-1)
