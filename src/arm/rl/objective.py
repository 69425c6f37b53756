"""Group-relative policy optimisation as pure functions (ARM section 4; GRPO arXiv 2402.03300).

A group is all samples of one problem, identified by a number and not by its text: two pictures with the same
instruction are two groups. A missing reward is NaN, and its sample is left out of every statistic.

Shape suffixes: N samples, T visual tokens of a sample, C visual codes, X any leading dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Normalization = Literal["group", "batch", "floored"]
Level = Literal["token", "sequence"]
KLEstimator = Literal["exact", "k2", "k3"]

EPSILON = 1e-4
"""Added to a standard deviation that divides (TRL's value)."""


@dataclass(frozen=True)
class Advantages:
    """values_N: the advantages, 0 for samples without a policy gradient; used_N: whether a sample has one.

    groups: their number. constant: number of groups that are dropped, for lack of variance. missing: number of
    samples without a reward. spread: mean standard deviation of the rewards within a group, over groups with at
    least two rewards.
    """

    values_N: Tensor
    used_N: Tensor
    groups: int
    constant: int
    missing: int
    spread: float


def _members(groups_N: Tensor, present_N: Tensor) -> list[Tensor]:
    """For each group, the indices of its samples that have a reward."""
    return [
        ((groups_N == group) & present_N).nonzero()[:, 0] for group in groups_N.unique().tolist()
    ]


def group_advantages(
    rewards_N: Tensor,
    groups_N: Tensor,
    normalization: Normalization = "group",
    floor: float = 0.1,
) -> Advantages:
    """Advantages of samples within their groups: (r - mean) / std.

    rewards_N: NaN where missing. normalization: the divisor is the group's standard deviation for "group" (the
    paper), that of all rewards for "batch", and for "floored" the group's but at least `floor`, so that small
    differences within a group are not amplified. Standard deviations are unbiased. Groups with fewer than two
    rewards or without variance are dropped.
    """
    present_N = ~rewards_N.isnan()
    values_N, used_N = torch.zeros_like(rewards_N), torch.zeros_like(present_N)
    everything = rewards_N[present_N]
    batch_std = everything.std() if len(everything) > 1 else torch.zeros(())
    groups, constant, spreads = _members(groups_N, present_N), 0, []
    for members in groups:
        if len(members) < 2:
            constant += 1
            continue
        rewards = rewards_N[members]
        std = rewards.std()
        spreads.append(float(std))
        if bool((rewards == rewards[0]).all()):
            constant += 1
            continue
        divisor = {"group": std, "batch": batch_std, "floored": std.clamp(min=floor)}[normalization]
        values_N[members] = (rewards - rewards.mean()) / (divisor + EPSILON)
        used_N[members] = True
    return Advantages(
        values_N,
        used_N,
        groups=len(groups),
        constant=constant,
        missing=int((~present_N).sum()),
        spread=sum(spreads) / max(1, len(spreads)),
    )


def gated(components: Mapping[str, Tensor]) -> Tensor:
    """The product of the components, (N,), which is high only where all are; NaN where one is missing."""
    return torch.stack(list(components.values())).prod(0)


def gdpo_advantages(
    components: Mapping[str, Tensor],
    groups_N: Tensor,
    weights: Mapping[str, float] | None = None,
    floor: float = 0.1,
) -> Advantages:
    """Advantages from several rewards, each normalised within its group, added up by weight, and normalised over
    the batch (GDPO, arXiv 2601.05242): a reward of small variance counts as much as one of large variance.

    A sample is used where it has all components and at least one of them varies within its group. floor: lower
    bound of the groups' standard deviations.
    """
    present_N = ~torch.stack(list(components.values())).isnan().any(0)
    parts = {
        name: group_advantages(
            rewards_N.masked_fill(~present_N, torch.nan), groups_N, "floored", floor
        )
        for name, rewards_N in components.items()
    }
    scale = {name: 1.0 if weights is None else weights[name] for name in components}
    total_N = torch.stack([scale[name] * part.values_N for name, part in parts.items()]).sum(0)
    used_N = torch.stack([part.used_N for part in parts.values()]).any(0)
    if int(used_N.sum()) > 1:
        used = total_N[used_N]
        total_N = torch.where(used_N, (total_N - used.mean()) / (used.std() + EPSILON), 0.0)
    members = _members(groups_N, present_N)
    return Advantages(
        total_N,
        used_N,
        groups=len(members),
        constant=sum(not bool(used_N[m].any()) for m in members),
        missing=int((~present_N).sum()),
        spread=sum(part.spread for part in parts.values()) / len(parts),
    )


def token_mean(values_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """The mean over a sample's tokens, (N,)."""
    return (values_NT * mask_NT).sum(-1) / mask_NT.sum(-1).clamp(min=1)


@dataclass(frozen=True)
class PolicyLoss:
    """loss_N: each sample's loss, the mean over its tokens. Over all tokens in the mask, ratio: the mean ratio,
    max_ratio: the largest, clipped: the share whose gradient is cut off.
    """

    loss_N: Tensor
    ratio: float
    max_ratio: float
    clipped: float

    def shares(self) -> dict[str, float]:
        """The values to log, by name."""
        return {"ratio": self.ratio, "max_ratio": self.max_ratio, "clipped": self.clipped}


def policy_loss(
    logprobs_NT: Tensor,
    behaviour_NT: Tensor,
    advantages_N: Tensor,
    mask_NT: Tensor,
    clip: float = 0.2,
    level: Level = "token",
) -> PolicyLoss:
    """The clipped surrogate, -min(r A, clip(r, 1 - clip, 1 + clip) A), to be minimised.

    behaviour_NT: log-probabilities under the distribution that was sampled. level: one ratio per token (GRPO),
    or one per sample, the geometric mean of its tokens' (GSPO, arXiv 2507.18071). mask_NT: 1 for visual tokens, 0
    for padding.
    """
    log_ratio_NT = (logprobs_NT - behaviour_NT) * mask_NT
    if level == "sequence":
        log_ratio_NT = token_mean(log_ratio_NT, mask_NT)[:, None].expand_as(log_ratio_NT)
    ratio_NT = log_ratio_NT.exp()
    advantage_N1 = advantages_N[:, None]
    bounded_NT = ratio_NT.clamp(1 - clip, 1 + clip)
    loss_NT = -torch.minimum(ratio_NT * advantage_N1, bounded_NT * advantage_N1)
    with torch.no_grad():
        on = mask_NT.bool()
        binds_NT = torch.where(
            advantage_N1 > 0, ratio_NT > 1 + clip, (ratio_NT < 1 - clip) & (advantage_N1 < 0)
        )
        ratio, clipped = ratio_NT[on].mean(), binds_NT[on].float().mean()
        largest = ratio_NT[on].max()
    return PolicyLoss(token_mean(loss_NT, mask_NT), float(ratio), float(largest), float(clipped))


def sampled_kl(logprobs_X: Tensor, reference_X: Tensor, estimator: Literal["k2", "k3"]) -> Tensor:
    """KL(policy || reference) estimated on sampled tokens (Schulman 2020), with d = log p - log q.

    k2 = d^2 / 2 is biased, but its gradient is that of the KL; k3 = e^-d - 1 + d is unbiased and never negative,
    the estimator of GRPO and TRL.
    """
    d_X = logprobs_X - reference_X
    return d_X.square() / 2 if estimator == "k2" else torch.exp(-d_X) - 1 + d_X


def exact_kl(policy_XC: Tensor, reference_XC: Tensor) -> Tensor:
    """KL(policy || reference) over all codes, (X,), from log-probabilities.

    Codes that top-k or top-p removed from the policy (-inf) contribute nothing; the same codes must be removed
    from the reference.
    """
    inside_XC = policy_XC > -torch.inf
    p_XC = policy_XC.masked_fill(~inside_XC, 0.0)
    q_XC = reference_XC.masked_fill(~inside_XC, 0.0)
    return (p_XC.exp() * (p_XC - q_XC) * inside_XC).sum(-1)


def entropy(logprobs_XC: Tensor) -> Tensor:
    """The entropy in nats of distributions given as log-probabilities, (X,)."""
    finite_XC = logprobs_XC.masked_fill(logprobs_XC == -torch.inf, 0.0)
    return -(finite_XC.exp() * finite_XC * (logprobs_XC > -torch.inf)).sum(-1)
