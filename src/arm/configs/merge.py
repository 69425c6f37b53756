"""Runs that average models which were trained apart from one start."""

from pathlib import Path

from arm.train.merge import MergeRun


def micro() -> MergeRun:
    """The shipped `micro`: the paper's path of three stages and two runs of editing alone, all from the
    supervised model. Seconds.

    The weights were chosen among nine sets by `gedit` of 320 held-out edits that no table shows (seed 7).
    """
    trained = Path("runs/micro")
    policies = ("synergy/seed0/t2i-edit-joint", "synergy/seed0/edit", "grpo_edit_wide")
    return MergeRun(
        out=trained / "merged",
        start="micro-sft",
        models=tuple(str(trained / policy / "model") for policy in policies),
        weights=(0.4, 0.4, 0.4),
    )
