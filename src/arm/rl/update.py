"""One update of reinforcement learning: the policy's loss on a rollout, and the anchors to the initial model.

The trained policy is the sampled one, of the visual head alone. Reference and anchors are of the model that the
run started from. Samples go through the network in parts whose gradients are accumulated, so that a rollout need
not fit into memory at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arm.errors import TrainingError
from arm.generate import Request
from arm.models.qwen2 import Qwen2, document_mask
from arm.pipeline import Arm
from arm.rl.objective import (
    Advantages,
    KLEstimator,
    Level,
    Normalization,
    entropy,
    exact_kl,
    gated,
    gdpo_advantages,
    group_advantages,
    policy_loss,
    sampled_kl,
    token_mean,
)
from arm.rl.policy import CodePolicy, code_policy
from arm.rl.problems import AnswerBatches
from arm.rl.rollout import Rollout
from arm.sampling import Sampling
from arm.sequence import PackedBatch
from arm.train import parallel
from arm.train.sharding import call_as_forward, unsharded
from arm.train.training import to_device


@dataclass(frozen=True)
class Objective:
    """The loss of an update; the defaults are the paper's clip, KL weight and normalization of advantages.

    mini_batches: updates per rollout, all with the sampler's log-probabilities. update: samples that go through
    the network at a time. ratio_tolerance: largest mean |log ratio| allowed before a rollout's first update,
    above which the trained distribution is not the sampled one. The others: see `rl/objective.py`.
    """

    clip: float = 0.2
    kl: float = 0.01
    kl_estimator: KLEstimator = "exact"
    normalization: Normalization = "group"
    floor: float = 0.1
    level: Level = "token"
    mini_batches: int = 1
    update: int = 64
    ratio_tolerance: float = 0.02

    def __post_init__(self) -> None:
        if min(self.mini_batches, self.update) < 1:
            raise ValueError("mini_batches and update must be at least 1")


@dataclass(frozen=True)
class Anchors:
    """Weights of the KL to the initial model: `null` on empty prompts, for the share `null_share` of the pictures,
    and `understanding` on the answers of `questions` conversations a step and process, the domain's or those of the code
    shards `data`. Not in the paper; 0 switches one off.
    """

    null: float = 0.05
    null_share: float = 0.125
    understanding: float = 0.5
    questions: int = 8
    data: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.null_share <= 1 or self.questions < 0:
            raise ValueError("null_share must be from 0 to 1, and questions not negative")


def advantages_of(
    rollout: Rollout, objective: Objective, order_N: Tensor | None = None
) -> tuple[Tensor, Advantages]:
    """The rewards (N,) of this process's rollout, and its advantages.

    Statistics and counts are those of all processes, so that they do not depend on the number of processes.
    order_N: a permutation of the rewards of all processes (a control).
    """
    own = len(rollout.components)
    names = parallel.first_available(rollout.names) or ("reward",)
    parts = {k: parallel.all_gather_rows(v) for k, v in rollout.component_tensors(names).items()}
    groups_N = parallel.all_gather_rows(rollout.groups_N + parallel.rank() * len(rollout.problems))
    if order_N is not None:
        parts = {name: part_N[order_N] for name, part_N in parts.items()}
    reward_N = gated(parts)
    if rollout.task.combine == "gdpo":
        advantages = gdpo_advantages(parts, groups_N, floor=objective.floor)
    else:
        normalization, floor = objective.normalization, objective.floor
        advantages = group_advantages(reward_N, groups_N, normalization, floor)
    mine = slice(parallel.rank() * own, (parallel.rank() + 1) * own)
    values_N, used_N = advantages.values_N[mine], advantages.used_N[mine]
    return reward_N[mine], replace(advantages, values_N=values_N, used_N=used_N)


def reward_statistics(
    rollout: Rollout, reward_N: Tensor, advantage: Advantages
) -> dict[str, float]:
    """Statistics of a rollout's rewards, for the log."""
    values = {
        name: float(part[~part.isnan()].mean()) if not part.isnan().all() else 0.0
        for name, part in {**rollout.component_tensors(), "reward": reward_N}.items()
    }
    # All processes log the same names, whose values are averaged, even one without any reward.
    names = parallel.first_available(rollout.names) or ("reward",)
    return {
        **{name: values.get(name, 0.0) for name in (*names, "reward")},
        "spread": advantage.spread,
        "constant_groups": advantage.constant / max(1, advantage.groups),
        "missing": advantage.missing / (len(reward_N) * parallel.world_size()),
    }


def answer_kl(model: Qwen2, reference: Qwen2, batch: PackedBatch) -> Tensor:
    """Mean KL(reference || model) in nats per token, over tokens with a weight."""

    def logprobs(network: Qwen2) -> Tensor:
        x = network.embed(batch.ids, batch.codes, batch.rows, batch.cols)
        hidden = network(x, batch.positions, document_mask(batch.document_ids))[:, :-1]
        return network.text_logits(hidden[batch.weights[:, 1:] > 0]).float().log_softmax(-1)

    with torch.no_grad():
        kept = call_as_forward(reference, logprobs)
    return exact_kl(kept, logprobs(model)).mean()


def _everywhere(count: float) -> float:
    """The mean of a count over the processes, at least 1: the divisor of each process's sums."""
    return float(parallel.all_reduce_mean(torch.tensor(count)).clamp(min=1))


@dataclass(frozen=True, eq=False)
class _Shares:
    """Weights and divisors of a part of a rollout, and the sampler's log-probabilities of it."""

    advantage: Advantages
    known_N: Tensor
    behaviour_NT: Tensor
    used: float
    every: float
    nulls: float


@dataclass(frozen=True, eq=False)
class Updater:
    """Accumulates gradients in `arm.model`; `reference` is what it started from. answers: the conversations
    that preserve understanding; None where `anchors.questions` is 0.
    """

    arm: Arm
    reference: Qwen2
    objective: Objective
    anchors: Anchors
    seed: int
    answers: AnswerBatches | None

    def policy(
        self, rollout: Rollout, advantage: Advantages, part: int
    ) -> tuple[float, dict[str, float]]:
        """Accumulates the gradients of mini-batch `part` of a task's samples; returns its loss and values to log.

        Raises TrainingError where the first update of a rollout is not on policy.
        """
        objective, anchors = self.objective, self.anchors
        # Samples without a reward are kept, with weight 0, so that all processes of a sharded model run the same
        # number of parts.
        chosen = [n for n in range(len(rollout.codes)) if n % objective.mini_batches == part]
        known_N = torch.tensor([c is not None for c in rollout.components])
        stride = round(1 / anchors.null_share) if anchors.null and anchors.null_share else 0
        anchored = set(chosen[::stride]) if stride else set()
        used = _everywhere(float(advantage.used_N[chosen].sum()))
        every, nulls = _everywhere(float(known_N[chosen].sum())), _everywhere(float(len(anchored)))
        behaviour_NT = rollout.behaviour_NT()
        total, seen = 0.0, {}
        for start in range(0, len(chosen), objective.update):
            piece = chosen[start : start + objective.update]
            shares = _Shares(advantage, known_N, behaviour_NT[piece], used, every, nulls)
            null = [n for n in piece if n in anchored]
            loss, values = call_as_forward(
                self.arm.model, self._piece, rollout, piece, null, shares
            )
            loss.backward()
            total += float(loss.detach())
            largest = max(seen.pop("max_ratio", 0.0), values.pop("max_ratio"))
            weight = len(piece) / len(chosen)
            if null:
                values["null_kl"] *= 1 / nulls / weight
            seen = {k: seen.get(k, 0.0) + values.get(k, 0.0) * weight for k in {**seen, **values}}
            seen["max_ratio"] = largest
        off = parallel.all_reduce_max(seen["mismatch"]) if part == 0 and seen else 0.0
        if off > objective.ratio_tolerance:
            raise TrainingError(
                "before a rollout's first update the ratio must be 1, but |log ratio| is "
                f"{off:.3g} on average (tolerance {objective.ratio_tolerance:g}): the "
                "distribution in training is not the one that was sampled"
            )
        return total, seen

    def _piece(
        self, model: Qwen2, rollout: Rollout, piece: list[int], null: list[int], shares: "_Shares"
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of the samples `piece`, of which `null` are anchored on empty prompts, and values to log."""
        objective, sampling, vocab = self.objective, rollout.task.sampling, self.arm.vocab
        requests = [rollout.requests[n] for n in piece]
        codes = [rollout.codes[n] for n in piece]
        policy = code_policy(model, vocab, requests, codes, sampling)
        reference = self._reference(requests, codes, sampling, policy)
        device, mask_NT = policy.mask_NT.device, policy.mask_NT
        behaved_NT = shares.behaviour_NT[:, : mask_NT.shape[1]].to(device)
        surrogate = policy_loss(
            policy.drawn_NT, behaved_NT, shares.advantage.values_N[piece].to(device), mask_NT,
            objective.clip, objective.level,
        )  # fmt: skip
        kl_NT = exact_NT = exact_kl(policy.logprobs_NTK, reference.logprobs_NTK)
        if objective.kl_estimator != "exact":
            kl_NT = sampled_kl(policy.drawn_NT, reference.drawn_NT, objective.kl_estimator)
        used_N, known_N = shares.advantage.used_N[piece], shares.known_N[piece]
        loss = (surrogate.loss_N * used_N.to(device)).sum() / shares.used
        kl_N = token_mean(kl_NT, mask_NT) * known_N.to(device)
        loss = loss + objective.kl * kl_N.sum() / shares.every
        values = {**_watched(policy, exact_NT, behaved_NT), **surrogate.shares()}
        if null:
            of = [piece.index(n) for n in null]
            null_kl = self._null_kl(model, [requests[i] for i in of], [codes[i] for i in of])
            loss = loss + self.anchors.null * null_kl / shares.nulls
            values["null_kl"] = float(null_kl.detach())
        return loss, values

    @torch.no_grad()
    def _reference(
        self,
        requests: Sequence[Request],
        codes: Sequence[np.ndarray],
        sampling: Sampling,
        support: CodePolicy | None = None,
    ) -> CodePolicy:
        arguments = (self.arm.vocab, requests, codes, sampling, support)
        return call_as_forward(self.reference, code_policy, *arguments)

    def _null_kl(
        self, model: Qwen2, requests: Sequence[Request], codes: Sequence[np.ndarray]
    ) -> Tensor:
        """Summed KL on the prompts without text, at the codes of the sampled pictures; the prompts of one picture
        share its weight.
        """
        nulls = [
            (Request((null,), (1.0,), request.grid), picture, 1 / len(request.nulls))
            for request, picture in zip(requests, codes, strict=True)
            for null in request.nulls
        ]
        asked, pictures, shares = zip(*nulls, strict=True)
        plain = Sampling(1.0)
        policy = code_policy(model, self.arm.vocab, asked, pictures, plain)
        there = self._reference(asked, pictures, plain)
        divergence_NT = exact_kl(there.logprobs_NTK, policy.logprobs_NTK)
        share_N = torch.tensor(shares, device=divergence_NT.device)
        return (token_mean(divergence_NT, policy.mask_NT) * share_N).sum()

    def understanding(self, step: int) -> tuple[float, dict[str, float]]:
        """Accumulates the gradients of the anchor on answers; returns its loss, and the KL to log."""
        anchors = self.anchors
        if not anchors.questions or self.answers is None:
            return 0.0, {}
        asked = self.answers(self.arm, self.seed, step, parallel.rank(), anchors.questions)
        model = self.arm.model
        asked = to_device(asked, model.embed_tokens.weight.device)
        if anchors.understanding:
            divergence = call_as_forward(model, answer_kl, self.reference, asked)
            (anchors.understanding * divergence).backward()
        else:  # only logged; without a backward pass, FSDP would not free the gathered parameters
            with torch.no_grad(), unsharded(model):
                divergence = answer_kl(model, self.reference, asked)
        found = float(divergence.detach())
        return anchors.understanding * found, {"understanding_kl": found}


@torch.no_grad()
def _watched(policy: CodePolicy, kl_NT: Tensor, behaved_NT: Tensor) -> dict[str, float]:
    off_NT = (policy.drawn_NT - behaved_NT).abs()
    each = {"kl": kl_NT, "entropy": entropy(policy.logprobs_NTK), "mismatch": off_NT}
    return {k: float(token_mean(v, policy.mask_NT).mean()) for k, v in each.items()}
