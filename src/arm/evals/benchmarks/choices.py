"""Multiple choice: how options are shown, and how a letter is read from an answer.

The prompts are those of LLaVA-1.5 (arXiv 2310.03744), which papers of this field use for benchmarks without
a prompt of their own. The reading is MMBench's (arXiv 2307.06281, section 4.2) as far as it goes by rules;
what its authors then ask a language model about is unreadable here and counts as wrong.
"""

from collections.abc import Mapping, Sequence

from arm.evals.benchmarks.base import Item, Result, flat_result

LETTERS = "ABCDE"
LETTER_PROMPT = "Answer with the option's letter from the given choices directly."
SHORT_PROMPT = "Answer the question using a single word or phrase."
LETTER_NOTE = f"prompt: question, one option a line, '{LETTER_PROMPT}' (LLaVA-1.5)"
SHORT_NOTE = f"prompt: question, '{SHORT_PROMPT}' (LLaVA-1.5)"
READ_NOTE = (
    "read by MMBench's rules alone: one letter, or one option's text; anything else is wrong and counted as "
    "unreadable (its authors ask a language model there)"
)


def choice_prompt(question: str, options: Mapping[str, str], hint: str = "") -> str:
    """The hint, the question, one option a line, and what is wanted."""
    lines = [hint, question, *(f"{letter}. {text}" for letter, text in options.items())]
    return "\n".join([*(line for line in lines if line), LETTER_PROMPT])


def short_prompt(question: str) -> str:
    return f"{question}\n{SHORT_PROMPT}"


def read_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that stands alone among the words of an answer, or whose option's text is in it; None
    where there is none, or more than one. An A among more than three words may be the article.
    """
    words = "".join(" " if c in ".()[],:;!*#{}" else c for c in answer).split()
    said = [letter for letter in options if letter in words]
    if len(said) == 1 and not ("A" in words and len(words) > 3):
        return said[0]
    text = answer.lower()
    if len(text) > 2 * sum(map(len, options.values())):
        return None
    told = [letter for letter, option in options.items() if option.lower() in text]
    return told[0] if len(told) == 1 else None


def score_choices(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy over items with `options` and an `answer` letter; `details` counts unreadable answers."""
    values: dict[str, float | None] = {}
    unreadable = 0
    for item in items:
        said = answers.get(item.id)
        if said is not None:
            letter = read_choice(said, item.data["options"])
            unreadable += letter is None
            values[item.id] = float(letter == item.data["answer"])
    return flat_result(items, values, {"unreadable": float(unreadable)})
