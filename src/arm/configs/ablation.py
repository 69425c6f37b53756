"""Runs that compare variants of one part."""

from dataclasses import replace
from pathlib import Path

from arm.configs.tokenizer import micro as micro_tokenizer
from arm.train.ablation import AblationRun, Row


def micro_losses() -> AblationRun:
    """The losses of the tokenizer (the paper's Table 7), and ours on top. One core, about 25 minutes."""
    base = micro_tokenizer()
    w = replace(base.weights, feat=3.0, local=0.0)
    return AblationRun(
        out=Path("runs/micro/losses"),
        base=base,
        rows=(
            Row("cap+pix", replace(w, sig=0.0, feat=0.0)),
            Row("cap+pix+sig", replace(w, feat=0.0)),
            Row("cap+pix+feat", replace(w, sig=0.0)),
            Row("all", w),
            Row("all+local", replace(w, local=2.0)),
        ),
        reference="all",
        steps=600,
        pictures=512,
    )
