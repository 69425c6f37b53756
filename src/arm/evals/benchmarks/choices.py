"""Multiple choice: prompts, reading a letter from an answer, and SEED-Bench (arXiv 2307.16125).

The prompts are LLaVA-1.5's (arXiv 2310.03744), which papers use for benchmarks that have no prompt of
their own. Letters are read by the rules of MMBench (arXiv 2307.06281, section 4.2).

SEED-Bench: the questions about single pictures, dimensions 1 to 9; those about videos are left out. As
the authors evaluate it, the prompt is the question alone and the option with the likeliest text is the
answer (`seed`). Most papers show the options instead and read the letter answered (`seed-letters`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from arm.errors import DataError
from arm.evals.benchmarks.base import Benchmark, Item, Result, checked_items, mean_of_items
from arm.evals.benchmarks.files import find_file, read_json_object, require, require_list

LETTERS = "ABCDE"
LETTER_PROMPT = "Answer with the option's letter from the given choices directly."
SHORT_PROMPT = "Answer the question using a single word or phrase."
LETTER_NOTE = f"prompt: question, one option a line, '{LETTER_PROMPT}' (LLaVA-1.5)"
SHORT_NOTE = f"prompt: question, '{SHORT_PROMPT}' (LLaVA-1.5)"
READ_NOTE = (
    "answers are read by MMBench's rules alone: one letter, or one option's text; any other answer is wrong and "
    "counted as unreadable (MMBench's authors ask a language model about those)"
)
SEED_FILES = ("SEED-Bench.json",)
SEED_COUNTS = (14_232, 14_233)
"""Published numbers of questions about pictures; a later version of the file has one less."""
PICTURES_NOTE = "only the questions about pictures; the authors also have questions about videos"
RANK_NOTE = (
    "prompt: the question alone; the answer is the option whose text has the highest mean log-likelihood a token, "
    "end included, as in the authors' code for transformers and for SEED-Bench-2 (their earlier code for LAVIS sums "
    "instead; answers.jsonl has sums and token counts); most papers read the letter answered instead: seed-letters"
)
LETTERS_NOTE = "the letter answered is read, as in most papers; the authors rank the options by likelihood: seed"


def choice_prompt(question: str, options: Mapping[str, str], hint: str = "") -> str:
    """The hint, the question, one option a line, and the request for a letter."""
    lines = [hint, question, *(f"{letter}. {text}" for letter, text in options.items())]
    return "\n".join([*(line for line in lines if line), LETTER_PROMPT])


def short_prompt(question: str) -> str:
    """The question and the request for a word or phrase."""
    return f"{question}\n{SHORT_PROMPT}"


def read_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that stands alone in an answer, or whose option's text occurs in it.

    None where there is no such letter or more than one. An A among more than three words may be the
    article and is no letter.
    """
    words = "".join(" " if c in ".()[],:;!*#{}" else c for c in answer).split()
    letters = [letter for letter in options if letter in words]
    if len(letters) == 1 and not ("A" in words and len(words) > 3):
        return letters[0]
    text = answer.lower()
    if len(text) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, option in options.items() if option.lower() in text]
    return named[0] if len(named) == 1 else None


def score_letters(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy over items with `options` and an `answer` letter; `details` counts unreadable answers."""
    values: dict[str, float | None] = {}
    unreadable = 0
    for item in items:
        answer = answers.get(item.id)
        if answer is not None:
            letter = read_choice(answer, item.data["options"])
            unreadable += letter is None
            values[item.id] = float(letter == item.data["answer"])
    return mean_of_items(items, values, {"unreadable": float(unreadable)})


def load_seed(directory: Path, partial: bool = False) -> list[Item]:
    """The questions about pictures in `SEED-Bench.json`, their options to be ranked.

    A group is one of the nine dimensions. Raises DataError.
    """
    path = find_file(directory, SEED_FILES, "SEED-Bench")
    data = read_json_object(path)
    kinds = require(data, "question_type", str(path))
    names = {number: name for name, number in kinds.items()} if isinstance(kinds, dict) else {}
    questions = require_list(require(data, "questions", str(path)), f"{path}, 'questions'")
    items = []
    for number, entry in enumerate(questions):
        where = f"{path}, question {number}"
        if require(entry, "data_type", where) == "video":
            continue
        if entry["data_type"] != "image":
            raise DataError(
                f"{where}: data_type '{entry['data_type']}' belongs to SEED-Bench-2; only SEED-Bench can be read"
            )
        kind = require(entry, "question_type_id", where)
        if kind not in names:
            raise DataError(f"{where}: question_type_id {kind} is not among its question types")
        options = {c: str(require(entry, f"choice_{c.lower()}", where)) for c in LETTERS[:4]}
        data = {"options": options, "answer": require(entry, "answer", where)}
        items.append(
            Item(
                str(require(entry, "question_id", where)),
                require(entry, "question", where),
                names[kind],
                str(require(entry, "data_id", where)),
                data,
                ranked=options,
            )
        )
    return checked_items(items, SEED_COUNTS, "SEED-Bench (pictures)", partial)


def load_seed_letters(directory: Path, partial: bool = False) -> list[Item]:
    """The same questions with the options in the prompt, to be answered by a letter."""
    return [
        replace(item, text=choice_prompt(item.text, item.ranked), ranked={})
        for item in load_seed(directory, partial)
    ]


def score_ranked(items: Sequence[Item], answers: Mapping[str, str | None]) -> Result:
    """Accuracy of the letters of the likeliest options, over all questions and in each dimension."""
    right: dict[str, float | None] = {
        item.id: float(answer == item.data["answer"])
        for item in items
        if (answer := answers.get(item.id)) is not None
    }
    return mean_of_items(items, right)


SEED_FOLDERS = ("SEED-Bench-image",)
SEED = Benchmark(
    "seed",
    "questions",
    load_seed,
    score_ranked,
    image_folders=SEED_FOLDERS,
    notes=(RANK_NOTE, PICTURES_NOTE),
)
SEED_LETTERS = Benchmark(
    "seed-letters",
    "questions",
    load_seed_letters,
    score_letters,
    image_folders=SEED_FOLDERS,
    notes=(LETTER_NOTE, READ_NOTE, LETTERS_NOTE, PICTURES_NOTE),
)
BENCHMARKS = (SEED, SEED_LETTERS)
