"""The authors' own files, where the environment variable ARM_BENCHMARKS names a folder with them."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from arm.evals.benchmarks import dsg, editing, geneval, mmmu, wise, yesno
from arm.evals.detect import COCO_CLASSES

FOLDER = os.environ.get("ARM_BENCHMARKS")
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="needs the authors' files: set ARM_BENCHMARKS to a folder with them"
)
ROOT = Path(FOLDER or ".")


def test_geneval():
    items = geneval.load(ROOT / "geneval")
    assert Counter(i.group for i in items) == {
        "position": 100, "color_attr": 100, "two_object": 99, "colors": 94, "single_object": 80,
        "counting": 80,
    }  # fmt: skip
    named = set((ROOT / "geneval/object_names.json").read_text().split('"'))
    assert {w["class"] for i in items for w in i.data["include"]} <= named
    assert {w.get("color") for i in items for w in i.data["include"]} - {None} <= set(
        geneval.COLORS
    )


def test_dsg_and_dpg():
    items = dsg.load_dsg(ROOT / "dsg1k")
    assert len(items) == 1060 and sum(len(i.data["questions"]) for i in items) == 8182
    for item in items:  # every dependency can be settled
        said = dict.fromkeys(item.data["questions"], True)
        assert all(dsg.with_dependencies(item.data["questions"], said).values())
    assert len(dsg.load_dpg(ROOT / "dpg_bench")) == 1065


@pytest.mark.parametrize("protocol", ["legacy", "verified"])
def test_wise(protocol: wise.Protocol):
    items = wise.load(ROOT / "wise", protocol)
    assert [int(i.id) for i in items] == list(range(1, 1001))
    assert set(Counter(i.group for i in items)) == set(wise.WEIGHTS[protocol])
    prompt = wise.judge_prompt(ROOT / "wise", protocol, items[0])
    assert items[0].text in prompt and items[0].data["explanation"] in prompt
    assert sum(wise.WEIGHTS[protocol].values()) == pytest.approx(1.0)


def test_edits():
    gedit = editing.load_gedit(ROOT / "gedit")
    assert len(gedit) == 604 and {i.group for i in gedit} == set(editing.GEDIT_GROUPS)
    assert gedit[0].text in editing.gedit_prompt(ROOT / "gedit", gedit[0], "SC")
    assert "naturalness" in editing.gedit_prompt(ROOT / "gedit", gedit[0], "PQ")
    imgedit = editing.load_imgedit(ROOT / "imgedit")
    assert len(imgedit) == 737 and {i.group for i in imgedit} == set(editing.IMGEDIT_TYPES)
    assert imgedit[0].text in editing.imgedit_prompt(ROOT / "imgedit", imgedit[0])


def test_pope_and_mme():
    for split in yesno.POPE_SPLITS:
        items = yesno.load_pope(ROOT / "pope", split)
        assert {i.data["answer"] for i in items} == {"yes", "no"}
    mme = yesno.load_mme(ROOT / "mme")
    assert len({i.group for i in mme}) == 14 and set(yesno.PERCEPTION) <= {i.group for i in mme}
    assert yesno.score_mme(mme, {i.id: i.data["answer"] for i in mme}).details == {
        "unreadable": 0.0, "perception": 2000.0, "cognition": 800.0
    }  # fmt: skip


def test_mmmu():
    truths = mmmu.read_truths(ROOT / "mmmu" / mmmu.ANSWERS)
    assert len(truths) == 900 and sum(chosen for chosen, _ in truths.values()) == 847
    options = {letter: f"option {letter}" for letter in "ABCDEFGHI"}
    items, answers = [], {}
    for name, (chosen, truth) in truths.items():
        items.append(mmmu.question(name, "?", options if chosen else {}, truth))
        answers[name] = truth if isinstance(truth, str) else truth[0]
    assert len({i.group for i in items}) == 30
    # Their own answers are read as right, whether letters, numbers, formulas or words.
    found = mmmu.score(items, answers)
    assert found.overall.value == 1.0 and found.details == {"unreadable": 0.0}
    shifted = dict(zip(answers, [*list(answers.values())[1:], "A"], strict=True))
    assert mmmu.score(items, shifted).overall.value < 0.4


def test_pope_as_one():
    items = yesno.load_pope_splits(ROOT / "pope")
    right = yesno.score_pope_splits(items, {i.id: i.data["answer"] for i in items})
    assert right.overall.value == 1.0 and right.details["f1"] == 1.0
    # Half of every split is yes, so a model that always says yes has precision and accuracy 1/2.
    found = yesno.score_pope_splits(items, {i.id: "yes" for i in items})
    assert found.overall.value == pytest.approx(0.5, abs=0.02)
    assert found.details["f1"] == pytest.approx(2 / 3, abs=0.02)


def test_geneval_names_are_the_detector_s():
    names = json.loads((ROOT / "geneval/object_names.json").read_text())
    assert tuple(n for n in names if n) == COCO_CLASSES
