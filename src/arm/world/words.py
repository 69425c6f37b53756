"""The world's text tokenizer: one id a word, as a Hugging Face fast tokenizer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from arm.world import language, scene
from arm.world import questions as facts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

GRAMMAR = """
a an the and of on in at to with into as many has than is are there or not it , . ?
picture image draw show please create background color shape size thing things what where how
do you see yes no add put remove delete take away replace turn make change paint smaller larger
move swap exchange tell me about plain striped this that i can
"""
SPECIAL = ("<pad>", "<unk>", "<eos>")


def _split(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


def world_words() -> list[str]:
    """Every word of the world, special tokens first, in a fixed order."""
    nouns = [*scene.SHAPES, *map(language.plural, scene.SHAPES)]
    known = [fact.subject for fact in facts.FACTS] + [fact.part for fact in facts.FACTS]
    lists = (scene.COLORS, scene.SIZES, scene.PATTERNS, scene.BACKGROUNDS, scene.REGIONS)
    named = [*(w for words in lists for w in words), *scene.RELATIONS, *language.NUMBERS, *nouns]
    words = _split([GRAMMAR, *named, *known])
    return list(dict.fromkeys([*SPECIAL, *words]))


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A word-level tokenizer over `world_words`; case and punctuation spacing do not matter."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(world_words())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>"
    )
