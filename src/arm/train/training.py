"""The training loop that all stages share: batches by step, the update, checkpoints, evaluation, resume.

A step is a pure function of the weights and (seed, step): torch is seeded before each one and batches are
indexed by step, so a run that is killed and resumed ends in the same bits (in one process on one CPU). A
stage writes its loop out:

    with Training(run, model, out=run.out, loop=run.loop, optim=run.optim) as training:
        training.evaluate_if_due(evaluate, run.eval_every)
        for step, batch in training.batches(make_batch):
            training.update(losses(batch))
            training.save_if_due()
            training.evaluate_if_due(evaluate, run.eval_every)
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from arm.config import MAY_CHANGE, check_same_run, dump
from arm.errors import ArmError, ConfigError, TrainingError
from arm.files import read_json
from arm.models.weights import full_tensor, trained
from arm.train import checkpoint, parallel
from arm.train.log import Log, Logged
from arm.train.optim import Optim, init_ema, learning_rate, make_optimizer, update_ema
from arm.train.sharding import (
    Parallel,
    blocks,
    has_bf16_units,
    is_sharded,
    multiply_in_bf16,
    unsharded,
)

B = TypeVar("B")


class Unready(Exception):
    """Raised by a `make_batch` whose batch cannot be made yet: `Training` saves, waits and calls it again."""

    def __init__(self, reason: str, wait_s: float) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Loop:
    """How long a run trains, how often it logs and saves, and how its processes share the work.

    bf16: matrix products in bf16, on processors that have instructions for it. compile: torch.compile, which
    takes a minute at the start and needs a C++ compiler. parallel: how processes share the model. workers:
    processes that prepare batches in advance; with 0 each batch is made when its step begins.
    """

    steps: int = field(metadata=MAY_CHANGE)
    seed: int = 0
    bf16: bool = False
    log_every: int = field(default=20, metadata=MAY_CHANGE)
    save_every: int = field(default=200, metadata=MAY_CHANGE)
    workers: int = field(default=0, metadata=MAY_CHANGE)
    compile: bool = field(default=False, metadata=MAY_CHANGE)
    parallel: Parallel = field(default_factory=Parallel, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if min(self.steps, self.log_every, self.save_every) < 1:
            raise ValueError("steps, log_every and save_every must be at least 1")
        if self.workers < 0:
            raise ValueError("workers must not be negative")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}")


def training_device() -> torch.device:
    """The current CUDA device, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uses_bf16(loop: Loop, device: torch.device) -> bool:
    """Whether a run multiplies in bf16 on a device: it asks for bf16, and the device supports it."""
    return loop.bf16 and (device.type == "cuda" or has_bf16_units())


# Batches


def to_device(batch: Any, device: torch.device) -> Any:
    """Moves a tensor, or all tensors of a dataclass, to a device; returns the moved copy."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    moved = {k: v.to(device) for k, v in tensors.items() if isinstance(v, Tensor)}
    return replace(batch, **moved)


class _ByStep(Dataset[Any]):
    """Maps a step to its batch, for the workers of a DataLoader."""

    def __init__(self, make_batch: Callable[[int], Any]) -> None:
        self.make_batch = make_batch

    def __getitem__(self, step: int) -> Any:
        try:
            return self.make_batch(step)
        except ArmError as error:
            return error  # an error raised in a worker would arrive wrapped in its traceback


def batches(make_batch: Callable[[int], B], start: int, stop: int, workers: int) -> Iterator[B]:
    """Yields the batches of steps `start` to `stop` - 1 in order, prepared in advance by `workers`
    processes. Re-raises an ArmError of a worker unchanged.
    """
    if not workers:
        yield from map(make_batch, range(start, stop))
        return
    loader = DataLoader(
        _ByStep(make_batch),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        multiprocessing_context="fork",
    )
    for batch in loader:
        if isinstance(batch, ArmError):
            raise batch
        yield batch


# The loop


class Training:
    """Trains the parameters of a module that require gradients, from the newest checkpoint on.

    A context manager, used as shown at the top of this file. `step` is the number of updates done. On entry
    it resumes from the newest checkpoint under `out`, on exit it completes pending checkpoints and, with
    `optim.ema`, puts the averaged weights into the module. Writes config.json, metrics.jsonl and
    checkpoints under `out`.

    config: the run's dataclass, recorded in config.json; a resumed run must have the same, except for fields
    marked MAY_CHANGE. module: already on its device, and sharded where `loop.parallel` asks for it.
    origin: hashes, by name, of the weights and data that the run depends on; checkpoints record them and a
    resumed run must have the same. muon: the parameters that take Muon's step where `optim.muon` is set
    (see `train/optim.py`). compiled: submodules to compile instead of `module` itself.

    Raises ConfigError where `out` cannot be created or belongs to another run.
    """

    def __init__(
        self,
        config: Any,
        module: nn.Module,
        *,
        out: Path,
        loop: Loop,
        optim: Optim,
        name: str = "",
        origin: Mapping[str, str] | None = None,
        muon: Iterable[Tensor] = (),
        compiled: Sequence[nn.Module] = (),
    ) -> None:
        self.module, self.out, self.loop, self.optim = module, out, loop, optim
        self.name, self.origin = name or out.name, origin
        parallel.init_processes()
        _claim(out, config)
        self.device = next(module.parameters()).device
        bf16 = uses_bf16(loop, self.device)
        if bf16:
            multiply_in_bf16(module)
        elif loop.bf16:
            print(f"{self.name}: this processor does not support bf16; using fp32", flush=True)
        self.optimizer = make_optimizer(module, optim, muon, bf16)
        self.sharded = is_sharded(module)
        self.ema = init_ema(trained(module)) if optim.ema else {}
        self.start = self.step = checkpoint.resume(out, module, self.optimizer, origin, self.ema)
        self._pending: checkpoint.Writing | None = None
        self._saved = self.start or None
        self._log = Log(out, self.name, loop.steps, self.start) if parallel.is_main() else None
        self._restart_clock()
        module.train()
        if loop.compile:
            for part in blocks(module) if self.sharded else compiled or [module]:
                part.compile(dynamic=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self._finish_checkpoint()
        finally:
            if self._log is not None:
                self._log.close()
        if error is None and self.ema:
            update_ema(trained(self.module), self.ema, decay=0.0)

    def batches(
        self, make_batch: Callable[[int], B], split_rows: bool = False
    ) -> Iterator[tuple[int, B]]:
        """Yields (step, batch on the module's device) for each remaining step, with torch seeded for the step.

        make_batch: returns the batch of a step on the CPU, a tensor or a dataclass of tensors; a pure
        function that does not draw from torch's global generators. While it raises `Unready` the run saves a
        checkpoint and waits. split_rows: all processes make the same batch and each takes a part of its
        rows; otherwise each process makes its own. Either way the mean of the processes' losses must be the
        loss of the whole batch.
        """

        def make_when_ready(step: int) -> B:
            while True:
                try:
                    return make_batch(step)
                except Unready as reason:
                    self._save_and_wait(step, reason)

        prepared = batches(make_when_ready, self.start, self.loop.steps, self.loop.workers)
        self._restart_clock()
        for step, batch in enumerate(prepared, self.start):
            torch.manual_seed(self.loop.seed * 1_000_003 + step)
            local = parallel.shard_batch(batch) if split_rows else batch
            yield step, to_device(local, self.device)

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Takes one optimizer step, updates the moving average of the weights, and logs the losses when due.

        losses: scalars by name. The gradient is that of 'loss'; a 'loss' that does not require gradients
        has been differentiated by the caller, and the gradients are in place. Raises TrainingError, in all
        processes, before the step is taken where loss or gradient are not finite.
        """
        loss = losses["loss"]
        self._check_finite("loss", parallel.all_reduce_mean(loss.detach()))
        if loss.requires_grad:
            loss.backward()
        parameters = trained(
            self.module
        )  # the shards: between forward and backward FSDP exposes whole ones
        if not self.sharded:
            parallel.average_gradients(parameters.values())
        norm = full_tensor(nn.utils.clip_grad_norm_(parameters.values(), self.optim.clip))
        self._check_finite("gradient", norm)
        rate = learning_rate(self.optim, self.step, self.loop.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(
            set_to_none=True
        )  # frees their memory while the next batch is made
        update_ema(self.ema, parameters, self.optim.ema)
        self.step += 1
        if self._due(self.loop.log_every):
            self._log_update(losses, rate, float(norm))

    def save_if_due(self) -> None:
        """Writes a checkpoint every `loop.save_every` steps and after the last one."""
        if self._due(self.loop.save_every):
            self._save()

    def evaluate_if_due(
        self,
        evaluate: Callable[[], Mapping[str, Logged]],
        every: int,
        before_training: bool = False,
    ) -> None:
        """Logs what `evaluate` returns, floats and pictures (H, W, 3), every `every` steps and after the last
        one; 0 is never. The main process evaluates, with the module in eval mode, while the others wait.

        To be called once before the first batch too: with `before_training` a new run is evaluated there,
        and a run that was killed during an evaluation repeats it.
        """
        if not every or not (self._due(every) if self.step else before_training):
            return
        log = self._log
        known = log is not None and log.evaluated
        if self.step == self.start and parallel.broadcast_from_main(lambda: known):
            return
        with unsharded(self.module):
            if log is not None:
                self.module.eval()
                log.write(self.step, evaluate())
                self.module.train()
            parallel.barrier()
        self._restart_clock()

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step >= self.loop.steps

    def _restart_clock(self) -> None:
        self._clock, self._timed_from = time.monotonic(), self.step

    def _check_finite(self, what: str, value: Tensor) -> None:
        # The value is the same in all processes, so that all of them stop.
        if not torch.isfinite(value):
            raise TrainingError(
                f"{self.name}: the {what} is {value.item()} at step {self.step}; lower the learning rate"
            )

    def _log_update(self, losses: Mapping[str, Tensor], rate: float, norm: float) -> None:
        seconds = (time.monotonic() - self._clock) / (self.step - self._timed_from)
        values = {k: float(parallel.all_reduce_mean(v.detach())) for k, v in losses.items()}
        values |= {"lr": rate, "grad_norm": norm, "s_per_step": seconds}
        values["minutes_left"] = seconds * (self.loop.steps - self.step) / 60
        if self._log is not None:
            self._log.write(self.step, values)
        self._restart_clock()
        # A checkpoint that is complete gets its final name now rather than when the next one begins.
        if self._pending and not parallel.all_reduce_max(float(not self._pending.written())):
            self._finish_checkpoint()

    def _save(self) -> None:
        self._finish_checkpoint()
        state = (self.module, self.optimizer, self.origin, self.ema)
        self._pending = checkpoint.save(self.out, self.step, *state)
        self._saved = self.step
        if not self.sharded:
            self._finish_checkpoint()

    def _finish_checkpoint(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.finish()

    def _save_and_wait(self, step: int, reason: Unready) -> None:
        if self._saved != step:
            self._save()
        self._finish_checkpoint()
        if parallel.is_main():
            print(f"{self.name}: {reason}; step {step} is saved, waiting", flush=True)
        time.sleep(reason.wait_s)


def _claim(out: Path, config: Any) -> None:
    """Creates a run's directory and records its configuration there. Raises ConfigError as `Training` does."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{out} cannot be created ({error.strerror}); choose another `out`"
        raise ConfigError(reason) from None
    recorded = out / "config.json"
    if checkpoint.newest(out) is not None and recorded.is_file():
        check_same_run(read_json(recorded), config, out)
    parallel.barrier()
    if parallel.is_main():
        dump(config, recorded)
