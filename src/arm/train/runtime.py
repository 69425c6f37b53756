"""The training loop as functions: batches, steps, logging, resume.

A step is a pure function of (seed, step): the loop seeds torch before each one and the data are
indexed by step, so a run killed anywhere and resumed ends in the same bits (on one CPU process).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from arm.config import dump, to_json, with_defaults
from arm.errors import ArmError, ConfigError, TrainingError, WeightsError
from arm.models.weights import read_json, trained, whole
from arm.train import checkpoint, parallel
from arm.train.log import Log, Logged
from arm.train.optim import Optim, learning_rate, optimizer_for
from arm.train.precision import has_bf16_units, multiply_in_bf16
from arm.train.sharding import Parallel, blocks, init_ema, is_sharded, unsharded, update_ema

MakeBatch = Callable[[int], Any]
"""step -> a batch on the CPU: a tensor or a dataclass of tensors. A pure function; draws nothing from torch."""

StepFn = Callable[[Any], Mapping[str, Tensor]]
"""batch -> named losses; 'loss' is the one that is differentiated. One without a graph has been
differentiated by the function itself, piece by piece."""


class Unready(Exception):
    """A batch that cannot be made now, for a reason outside the run; it is worth waiting for."""

    def __init__(self, reason: str, wait_s: float) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Loop:
    """How long to train, and how often to log and to save.

    bf16: matrix products in bf16 where the processor has the units for it (`train/precision.py`).
    compile: torch.compile, which costs a minute at the start and needs a C++ compiler; block by block
    where the model is shared out and in the tokenizer. parallel: how processes share the model. workers:
    processes that make batches ahead; 0 makes each when its step comes.
    """

    steps: int
    seed: int = 0
    bf16: bool = False
    log_every: int = 20
    save_every: int = 200
    workers: int = 0
    compile: bool = False
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        if min(self.steps, self.log_every, self.save_every) < 1:
            raise ValueError("steps, log_every and save_every must be at least 1")
        if self.workers < 0:
            raise ValueError("workers must not be negative")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}")


def training_device() -> torch.device:
    """The current CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uses_bf16(loop: Loop, device: torch.device) -> bool:
    """Whether matrix products are bf16: where the run asks for it and the device has units for it."""
    return loop.bf16 and (device.type == "cuda" or has_bf16_units())


def to_device(batch: Any, device: torch.device) -> Any:
    """A tensor, or a dataclass with all its tensors, on the device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    moved = {k: v.to(device) for k, v in tensors.items() if isinstance(v, Tensor)}
    return replace(batch, **moved)


class _Steps(Dataset[Any]):
    """Batches by step, for workers to index."""

    def __init__(self, make_batch: MakeBatch) -> None:
        self.make_batch = make_batch

    def __getitem__(self, step: int) -> Any:
        try:
            return self.make_batch(step)
        except ArmError as error:
            return error  # raised here, it would come as text with this process's traceback


def batches(make_batch: MakeBatch, start: int, stop: int, workers: int) -> Iterator[Any]:
    """The batches of steps `start` to `stop` - 1 in order, made ahead where there are workers."""
    if not workers:
        yield from map(make_batch, range(start, stop))
        return
    made = DataLoader(
        _Steps(make_batch),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        multiprocessing_context="fork",
    )
    for batch in made:
        if isinstance(batch, ArmError):
            raise batch
        yield batch


def seed_step(seed: int, step: int) -> None:
    torch.manual_seed(seed * 1_000_003 + step)


MAY_CHANGE = frozenset(
    (
        "log_every", "save_every", "steps", "workers", "compile", "parallel", "out", "into",
        "url", "key_env", "timeout_s", "retries", "concurrency", "cache", "wait_s", "tries",
        "kl_budget", "max_missing",
    )
)  # fmt: skip
"""What may change between a run and its resumption: how long, how fast, where a judge is, when to stop."""


def check_same_run(old: Any, new: Any, run_dir: Path, path: str = "") -> None:
    """Raises ConfigError that names the first field in which a resumed run differs from its start."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            check_same_run(old.get(key), new.get(key), run_dir, f"{path}.{key}".lstrip("."))
    elif old != new and MAY_CHANGE.isdisjoint(path.split(".")):
        raise ConfigError(
            f"{run_dir} was trained with {path}={old}, now it is {new}; resume with the old value "
            "or name another `out`"
        )


def check_sizes(
    source: Path,
    there: Mapping[str, Any],
    ours: Mapping[str, Any],
    key_of: Callable[[str], str],
    instead: str = "other weights",
) -> None:
    """Raises WeightsError that names the first size in which what a run starts from is not what it says.

    key_of: the run's key for a size's name.
    """
    for name, found in there.items():
        if found != ours[name]:
            key = key_of(name)
            raise WeightsError(
                f"{source} has {name} {found}, the run has {key}={ours[name]}; set {key}={found}, or "
                f"name {instead}"
            )


def fit(
    module: nn.Module,
    make_batch: MakeBatch,
    step_fn: StepFn,
    *,
    run_dir: Path,
    name: str,
    config: Any,
    loop: Loop,
    optim: Optim,
    evaluate: Callable[[], Mapping[str, Logged]] | None = None,
    eval_every: int = 0,
    eval_first: bool = False,
    batches_of: Literal["one", "all", "each"] = "one",
    origin: Mapping[str, str] | None = None,
    parts: Sequence[nn.Module] = (),
) -> None:
    """Trains the parameters of `module` that require gradients, from the newest checkpoint on.

    Batches follow the module to its device. batches_of: "one" process makes the whole of them and
    there are no others; "all" processes make the same, and each takes a part of its rows; "each"
    makes its own. The average of the processes' losses must be the loss of the whole
    (`train/parallel.py`). A model that `loop.parallel` shares out has been (`train/sharding.py`).
    evaluate: floats and pictures (H, W, 3) to log every `eval_every` steps, at the end, and where
    `eval_first` says so before the first. origin: what else the run stands on, by hash; checkpoints
    hold it, and a resumed run must have the same. parts: what a step calls in the place of `module`
    itself, for torch.compile. While `make_batch` raises `Unready`, a checkpoint is written and the run
    waits.

    Writes config.json, metrics.jsonl and checkpoints under `run_dir`. Raises ConfigError where the
    directory belongs to another run and where several processes run what one must, and TrainingError
    at a loss or gradient that is not finite, before the step is taken.
    """
    if parallel.world_size() > 1 and batches_of == "one":
        raise ConfigError(f"{name} runs on one process, torchrun started {parallel.world_size()}")
    parallel.init_processes()
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{run_dir} cannot be made ({error.strerror}); name another `out`"
        ) from None
    if checkpoint.newest(run_dir) is not None and (run_dir / "config.json").is_file():
        recorded = with_defaults(read_json(run_dir / "config.json"), config)
        check_same_run(recorded, to_json(config), run_dir)
    parallel.barrier()
    if parallel.is_main():
        dump(config, run_dir / "config.json")
    device = next(module.parameters()).device
    bf16 = uses_bf16(loop, device)
    if bf16:
        multiply_in_bf16(module)
    elif loop.bf16:
        print(f"{name}: bf16 is not native to this processor, fp32 is used", flush=True)
    optimizer = optimizer_for(module, optim, bf16)
    sharded = is_sharded(module)
    averages = init_ema(trained(module)) if optim.ema else {}
    start = checkpoint.resume(run_dir, module, optimizer, origin, averages)
    writing: list[checkpoint.Writing] = []
    saved = start or -1
    log = Log(run_dir, name, loop.steps, start) if parallel.is_main() else None
    module.train()
    if loop.compile:
        for part in blocks(module) if sharded else parts or [module]:
            part.compile(dynamic=True)

    def settle() -> None:
        while writing:
            writing.pop().finish()

    def save(step: int) -> None:
        nonlocal saved
        settle()
        writing.append(checkpoint.save(run_dir, step, module, optimizer, origin, averages))
        saved = step
        if not sharded:
            settle()

    def patient(step: int) -> Any:
        while True:
            try:
                return make_batch(step)
            except Unready as reason:
                if saved != step:
                    save(step)
                settle()
                if parallel.is_main():
                    print(f"{name}: {reason}; step {step} is saved, waiting", flush=True)
                time.sleep(reason.wait_s)

    def evaluated(step: int) -> None:
        if evaluate is None:
            return
        with unsharded(module):
            if log is not None:
                module.eval()
                log.write(step, evaluate())
                module.train()
            parallel.barrier()

    if start:  # killed while it evaluated, a run evaluates what it goes on from
        due = eval_every > 0 and (start % eval_every == 0 or start >= loop.steps)
    else:
        due = eval_first
    if due and not parallel.broadcast_from_main(lambda: log is not None and log.evaluated):
        evaluated(start)
    clock, counted = time.monotonic(), start
    try:
        made = batches(patient, start, loop.steps, loop.workers)
        for step, batch in enumerate(made, start):
            seed_step(loop.seed, step)
            rate = learning_rate(optim, step, loop.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            batch = parallel.shard_batch(batch) if batches_of == "all" else batch
            losses = step_fn(to_device(batch, device))
            loss = losses["loss"]
            # The mean, or one process would stop and the others wait for it.
            average = parallel.all_reduce_mean(loss.detach())
            if not torch.isfinite(average):
                raise TrainingError(
                    f"{name}: the loss is {average.item()} at step {step}; lower the rate"
                )
            if loss.requires_grad:
                loss.backward()
            if not sharded:
                parallel.average_gradients(trained(module).values())
            norm = nn.utils.clip_grad_norm_(trained(module).values(), optim.clip)
            norm = whole(norm)
            if not torch.isfinite(norm):
                raise TrainingError(
                    f"{name}: the gradient is {norm.item()} at step {step}; lower the rate"
                )
            optimizer.step()
            update_ema(averages, trained(module), optim.ema)
            done = step + 1
            if done % loop.log_every == 0 or done == loop.steps:
                seconds = (time.monotonic() - clock) / (done - counted)
                values = {k: float(parallel.all_reduce_mean(v.detach())) for k, v in losses.items()}
                left = seconds * (loop.steps - done) / 60
                extra = {
                    "lr": rate,
                    "grad_norm": float(norm),
                    "s_per_step": seconds,
                    "minutes_left": left,
                }
                if log is not None:
                    log.write(done, {**values, **extra})
                clock, counted = time.monotonic(), done
                if writing and not parallel.all_reduce_max(float(not writing[0].written())):
                    settle()  # else a checkpoint would have its name only when the next one is begun
            if done % loop.save_every == 0 or done == loop.steps:
                save(done)
            if eval_every and (done % eval_every == 0 or done == loop.steps):
                evaluated(done)
                clock, counted = time.monotonic(), done
        settle()
    finally:
        if log is not None:
            log.close()
    if averages:
        update_ema(trained(module), averages, 0.0)  # the run ends with the average
