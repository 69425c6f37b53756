"""`arm data convert iconify`: the npm package -> checked conversations of all tasks, in tars, a folder a split.

out/train out/dev out/test   WebDataset shards that `arm data check`, `arm encode` and training read
out/ATTRIBUTION.tsv          of every set its author, licence and address
out/icons.tsv                of every icon its split, why it is held out, its cluster, and what it shows
out/report.html              counts, and samples of every kind of record
out/.work                    finished stages; may be deleted once `out/counts.json` is there
"""

import base64
import html
import io
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from arm.errors import InputError, shown
from arm.evals.html import Cell, document, table, write_page
from arm.files import atomic_write, make_folder, write_json, write_text
from arm.icons.conversations import (
    COLOURS,
    Draft,
    Picture,
    Split,
    Writer,
    describe,
    to_record,
)
from arm.icons.corpus import Corpus, Settings, Show, build_corpus
from arm.icons.package import package_folder, write_attribution
from arm.icons.questions import question_drafts, text_drafts
from arm.icons.render import png_bytes, tint
from arm.icons.splits import count_twins

SHARD_RECORDS = 2000
SAMPLES = 12
"""Records of a kind on the report page."""
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Conversion:
    """icons: by split and "purged". records: by split and kind. twins_before, twins_after: training icons that are
    near-copies of a dev or test icon, before the purge and after it. Shares are in [0, 1].
    """

    icons: dict[str, int]
    clusters: int
    twins_before: int
    twins_after: int
    pairs: dict[str, tuple[int, int]]
    records: dict[str, dict[str, int]]
    refused: dict[str, int]

    @property
    def num_records(self) -> int:
        return sum(sum(kinds.values()) for kinds in self.records.values())


def convert_iconify(
    package: Path, out: Path, settings: Settings, show: Show, processes: int = 1
) -> Conversion:
    """Writes the whole conversion to `out`; stages and shards that are there already are kept.

    package: the unpacked npm package. Returns what was written. Raises InputError for a folder that is no package, sets
    that may not be used, and an `out` with a conversion of other settings.
    """
    package = package_folder(package)
    make_folder(out)
    try:
        corpus = build_corpus(package, out / ".work", settings, show, processes)
        drafts: dict[Split, list[Draft]] = {}
        for split in show(SPLITS, "choosing records", len(SPLITS)):
            writer = Writer(corpus, split, settings.seed, settings.records_scale)
            proposals = (
                *writer.drawings(),
                *writer.edits(),
                *question_drafts(writer),
                *text_drafts(writer),
            )
            drafts[split] = writer.select(proposals)
        shards = [
            (out / split / f"shard-{start // SHARD_RECORDS:05d}.tar", split, start)
            for split in SPLITS
            for start in range(0, len(drafts[split]), SHARD_RECORDS)
        ]
        for split in SPLITS:
            make_folder(out / split)
        for path, split, start in show(shards, "writing shards", len(shards)):
            if not path.is_file():
                chosen = drafts[split][start : start + SHARD_RECORDS]
                _write_shard(corpus, chosen, start, path)
        conversion = _summary(corpus, drafts)
        write_attribution(corpus.sets.values(), Counter(corpus.set_of), out / "ATTRIBUTION.tsv")
        write_text(_icon_table(corpus), out / "icons.tsv")
        write_page(report_page(corpus, drafts, conversion), out / "report.html")
        write_json({**vars(conversion), "settings": _plain(settings)}, out / "counts.json")
    except OSError as error:
        raise InputError(
            f"{shown(str(out))} cannot be written ({shown(str(error))}); make room there"
        ) from None
    return conversion


def _plain(settings: Settings) -> dict[str, object]:
    return {"sets": settings.sets, "size": settings.size, "seed": settings.seed}


def _pixels(corpus: Corpus, picture: Picture) -> np.ndarray:
    number, colour = picture
    pixels = corpus.picture(number)
    return tint(pixels, COLOURS[colour]) if colour else pixels


def _write_shard(corpus: Corpus, drafts: Sequence[Draft], first: int, path: Path) -> None:
    """A tar whose bytes depend on its records alone."""
    encoded: dict[Picture, bytes] = {}
    with atomic_write(path) as temporary, tarfile.open(temporary, "w") as tar:
        for number, draft in enumerate(drafts, first):
            record, pictures = to_record(draft, number)
            record |= {"images": [f"{k}.png" for k in range(len(pictures))]} if pictures else {}
            members = [("json", json.dumps(record, ensure_ascii=False).encode())]
            for k, picture in enumerate(pictures):
                if picture not in encoded:
                    encoded[picture] = png_bytes(_pixels(corpus, picture))
                members.append((f"{k}.png", encoded[picture]))
            for suffix, content in members:
                info = tarfile.TarInfo(f"{number:08d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _summary(corpus: Corpus, drafts: dict[Split, list[Draft]]) -> Conversion:
    assignment = corpus.assignment
    return Conversion(
        icons=dict(Counter(assignment.split)),
        clusters=int(assignment.cluster.max()) + 1,
        twins_before=assignment.twins_before,
        twins_after=count_twins(assignment.split, corpus.neighbours),
        pairs=corpus.pair_counts,
        records={s: dict(sorted(Counter(d.kind for d in drafts[s]).items())) for s in SPLITS},
        refused=dict(corpus.refused),
    )


def _icon_table(corpus: Corpus) -> str:
    lines = ["set\ticon\tsplit\treason\tcluster\tshows"]
    assignment = corpus.assignment
    for i, name in enumerate(corpus.names):
        row = (corpus.set_of[i], corpus.spelled[i], assignment.split[i], assignment.reason[i])
        lines.append("\t".join((*row, str(assignment.cluster[i]), describe(name))))
    return "\n".join(lines) + "\n"


def report_page(corpus: Corpus, drafts: dict[Split, list[Draft]], conversion: Conversion) -> str:
    """HTML with counts by set, kind and split, and samples of every kind of each split."""
    kinds = sorted({kind for kinds in conversion.records.values() for kind in kinds})
    by_kind = [
        [k, *(_count(conversion.records[split].get(k, 0)) for split in SPLITS)] for k in kinds
    ]
    icons: dict[str, Counter[str]] = defaultdict(Counter)
    for set_name, split in zip(corpus.set_of, corpus.assignment.split, strict=True):
        icons[set_name][split] += 1
    parts = (*SPLITS, "purged")
    by_set = [
        [s, corpus.sets[s].licence, *(_count(icons[s][p]) for p in parts)] for s in corpus.sets
    ]
    pairs = [[k, _count(raw), _count(clean)] for k, (raw, clean) in conversion.pairs.items()]
    left_out = [[reason, _count(n)] for reason, n in sorted(conversion.refused.items())]
    body = [
        "<h1>Icons</h1>",
        f"<p>{len(corpus.names):,} icons of {len(corpus.sets)} sets in {conversion.clusters:,} clusters; "
        f"{conversion.num_records:,} records. Training icons near to a dev or test icon: "
        f"{conversion.twins_before:,} before the purge, {conversion.twins_after:,} after it.</p>",
        table(["kind", *SPLITS], by_kind, "Records"),
        table(["edit", "by name", "kept"], pairs, "Pairs"),
        table(["left out", "icons"], left_out, "Icons that are not used"),
        table(["set", "licence", *parts], by_set, "Icons by set"),
    ]
    for kind in kinds:
        for split in SPLITS:
            chosen = [draft for draft in drafts[split] if draft.kind == kind][:SAMPLES]
            if chosen:
                body.append(f"<h2>{html.escape(kind)}, {split}</h2>")
                body += [_sample(corpus, draft) for draft in chosen]
    return document("Icons", "\n".join(body))


def _count(value: int) -> Cell:
    return Cell(f"{value:,}", value)


def _sample(corpus: Corpus, draft: Draft) -> str:
    said = []
    for parts in draft.turns:
        shown_parts = [
            html.escape(part)
            if isinstance(part, str)
            else '<img width="64" alt="" src="data:image/png;base64,'
            + base64.b64encode(png_bytes(_pixels(corpus, part))).decode()
            + '">'
            for part in parts
        ]
        said.append(" ".join(shown_parts))
    where = f" <small>{html.escape(draft.set_name)} {html.escape(draft.reason)}</small>"
    return f"<p>{' &rarr; '.join(said)}{where}</p>"
