"""A whole chain of the smallest size, trained for a few steps by the package's own stages."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from arm.pipeline import Arm

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Call = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class TinyChain:
    """Where the stages of the tiny chain wrote, and the configurations that made them."""

    root: Path
    model: Path
    tokenizer_run: object
    lm_run: object


@pytest.fixture(autouse=True)
def seeded_generators() -> None:
    """Every test starts from the same global random state, alone or after others."""
    import random

    random.seed(0)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(0)  # noqa: NPY002 (libraries under test draw from it)
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(0)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> TinyChain:
    """Every stage of `micro` at a fraction of its size and three steps each."""
    import torch

    from arm.train.chain import start
    from tiny_stages import stages

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("chain")
    runs = stages(root)
    for run in runs.values():
        start(run)
    return TinyChain(root, root / "model", runs["tokenizer"], runs["lm"])


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`arm` with these arguments, as a user types them: exit code, output, errors."""
    from arm import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["arm", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def run(call: Call) -> Call:
    """`arm eval` with these arguments."""
    return lambda *arguments: call("eval", *arguments)


@pytest.fixture(scope="module")
def arm(chain: TinyChain) -> "Arm":
    """The tiny chain's model."""
    from arm.pipeline import Arm

    return Arm.from_pretrained(chain.model)
