"""The samples and the examples of docs/data hold."""

import json
import re
from pathlib import Path

from arm.data.check import check_source
from arm.data.conversation import parse_conversation, task_of
from arm.data.layouts import FORMATS
from arm.data.sources import open_source

DOCS = Path(__file__).parents[2] / "docs/data"
README = (DOCS / "README.md").read_text(encoding="utf-8")


def test_the_samples_are_whole_and_show_every_task():
    source = open_source(DOCS)
    report = check_source(source)
    assert report.num_faults == 0
    records = [source.record(i).conversation for i in range(len(source))]
    tasks = [task_of(conversation) for conversation in records]
    assert tasks[:5] == ["text", "understanding", "drawing", "editing", "interleaved"]
    assert [conversation.id for conversation in records[:5]] == tasks[:5]
    assert all(path.stat().st_size < 4000 for path in DOCS.glob("*.png"))


def test_every_example_is_a_record_with_its_pictures():
    blocks = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    examples = [json.loads(line) for block in blocks for line in block.splitlines()]
    found = [parse_conversation(example, "README.md") for example in examples]
    assert [task_of(conversation) for conversation in found] == [
        "editing", "text", "understanding", "drawing", "interleaved", "interleaved", "drawing",
    ]  # fmt: skip
    for conversation in found:
        assert all((DOCS / name).is_file() for name in conversation.images)


def test_every_format_is_named():
    assert all(name in README for name in FORMATS)
