"""The distribution that tokens are sampled from: temperature, top-k, top-p, and each row's own noise.

R rows, C codes or words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

LEAST_TEMPERATURE = 0.001
"""Below this temperature logits leave the range of their type, and no number is left of them."""


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy, and LEAST_TEMPERATURE the lowest other one; top_k 0 and top_p 1 keep every token."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        tempered = self.temperature == 0 or LEAST_TEMPERATURE <= self.temperature < math.inf
        if not tempered or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"temperature must be 0 or at least {LEAST_TEMPERATURE}, top_k must not be negative, top_p in (0, 1]: "
                f"{self}"
            )


GREEDY = Sampling(temperature=0.0)


def truncate(
    logits_RC: Float[Tensor, "r c"], sampling: Sampling, keep: Tensor | None = None
) -> Float[Tensor, "r c"]:
    """Log-probabilities after temperature, top-k and top-p; -inf where a token is cut.

    Greedy keeps the largest logit alone, with probability 1. Of tokens that tie with the last of the top k
    only as many stay as make k; the token `keep` (R,) of each row stays whatever its logit.
    """
    if sampling.temperature == 0:
        best = logits_RC.argmax(-1, keepdim=True)
        return torch.full_like(logits_RC, -torch.inf).scatter(-1, best, 0.0)
    logits_RC = whole_RC = logits_RC / sampling.temperature
    if 0 < sampling.top_k < logits_RC.shape[-1]:
        best = logits_RC.topk(sampling.top_k, -1)
        cut_RC = torch.full_like(logits_RC, -torch.inf)
        logits_RC = cut_RC.scatter(-1, best.indices, best.values)
    if sampling.top_p < 1:
        ordered, order = logits_RC.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        # A token stays while the mass before it is below top_p, so the first one always stays.
        cut = probabilities.cumsum(-1) - probabilities >= sampling.top_p
        logits_RC = logits_RC.masked_fill(torch.zeros_like(cut).scatter(-1, order, cut), -torch.inf)
    if keep is not None and logits_RC is not whole_RC:
        kept_R1 = keep[:, None]
        logits_RC = logits_RC.scatter(-1, kept_R1, whole_RC.gather(-1, kept_R1))
    return logits_RC.log_softmax(-1)


def row_generator(seed: int, request: int, sample: int) -> torch.Generator:
    """The randomness of one sample of one request, whatever else is in its batch."""
    state = np.random.SeedSequence([seed, request, sample]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def sample_rows(
    logits_RC: Float[Tensor, "r c"], sampling: Sampling, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Sampled indices (R,) and their log-probabilities (R,), each row by its own generator.

    A race of exponential clocks: the smallest noise / probability wins with that probability. Where
    only the top k may win, only they are given clocks: to make those of all codes takes longer than the
    network does.
    """
    if sampling.temperature and 0 < sampling.top_k < logits_RC.shape[-1]:
        best = logits_RC.topk(sampling.top_k, -1)
        place_R, logprobs_R = sample_rows(best.values, replace(sampling, top_k=0), generators)
        return best.indices.gather(-1, place_R[:, None])[:, 0], logprobs_R
    logprobs = truncate(logits_RC, sampling)
    if sampling.temperature == 0:
        index = logprobs.argmax(-1, keepdim=True)
    else:
        # Drawn on the CPU, so that a seed means the same on every device.
        width = logprobs.shape[-1]
        noise = torch.stack([torch.empty(width).exponential_(generator=g) for g in generators])
        index = (logprobs - noise.log().to(logprobs)).argmax(-1, keepdim=True)
    return index[:, 0], logprobs.gather(-1, index)[:, 0]
