"""The distribution from which `generate` samples codes, recomputed with gradients.

Reinforcement learning trains exactly this distribution: the visual head alone, the same streams with the same
guidance weights, the same temperature, top-k and top-p.

Shape suffixes: N requests, S streams of all requests, P different prompts, T codes of the largest
picture, C visual codes, K codes that are kept (all C without top-k), D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arm.generate import Request, left_padding, read_prompts
from arm.models.kv_cache import SharedPrefix
from arm.models.qwen2 import Qwen2
from arm.sampling import Sampling, truncate
from arm.sequence import pad_rows
from arm.vocab import Vocab


@dataclass(frozen=True)
class CodePolicy:
    """kept_NTK: the codes that top-k keeps, None for all. logprobs_NTK: their log-probabilities, -inf where top-p
    removes them. slot_NT: the index of the sampled code among them. mask_NT: 1 for codes, 0 for the padding of
    smaller pictures.
    """

    kept_NTK: Tensor | None
    logprobs_NTK: Tensor
    slot_NT: Tensor
    mask_NT: Tensor

    @property
    def drawn_NT(self) -> Tensor:
        """Log-probabilities of the sampled codes."""
        return self.logprobs_NTK.gather(-1, self.slot_NT[..., None])[..., 0]


def hidden_at_codes(
    model: Qwen2,
    vocab: Vocab,
    requests: Sequence[Request],
    pictures: Sequence[NDArray[np.int64]],
) -> Tensor:
    """The hidden states (S, T, D) that predict each code of each stream's picture, in the order of the requests;
    those after the last code of a smaller picture are meaningless.

    A prompt is the token sequence that generation read. A prompt that several pictures share (the same `Tokens`
    object) goes through the network once.
    """
    device = model.embed_tokens.weight.device
    streams = [s for request in requests for s in request.streams]
    prompts = list({id(stream): stream for stream in streams}.values())
    place = {id(prompt): p for p, prompt in enumerate(prompts)}
    owner_S = torch.tensor([place[id(stream)] for stream in streams], device=device)
    prefix = SharedPrefix(left_padding(prompts, device))
    last_PD = read_prompts(model, vocab, prompts, [True] * len(prompts), prefix)
    shown = [p for p, request in zip(pictures, requests, strict=True) for _ in request.streams]
    codes_ST = pad_rows([codes.ravel() for codes in shown], -1).to(device)
    indices = [np.indices(codes.shape).reshape(2, -1) for codes in shown]
    rows_ST, cols_ST = (pad_rows([i[axis] for i in indices], -1).to(device) for axis in (0, 1))
    T = codes_ST.shape[1] - 1  # the last code predicts none of the picture
    hidden_STD = last_PD[owner_S, None]
    if T:
        following_S1 = torch.tensor([[s.following] for s in streams], device=device)
        ids_ST = torch.full_like(codes_ST[:, :T], vocab.pad)
        x_STD = model.embed(ids_ST, codes_ST[:, :T], rows_ST, cols_ST)
        at_ST = following_S1 + torch.arange(T, device=device)
        rest_STD = model(x_STD, at_ST, kv_cache=prefix.continued(owner_S))
        hidden_STD = torch.cat([hidden_STD, rest_STD], 1)
    return hidden_STD


def code_policy(
    model: Qwen2,
    vocab: Vocab,
    requests: Sequence[Request],
    pictures: Sequence[NDArray[np.int64]],
    sampling: Sampling,
    support: CodePolicy | None = None,
) -> CodePolicy:
    """The policy at every code of `pictures` (each (H, W), as its request's grid asks).

    The sampled code is always kept: where it is no longer among the top k, since the policy has moved, it
    replaces the last of them. support: keep the same codes as this policy, as a reference must. Raises ValueError
    for greedy sampling, which cannot be differentiated.
    """
    if sampling.temperature == 0:
        raise ValueError("a policy needs a temperature above 0: greedy sampling cannot be trained")
    device = model.embed_tokens.weight.device
    counts = [codes.size for codes in pictures]
    owners = [n for n, request in enumerate(requests) for _ in request.streams]
    owner_S = torch.tensor(owners, device=device)
    weight_S = torch.tensor([w for r in requests for w in r.coefficients], device=device)
    most = max(counts)
    hidden_STD = hidden_at_codes(model, vocab, requests, pictures)
    logits_NTC = model.visual_logits(hidden_STD).float()
    if not bool((weight_S == 1).all()):
        logits_NTC = logits_NTC * weight_S[:, None, None]
    if len(owners) > len(requests):
        mixed_NTC = logits_NTC.new_zeros(len(requests), *logits_NTC.shape[1:])
        logits_NTC = mixed_NTC.index_add(0, owner_S, logits_NTC)
    if support is not None:
        return _on(logits_NTC, support, sampling)
    codes_NT = pad_rows([c.ravel() for c in pictures], 0).to(device)
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
