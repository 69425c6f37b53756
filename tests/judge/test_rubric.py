"""Verdicts by our own rubrics: what is sent, and how scores are read."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from arm.errors import InputError
from arm.judge import DRAWING, EDITING, Case, Judge, JudgeConfig, read_verdict, rubric_named
from judge_server import judge_server

GOOD_SCORES = {"objects": 0.8, "attributes": 1.0, "relations": 0.5}
RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8) for _ in range(2)]


def test_verdicts_and_what_is_sent():
    with judge_server() as server:
        config = JudgeConfig(server.url, "judge-1", min_side=16)
        found = Judge(config, DRAWING)([Case("a red star number 0", (PICTURES[0],))])
        assert found[0] is not None and found[0].scores == GOOD_SCORES
        assert Judge(config, EDITING)([Case("remove the star", tuple(PICTURES))])[0] is not None
    drawing, editing = server.bodies
    assert drawing["model"] == "judge-1" and drawing["temperature"] == 0
    assert "a red star number 0" in drawing["messages"][1]["content"][0]["text"]
    assert len(editing["messages"][1]["content"]) == 3
    url = drawing["messages"][1]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    sent = np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
    assert sent.shape == (16, 24, 3)
    assert np.array_equal(sent[::2, ::2], PICTURES[0])  # every pixel as it was


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"objects": 8, "attributes": 10, "relations": 5}', GOOD_SCORES),
        ('Sure!\n```json\n{"relations": 5, "objects": 8.0, "attributes": 10}\n```', GOOD_SCORES),
        ('{"objects": 1} no: {"objects": 8, "attributes": 10, "relations": 5, "why": ""}', GOOD_SCORES),
        ('{"objects": 8, "attributes": 10}', None),
        ('{"objects": 11, "attributes": 10, "relations": 5}', None),
        ('{"objects": true, "attributes": 10, "relations": 5}', None),
        ('{"objects": "8", "attributes": 10, "relations": 5}', GOOD_SCORES),
        ('{"objects": 1, "attributes": 1, "relations": 1} no: {"objects": 8, "attributes": 10, "rel', None),
        ('{"objects": 1, "attributes": 1, "relations": 1} or {"objects": "8", "attributes": 1, "relations": 5}', None),
        ('{"objects": NaN, "attributes": 10, "relations": 5}', None),
        (f'{{"objects": {"9" * 5000}, "attributes": 10, "relations": 5}}', None),
        (f'{{"objects": {"[" * 200_000}}}', None),
        ("The picture is lovely, 9/10.", None),
        ("", None),
    ],
)  # fmt: skip
def test_reading_a_verdict(reply: str, expected: dict[str, float] | None):
    assert read_verdict(reply, list(DRAWING.criteria)) == expected


def test_the_form_that_is_asked_for_is_no_verdict():
    for rubric in (DRAWING, EDITING):
        assert read_verdict(rubric.instructions(), list(rubric.criteria)) is None


def test_rubrics_by_name():
    assert rubric_named("editing") is EDITING
    with pytest.raises(InputError, match="no rubric 'taste'; there are drawing, editing"):
        rubric_named("taste")
