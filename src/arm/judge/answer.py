"""The part of a judge's reply that is its answer, in a form that patterns can read.

A reply may begin with a thought. What stands before the last closing tag of a thought is no answer, and neither is
a thought that was not closed: the reply was cut. Tags are <think>, <thinking>, <thought>, <reasoning> and
their like, with | or a name space inside the brackets (<|think|>, <seed:think>), in square brackets ([THINK]) or
in the triangles of Kimi, and the channels of gpt-oss and Gemma. `<|think|>` opens a thought and `<|/think|>`
closes it.

The answer is then made plain: full-width and other digits and punctuation become ASCII; code fences, emphasis,
quotes, comments and struck-out text go; a string under a JSON key that is not asked for, as
"reasoning": "...", is blanked, since a judge may quote other scores there; tables become lines "name: value".
An answer with a bracket or a JSON string that is not closed was cut, and there is no answer.
"""

import html
import re
import unicodedata
from collections.abc import Iterator

LONGEST = 50_000
"""Characters of an answer, the thought left out; a longer one is not read."""

_NAMES = "think|thinking|thoughts?|reasoning|analysis|reflection|scratchpad|cot"
_CLOSE = re.compile(
    rf"(?:<\|?|◁) ?/ ?(?:\w{{1,20}}:)?(?:{_NAMES}) ?(?:\|?>|▷|$)|\[/think(?:ing)?\]"
    r"|<\|end_of_th(?:ought|inking)\|>|<\|channel\|> ?final ?<\|message\|>|<channel\|>",
    re.IGNORECASE,
)
_OPEN = re.compile(
    rf"(?:<\|?|◁) ?(?:\w{{1,20}}:)?(?:begin_of_)?(?:{_NAMES})(?: [^<>\n]{{0,60}})?(?:\|?>|▷)|\[think(?:ing)?\]"
    r"|<\|channel\|> ?(?:analysis|commentary)|<\|channel>",
    re.IGNORECASE,
)
_CUT_TAG = re.compile(r"<[/|]{0,2}[a-z_]*$", re.IGNORECASE)

_CHARACTERS = {0xFF01 + i: chr(0x21 + i) for i in range(94)}
_CHARACTERS |= {
    ord(c): ascii_form
    for characters, ascii_form in (
        ("\u3000\u00a0\u202f\u2007\u2009\t", " "), ("\r\x0b\x0c\x85\u2028\u2029", "\n"),
        ("\u200b\u200c\u200d\u2060\ufeff\ufe0f\u20e3", ""), ("\u3010\u3014", "["), ("\u3011\u3015", "]"),
        ("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u300c\u300d\u300e\u300f\u300a\u300b", '"'),
        ("\u2018\u2019\u201a\u201b\u2032", "'"), ("\u3001", ","), ("\u3002", "."), ("\u2236\ua789", ":"),
        ("\u2044\u2215", "/"), ("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"), ("\u2502\u2503", "|"),
    )
    for c in characters
}  # fmt: skip


def final_answer(reply: str) -> str | None:
    """A reply without its thought, in ASCII digits and punctuation; None where the thought was cut, where no
    answer follows it, or where the answer is longer than `LONGEST` characters.
    """
    start = max((tag.end() for tag in _CLOSE.finditer(reply)), default=0)
    answer = reply[start:]
    if len(answer) > LONGEST or _OPEN.search(answer) or _CUT_TAG.search(answer.rstrip()):
        return None
    answer = html.unescape(answer).replace("\r\n", "\n").translate(_CHARACTERS)
    answer = "".join(c if c.isascii() or not c.isdecimal() else _digit(c) for c in answer)
    # A tag in full-width brackets or in HTML entities shows only now.
    answer = answer[max((tag.end() for tag in _CLOSE.finditer(answer)), default=0) :]
    return None if _OPEN.search(answer) or not answer.strip() else answer


def _digit(character: str) -> str:
    return str(unicodedata.decimal(character))


_REMOVED = re.compile(
    r"~~[^~\n]{0,500}~~|<(?:del|s)>.{0,500}?</(?:del|s)>|<!--.{0,500}?-->|/\*.{0,500}?\*/|(?<=[\s,\]}{])//[^\n]*"
    r"|\|\|V\^=\^V\|\|\n?|(?:```|~~~)\w*|<\|\w{1,30}\|>",
    re.DOTALL | re.IGNORECASE,
)
_WRAPPED = re.compile(r"\\(?:boxed|fbox|text|textbf|mathbf|mathrm) ?\{([^{}\n]{0,200})\}")
_ELEMENT = re.compile(r"<([a-z][\w ]{1,40})>\s*([^<>]{1,200}?)\s*</\1>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z]\w{0,30}\s?/?>", re.IGNORECASE)
_MARKS = str.maketrans(dict.fromkeys("*_`\"'#$\\", " "))
_LIST_MARK = re.compile(r"^(?:> ?|(?:[-+•·▪‣●○◦]|\(?\d{1,2}[.)]) )+", re.MULTILINE)
_EXAMPLE = re.compile(
    r"^(?:\W{0,4}(?:(?:an?|the|for|output|here is an?) )?(?:example|e\.g\.)[^\n.]{0,40}|[^\n]{0,120}\bas an example[.:]?)"
    r"\n+(?:[^\n]+(?:\n(?!\n)|$))*",
    re.MULTILINE | re.IGNORECASE,
)


def plain_answer(reply: str, wanted: re.Pattern[str]) -> str | None:
    """The answer as lines of plain text, see above; None where it was cut.

    wanted: matches the names that are asked for. A string under a JSON key that it does not match is blanked.
    """
    answer = final_answer(reply)
    if answer is None:
        return None
    text = _WRAPPED.sub(r" \1 ", _WRAPPED.sub(r" \1 ", _REMOVED.sub(" ", answer)))
    masked = _without_other_strings(_one_spaced(text), wanted)
    if masked is None or _is_cut(masked):
        return None
    text = _ELEMENT.sub(lambda m: f"\n{m[1]}: {m[2]}\n" if _is_name(m[1], wanted) else m[0], masked)
    text = _TAG.sub(" ", text).replace("n't", " not").translate(_MARKS)
    text = _LIST_MARK.sub("", _one_spaced(text))
    return "\n".join(_table_lines(_EXAMPLE.sub("", text).split("\n"), wanted))


def _one_spaced(text: str) -> str:
    """Runs of spaces as one, lines without spaces at their ends, and at most one empty line between lines."""
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


_STRING = re.compile(r"([\"'])([^\"'\n{}\[\]:]{1,60})\1 ?: ?\n?([\"'])")
_ABOUT = re.compile("reason|explan|rational|justif|comment|analys|note|thought", re.IGNORECASE)
_ENDS = {
    quote: re.compile(
        rf"(?<!\\)(?:\\\\)*{quote}(?=\s?(?:,\s{{0,2}}[\"'][^\"'\n]{{1,60}}[\"'] ?:|,?\s{{0,2}}[}}\]]|,?\s{{0,2}}$))"
    )
    for quote in "\"'"
}
"""A string ends at a quote before the next key, a closing bracket or the end: judges forget to escape quotes."""
_LISTED = re.compile(r"(?<=[\[,]) ?\n?\"([^\"\n]{1,2000})\"(?= ?\n?[,\]])")


def _without_other_strings(text: str, wanted: re.Pattern[str]) -> str | None:
    """A text with the strings under other JSON keys than those wanted blanked, and those in lists that hold a
    wanted name; None where one does not end.
    """
    if '\\"' in text and re.search(r'(?<!\\)"', text.strip('" \n')) is None:
        text = text.replace('\\"', '"')  # JSON inside a JSON string
    text = _LISTED.sub(lambda m: '""' if wanted.search(m[1]) else m[0], text)
    parts, position = [], 0
    while opening := _STRING.search(text, position):
        closing = _ENDS[opening[3]].search(text, opening.end())
        if closing is None:
            return None
        value = text[opening.end() : closing.start()]
        key = opening[2].replace("_", " ")
        asked = wanted.search(key) is not None and not _ABOUT.search(key)
        kept = asked or wanted.fullmatch(value.replace("_", " ").strip()) is not None
        parts += [text[position : opening.end()], value if kept else " ", closing[0]]
        position = closing.end()
    return "".join([*parts, text[position:]])


def _is_cut(text: str) -> bool:
    """Whether a bracket of JSON is not closed; brackets inside words of prose, as ":(", do not count."""
    pairs, stack = {"}": "{", "]": "["}, []
    for character in text:
        if character in "{[":
            stack.append(character)
        elif character in pairs and stack and stack[-1] == pairs[character]:
            stack.pop()
    return bool(stack)


_SEPARATOR = re.compile(r"(?=[ :|]*-)[ :|-]+")
_VALUE_COLUMN = re.compile(
    r"(?:\w+ )?(?:scores?|ratings?|values?|points|grades?|verdicts?|results?)\b.*", re.I
)


def _table_lines(lines: list[str], wanted: re.Pattern[str]) -> Iterator[str]:
    """Lines with tables replaced by one line "name: value" for each cell that has a wanted name."""
    start = 0
    while start < len(lines):
        stop = start
        while stop < len(lines) and "|" in lines[stop]:
            stop += 1
        if stop == start:
            yield lines[start]
            start += 1
        else:
            yield from _read_table(lines[start:stop], wanted)
            start = stop


def _read_table(lines: list[str], wanted: re.Pattern[str]) -> Iterator[str]:
    rows = [[c.strip() for c in line.strip("| ").split("|")] for line in lines]
    has_header = len(rows) > 2 and _SEPARATOR.fullmatch(lines[1]) is not None
    body = [row for row, line in zip(rows, lines, strict=True) if not _SEPARATOR.fullmatch(line)]
    if has_header:
        header, *body = body
        columns = [i for i, name in enumerate(header) if _is_name(name, wanted)]
        if columns and not any(_is_name(row[0], wanted) for row in body):
            for (
                i
            ) in columns:  # several rows are several verdicts, of which none is said to be the last
                yield " or ".join(f"{header[i]}: {row[i]}" for row in body if i < len(row))
            return
        values = [i for i, name in enumerate(header) if i and _VALUE_COLUMN.fullmatch(name)]
        if len(values) == 1:
            body = [[row[0], row[values[0]]] if values[0] < len(row) else row for row in body]
    for row in body:
        if len(row) > 1 and _is_name(row[0], wanted):
            yield f"{row[0]}: {' | '.join(row[1:])}"
        else:
            yield " | ".join(row)


def _is_name(cell: str, wanted: re.Pattern[str]) -> bool:
    name = re.sub(r"\([^()]*\)", "", cell).replace("_", " ").strip(" :")
    return wanted.fullmatch(name) is not None
