"""All published benchmarks by name: what is made for them, what a judge is asked, how they are scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from arm.evals.benchmarks import (
    choices,
    dsg,
    editing,
    geneval,
    gqa,
    mmbench,
    mmmu,
    seed,
    vqav2,
    wise,
    yesno,
)
from arm.evals.benchmarks.base import HandIn, Item, Result
from arm.judge.asking import Asking
from arm.judge.choices import read_yes_no

Kind = Literal["drawing", "editing", "questions"]


@dataclass(frozen=True)
class Call:
    """One question to the judge: its text, whether it sees the source before the picture, and what
    makes a reply readable.
    """

    text: str
    with_source: bool
    readable: Callable[[str], bool]


@dataclass(frozen=True)
class Matching:
    """How a judge that is named reads what the rules cannot. ask: its question about an answer, None
    where the rules read it. read: from its reply what stands in the answer's place, None where unreadable.
    """

    ask: Callable[[Item, str], str | None]
    read: Callable[[Item, str], str | None]


@dataclass(frozen=True)
class Benchmark:
    """`pictures` of each item (the authors' number). calls: what the judge is asked about each
    picture of an item. score: from the replies, `[item][picture][call]`, None where missing; of
    benchmarks that ask, from the answers by item; of those that a detector looks at (`detected`), from
    whether each picture of an item is right. unpack: writes pictures that the authors keep in their
    table into a folder. hand_in: answers for the authors' server where it alone has the right ones, None
    where they are at hand. match: for answers that the rules cannot read. notes: the prompt, and where
    the rules are not the authors'. asking: how the authors ask their judge.
    """

    name: str
    kind: Kind
    load: Callable[[Path], list[Item]]
    score: Callable[[Sequence[Item], Mapping[str, Any]], Result]
    pictures: int = 1
    calls: Callable[[Path, Item], list[Call]] = field(default=lambda directory, item: [])
    detected: bool = False
    unpack: Callable[[Path, Sequence[Item], Path], None] | None = None
    hand_in: Callable[[Path, Sequence[Item], Mapping[str, str]], HandIn | None] | None = None
    match: Matching | None = None
    notes: tuple[str, ...] = ()
    asking: Asking = field(default_factory=Asking)


CHAT_NOTE = "a chat judge, told to answer with yes or no, stands in the place of the authors' VQA {}: another scale"
DSG_NOTE = CHAT_NOTE.format("models, PaLI, mPLUG-large and InstructBLIP")
DPG_NOTE = CHAT_NOTE.format("model, mPLUG-large")


WISE_ASKING = {
    "legacy": Asking(max_tokens=2000),
    "verified": Asking(max_tokens=500, thinking=False),
}
GEDIT_ASKING = Asking(max_tokens=1400, temperature=None)
IMGEDIT_ASKING = Asking(max_tokens=2000, temperature=None)
"""As the authors' code asks; ImgEdit's names no number of tokens, and neither of the two a temperature."""


def _dsg_calls(directory: Path, item: Item) -> list[Call]:
    return [
        Call(
            f"{question['text']} Answer with one word, yes or no.",
            False,
            lambda reply: read_yes_no(reply) is not None,
        )
        for question in item.data["questions"].values()
    ]


def _dsg_score(items: Sequence[Item], replies: Mapping[str, Any]) -> Result:
    answers = {}
    for item in items:
        numbers = list(item.data["questions"])
        answers[item.id] = [
            {n: None if r is None else read_yes_no(r) for n, r in zip(numbers, told, strict=True)}
            for told in replies.get(item.id, [])
        ]
    return dsg.score(items, answers)


def _wise(protocol: wise.Protocol) -> Benchmark:
    read = wise.read_legacy if protocol == "legacy" else wise.read_verified

    def score(items: Sequence[Item], replies: Mapping[str, Any]) -> Result:
        first = {name: told[0][0] for name, told in replies.items() if told}
        return wise.score(items, first, protocol)

    def calls(directory: Path, item: Item) -> list[Call]:
        text = wise.judge_prompt(directory, protocol, item)
        return [Call(text, False, lambda reply: read(reply) is not None)]

    name = "wise" if protocol == "legacy" else "wise-verified"
    asking = WISE_ASKING[protocol]
    return Benchmark(
        name, "drawing", lambda d: wise.load(d, protocol), score, calls=calls, asking=asking
    )


def _gedit_calls(directory: Path, item: Item) -> list[Call]:
    def readable(reply: str) -> bool:
        return editing.read_viescore(reply) is not None

    return [
        Call(editing.gedit_prompt(directory, item, "SC"), True, readable),
        Call(editing.gedit_prompt(directory, item, "PQ"), False, readable),
    ]


def _gedit_score(items: Sequence[Item], replies: Mapping[str, Any]) -> Result:
    return editing.score_gedit(
        items, {name: (told[0][0], told[0][1]) for name, told in replies.items() if told}
    )


def _imgedit_calls(directory: Path, item: Item) -> list[Call]:
    text = editing.imgedit_prompt(directory, item)
    return [Call(text, True, lambda reply: editing.read_imgedit(reply) is not None)]


def _imgedit_score(items: Sequence[Item], replies: Mapping[str, Any]) -> Result:
    return editing.score_imgedit(
        items, {name: told[0][0] for name, told in replies.items() if told}
    )


def _pope(split: str) -> Benchmark:
    return Benchmark(
        f"pope-{split}", "questions", lambda d: yesno.load_pope(d, split), yesno.score_pope
    )


def _vqav2(name: str, load: Callable[[Path], list[Item]]) -> Benchmark:
    notes = (choices.SHORT_NOTE, vqav2.NOTE)
    return Benchmark(name, "questions", load, vqav2.score, hand_in=vqav2.hand_in, notes=notes)


BENCHMARKS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        _wise("legacy"),
        _wise("verified"),
        Benchmark("dsg", "drawing", dsg.load_dsg, _dsg_score, calls=_dsg_calls, notes=(DSG_NOTE,)),
        Benchmark("dpg", "drawing", dsg.load_dpg, _dsg_score, 4, _dsg_calls, notes=(DPG_NOTE,)),
        Benchmark(
            "gedit",
            "editing",
            editing.load_gedit,
            _gedit_score,
            calls=_gedit_calls,
            asking=GEDIT_ASKING,
        ),
        Benchmark(
            "imgedit",
            "editing",
            editing.load_imgedit,
            _imgedit_score,
            calls=_imgedit_calls,
            asking=IMGEDIT_ASKING,
        ),
        Benchmark("geneval", "drawing", geneval.load, geneval.score, 4, detected=True),
        Benchmark("pope", "questions", yesno.load_pope_splits, yesno.score_pope_splits),
        *(_pope(split) for split in yesno.POPE_SPLITS),
        Benchmark("mme", "questions", yesno.load_mme, yesno.score_mme),
        Benchmark(
            "mmmu", "questions", mmmu.load, mmmu.score, unpack=mmmu.unpack, notes=(mmmu.NOTE,)
        ),
        Benchmark(
            "mmbench",
            "questions",
            mmbench.load,
            mmbench.score,
            unpack=mmbench.unpack,
            match=Matching(mmbench.match_prompt, mmbench.read_match),
            notes=(choices.LETTER_NOTE, mmbench.NOTE),
        ),
        Benchmark(
            "seed", "questions", seed.load, seed.score, notes=(seed.RANK_NOTE, seed.PICTURES_NOTE)
        ),
        Benchmark(
            "seed-letters",
            "questions",
            seed.load_letters,
            choices.score_choices,
            notes=(choices.LETTER_NOTE, choices.READ_NOTE, seed.LETTERS_NOTE, seed.PICTURES_NOTE),
        ),
        Benchmark("gqa", "questions", gqa.load, gqa.score, notes=(choices.SHORT_NOTE,)),
        _vqav2("vqav2", vqav2.load),
        _vqav2("vqav2-test-dev", lambda d: vqav2.load_test(d, "test-dev2015")),
        _vqav2("vqav2-test", lambda d: vqav2.load_test(d, "test2015")),
    )
}
