"""GRPO's arithmetic, worked by hand and against TRL's."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from arm.rl import objective as grpo
from closeness import assert_close_fp32

NAN = math.nan


def _same(x: torch.Tensor, **_: object) -> torch.Tensor:
    return x


def test_group_advantages_by_hand():
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, 0.5, NAN, 3.0])
    groups = torch.tensor([7, 7, 9, 9, 4, 4, 7, 5])
    found = grpo.group_advantages(rewards, groups)
    # Groups of {1, 0}: mean .5, unbiased std sqrt(.5); {.5, .5} does not vary, {3} stands alone.
    one = 0.5 / (math.sqrt(0.5) + 1e-4)
    assert found.values_N.tolist() == pytest.approx([one, -one, -one, one, 0, 0, 0, 0])
    assert found.used_N.tolist() == [True] * 4 + [False] * 4
    assert (found.groups, found.constant, found.missing) == (4, 2, 1)
    assert found.spread == pytest.approx(math.sqrt(0.5) * 2 / 3)


def test_a_missing_reward_moves_nobody():
    groups = torch.tensor([0, 0, 0, 0])
    with_gap = grpo.group_advantages(torch.tensor([1.0, 0.2, NAN, 0.6]), groups)
    without = grpo.group_advantages(torch.tensor([1.0, 0.2, 0.6]), groups[:3])
    assert with_gap.values_N[[0, 1, 3]].tolist() == without.values_N.tolist()
    as_zero = grpo.group_advantages(torch.tensor([1.0, 0.2, 0.0, 0.6]), groups)
    assert as_zero.values_N[0] != with_gap.values_N[0]


def test_normalizations_by_hand():
    rewards, groups = torch.tensor([0.50, 0.52, 0.0, 1.0]), torch.tensor([0, 0, 1, 1])
    by_group = grpo.group_advantages(rewards, groups, "group").values_N
    floored = grpo.group_advantages(rewards, groups, "floored", floor=0.1).values_N
    batch = grpo.group_advantages(rewards, groups, "batch").values_N
    std = 0.02 / math.sqrt(2)
    assert float(by_group[1]) == pytest.approx(0.01 / (std + 1e-4), rel=1e-4)
    assert float(floored[1]) == pytest.approx(0.01 / (0.1 + 1e-4), rel=1e-4)
    assert floored[3] == by_group[3]
    assert float(batch[1]) == pytest.approx(0.01 / (float(rewards.std()) + 1e-4), rel=1e-4)
    with pytest.raises(KeyError):
        grpo.group_advantages(rewards, groups, "other")  # pyright: ignore[reportArgumentType]


def test_gated_needs_every_component():
    parts = {"follow": torch.tensor([1.0, 1.0, NAN]), "quality": torch.tensor([0.5, 0.0, 1.0])}
    product = grpo.gated(parts)
    assert product[:2].tolist() == [0.5, 0.0]
    assert bool(product[2].isnan())


def test_gdpo_gives_small_spreads_an_equal_say():
    """With the plain sum the reward of larger spread decides alone; with GDPO a compromise wins."""
    groups = torch.zeros(3, dtype=torch.long)
    parts = {"a": torch.tensor([1.0, 0.0, 0.5]), "b": torch.tensor([0.0, 0.2, 0.2])}
    assert int(grpo.group_advantages(parts["a"] + parts["b"], groups).values_N.argmax()) == 0
    assert int(grpo.gdpo_advantages(parts, groups, floor=0.01).values_N.argmax()) == 2
    one_sided = grpo.gdpo_advantages(parts, groups, {"a": 1.0, "b": 0.0}, floor=0.01)
    assert one_sided.values_N.tolist() == pytest.approx([1.0, -1.0, 0.0], abs=1e-3)


def test_gdpo_by_hand():
    groups = torch.tensor([0, 0, 1, 1])
    parts = {
        "a": torch.tensor([1.0, 0.0, 1.0, 1.0]),
        "b": torch.tensor([1.0, 0.0, 0.0, 1.0]),
    }
    found = grpo.gdpo_advantages(parts, groups)
    each = 0.5 / (math.sqrt(0.5) + 1e-4)
    total = torch.tensor([2 * each, -2 * each, -each, each])
    expected = (total - total.mean()) / (total.std() + 1e-4)
    assert found.values_N.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert (found.constant, found.missing) == (0, 0)
    parts["b"][0] = NAN
    missing = grpo.gdpo_advantages(parts, groups)
    assert missing.used_N.tolist() == [False, False, True, True]
    assert (missing.constant, missing.missing) == (1, 1)


def test_policy_loss_by_hand():
    behaviour = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    policy = torch.tensor([[0.75, 0.5], [0.3, 0.55]]).log().requires_grad_()
    advantages, mask = torch.tensor([1.0, -2.0]), torch.ones(2, 2)
    found = grpo.policy_loss(policy, behaviour, advantages, mask)
    # Ratios 1.5 (clipped to 1.2) and 1; 0.6 (clipped to 0.8, which is worse for A < 0) and 1.1.
    assert found.loss_N.tolist() == pytest.approx([-(1.2 + 1.0) / 2, (2 * 0.8 + 2 * 1.1) / 2])
    assert found.clipped == 0.5
    assert found.max_ratio == pytest.approx(1.5)
    found.loss_N.sum().backward()
    assert policy.grad is not None
    assert policy.grad[0, 0] == 0 and policy.grad[1, 0] == 0  # clipped: nothing to gain
    assert float(policy.grad[0, 1]) == pytest.approx(-0.5) and float(
        policy.grad[1, 1]
    ) == pytest.approx(1.1)


def test_masked_tokens_have_no_say():
    torch.manual_seed(0)
    policy, behaviour = torch.randn(2, 3), torch.randn(2, 3)
    mask = torch.tensor([[1.0, 1, 0], [1, 1, 1]])
    changed = policy.clone()
    changed[0, 2] = 50.0
    for level in ("token", "sequence"):
        a = grpo.policy_loss(policy, behaviour, torch.tensor([1.0, -1]), mask, level=level)
        b = grpo.policy_loss(changed, behaviour, torch.tensor([1.0, -1]), mask, level=level)
        assert torch.equal(a.loss_N, b.loss_N)
        assert a.max_ratio == b.max_ratio


def test_sequence_ratio_is_the_geometric_mean():
    behaviour = torch.zeros(1, 2)
    policy = torch.tensor([[math.log(1.21), 0.0]])
    found = grpo.policy_loss(
        policy, behaviour, torch.tensor([1.0]), torch.ones(1, 2), 0.5, "sequence"
    )
    assert found.loss_N.item() == pytest.approx(-1.1)


def test_kl_estimators():
    torch.manual_seed(0)
    p, q = torch.randn(6).log_softmax(-1), torch.randn(6).log_softmax(-1)
    exact = grpo.exact_kl(p, q)
    assert float(exact) == pytest.approx(float((p.exp() * (p - q)).sum()))
    assert grpo.exact_kl(p, p) == 0
    draws = torch.multinomial(p.exp(), 200_000, replacement=True)
    k3 = grpo.sampled_kl(p[draws], q[draws], "k3")
    assert float(k3.min()) >= 0
    assert float(k3.mean()) == pytest.approx(float(exact), rel=0.02)
    k2 = grpo.sampled_kl(torch.tensor(0.3), torch.tensor(0.1), "k2")
    assert float(k2) == pytest.approx(0.02)


def test_cut_codes_carry_no_kl_and_no_gradient():
    p = torch.tensor([0.6, 0.4]).log()
    cut = torch.tensor([0.6, 0.4, 0.0]).log().requires_grad_()
    q = torch.tensor([0.5, 0.5, 0.0]).log()
    found = grpo.exact_kl(cut, q)
    assert float(found) == pytest.approx(float(grpo.exact_kl(p, q[:2])))
    found.backward()
    assert cut.grad is not None and bool(cut.grad.isfinite().all())
    assert float(grpo.entropy(cut)) == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.4))


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_agrees_with_trl(level: str):
    """The loss of TRL's GRPO trainer, called on tensors alone, with its k3 penalty."""
    trainer_module = pytest.importorskip("trl.trainer.grpo_trainer", reason="needs the extra 'dev'")
    torch.manual_seed(3)
    n, t, beta = 6, 5, 0.01
    policy = (torch.randn(n, t) * 0.4).requires_grad_()
    behaviour, reference = torch.randn(n, t) * 0.4, torch.randn(n, t) * 0.4
    rewards, groups = torch.rand(n), torch.tensor([0, 0, 0, 1, 1, 1])
    mask = torch.ones(n, t)
    mask[2, 3:] = 0
    advantages = grpo.group_advantages(rewards, groups).values_N

    trainer = object.__new__(trainer_module.GRPOTrainer)
    settings = {
        "aux_loss_enabled": False, "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None,
        "importance_sampling_level": level, "beta": beta, "loss_type": "grpo", "epsilon_low": 0.2,
        "epsilon_high": 0.2, "use_vllm": False, "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": False, "model": SimpleNamespace(training=True),
        "args": SimpleNamespace(use_bias_correction_kl=False, delta=None),
        "_metrics": {"train": defaultdict(list), "eval": defaultdict(list)},
        "accelerator": SimpleNamespace(gather=_same, reduce=_same, gather_for_metrics=_same),
    }  # fmt: skip
    for name, value in settings.items():
        object.__setattr__(trainer, name, value)
    object.__setattr__(
        trainer,
        "_get_per_token_logps_and_entropies",
        lambda *a, **k: (policy, torch.zeros(n, t), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(n, 1, dtype=torch.long), "prompt_mask": torch.ones(n, 1),
        "completion_ids": torch.zeros(n, t, dtype=torch.long), "completion_mask": mask,
        "advantages": advantages, "old_per_token_logps": behaviour,
        "ref_per_token_logps": reference, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    theirs = trainer._compute_loss(None, inputs)
    (their_gradient,) = torch.autograd.grad(theirs, policy)

    ours = grpo.policy_loss(policy, behaviour, advantages, mask, 0.2, level).loss_N.mean()  # pyright: ignore[reportArgumentType]
    penalty = grpo.token_mean(grpo.sampled_kl(policy, reference, "k3"), mask).mean()
    (our_gradient,) = torch.autograd.grad(ours + beta * penalty, policy)
    assert float(ours + beta * penalty) == pytest.approx(float(theirs), rel=1e-4)
    assert_close_fp32(our_gradient, their_gradient)


def test_agrees_with_trl_on_advantages():
    """TRL 1.x: nanmean and nanstd of a prompt's generations, plus 1e-4."""
    utils = pytest.importorskip("trl.trainer.utils", reason="needs the extra 'dev'")
    rewards = torch.tensor([[0.2, 0.9, 0.4], [1.0, NAN, 0.0]])
    theirs = (rewards - rewards.nanmean(1, keepdim=True)) / (
        utils.nanstd(rewards, dim=1)[:, None] + 1e-4
    )
    ours = grpo.group_advantages(rewards.flatten(), torch.tensor([0, 0, 0, 1, 1, 1])).values_N
    expected = theirs.flatten().nan_to_num(0.0)
    assert_close_fp32(ours, expected)
