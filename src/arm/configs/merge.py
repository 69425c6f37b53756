"""Runs that average models which were trained apart from one start."""

from pathlib import Path

from arm.train.merge import MergeRun


def micro() -> MergeRun:
    """The shipped `micro`: the mean of the paper's path of three stages and of editing alone, both from the
    supervised model. Seconds.
    """
    trained = Path("runs/micro")
    policies = ("synergy/seed0/t2i-edit-joint", "synergy/seed0/edit")
    return MergeRun(
        out=trained / "merged",
        start="micro-sft",
        models=tuple(str(trained / policy / "model") for policy in policies),
        weights=(0.5, 0.5),
    )
