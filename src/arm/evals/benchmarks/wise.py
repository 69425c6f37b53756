"""WISE (arXiv 2503.07265): 1,000 prompts that need knowledge, by a judge. Two protocols, never mixed.

Legacy: consistency, realism and aesthetics, 0 to 2 each; WiScore = (0.7 C + 0.2 R + 0.1 A) / 2. Verified:
one binary score with other prompts; its figures cannot be compared with legacy ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Item,
    Result,
    need,
    need_count,
    need_file,
    need_list,
    need_text,
    read_json,
    result,
)
from arm.judge.scale import Scale
from arm.judge.verdicts import read_scores

Protocol = Literal["legacy", "verified"]
COUNT = 1000
FILES: dict[Protocol, tuple[str, ...]] = {
    protocol: tuple(
        f"{protocol}/{name}{'_verified' if protocol == 'verified' else ''}.json"
        for name in ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")
    )
    for protocol in ("legacy", "verified")
}
ENDS: dict[Protocol, dict[str, int]] = {
    "legacy": {
        "culture": 400, "time": 567, "space": 700, "biology": 800, "physics": 900, "chemistry": 1000
    },
    "verified": {
        "culture": 400, "time": 520, "space": 640, "biology": 760, "physics": 880, "chemistry": 1000
    },
}  # fmt: skip
"""The last prompt id of each category."""
WEIGHTS: dict[Protocol, dict[str, float]] = {
    "legacy": {
        "culture": 0.4, "time": 0.167, "space": 0.133, "biology": 0.1, "physics": 0.1,
        "chemistry": 0.1,
    },
    "verified": {
        "culture": 0.4, "time": 0.12, "space": 0.12, "biology": 0.12, "physics": 0.12,
        "chemistry": 0.12,
    },
}  # fmt: skip
CRITERIA = (("Consistency",), ("Realism",), ("Aesthetic Quality", "Aesthetics", "Aesthetic"))
"""What the legacy protocol scores, by the names that judges give it."""
JUDGE_FILES: dict[Protocol, str] = {
    "legacy": "judge_prompt_legacy_gpt4o.json",
    "verified": "judge_prompt_verified_qwen35.json",
}


def category(prompt_id: int, protocol: Protocol) -> str:
    """Raises DataError for an id outside 1..1000."""
    for name, end in ENDS[protocol].items():
        if 1 <= prompt_id <= end:
            return name
    raise DataError(f"WISE has prompt ids 1 to {COUNT}, not {prompt_id}")


def load(directory: Path, protocol: Protocol, partial: bool = False) -> list[Item]:
    """The prompts of the protocol's three files, by id; `data` has the judge's explanation."""
    items = []
    for name in FILES[protocol]:
        path = need_file(directory, name, f"WISE ({protocol})")
        for n, entry in enumerate(need_list(read_json(path), str(path))):
            where = f"{path}, entry {n}"
            number = need(entry, "prompt_id", where)
            if type(number) is not int:
                raise DataError(f"{where}: prompt_id is no whole number")
            data = {"explanation": need_text(entry, "Explanation", where)}
            text = need_text(entry, "Prompt", where)
            items.append(Item(str(number), text, category(number, protocol), data=data))
    return need_count(items, COUNT, f"WISE ({protocol})", partial)


def judge_prompt(directory: Path, protocol: Protocol, item: Item) -> str:
    """The authors' prompt to the judge with an item's text and explanation in it."""
    path = need_file(directory, JUDGE_FILES[protocol], "WISE")
    templates = need_list(read_json(path), str(path))
    if len(templates) != 1 or not isinstance(templates[0], str):
        raise DataError(f"{path} holds {len(templates)} entries, not one prompt")
    template = templates[0]
    places = {
        "{prompt_data['Prompt']}": item.text,
        "{prompt_data['Explanation']}": item.data["explanation"],
    }
    for place, text in places.items():
        if place not in template:
            raise DataError(f"{path} has no place {place} for an item's text")
        template = template.replace(place, text)
    return template


def read_legacy(reply: str) -> tuple[int, int, int] | None:
    """Consistency, realism and aesthetic quality, each 0, 1 or 2; None where one is missing or ambiguous."""
    scores = read_scores(reply, CRITERIA, Scale(0, 2, whole=True))
    return None if scores is None else (int(scores[0]), int(scores[1]), int(scores[2]))


def read_verified(reply: str) -> int | None:
    """The binary score of a reply; None where it is missing or ambiguous."""
    scores = read_scores(reply, [["Score"]], Scale(0, 1, whole=True))
    return None if scores is None else int(scores[0])


def wiscore(consistency: int, realism: int, aesthetics: int) -> float:
    return (0.7 * consistency + 0.2 * realism + 0.1 * aesthetics) / 2


def score(items: Sequence[Item], replies: Mapping[str, str | None], protocol: Protocol) -> Result:
    """The weighted mean over categories of what the judge's replies say."""
    values: dict[str, float | None] = {}
    for item in items:
        reply = replies.get(item.id)
        if reply is None:
            continue
        if protocol == "legacy":
            scores = read_legacy(reply)
            values[item.id] = None if scores is None else wiscore(*scores)
        else:
            values[item.id] = read_verified(reply)
    return result(items, values, WEIGHTS[protocol])
