"""A fault that one process meets ends all of them alike: none is left waiting for it."""

import subprocess

import pytest

import agreement
from arm.rl.update import Objective, advantages_of
from launch import environment, torchrun

CASES = (
    "one_loss_is_nan", "a_long_wait", "one_sees_no_checkpoint", "killed_after_a_checkpoint",
    "one_drifts_too_far", "one_has_no_reward", "advantages_of_two",
)  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each of two processes said in each case of `agreement.py`."""
    out = tmp_path_factory.mktemp("agreement")
    result = subprocess.run(
        [*torchrun(2), str(agreement.__file__), str(out), *CASES],
        env=environment(), check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return {c: [(out / f"{c}_{rank}.txt").read_text() for rank in range(2)] for c in CASES}


def test_a_loss_that_is_not_finite_in_one(said: dict[str, list[str]]):
    assert (
        said["one_loss_is_nan"] == ["run: the loss is nan at step 0; lower the learning rate"] * 2
    )


def test_waiting_may_take_longer_than_a_message(said: dict[str, list[str]]):
    assert said["a_long_wait"] == ["0.5"] * 2


def test_all_resume_from_what_the_first_sees(said: dict[str, list[str]]):
    assert said["one_sees_no_checkpoint"] == ["1"] * 2


def test_a_checkpoint_has_its_name_before_the_next_is_begun(said: dict[str, list[str]]):
    assert said["killed_after_a_checkpoint"] == ["killed step_00000005"] * 2


def test_a_kl_over_the_budget_in_one(said: dict[str, list[str]]):
    one, two = said["one_drifts_too_far"]
    assert one == two and "the KL to the reference is 0.35 nats a code" in one


def test_statistics_are_of_all_processes(said: dict[str, list[str]]):
    """Two processes with a group each find the advantages that one finds with both."""
    for part, combine in enumerate(("gdpo", "gated")):
        whole = agreement.made_up([[0.0, 0.5, 1.0], [0.5, 0.5, 0.6]], combine)
        reward_N, found = advantages_of(whole, Objective(normalization="batch"))
        for rank in range(2):
            mine = slice(3 * rank, 3 * rank + 3)
            values = [reward_N[mine], found.values_N[mine]]
            assert (
                said["advantages_of_two"][rank].splitlines()[part] == f"{values} {found.constant}"
            )


def test_all_log_the_same_names(said: dict[str, list[str]]):
    one, two = said["one_has_no_reward"]
    assert one == two and "drawing/follow" in one
