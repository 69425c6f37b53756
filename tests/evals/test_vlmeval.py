"""VLMEvalKit's base class around the shipped model, beside the model's own answers.

It lives in an environment of its own; $ARM_VLMEVAL_PYTHON names that environment's interpreter, where
this package is installed too.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arm.pipeline import Arm
from arm.world.render import render
from arm.world.sampling import sample_scene

PYTHON = os.environ.get("ARM_VLMEVAL_PYTHON", "")
QUESTIONS = ("is there a star ?", "how many things are there ?", "what color is the background ?")
SCRIPT = """
import json, sys
from arm.evals.vlmeval import ArmModel
model, picture, questions = ArmModel("micro"), sys.argv[1], sys.argv[2:]
asked = [[{"type": "image", "value": picture}, {"type": "text", "value": q}] for q in questions]
said = [model.generate(message) for message in asked]
said.append(model.generate([picture, questions[0]]))
said.append(model.generate([picture, "is there a Zanzibar ?"]))
print("SAID", json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="ARM_VLMEVAL_PYTHON names no interpreter with VLMEvalKit")
def test_vlmevalkit_gets_the_models_own_answers(tmp_path: Path):
    picture = tmp_path / "scene.png"
    Image.fromarray(render(sample_scene(np.random.default_rng(3), 56, 56), 1)).save(picture)
    ended = subprocess.run(
        [PYTHON, "-c", SCRIPT, str(picture), *QUESTIONS],
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
