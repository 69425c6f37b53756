"""The mix: a pure function of seed and step, in the ratios asked for, in known words only."""

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch

from arm.data.code_shards import open_code_shards, write_code_shard
from arm.data.conversation import parse_conversation
from arm.data.mixture import Dropout, Mix, Ratios, conversation_samples, mixed
from arm.data.packing import packed_batch
from arm.data.records import Skipped
from arm.errors import DataError
from arm.models.text import TextTokenizer
from arm.sequence import Image, PackedBatch, Sample, Text, Weights, flatten, unpack
from arm.vocab import Vocab
from arm.world.language import build_tokenizer
from arm.world.training import TASKS, world_samples
from worlds import NUM_CODES, chains

CHAINS = chains(40)
RATIOS = Ratios(text=0.1, image_to_text=0.2, text_to_image=0.3, editing=0.3, interleaved=0.1)
NO_DROPOUT = Dropout(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def text_tokenizer() -> TextTokenizer:
    return TextTokenizer(build_tokenizer())


def only(task: str) -> Ratios:
    return Ratios(**{name: float(name == task) for name in asdict(RATIOS)})


def draws(
    ratios: Ratios, dropout: Dropout, text_tokenizer: TextTokenizer, count: int
) -> list[Sample]:
    rng = np.random.default_rng(0)
    mix = world_samples(CHAINS, ratios, dropout, text_tokenizer.ids)
    return [mix.draw(rng)[0] for _ in range(count)]


def condition(sample: Sample) -> tuple[bool, bool]:
    """Whether the user's first turn has text, and whether it has a picture."""
    kinds = [type(part) for part in sample[0].parts]
    return Text in kinds, Image in kinds


def assert_share(count: int, total: int, share: float) -> None:
    """Within five standard deviations of the binomial."""
    assert abs(count - total * share) <= 5 * (total * share * (1 - share)) ** 0.5 + 1e-9


def test_ratios_name_the_tasks():
    assert [field.name for field in fields(Ratios)] == list(TASKS)


def batch(seed: int, step: int, text_tokenizer: TextTokenizer, **changes: float) -> PackedBatch:
    vocab = Vocab(text_tokenizer.size, NUM_CODES, 8)
    mix = world_samples(CHAINS, RATIOS, Dropout(), text_tokenizer.ids)
    return packed_batch(seed, step, 24, 400, mix, Weights(**changes), vocab)


def same(one: PackedBatch, two: PackedBatch) -> bool:
    pairs = [(getattr(one, f.name), getattr(two, f.name)) for f in fields(PackedBatch)]
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def test_a_batch_is_a_pure_function_of_seed_and_step(text_tokenizer: TextTokenizer):
    first = batch(1, 2, text_tokenizer)
    assert same(first, batch(1, 2, text_tokenizer))
    assert not same(first, batch(1, 3, text_tokenizer)) and not same(
        first, batch(2, 2, text_tokenizer)
    )


def test_a_batch_holds_whole_samples(text_tokenizer: TextTokenizer):
    found = unpack(batch(1, 2, text_tokenizer, text=0.5, code=2.0))
    assert len(found) == 24
    ends = Vocab(text_tokenizer.size, NUM_CODES, 8).end
    assert all(tokens.ids[-1] == ends for tokens in found)
    kinds = {
        (bool(code >= 0), float(w))
        for t in found
        for code, w in zip(t.codes, t.weights, strict=True)
    }
    assert kinds == {(False, 0.0), (True, 0.0), (False, 0.5), (True, 2.0)}


@pytest.mark.parametrize(
    ("task", "full"),
    [("text_to_image", (True, False)), ("editing", (True, True))],
)
def test_dropout_shares(text_tokenizer: TextTokenizer, task: str, full: tuple[bool, bool]):
    dropout = Dropout(text=0.2, image=0.1, both=0.15)
    found = [condition(s) for s in draws(only(task), dropout, text_tokenizer, 1500)]
    if full[1]:
        assert_share(found.count((True, True)), 1500, 0.55)
        assert_share(found.count((False, True)), 1500, 0.2)
        assert_share(found.count((True, False)), 1500, 0.1)
        assert_share(found.count((False, False)), 1500, 0.15)
    else:  # without a picture to drop: text and both leave nothing, image leaves all
        assert_share(found.count((True, False)), 1500, 0.65)
        assert_share(found.count((False, False)), 1500, 0.35)


@pytest.mark.parametrize("task", ["text", "image_to_text", "interleaved"])
def test_other_tasks_keep_their_condition(text_tokenizer: TextTokenizer, task: str):
    always = Dropout(text=0.0, image=0.0, both=1.0)
    assert all(condition(s)[0] for s in draws(only(task), always, text_tokenizer, 60))
    assert all(s[0].parts == () for s in draws(only("editing"), always, text_tokenizer, 20))


def test_dropping_changes_the_condition_alone(text_tokenizer: TextTokenizer):
    always = Dropout(text=0.0, image=0.0, both=1.0)
    for sample in draws(only("editing"), always, text_tokenizer, 20):
        assert [turn.assistant for turn in sample] == [False, True]
        (target,) = sample[1].parts
        assert isinstance(target, Image)


def test_tasks_come_in_their_ratios(text_tokenizer: TextTokenizer):
    kinds = [kind_of(sample) for sample in draws(RATIOS, NO_DROPOUT, text_tokenizer, 2000)]
    for name, share in asdict(RATIOS).items():
        assert_share(kinds.count(name), 2000, share)


def kind_of(sample: Sample) -> str:
    asked, drawn = condition(sample)[1], any(isinstance(p, Image) for p in sample[1].parts)
    if asked:
        return "editing" if drawn else "image_to_text"
    if not drawn:
        return "text"
    return "text_to_image" if len(sample) == 2 else "interleaved"


def test_no_unknown_words_and_no_long_samples(text_tokenizer: TextTokenizer):
    """`ids` raises for an unknown word; all samples fit the rows of training."""
    vocab = Vocab(text_tokenizer.size, NUM_CODES, 8)
    lengths = [len(flatten(s, vocab)) for s in draws(RATIOS, Dropout(), text_tokenizer, 2000)]
    assert max(lengths) < 200


def test_mixes_are_drawn_by_weight():
    def constant(*kinds: str) -> Mix:
        return Mix(kinds, lambda rng: ((), len(kinds) - 1))

    mix, rng = mixed([(1.0, constant("a", "b")), (3.0, constant("c"))]), np.random.default_rng(0)
    assert mix.kinds == ("a", "b", "c")
    drawn = [mix.kinds[mix.draw(rng)[1]] for _ in range(400)]
    assert_share(drawn.count("c"), 400, 0.75)
    assert drawn.count("b") == 400 - drawn.count("c")


def test_sources_that_share_a_file_of_faults_are_told_apart(
    tmp_path: Path, text_tokenizer: TextTokenizer
):
    record = {
        "messages": [{"role": "user", "content": "zebra"}, {"role": "assistant", "content": "a"}]
    }
    skipped, vocab = Skipped(tmp_path / "skipped.jsonl"), Vocab(text_tokenizer.size, NUM_CODES, 8)
    for name in ("one", "two"):
        write_code_shard(tmp_path / name, 0, [(parse_conversation(record, "line 1"), [])])
        shards = open_code_shards(tmp_path / name)
        mix = conversation_samples(shards, Dropout(), text_tokenizer.ids, vocab, 100, skipped)
        assert mix.kinds[0].startswith(f"{name}/")
        with pytest.raises(DataError, match="100 conversations in a row"):
            mix.draw(np.random.default_rng(0))
    assert len(skipped) == 2


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Dropout(text=0.7, both=0.4), "at most 1 together"),
        (lambda: Dropout(image=-0.1), "must not be negative"),
        (lambda: Ratios(0, 0, 0, 0, 0), "one of them above 0"),
        (lambda: Ratios(-1, 2, 0, 0, 0), "must not be negative"),
    ],
)
def test_shares_that_are_none(make: Callable[[], object], fault: str):
    with pytest.raises(ValueError, match=fault):
        make()
