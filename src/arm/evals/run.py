"""A run of a published benchmark from beginning to end, as `arm eval NAME` and a library user start it.

    from arm.evals import BenchmarkSettings, run_benchmark
    outcome = run_benchmark("pope", BenchmarkSettings(data=Path("POPE"), out=Path("eval"), model="micro"))
    print(outcome.report["overall"])

Pictures or answers that are missing are made (`making`), then scored (`scoring`). With a shard only the
first half is done; under torchrun all processes share the first half and one does the second.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arm.config import to_json
from arm.errors import InputError
from arm.evals import cost, making, plots, scoring
from arm.evals.answers import read_answers, write_submission
from arm.evals.benchmarks import find_benchmark, load_items
from arm.evals.benchmarks.base import Benchmark, Result
from arm.evals.benchmarks.files import image_folder, missing_hint, read_json_object
from arm.evals.detections import Viewer, in_words, load_viewer, see
from arm.evals.html import write_page
from arm.evals.making import ONE_PROCESS, MakeSettings, Notify, Processes, Shard
from arm.evals.page import page
from arm.evals.statistics import mean_score
from arm.files import write_json
from arm.judge import Endpoint, JudgeConfig
from arm.model_directory import find_model, sampler_of
from arm.models.weights import weights_hash
from arm.pipeline import Arm

BeforeJudging = Callable[[str, cost.Estimate], None]
"""Called with the judge's name and the estimate before the first question; may raise to stop the run."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """What a run of a benchmark evaluates, and where its files are."""

    data: Path
    """The folder with the authors' files."""
    out: Path
    """The folder of the run."""
    model: str = "micro"
    """A shipped name or a directory."""
    decoder: str | None = None
    """"pixel", "flux" or "sana"; the model's own for None."""
    images: Path | None = None
    """The folder with the benchmark's own pictures; found in or unpacked from `data` for None."""
    pictures: Path | None = None
    """A folder with another system's pictures to score instead of the model's."""
    make: MakeSettings = field(default_factory=MakeSettings)
    shard: Shard | None = None
    """Make only this share of the items, and score nothing."""
    judge: JudgeConfig | None = None
    tokens_per_image: int | None = None
    """The judge's tokens for a picture, for the estimate of costs."""
    detector: str | None = None
    """The object detector that geneval needs: a directory or hub id."""
    clip: str | None = None
    """The CLIP model that geneval needs: a directory or hub id."""


@dataclass(frozen=True)
class Outcome:
    """What a run led to. In processes other than the main one all parts are empty."""

    report: Mapping[str, Any] | None = None
    """The report, as in OUT/report.json; None where nothing was scored."""
    submission: Mapping[str, Any] | None = None
    """The file for the authors' server, where it alone can score the answers."""
    items: int = 0
    unmade: Sequence[str] = ()
    """With a shard: ids of items of the whole benchmark that are still to be made."""


def run_benchmark(
    benchmark: Benchmark | str,
    settings: BenchmarkSettings,
    *,
    load: Callable[[str, str | None], Arm] = Arm.from_pretrained,
    notify: Notify = lambda line: None,
    before_judging: BeforeJudging = lambda judge, estimate: None,
    processes: Processes = ONE_PROCESS,
) -> Outcome:
    """Makes what is missing, scores it, and writes the report.

    benchmark: one of `BENCHMARKS`, by name, or any other. load: makes the model from its name and
    decoder. notify: takes lines about the progress. before_judging: sees the estimate of costs and may
    stop the run. processes: those that share the run. Raises ArmError for what a user can mend.
    """
    if isinstance(benchmark, str):
        benchmark = find_benchmark(benchmark)
    try:
        return _Run(benchmark, settings, load, notify, before_judging, processes).run()
    except OSError as error:  # a full disk, a folder that cannot be written
        raise InputError(f"{settings.out} cannot be used ({error})") from None


class _Run:
    """The steps of one run, which share its settings."""

    def __init__(
        self,
        benchmark: Benchmark,
        settings: BenchmarkSettings,
        load: Callable[[str, str | None], Arm],
        notify: Notify,
        before_judging: BeforeJudging,
        processes: Processes,
    ) -> None:
        self.benchmark, self.settings = benchmark, settings
        self.load, self.notify, self.before_judging = load, notify, before_judging
        self.processes = processes
        items = load_items(benchmark, settings.data)
        self.prompts_hash = making.prompts_hash(items)
        self.items = items[: settings.make.limit]
        self.folder = settings.pictures or settings.out / "images"

    def run(self) -> Outcome:
        benchmark, settings = self.benchmark, self.settings
        self._check()
        self.images = self._images()
        scores = self.processes.is_main() and settings.shard is None
        viewer = None
        if scores and benchmark.uses_detector:
            viewer = load_viewer(settings.detector, settings.clip)
        endpoint = self._endpoint() if scores else None
        if settings.pictures is None:
            made_by, failed = self._make(endpoint)
        else:
            made_by, failed = self._pictures_origin(), {}
            self._estimate(endpoint, None)
        if settings.shard is not None:
            left = making.unmade(benchmark, self.items, settings.out)
            return Outcome(items=len(self.items), unmade=left)
        if not scores:
            return Outcome()
        submission = write_submission(benchmark, settings.data, self.items, settings.out)
        if submission is not None:
            return Outcome(submission=submission, items=len(self.items))
        report = self._score(endpoint, failed, made_by, viewer)
        return Outcome(report, items=len(self.items))

    def _check(self) -> None:
        """Raises InputError for settings that contradict each other."""
        name, pictures = self.benchmark.name, self.settings.pictures
        shard, is_shared = self.settings.shard, self.processes.world_size() > 1
        if pictures is not None and self.benchmark.kind == "questions":
            raise InputError(f"{name} asks the model itself: there are no --pictures to score")
        if pictures is not None and not pictures.is_dir():
            raise InputError(f"{pictures} is not a folder of pictures")
        if shard is not None and is_shared:
            raise InputError("torchrun shares the items itself; leave --shard out")
        if pictures is not None and (shard is not None or is_shared):
            raise InputError("--pictures are made already: there is nothing to share")

    def _images(self) -> Path:
        """The folder with the benchmark's own pictures, unpacked where they are inside its tables."""
        settings, unpack = self.settings, self.benchmark.unpack
        if settings.images is not None:
            return settings.images
        sources = settings.out / "sources"
        if unpack is not None and unpack(settings.data, self.items, sources):
            return sources
        return image_folder(self.benchmark, self.items, settings.data)

    def _endpoint(self) -> Endpoint | None:
        """The judge, after a check that it answers; None where the benchmark uses none.

        Raises InputError where a needed judge is not named or has nothing to be asked.
        """
        benchmark, settings = self.benchmark, self.settings
        matches = benchmark.matching is not None and settings.judge is not None
        if benchmark.uses_detector or (benchmark.kind == "questions" and not matches):
            return None
        if settings.judge is None:
            raise InputError(
                f"{benchmark.name} is scored by a judge: name it with --judge-url and --judge-model"
            )
        asked = (benchmark.judge_prompts(settings.data, item) for item in self.items)
        if not matches and not any(asked):
            raise InputError(
                f"{settings.data} has no questions for the judge (DPG-Bench has them in dpg_bench.csv); without "
                "them --shard 0/1 makes the pictures and scores none"
            )
        endpoint = Endpoint(settings.judge, self.notify)
        endpoint.check()
        return endpoint

    def _estimate(self, endpoint: Endpoint | None, unmade: cost.Size | None) -> None:
        """Shows the estimated cost of the judge. unmade: the size of pictures still to be made."""
        if endpoint is None:
            return
        settings = self.settings
        if self.benchmark.kind == "questions":
            estimate = cost.estimate_answers(
                self.benchmark, self.items, self.images, settings.out, endpoint
            )
        else:
            estimate = cost.estimate_pictures(
                self.benchmark, self.items, settings.data, self.images, self.folder, settings.out,
                endpoint, unmade, settings.tokens_per_image,
            )  # fmt: skip
        self.before_judging(endpoint.config.model, estimate)

    def _make(self, endpoint: Endpoint | None) -> tuple[dict[str, Any], dict[str, str]]:
        """Makes this process's share; returns the manifest and why items could not be made."""
        settings, out, processes = self.settings, self.settings.out, self.processes
        processes.init_processes()  # before the model moves to a GPU: to this process's own
        arm = self.load(settings.model, settings.decoder)
        patch, (height, width) = arm.tokenizer.patch, arm.defaults.grids[0]
        self._estimate(endpoint, (width * patch, height * patch))
        decoder, elsewhere = settings.decoder or arm.defaults.detokenizer, ("parts", "detokenizer")
        manifest = {
            "benchmark": self.benchmark.name,
            "prompts": self.prompts_hash,
            "model": settings.model,
            "hash": weights_hash(*sorted({find_model(settings.model), arm.directory})),
            "decoder": decoder,
            "sampler": sampler_of(arm.directory, decoder),
            "defaults": {k: v for k, v in to_json(arm.defaults).items() if k not in elsewhere},
            "seed": settings.make.seed,
            "known_words": settings.make.known_words,
        }

        def make(shard: Shard) -> dict[str, str]:
            return making.make(
                arm, self.benchmark, self.items, self.images, out, settings.make, shard, self.notify
            )

        making.check_or_write_manifest(out, manifest)
        share = Shard(processes.rank(), processes.world_size())
        failed = make(settings.shard or share)
        processes.barrier()
        if share.count > 1 and processes.is_main():
            failed = make(making.WHOLE)  # all is made; collects what the others could not make
        if failed:
            item, why = next(iter(failed.items()))
            hint = "" if settings.images else missing_hint(self.benchmark, self.items, self.images)
            self.notify(f"{len(failed)} of {len(self.items)} items skipped, as {item}: {why}{hint}")
        return manifest, failed

    def _pictures_origin(self) -> dict[str, Any]:
        """What is known about a folder of finished pictures, written down as the run's manifest."""
        pictures, out = self.settings.pictures, self.settings.out
        assert pictures is not None
        own = out / "manifest.json"
        if pictures.resolve() == (out / "images").resolve() and own.is_file():
            made_by = read_json_object(own)
            known = made_by.get("benchmark"), made_by.get("prompts", self.prompts_hash)
            if known != (self.benchmark.name, self.prompts_hash):
                raise InputError(f"{out} was made for other prompts; name another --out")
            return made_by
        made_by = {"benchmark": self.benchmark.name, "pictures": str(pictures.resolve())}
        making.check_or_write_manifest(out, made_by)
        return made_by | {"prompts": self.prompts_hash}

    def _result(
        self, endpoint: Endpoint | None, viewer: Viewer | None
    ) -> tuple[Result, scoring.Verdicts, list[str]]:
        """The score, the verdicts that it is made of, and notes about them."""
        benchmark, items, settings = self.benchmark, self.items, self.settings
        if viewer is not None:
            seen = settings.out / "detections"
            count = benchmark.images_per_item
            right = see(viewer, items, count, self.folder, seen, self.notify)
            return benchmark.score(items, right), scoring.Verdicts(in_words(right)), []
        notes = []
        if benchmark.kind == "questions":
            answers = read_answers(settings.out)
            matched = scoring.match_answers(benchmark, items, answers, endpoint)
            scored, verdicts, notes = matched.answers, matched.verdicts, list(matched.notes)
        else:
            assert endpoint is not None
            verdicts = scoring.judge_pictures(
                benchmark, items, settings.data, self.images, self.folder, endpoint
            )
            scored = verdicts.replies
        if endpoint is not None:
            for line in scoring.missing_lines(endpoint):
                self.notify(line)
        return benchmark.score(items, scored), verdicts, notes

    def _score(
        self,
        endpoint: Endpoint | None,
        failed: Mapping[str, str],
        made_by: Mapping[str, Any],
        viewer: Viewer | None,
    ) -> dict[str, Any]:
        """Judges, scores, and writes report.json, items.jsonl and report.html. Returns the report."""
        benchmark, items, settings = self.benchmark, self.items, self.settings
        out = settings.out
        out.mkdir(parents=True, exist_ok=True)
        pictures = None
        if benchmark.kind != "questions":
            pictures = scoring.count_pictures(benchmark, items, self.folder)
            for state in ("missing", "broken"):
                if names := pictures[state]:
                    self.notify(f"{len(names):,} pictures are {state}, as {', '.join(names[:3])}")
        result, verdicts, notes = self._result(endpoint, viewer)
        report = scoring.build_report(
            benchmark, result, endpoint, verdicts, failed, pictures, made_by
        )
        if viewer is not None:
            report |= viewer.report()
        else:
            words = [] if benchmark.judge_note is None else [benchmark.judge_note(settings.data)]
            report["notes"] = [*benchmark.notes, *words, *notes]
        self._add_notes(report, result, verdicts)
        write_json(report, out / "report.json")
        shown = list(
            scoring.report_items(
                benchmark, items, settings.data, self.images, self.folder, verdicts.replies, result
            )
        )
        scoring.write_items(shown, out)
        write_page(page(report, shown, plots.inline(report)), out / "report.html")
        return report

    def _add_notes(
        self, report: dict[str, Any], result: Result, verdicts: scoring.Verdicts
    ) -> None:
        """Adds what limits the score: missing categories, the judge's doubts, a trial of few items."""
        silent = sorted({item.group for item in self.items} - result.groups.keys())
        if silent:
            lost = f"no verdict at all in {', '.join(silent)}: the score is of the other categories only"
            report["notes"] = [lost, *report["notes"]]
        if verdicts.yes:
            mean = mean_score(verdicts.yes)
            report["judge"]["yes_probability"] = mean.to_dict()
            report["notes"].append(
                f"where a reply began with yes or no, its mean probability of yes was {mean.value:.3f} "
                f"({mean.low:.3f} - {mean.high:.3f}, {mean.n} replies)"
            )
        if self.settings.make.limit is not None:
            trial = f"only the first {len(self.items)} items: not a score of {self.benchmark.name}"
            report["notes"] = [trial, *report["notes"]]
