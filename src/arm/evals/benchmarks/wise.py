"""WISE (arXiv 2503.07265): 1,000 prompts that need knowledge, scored by a judge under two protocols.

Legacy: consistency, realism and aesthetic quality, 0 to 2 each; WiScore = (0.7 C + 0.2 R + 0.1 A) / 2.
Verified: one binary score, other prompts and other weights; its figures cannot be compared with legacy
ones.
"""

from collections.abc import Mapping, Sequence
from functools import partial as bind
from pathlib import Path
from typing import Any, Literal

from arm.errors import DataError
from arm.evals.benchmarks.base import (
    Benchmark,
    Item,
    JudgePrompt,
    Result,
    checked_items,
    first_replies,
    mean_of_groups,
)
from arm.evals.benchmarks.files import (
    find_file,
    read_json,
    require,
    require_list,
    require_text,
)
from arm.judge.asking import Asking
from arm.judge.scale import Scale
from arm.judge.verdicts import read_scores

Protocol = Literal["legacy", "verified"]
COUNT = 1000
THEMES = ("cultural_common_sense", "spatio-temporal_reasoning", "natural_science")
FOLDERS: dict[Protocol, tuple[str, ...]] = {
    "legacy": ("legacy/", "WISE_legacy/data/", "data/", ""),
    "verified": ("verified/", "data_verified/", ""),
}
"""Where the three files may lie: from the authors' repository, its WISE_legacy, or the data folder."""
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
ASKING: dict[Protocol, Asking] = {
    "legacy": Asking(max_tokens=2000),
    "verified": Asking(max_tokens=500, thinking=False),
}
"""As the authors' code asks."""
CRITERIA = (("Consistency",), ("Realism",), ("Aesthetic Quality", "Aesthetics", "Aesthetic"))
"""What the legacy protocol scores, by the names that judges give it."""
JUDGE_FILES: dict[Protocol, str] = {
    "legacy": "judge_prompt_legacy_gpt4o.json",
    "verified": "judge_prompt_verified_qwen35.json",
}
"""The authors' prompt to the judge, copied out of their code: a JSON list of one string."""
PROMPT_PLACE, EXPLANATION_PLACE = "{prompt_data['Prompt']}", "{prompt_data['Explanation']}"
OWN_PROMPTS: dict[Protocol, str] = {
    "legacy": f"""\
Grade one picture that a model drew of a prompt. The prompt hints at something that one has to know; the \
explanation says what the picture should show.

Prompt: {PROMPT_PLACE}
Explanation: {EXPLANATION_PLACE}

Give three scores, each 0, 1 or 2, and be very strict: give 2 only where nothing is left to improve, and in doubt \
the lower score.
- Consistency: does the picture show what prompt and explanation ask for? 0: essential parts are missing or wrong; \
1: only partly, or not exactly; 2: every part, beyond doubt.
- Realism: does it look like a photograph? 0: clearly artificial or physically impossible; 1: believable with \
flaws; 2: it could be a real photograph.
- Aesthetic Quality: is it a good picture? 0: badly composed and unattractive; 1: acceptable; 2: outstanding.

Reply with three lines and nothing else, in this order: on each line one of the three names above, a colon, and \
its score.""",
    "verified": f"""\
Check one picture that a model drew of a prompt. The prompt hints at something that one has to know; the \
explanation says what a right picture shows and is the measure.

Prompt: {PROMPT_PLACE}
Explanation: {EXPLANATION_PLACE}

The score is 1 where the picture shows what prompt and explanation ask for, with the right things, states and \
relations, and is clear enough to be sure. It need not be beautiful or look like a photograph.
The score is 0 where the picture follows the words of the prompt but not what they hint at, where something \
essential is missing, wrong or ambiguous, or where it is too broken to be judged. In doubt it is 0.

Reply with one line and nothing else: the word Score, a colon, and 0 or 1.""",
}
"""The same questions in our own words, for where no file of the authors' words is present."""


def data_files(directory: Path, protocol: Protocol) -> list[Path]:
    """The protocol's three files of prompts. Raises DataError."""
    suffix = "_verified" if protocol == "verified" else ""
    return [
        find_file(
            directory,
            [f"{folder}{theme}{suffix}.json" for folder in FOLDERS[protocol]],
            f"WISE ({protocol})",
        )
        for theme in THEMES
    ]


def category(prompt_id: int, protocol: Protocol) -> str:
    """The category of a prompt. Raises DataError for an id outside 1..1000."""
    for name, end in ENDS[protocol].items():
        if 1 <= prompt_id <= end:
            return name
    raise DataError(f"WISE has prompt ids 1 to {COUNT}, not {prompt_id}")


def load(directory: Path, protocol: Protocol, partial: bool = False) -> list[Item]:
    """The prompts of the protocol's three files; `data` has the explanation for the judge."""
    items = []
    for path in data_files(directory, protocol):
        for n, entry in enumerate(require_list(read_json(path), str(path))):
            where = f"{path}, entry {n}"
            number = require(entry, "prompt_id", where)
            if type(number) is not int:
                raise DataError(f"{where}: prompt_id is not an integer")
            data = {"explanation": require_text(entry, "Explanation", where)}
            text = require_text(entry, "Prompt", where)
            items.append(Item(str(number), text, category(number, protocol), data=data))
    return checked_items(items, COUNT, f"WISE ({protocol})", partial)


def judge_prompt(directory: Path, protocol: Protocol, item: Item) -> str:
    """The question to the judge about an item: the authors' where their words are present, else ours."""
    path = directory / JUDGE_FILES[protocol]
    template = OWN_PROMPTS[protocol]
    if path.is_file():
        templates = require_list(read_json(path), str(path))
        if len(templates) != 1 or not isinstance(templates[0], str):
            raise DataError(f"{path} holds {len(templates)} entries, not one prompt")
        template = templates[0]
    places = {PROMPT_PLACE: item.text, EXPLANATION_PLACE: item.data["explanation"]}
    for place, text in places.items():
        if place not in template:
            raise DataError(f"{path} has no place {place} for an item's text")
        template = template.replace(place, text)
    return template


def judge_note(directory: Path, protocol: Protocol) -> str:
    """Whose words the judge is asked in."""
    if (directory / JUDGE_FILES[protocol]).is_file():
        return f"the judge is asked in the authors' words, from {JUDGE_FILES[protocol]}"
    return (
        "the judge is asked in our own words (the authors keep theirs inside their code): compare this score only with "
        f"scores that were judged in the same words; for the authors' words, put them into {JUDGE_FILES[protocol]}"
    )


def read_legacy(reply: str) -> tuple[int, int, int] | None:
    """Consistency, realism and aesthetic quality, each 0, 1 or 2; None where one is missing or ambiguous."""
    scores = read_scores(reply, CRITERIA, Scale(0, 2, whole=True))
    return None if scores is None else (int(scores[0]), int(scores[1]), int(scores[2]))


def read_verified(reply: str) -> int | None:
    """The binary score of a reply; None where it is missing or ambiguous."""
    scores = read_scores(reply, [["Score"]], Scale(0, 1, whole=True))
    return None if scores is None else int(scores[0])


def wiscore(consistency: int, realism: int, aesthetics: int) -> float:
    """The legacy protocol's score of one picture, in [0, 1]."""
    return (0.7 * consistency + 0.2 * realism + 0.1 * aesthetics) / 2


def picture_score(reply: str, protocol: Protocol) -> float | None:
    """The score of one picture in [0, 1] from the judge's reply; None where it is unreadable."""
    if protocol == "verified":
        return read_verified(reply)
    scores = read_legacy(reply)
    return None if scores is None else wiscore(*scores)


def judge_prompts(directory: Path, item: Item, protocol: Protocol) -> list[JudgePrompt]:
    """The one question about a picture."""
    text = judge_prompt(directory, protocol, item)
    return [JudgePrompt(text, False, lambda reply: picture_score(reply, protocol) is not None)]


def score(items: Sequence[Item], replies: Mapping[str, Any], protocol: Protocol) -> Result:
    """The weighted mean over categories, from the replies `[item][picture][question]`."""
    first = first_replies(replies)
    values: dict[str, float | None] = {}
    for item in items:
        reply = first[item.id][0] if item.id in first else None
        values[item.id] = None if reply is None else picture_score(reply, protocol)
    return mean_of_groups(items, values, WEIGHTS[protocol])


def _benchmark(name: str, protocol: Protocol) -> Benchmark:
    return Benchmark(
        name,
        "drawing",
        bind(load, protocol=protocol),
        bind(score, protocol=protocol),
        judge_prompts=bind(judge_prompts, protocol=protocol),
        judge_note=bind(judge_note, protocol=protocol),
        asking=ASKING[protocol],
    )


BENCHMARKS = (_benchmark("wise", "legacy"), _benchmark("wise-verified", "verified"))
