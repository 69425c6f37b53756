"""The queue of generation jobs, and the one thread that runs them in batches.

A job is a generator (`Procedure`): it yields the `Batch` of requests that it needs next, and is resumed with their
results. All jobs that wait with the same model and sampling settings are run together by one call of `generate`,
each request with its own seed, so the tokens of a job do not depend on what else is served.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from arm.generate import Request, Result, generate
from arm.pipeline import BATCH, Arm
from arm.sampling import GREEDY, Sampling

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 180.0)
"""Upper bounds of the buckets of durations."""
OnStep = Callable[[Sequence[Result]], None]


class Metrics:
    """The server's metrics, in a registry of their own. `seconds` has the phases queue, prepare, generate, finish."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.waiting = Gauge("arm_queue_jobs", "Jobs that wait.", registry=self.registry)
        self.running = Gauge("arm_running_jobs", "Jobs that run.", registry=self.registry)
        self.requests = Counter(
            "arm_requests", "HTTP requests.", ["route", "status"], registry=self.registry
        )
        self.tokens = Counter("arm_tokens", "Sampled tokens.", ["kind"], registry=self.registry)
        self.seconds = Histogram(
            "arm_phase_seconds", "Duration of a job's phases.", ["phase"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures the duration of the block."""
        with self.seconds.labels(name).time():
            yield

    def count_tokens(self, result: Result) -> None:
        """Adds the sampled tokens of a result."""
        kind = "text" if result.codes is None else "image"
        self.tokens.labels(kind).inc(len(result.ids))


@dataclass(frozen=True)
class Batch:
    """Requests that one job runs together, with the seed and the place of each (see `generate`).

    images, texts: how codes and words are sampled. on_step: called after each step with what the requests have
    sampled so far, one Result a request.
    """

    requests: tuple[Request, ...]
    seeds: tuple[int, ...]
    places: tuple[int, ...]
    images: Sampling
    texts: Sampling = GREEDY
    on_step: OnStep | None = None


Procedure = Generator[Batch, list[Result], Any]


class QueueFull(Exception):
    """The queue has no place left. `retry_after`: seconds after which a place is likely to be free."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class ShuttingDown(Exception):
    """The server is stopping and takes no more jobs."""


@dataclass(eq=False)
class Job:
    """One procedure in the engine. `future` gets what the procedure returns, or what it raises."""

    arm: Arm
    procedure: Procedure
    future: "Future[Any]" = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)
    abandoned: bool = False
    batch: Batch | None = None

    def abandon(self) -> None:
        """Drops the job from the queue; a running one ends when its current batch does."""
        self.abandoned = True
        self.future.cancel()


class Engine:
    """Runs jobs in one thread, the oldest first. `max_queue` counts the jobs that wait and do not run yet."""

    def __init__(self, metrics: Metrics, max_queue: int = 256) -> None:
        self.metrics, self.max_queue = metrics, max_queue
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._job_seconds = 1.0
        self._thread = threading.Thread(target=self._run, name="arm-engine", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, arm: Arm, procedure: Procedure) -> Job:
        """Puts a procedure into the queue. Raises QueueFull, and ShuttingDown after `drain`."""
        job = Job(arm, procedure)
        with self._changed:
            if self._stopping:
                raise ShuttingDown("the server is shutting down; send the request to another one")
            self._forget_abandoned()
            if len(self._waiting) >= self.max_queue:
                seconds = self._job_seconds * len(self._waiting)
                raise QueueFull(max(1, min(600, round(seconds))))
            self._waiting.append(job)
            self.metrics.waiting.set(len(self._waiting))
            self._changed.notify()
        return job

    def drain(self) -> None:
        """Refuses the jobs that wait and all later ones; the running ones finish. Safe in a signal handler's thread."""
        with self._changed:
            self._stopping = True
            refused = list(self._waiting)
            self._waiting.clear()
            self.metrics.waiting.set(0)
            self._changed.notify()
        for job in refused:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(ShuttingDown("the server is shutting down"))

    def stop(self) -> None:
        """Drains the queue and waits for the thread to end."""
        self.drain()
        if self._thread.is_alive():
            self._thread.join()

    def _forget_abandoned(self) -> None:
        for job in [job for job in self._waiting if job.abandoned]:
            self._waiting.remove(job)
        self.metrics.waiting.set(len(self._waiting))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._running or self._stopping):
                    self._changed.wait()
                if not (self._waiting or self._running):
                    return
                room = max(0, BATCH - len(self._running))
                started = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
                self.metrics.waiting.set(len(self._waiting))
            for job in started:
                self._begin(job)
            self.metrics.running.set(len(self._running))
            if self._running:
                self._run_together(self._next_jobs())
            self._running = [job for job in self._running if job.batch is not None]
            self.metrics.running.set(len(self._running))

    def _begin(self, job: Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        self.metrics.seconds.labels("queue").observe(time.monotonic() - job.submitted)
        with self.metrics.phase("prepare"):
            self._resume(job, None)
        if job.batch is not None:
            self._running.append(job)

    def _resume(self, job: Job, results: list[Result] | None) -> None:
        """Runs a procedure up to its next batch, or to its end, which settles the future."""
        job.batch = None
        if job.abandoned:
            job.procedure.close()
            job.future.set_exception(InterruptedError("the client went away"))
            return
        try:
            # The first `send` of a generator must be None.
            job.batch = job.procedure.send(results)  # pyright: ignore[reportArgumentType]
        except StopIteration as end:
            job.future.set_result(end.value)
        except Exception as error:
            job.future.set_exception(error)

    def _next_jobs(self) -> list[Job]:
        """The oldest job, and those after it that can share its batch, as many as fit into memory."""

        def settings(job: Job) -> tuple[int, Sampling, Sampling]:
            assert job.batch is not None
            return id(job.arm), job.batch.images, job.batch.texts

        first = self._running[0]
        jobs: list[Job] = []
        requests: list[Request] = []
        for job in self._running:
            assert job.batch is not None
            if settings(job) != settings(first):
                continue
            together = [*requests, *job.batch.requests]
            if jobs and len(together) > job.arm.max_batch(together):
                break
            jobs.append(job)
            requests = together
        return jobs

    def _run_together(self, jobs: Sequence[Job]) -> None:
        began = time.monotonic()
        try:
            with self.metrics.phase("generate"):
                results = _generate(jobs)
        except Exception as error:
            for job in jobs:
                job.batch = None
                job.future.set_exception(error)
            return
        for job, own in zip(jobs, results, strict=True):
            for result in own:
                self.metrics.count_tokens(result)
            with self.metrics.phase("finish"):
                self._resume(job, own)
        seconds = (time.monotonic() - began) / len(jobs)
        self._job_seconds = 0.8 * self._job_seconds + 0.2 * seconds


def _generate(jobs: Sequence[Job]) -> list[list[Result]]:
    """The results of each job's batch. A job whose own requests exceed the memory is split, as in `Arm.run`."""
    batches = [job.batch for job in jobs if job.batch is not None]
    arm = jobs[0].arm
    requests = [request for batch in batches for request in batch.requests]
    seeds = [seed for batch in batches for seed in batch.seeds]
    places = [place for batch in batches for place in batch.places]
    ends = [sum(len(batch.requests) for batch in batches[: i + 1]) for i in range(len(batches))]
    slices = [
        slice(end - len(batch.requests), end) for end, batch in zip(ends, batches, strict=True)
    ]
    results: list[Result] = []

    def on_step(partial: Sequence[Result]) -> None:
        sampled = [*results, *partial]
        for job, batch, part in zip(jobs, batches, slices, strict=True):
            if batch.on_step is None or job.abandoned or len(sampled) < part.stop:
                continue
            try:
                batch.on_step(sampled[part])
            except Exception:
                logging.getLogger("arm.serve").exception("a job's progress could not be reported")

    observer = on_step if any(batch.on_step for batch in batches) else None
    size = arm.max_batch(requests)
    for start in range(0, len(requests), size):
        part = slice(start, start + size)
        groups = generate(
            arm.model, arm.vocab, requests[part], images=batches[0].images,
            texts=batches[0].texts, seed=seeds[part], first=places[part], on_step=observer,
        )  # fmt: skip
        results += [group[0] for group in groups]
    return [results[part] for part in slices]
