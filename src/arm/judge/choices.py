"""Reads choices from the replies of judges: yes or no, or one of a few letters, by the rules of `verdicts.py`."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from arm.judge.answer import plain_answer
from arm.judge.verdicts import TAKEN_BACK, in_reasoning

_ASKED = re.compile(
    r"(?<![^\W_])(?:answer|verdict|response|result|conclusion|option|letter|choice)(?![^\W_])", re.I
)


@dataclass(frozen=True)
class _Choice:
    start: int
    end: int
    said: str


_YES_NO = re.compile(r"(?<![^\W_])(yes|no)(?![^\W_])", re.IGNORECASE)
_ENDS = re.compile(
    r" ?(?:$|\n|[,;!)\]}|(]|:|-(?!\w)|\.(?!\s?\d)|[^\w\s.?/&+'-])"
    r"| (?:there|it|they|this|that|the|he|she|we|i|you|in|because|since|as)\b",
    re.IGNORECASE,
)
"""What may follow a yes or no that answers: the end of its clause, or the subject of a sentence."""
_LEADS = frozenset(
    "so therefore thus hence then wait actually hmm oh well ok okay sorry correction finally is be say with answer "
    "verdict conclusion rather clearly definitely".split()
)
"""Words that may stand right before a yes or no that answers."""
_CORRECTS = re.compile(
    r"\b(?:wait|actually|sorry|correction|rather|i mean|hold on|hmm+)\b", re.IGNORECASE
)


def read_yes_no(reply: str) -> bool | None:
    """Whether a judge says yes; None where it says neither, both, or leaves it open.

    An answer begins a sentence, or follows "the answer is" and the like, and ends its clause: "No dog is
    there" and "yes or no" are none. Of several the last counts, if it stands at the begin or the end of a line, or
    follows a word that concludes or corrects; other contradictions are ambiguous.
    """
    text = plain_answer(reply, _ASKED)
    if text is None:
        return None
    choices = [
        _Choice(m.start(), m.end(), m[1].lower())
        for m in _YES_NO.finditer(text)
        if _is_led(text, m.start()) and _ENDS.match(text, m.end())
    ]
    if not choices or TAKEN_BACK.search(text, choices[-1].end):
        return None
    last = choices[-1]
    others = [choice for choice in choices if choice.said != last.said]
    if others:
        between = text[others[-1].end : last.start]
        corrects = re.search(r"[.!?\n]", between) or _CORRECTS.search(between)
        outside = [choice for choice in choices if not in_reasoning(text, choice.start)]
        contradicted = bool(outside) and outside[-1].said != last.said
        if contradicted or not corrects or not _is_firm(text, last):
            return None
    return last.said == "yes"


def _is_firm(text: str, choice: _Choice) -> bool:
    """Whether a yes or no is certainly an answer of its own, not a remark in running text."""
    before, after = text[: choice.start].rstrip(" "), text[choice.end :]
    word = re.search(r"([^\W\d_]+)[\s,:.]*$", before[-40:])
    concludes = word is not None and word[1].lower() in _LEADS
    return before[-1:] in ("", "\n") or concludes or re.match(r"\W*(?:\n|$)", after) is not None


def _is_led(text: str, start: int) -> bool:
    """Whether what stands before a word lets it be an answer."""
    before = text[max(0, start - 40) : start].rstrip(" ")
    if not before or not (before[-1].isalnum() or before[-1] in "/&+"):
        return True
    word = re.search(r"[^\W\d_]+$", before)
    return word is not None and word[0].lower() in _LEADS


def read_letter(reply: str, letters: Collection[str]) -> str | None:
    """The capital letter that a judge chooses; None where it names none of `letters`, or several.

    After "answer:", "option" and the like the last letter counts; otherwise all letters that stand alone in the
    answer have to be the same.
    """
    text = plain_answer(reply, _ASKED)
    if text is None:
        return None
    any_of = "|".join(map(re.escape, letters))
    named = rf"(?i:{_ASKED.pattern})(?: ?(?:is|:|=|\|))* ?[(\[]?({any_of})(?![^\W_])(?! ?(?:\?|/| or\b))"
    choices = list(re.finditer(named, text))
    if choices and not TAKEN_BACK.search(text, choices[-1].end()):
        return choices[-1][1]
    # "A" before a word in lower case is an article.
    alone = set(re.findall(rf"(?<![^\W_])({any_of})(?![^\W_])(?! (?!is\b|or\b|and\b)[a-z])", text))
    return alone.pop() if len(alone) == 1 and not choices else None
