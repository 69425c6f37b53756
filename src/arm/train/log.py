"""The log of a run: a JSON-lines file, TensorBoard, Weights & Biases, the terminal."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from arm.files import write_text

Logged = float | np.ndarray
"""A scalar, or a picture (H, W, 3) of uint8."""


class Log:
    """Writes scalars to `run_dir`/metrics.jsonl, to TensorBoard where it is installed, to Weights & Biases
    where WANDB_PROJECT names a project, and to the terminal. `evaluated`: whether an evaluation of the step
    `start`, from which the run resumes, is in the log.
    """

    def __init__(self, run_dir: Path, name: str, steps: int, start: int) -> None:
        path = run_dir / "metrics.jsonl"
        # Lines after the checkpoint are dropped: a resumed run logs these steps again.
        old = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in old if _step(line) <= start]
        # Lines of training steps hold a learning rate, those of evaluations do not.
        self.evaluated = any(_step(line) == start and "lr" not in json.loads(line) for line in kept)
        write_text("".join(f"{line}\n" for line in kept), path)
        self.file = path.open("a", encoding="utf-8")
        self.run_dir, self.name, self.steps = run_dir, name, steps
        self.writer: Any = None
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            print(
                f"{name}: no TensorBoard files without tensorboard: pip install 'arm-lmm[train]'",
                flush=True,
            )
        else:
            self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=start)
        self.wandb: Any = None
        if os.environ.get("WANDB_PROJECT"):
            try:
                import wandb  # pyright: ignore[reportMissingImports]
            except ImportError:
                print(f"{name}: WANDB_PROJECT is set, but wandb is not installed", flush=True)
            else:
                self.wandb = wandb.init(name=name, dir=str(run_dir))
        self.bar = None
        if sys.stderr.isatty():
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[scalars]}"),
            )
            self.task = self.bar.add_task(name, total=steps, completed=start, scalars="")
            self.bar.start()

    def write(self, step: int, values: Mapping[str, Logged]) -> None:
        """Logs scalars and pictures of a step. Pictures go to `run_dir`/pictures/NAME_STEP.png and TensorBoard."""
        pictures = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
        for key, picture in pictures.items():
            path = self.run_dir / "pictures" / f"{key.replace('/', '_')}_{step:06d}.png"
            path.parent.mkdir(exist_ok=True)
            Pillow.fromarray(picture).save(path)
            if self.writer is not None:
                self.writer.add_image(key, picture, step, dataformats="HWC")
        self._scalars(step, {k: float(v) for k, v in values.items() if k not in pictures})

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        if self.writer is not None:
            for key, value in values.items():
                self.writer.add_scalar(key, value, step)
        if self.wandb is not None:
            self.wandb.log(dict(values), step=step)
        shown = " ".join(f"{k} {v:.4g}" for k, v in values.items())
        if self.bar is not None:
            self.bar.update(self.task, completed=step, scalars=shown)
        else:
            print(f"{self.name} {step}/{self.steps} {shown}", flush=True)

    def close(self) -> None:
        """Closes all destinations."""
        self.file.close()
        if self.writer is not None:
            self.writer.close()
        if self.wandb is not None:
            self.wandb.finish()
        if self.bar is not None:
            self.bar.stop()


def _step(line: str) -> float:
    """The step of a logged line; infinity for a line that is incomplete, after a kill or on a full disk."""
    try:
        return json.loads(line)["step"]
    except (ValueError, LookupError, TypeError):
        return float("inf")
