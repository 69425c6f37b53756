"""lmms-eval and VLMEvalKit run the shipped model, beside our own commands and the model's own answers.

Each needs an environment of its own, with this package in it: lmms-eval demands torchvision.
$ARM_LMMS_PYTHON and $ARM_VLMEVAL_PYTHON name the interpreters of those environments.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arm.evals.painting import paint_each
from arm.pipeline import Arm
from arm.world.sampling import sample_scene
from arm.world.scene import render
from conftest import TinyChain

EXAMPLES = Path(__file__).parents[2] / "docs" / "lmms_eval"
PYTHON = os.environ.get("ARM_LMMS_PYTHON", "")
LIMIT = 60

needs_lmms_eval = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="ARM_LMMS_PYTHON names no interpreter that has lmms-eval"
    ),
]


def call(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    offline = {name: "1" for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "OMP_NUM_THREADS")}
    environment = {**os.environ, **offline, "HF_HOME": str(folder / "hf")}
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the world's questions in both layouts."""
    folder = tmp_path_factory.mktemp("lmms")
    made = call(folder, sys.executable, EXAMPLES / "world_data.py")
    assert made.returncode == 0, made.stderr
    return folder


def harness(folder: Path, tasks: str, arguments: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """lmms-eval's results by task, and its samples by task in the order of the questions."""
    ended = call(
        folder, PYTHON, "-m", "lmms_eval", "--model", "arm", "--tasks", tasks,
        "--model_args", f"pretrained=micro,{arguments}".rstrip(","), "--include_path", EXAMPLES,
        "--batch_size", 16, "--limit", LIMIT, "--log_samples", "--output_path", "out",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    newest = sorted((folder / "out").rglob("*_results.json"))[-1]
    samples = {}
    for task in tasks.split(","):
        lines = sorted(newest.parent.glob(f"*_samples_{task}.jsonl"))[-1].read_text().splitlines()
        samples[task] = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
    return json.loads(newest.read_text())["results"], samples


def ours(folder: Path, name: str, source: str) -> tuple[dict[str, Any], list[str]]:
    """The report of `arm eval` and its answers in the order of the questions."""
    ended = call(
        folder, sys.executable, "-m", "arm", "eval", name, "--data", f"world_data/{source}",
        "--out", f"eval/{name}", "--limit", LIMIT,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    lines = (folder / f"eval/{name}/answers.jsonl").read_text().splitlines()
    report = json.loads((folder / f"eval/{name}/report.json").read_text())
    return report, [json.loads(line)["answer"].strip() for line in lines]


def said(samples: list[dict[str, Any]]) -> list[str]:
    """A sample's answer; lmms-eval writes it as a string or a list of one."""
    found = [sample["filtered_resps"] for sample in samples]
    return [text if isinstance(text, str) else text[0] for text in found]


ROUNDS = """
import json, sys
from types import SimpleNamespace as Request
from PIL import Image
from arm.evals.harnesses import LmmsModel

model = LmmsModel(pretrained="micro", batch_size=2)
picture = Image.open(sys.argv[1])
questions = ["is there a star ?", "how many things are there ?", "is there a Zanzibar ?"]
model.task_dict = {"t": {"test": questions}}
looks = lambda doc: [picture]

def further(doc, previous_output, round_idx, previous_round_info):
    seen = [*(previous_round_info or []), round_idx]
    return looks(doc), "what color is the background ?", round_idx == 2, previous_output, seen

def asked(*middle):
    return [Request(args=(q, {"until": []}, looks, *middle, n, "t", "test")) for n, q in enumerate(questions)]

try:
    model.generate_until(asked()[2:])
except Exception as error:
    refused = f"{type(error).__name__}: {error}"
print("SAID", json.dumps([model.generate_until(asked()), model.generate_until_multi_round(asked(further)), refused]))
"""


class TestWithLmmsEval:
    pytestmark = needs_lmms_eval

    def test_answers_and_scores_are_those_of_our_own_commands(self, data: Path):
        results, samples = harness(data, "arm_pope,arm_mme,arm_choice")
        report, answers = ours(data, "pope-random", "pope")
        assert said(samples["arm_pope"]) == answers
        pope = results["arm_pope"]
        assert pope["pope_accuracy,none"] == pytest.approx(report["overall"]["value"])
        for name in ("precision", "recall"):
            assert pope[f"pope_{name},none"] == pytest.approx(report["details"][name])
        assert pope["pope_f1_score,none"] == pytest.approx(report["details"]["f1"])
        report, answers = ours(data, "mme", "mme")
        assert said(samples["arm_mme"]) == answers
        mme = results["arm_mme"]["mme_perception_score,none"]
        assert mme == pytest.approx(report["details"]["perception"])
        # By likelihood the model knows colours too; the wrong sign would give next to none.
        assert results["arm_choice"]["acc,none"] > 0.8

    def test_pictures_are_drawn_edited_and_scored(self, data: Path):
        results, samples = harness(
            data, "arm_draw,arm_edit", "mode=generation,seed=7,output_dir=pictures"
        )
        assert results["arm_draw"]["world_geneval,none"] > 0.5
        assert results["arm_edit"]["world_gedit_o,none"] > 3
        arm = Arm.from_pretrained("micro")
        docs = [json.loads(s) for s in (data / "world_data/draw.jsonl").read_text().splitlines()]
        codes = arm.draw_prompts([doc["prompt"] for doc in docs[:4]], seed=7)
        for reply, own in zip(said(samples["arm_draw"]), paint_each(arm, codes), strict=False):
            (path,) = json.loads(reply)["images"]
            np.testing.assert_array_equal(np.asarray(Image.open(path)), own)

    def test_rounds_and_requests_that_cannot_be_taken(self, data: Path):
        picture = data / "world_data/pope/0000.png"
        ended = call(data, PYTHON, "-c", ROUNDS, picture)
        assert ended.returncode == 0, ended.stderr
        once, rounds, refused = json.loads(ended.stdout.rpartition("SAID ")[2])
        arm = Arm.from_pretrained("micro")
        asked = ("is there a star ?", "how many things are there ?")
        own = [arm.ask(picture, question).strip() for question in asked]
        ground = arm.ask(picture, "what color is the background ?").strip()
        assert once == [*own, ""]
        assert rounds == [[own[0], ground], [own[1], ground], ["", ground]]
        why = "requests cannot be taken: the model does not know the word 'zanzibar'"
        assert f"1 of 3 {why}" in ended.stderr
        assert refused.startswith(f"InputError: 1 of 1 {why}")

    def test_a_wrong_argument_is_named(self, data: Path):
        ended = call(
            data, PYTHON, "-m", "lmms_eval", "--model", "arm", "--tasks", "arm_pope",
            "--model_args", "pretrained=micro,known_word=True", "--include_path", EXAMPLES,
            "--limit", 1,
        )  # fmt: skip
        assert "there is no 'known_word'" in ended.stdout + ended.stderr


@pytest.fixture
def adapter(chain: TinyChain, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The adapter of the tiny chain's model on base classes that do nothing."""
    named = {
        "lmms_eval": {}, "lmms_eval.api": {}, "lmms_eval.api.instance": {"GenerationResult": tuple},
        "lmms_eval.api.model": {"lmms": object},
    }  # fmt: skip
    for name, members in named.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "arm.evals.harnesses", raising=False)
    found = importlib.import_module("arm.evals.harnesses")
    yield lambda **options: found.LmmsModel(str(chain.model), **options)
    sys.modules.pop("arm.evals.harnesses", None)


@pytest.mark.parametrize("mode", ["understanding", "generation"])
def test_what_a_request_samples_is_the_same_at_every_batch_size(
    mode: str, adapter: Callable[..., Any], tmp_path: Path
):
    """The second request cannot be taken, and the third has a picture."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (56, 56, 3), dtype=np.uint8))
    docs = [("a red star", []), ("a zanzibar", []), ("make the star green", [picture]),
            ("a red star", []), ("a red star", [])]  # fmt: skip
    options = {"temperature": 1.0, "max_new_tokens": 6}

    def said(batch_size: int) -> list[Any]:
        out = tmp_path / str(batch_size)
        model = adapter(mode=mode, seed=3, batch_size=batch_size, output_dir=str(out))
        model.task_dict = {"t": {"test": docs}}
        asked = [
            SimpleNamespace(args=(text, options, lambda doc: doc[1], n, "t", "test"))
            for n, (text, _) in enumerate(docs)
        ]
        replies = model.generate_until(asked)
        assert replies[1] == ""
        if mode == "understanding":
            return replies
        paths = [json.loads(reply)["images"][0] for reply in replies if reply]
        return [Path(path).read_bytes() for path in paths]

    assert said(1) == said(2) == said(5)


def test_the_entry_point_is_light():
    """Every lmms-eval run imports it, whatever its model."""
    code = (
        "import sys; from arm.evals import lmms_eval_manifest; "
        "print('torch' in sys.modules, 'lmms_eval' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "False"]


VLMEVAL_PYTHON = os.environ.get("ARM_VLMEVAL_PYTHON", "")
QUESTIONS = ("is there a star ?", "how many things are there ?", "what color is the background ?")
SCRIPT = """
import json, sys
from arm.evals.harnesses import VLMEvalModel
model, picture, questions = VLMEvalModel("micro"), sys.argv[1], sys.argv[2:]
asked = [[{"type": "image", "value": picture}, {"type": "text", "value": q}] for q in questions]
said = [model.generate(message) for message in asked]
said.append(model.generate([picture, questions[0]]))
said.append(model.generate([picture, "is there a Zanzibar ?"]))
print("SAID", json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not VLMEVAL_PYTHON, reason="ARM_VLMEVAL_PYTHON names no interpreter with VLMEvalKit"
)
def test_vlmevalkit_gets_the_models_own_answers(tmp_path: Path):
    picture = tmp_path / "scene.png"
    Image.fromarray(render(sample_scene(np.random.default_rng(3), 56, 56), 1)).save(picture)
    ended = subprocess.run(
        [VLMEVAL_PYTHON, "-c", SCRIPT, str(picture), *QUESTIONS],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.rpartition("SAID ")[2])
    arm = Arm.from_pretrained("micro")
    own = [arm.ask(picture, question).strip() for question in QUESTIONS]
    assert said == [*own, own[0], ""]
    assert "does not know the word 'zanzibar'" in ended.stderr
