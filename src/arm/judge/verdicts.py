"""Reads verdicts from the replies of judges: scores by name and lists of scores.

One set of rules for all benchmarks and rewards:

- A thought is no answer, and a reply that was cut has none (`answer.py`).
- Of several complete verdicts the last one counts; an incomplete one after it that says something else, or words
  that take it back, make the verdict missing.
- A number is read as 4, 4.0, "4", 4/5, 4 out of 5, 4 (mostly) or 4 points, in JSON, tables, lists or lines, with any
  emphasis and in any case.
- What is ambiguous is missing, never guessed: a range, alternatives, a question, an unfinished correction, a number
  outside its scale or of another scale, an example, a score for something else ("confidence score").
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from arm.judge.answer import plain_answer
from arm.judge.scale import Reader, Scale, Value, read_list, read_number


@dataclass(frozen=True)
class _Statement:
    """A place of an answer that gives a criterion, by its index `name`, a value.

    value: None where it is ambiguous. is_alternative: joined by "or" and the like to the statement before.
    """

    start: int
    end: int
    name: int
    value: tuple[float, ...] | None
    is_alternative: bool = False


def read_scores(
    reply: str, criteria: Sequence[Sequence[str]], scale: Scale
) -> tuple[float, ...] | None:
    """The score of each criterion, in order; None where one is missing, ambiguous or outside the scale.

    criteria: for each the names that it may have, in any case and with spaces, underscores or hyphens. A reply of
    one bare number is the score of a single criterion.
    """
    text, statements = _answer_statements(
        reply, criteria, lambda text, at: read_number(text, at, scale)
    )
    if text is None:
        return None
    if not statements and len(criteria) == 1:
        bare = read_number(text, 0, scale)
        return bare[0] if bare is not None and not text[bare[1] :].strip(" .)]}") else None
    verdict = _last_verdict(text, statements, len(criteria))
    return None if verdict is None else tuple(v for value in verdict for v in value)


def read_score_list(
    reply: str, names: Sequence[str], count: int, scale: Scale
) -> tuple[float, ...] | None:
    """`count` scores in brackets, as in "score": [7, 8] or on a line of their own; None as for `read_scores`."""

    def read(text: str, at: int) -> Value | None:
        return read_list(text, at, count, scale)

    text, statements = _answer_statements(reply, [names], read)
    if text is None:
        return None
    known = [(s.start, s.end) for s in statements]
    for line in _LIST_LINE.finditer(text):
        if not any(start <= line.start() < end for start, end in known):
            value = read(text, line.start())
            if value is not None:
                statements.append(_Statement(line.start(), value[1], 0, value[0]))
    verdict = _last_verdict(text, sorted(statements, key=lambda s: s.start), 1)
    return None if verdict is None else verdict[0]


def has_scores(reply: str, criteria: Sequence[Sequence[str]], scale: Scale) -> bool:
    """Whether a reply gives any criterion a number, be it ambiguous."""
    return bool(_answer_statements(reply, criteria, lambda t, at: read_number(t, at, scale))[1])


def score_names(reply: str) -> list[str]:
    """The different names that begin a line and are followed by a colon and a number, in order."""
    text = plain_answer(reply, re.compile(r"(?!)"))
    names = (m[1].strip() for m in _NAMED_LINE.finditer(text or ""))
    return list(dict.fromkeys(name for name in names if not _SUMMARY.match(name)))


_LIST_LINE = re.compile(r"^[\[(][^\[\]()\n]{1,200}[\])][.;]?$", re.MULTILINE)
_NAMED_LINE = re.compile(r"^([^\W\d_][^\n:|=.]{1,50}?) ?[:=|] ?\d", re.MULTILINE)
_SUMMARY = re.compile(
    r"(?:brief |short )?(?:reason|overall|total|average|mean|final|sum\b|score\b|confidence)", re.I
)


# Statements: a name, what may stand between, a value


def _name_pattern(names: Sequence[str]) -> str:
    joined = (
        r"[ _&/+-]{0,4}(?:and[ _-]{1,2})?".join(re.findall(r"[^\W_]+", name.replace("&", " ")))
        for name in sorted(names, key=len, reverse=True)
    )
    return f"(?:{'|'.join(joined)})"


_ASIDE = r"(?: ?\([^()\n]{0,60}\)| ?\[ ?\d+ ?(?:-|to) ?\d+ ?\]| out of \d{1,3}\b)?"
_LINK = r"(?:\s?(?::|=>|=|\||-(?=\s)|->|→|\b(?:is|are|equals)\b))"
_INNER = r"(?:\{?\s?(?:score|rating|value)\s?[:=]\s?)?"
_HEDGE = re.compile(
    r"(?:between|about|around|approx\w*|roughly|maybe|perhaps|probably|either|somewhere|unclear|unknown|n/?a\b|none\b"
    r"|undecided|cannot|can not|not\b|\?|~|≈|$)",
    re.IGNORECASE,
)
_BEFORE = frozenset(
    "a the this that my our its i we and but so thus therefore hence then now no wait actually ok okay is be as with "
    "of give gives giving given gave assign assigned return award awarded answer verdict result final overall total "
    "binary output wise image new revised updated corrected correction again finally end on to say choose s".split()
)
"""Words that may stand right before a name; after another word ("draft score") it names something else."""
_NOT_A_VERDICT = re.compile(
    r"(?:\b(?:would|could|might|may)(?: be| have been)?(?: a| an| the)?"
    r"|\b(?:not|never|can ?not)\b(?:(?!\b(?:but|so|hence|therefore|and)\b)[^.,;:!?\n]){0,25}"
    r"|\binstead of(?: a| the)?|\bthan(?: a| the)?|\bunless(?: the)?|\bif(?: the| its)?|\be\.g\.,?"
    r"|\bexamples?(?: output| answer| reply)?,?|\bfor instance,?|\bsuch as|\blike)[ :{\[(]{0,4}$",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"[ ,]{0,2}(?:would|could|might|if\b|when\b|whenever|unless|only (?:if|when)|requires?\b|means\b"
    r"|is (?:for|given|reserved|when)\b|(?:points? )?(?:lower|higher|less|more|fewer|better|worse)\b)",
    re.IGNORECASE,
)


def _answer_statements(
    reply: str, criteria: Sequence[Sequence[str]], read: Reader
) -> tuple[str | None, list[_Statement]]:
    """The plain answer, None where it was cut, and its statements in order."""
    patterns = [_name_pattern(names) for names in criteria]
    wanted = re.compile(rf"(?<![^\W_])(?:{'|'.join(patterns)})(?![^\W_])", re.IGNORECASE)
    text = plain_answer(reply, wanted)
    if text is None:
        return None, []
    every = _statements(text, patterns, read)
    outside = [s for s in every if not in_reasoning(text, s.start)]
    if outside and _verdict(outside, len(criteria)) != _verdict(every, len(criteria)):
        # Words given as the reasons contradict the verdict: neither is certain.
        every.append(_Statement(len(text), len(text), every[-1].name, None))
    return text, every


def _statements(text: str, patterns: Sequence[str], read: Reader) -> list[_Statement]:
    """The statements of a plain text, in order; alternatives ("0 or 1") are ambiguous."""
    statements: list[_Statement] = []
    for index, pattern in enumerate(patterns):
        linked = rf"(?<![^\W_]){pattern}(?![^\W_])[\])]?(?: (?:score|rating|value|grade))?{_ASIDE}"
        for match in re.finditer(linked, text, re.IGNORECASE):
            if _is_other_score(text, match.start()):
                continue
            link = re.compile(
                rf"(?:(?:{_LINK}){{1,3}}\s{{0,2}}| ?, ?(?=(?:score|rating|value)\b)){_INNER}"
            ).match(text, match.end())
            statement = _value_after(text, match, link, read, "score" in pattern.lower())
            if statement is not None:
                statements.append(_Statement(match.start(), statement[1], index, statement[0]))
    statements.sort(key=lambda s: s.start)
    return _with_context(text, statements)


def _value_after(
    text: str, name: re.Match[str], link: re.Match[str] | None, read: Reader, of: bool
) -> Value | None:
    if link is None:
        plain = re.compile(r" of (?:an? )?| " if of else r" ").match(text, name.end())
        begins_line = name.start() == 0 or text[name.start() - 1] == "\n"
        on_next_line = begins_line and text.startswith("\n", name.end())
        if plain is None and not on_next_line:
            return None
        at = name.end() + 1 if plain is None else plain.end()
        found = read(text, at)
        # Without a colon the number has to end its clause: "1 word" is no score.
        ends = found is not None and re.compile(r"\s*(?:$|[.,;)\]}(|])|\n").match(text, found[1])
        return found if ends else None
    found = read(text, link.end())
    if found is None:
        hedged = ":" in link[0] or "=" in link[0]
        return (None, link.end()) if hedged and _HEDGE.match(text, link.end()) else None
    if _CONDITION.match(text, found[1]):
        return None
    return found


def _is_other_score(text: str, start: int) -> bool:
    """Whether the words before a name make it something else than the verdict asked for."""
    before = text[max(0, start - 40) : start].rpartition("\n")[2]
    if _NOT_A_VERDICT.search(before):
        return True
    word = re.search(r"([^\W\d_]+)[ -]*$", before)
    return word is not None and word[1].lower() not in _BEFORE


_OR = re.compile(
    r"[\s.,;:(){}\[\]]*(?:\b(?:or|and|to|vs|versus)\b\.?|/|\||-)[\s({\[]*(?:(?:a|the|maybe|perhaps) )*",
    re.I,
)


_RIVAL = re.compile(
    r"\b(?:or|maybe|perhaps|possibly|actually|wait|rather|hmm+|sorry|mean|make (?:that|it)|instead|revis\w*|chang\w*"
    r"|correct\w*|lower\w*|rais\w*|(?:up|down)grad\w*|adjust\w*|bump\w*|closer|almost|nearly)\b[^\d\n]{0,25}\d",
    re.IGNORECASE,
)


def _with_context(text: str, statements: Sequence[_Statement]) -> list[_Statement]:
    """The statements, with those ambiguous that the words after them put in doubt, and alternatives marked."""
    seen = []
    for i, statement in enumerate(statements):
        stop = statements[i + 1].start if i + 1 < len(statements) else statement.end + 200
        doubtful = _RIVAL.search(text[statement.end : stop].partition("\n")[0]) is not None
        between = text[statements[i - 1].end : statement.start] if i else ""
        seen.append(
            replace(
                statement,
                value=None if doubtful else statement.value,
                is_alternative=_OR.fullmatch(between) is not None,
            )
        )
    return seen


_REASONING = re.compile(
    r"\W{0,3}(?:brief |short |my )?(?:reason(?:ing)?s?|explanations?|justifications?|rationale|analysis|comments?|notes?)"
    r" ?(?:\([^()\n]{0,40}\) ?)?:(?! ?[,}])",
    re.IGNORECASE,
)


def in_reasoning(text: str, position: int) -> bool:
    """Whether a position of a plain answer lies in a line that gives reasons, as "Reasoning: ..."."""
    return _REASONING.match(text, text.rfind("\n", 0, position) + 1) is not None


# The last verdict


TAKEN_BACK = re.compile(
    r"(?:^|[.!?\n;,] ?)(?:(?:no,? )?wait|hold on|hmm+)\b ?[,.!…:-]|\bscratch that\b|\bon second thought|"
    r"\blet me (?:re\w+|correct|redo|look again|think)|\bi take (?:that|it) back\b|\bcorrection ?:",
    re.IGNORECASE,
)


def _last_verdict(
    text: str, statements: list[_Statement], needed: int
) -> list[tuple[float, ...]] | None:
    """The value of each criterion in the last complete verdict; None where what follows puts it in doubt."""
    if not statements or TAKEN_BACK.search(text, statements[-1].end):
        return None
    return _verdict(statements, needed)


def _verdict(statements: list[_Statement], needed: int) -> list[tuple[float, ...]] | None:
    verdicts: list[dict[int, tuple[float, ...] | None]] = [{}]
    last_name, is_alternative = None, False
    for statement in statements:
        if statement.name in verdicts[-1]:
            is_alternative = statement.is_alternative
            # A correction of the number just given, or the beginning of another verdict.
            verdicts.append(dict(verdicts[-1]) if statement.name == last_name else {})
        verdicts[-1][statement.name] = statement.value
        last_name = statement.name
    last = verdicts.pop()
    if is_alternative and last != verdicts[-1]:
        return None
    if len(last) < needed and verdicts:
        repeated = last
        last = verdicts.pop()
        if any(last.get(name) != value for name, value in repeated.items()):
            return None
    values = [last.get(name) for name in range(needed)]
    complete = [value for value in values if value is not None]
    return complete if len(complete) == needed else None
