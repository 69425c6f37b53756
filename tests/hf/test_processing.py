"""The processor against `Arm`'s own way from words and pictures to ids, and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from transformers import AutoProcessor

from arm.errors import InputError
from arm.hf import ArmProcessor
from arm.pipeline import Arm
from arm.sequence import Image, Sample, Text, assistant, flatten, user
from arm.world.sampling import sample_scene
from arm.world.scene import render
from conftest import TinyChain


@pytest.fixture(scope="module")
def processor(exported: Path) -> ArmProcessor:
    return AutoProcessor.from_pretrained(exported)


@pytest.fixture(scope="module")
def picture() -> Pillow.Image:
    return Pillow.fromarray(render(sample_scene(np.random.default_rng(0), 64, 48)))


def ids(arm: Arm, sample: Sample, **end: Any) -> list[int]:
    return flatten(sample, arm.vocab, **end).ids.tolist()


def test_prompts_equal_flatten(
    arm: Arm, processor: ArmProcessor, picture: Pillow.Image, tmp_path: Path
):
    assert isinstance(processor, ArmProcessor)
    seen = Image(arm.encode(picture))
    question, edit = (
        Text(arm.text_tokenizer.ids(t)) for t in ("how many stars are there?", "add a ring")
    )
    asked = "<user><image>how many stars are there?<end><assistant>"
    expected = ids(arm, (user(seen, question),), open_answer=True)
    picture.save(tmp_path / "picture.png")
    for form in (picture, [picture], str(tmp_path / "picture.png"), np.array(picture), seen.codes):
        assert processor(text=asked, images=form).input_ids == expected
    drawing = "<user>add a ring<end><assistant><image><h=6><w=8>"
    expected = ids(arm, (user(edit),), open_image=(6, 8))
    assert processor(text=drawing).input_ids == expected
    assert processor(text=drawing).attention_mask == [1] * len(expected)


def test_pictures_and_codes_are_told_apart(
    arm: Arm, processor: ArmProcessor, picture: Pillow.Image
):
    """Integers (H, W) of more than 8 bits are codes; bytes and floats (H, W) are a grey picture."""
    grey = np.asarray(picture.convert("L"))
    expected = arm.encode(Pillow.fromarray(grey))
    for form in (grey, grey / 255, torch.from_numpy(grey.copy()), picture.convert("L")):
        assert np.array_equal(processor.encode_image(form), expected)
    for codes in (expected, torch.from_numpy(expected), expected.astype(np.uint16)):
        assert np.array_equal(processor.encode_image(codes), expected)
    with pytest.raises(InputError, match="range is not known"):
        processor.encode_image(np.full((9, 9, 3), 1e6))


def test_messages_equal_flatten(arm: Arm, processor: ArmProcessor, picture: Pillow.Image):
    seen, other = Image(arm.encode(picture)), Image(np.arange(6).reshape(2, 3))
    a, b = (Text(arm.text_tokenizer.ids(t)) for t in ("add a ring", "a star"))
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": picture},
                {"type": "text", "text": "add a ring"},
            ],
        },
        {"role": "assistant", "content": [{"type": "image", "image": other.codes}]},
        {"role": "user", "content": "a star"},
    ]
    sample = (user(seen, a), assistant(other), user(b))
    found = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt"
    )
    assert found["input_ids"].tolist() == [ids(arm, sample, open_answer=True)]
    labels = processor.labels(found["input_ids"])
    assert (labels != -100).sum() == (flatten(sample, arm.vocab).weights > 0).sum()
    with pytest.raises(Exception, match="only 'user' and 'assistant' speak, not 'system'"):
        processor.apply_chat_template([{"role": "system", "content": "a star"}])


def test_a_batch_is_padded_on_the_left(arm: Arm, processor: ArmProcessor):
    grids = [np.full((1, 2), 5), np.full((2, 1), 7)]
    texts = ["<user><image>a star<end>", "<user>a<end>", "<user><image><end>"]
    for images in (grids, [grids[:1], [], grids[1:]]):
        found = processor(text=texts, images=images, return_tensors="pt")
        rows = [
            ids(arm, (user(Image(grids[0]), Text(arm.text_tokenizer.ids("a star"))),)),
            ids(arm, (user(Text(arm.text_tokenizer.ids("a"))),)),
            ids(arm, (user(Image(grids[1])),)),
        ]
        longest = max(map(len, rows))
        pads = [[arm.vocab.pad] * (longest - len(row)) for row in rows]
        assert found.input_ids.tolist() == [p + row for p, row in zip(pads, rows, strict=True)]
        assert found.attention_mask.sum(1).tolist() == [len(row) for row in rows]


def test_ids_become_words_and_codes_and_back(arm: Arm, processor: ArmProcessor):
    sample = (user(Text(arm.text_tokenizer.ids("a star"))), assistant(Image(np.array([[4095, 7]]))))
    row = ids(arm, sample)
    text = processor.decode(row)
    assert "<code_4095><code_7>" in text and "<h=1>" in text
    assert processor(text=text).input_ids == row
    assert (
        processor.batch_decode(torch.tensor([row, row]), skip_special_tokens=True) == ["a star"] * 2
    )
    for code in range(0, 4096, 273):
        assert processor(text=processor.decode([arm.vocab.code(code)])).input_ids == [
            arm.vocab.code(code)
        ]


@pytest.mark.parametrize("decoder", [None, "flux"])
def test_pictures_are_painted_as_by_our_own(
    chain: TinyChain, processor: ArmProcessor, decoder: str | None
):
    own = Arm.from_pretrained(chain.model, decoder)
    codes = np.arange(42).reshape(6, 7)
    rows = [processor.image_ids(codes), processor.image_ids(codes + 9)]
    found = processor.decode_images(torch.tensor(rows), seed=3, decoder=decoder)
    assert [f.tolist() for f in processor.codes(torch.tensor(rows[0]))] == [codes.tolist()]
    for image, wanted in zip(found, (codes, codes + 9), strict=True):
        assert (np.asarray(image) == np.asarray(own.decode(wanted, seed=3))).all()


def test_saving_takes_the_parts_along(processor: ArmProcessor, tmp_path: Path):
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.vocab == processor.vocab
    row = processor.image_ids(np.arange(9).reshape(3, 3))
    first, second = (p.decode_images(torch.tensor(row))[0] for p in (processor, again))
    assert (np.asarray(first) == np.asarray(second)).all()
    again.save_pretrained(tmp_path)  # over itself


def test_parts_come_from_the_hub_when_needed(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    processor = ArmProcessor.from_pretrained(exported)
    processor.tokenizer.name_or_path = "someone/arm"
    asked = []

    def download(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(exported)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    processor(text="<user>a star<end>")
    assert asked == []
    assert processor.files.parts == exported
    ((repository, patterns),) = asked
    assert repository == "someone/arm"
    assert {"arm.json", "tokenizer.safetensors", "parts/siglip/config.json"} <= set(patterns)
    assert not [p for p in patterns if not p.endswith((".json", ".safetensors"))]
    assert not [p for p in patterns if p.startswith("model")]  # the backbone is not fetched


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"text": "<user>a sqare<end>"}, "does not know the word 'sqare'"),
        ({"text": "<user><image><end>"}, "more <image> in the text than pictures"),
        ({"text": "a", "images": np.zeros((2, 2), int)}, "1 of the pictures have no <image>"),
        ({"text": "<image>", "images": np.full((1, 1), 4096)}, r"4096 is outside 0\.\.4095"),
        ({"text": "<image>", "images": np.zeros((99, 1), int)}, r"99 tokens is outside 1\.\.12"),
        ({"text": "<code_4096>"}, "<code_4096>"),
        ({"text": "<image>", "images": "gone.png"}, r"gone\.png does not exist"),
        ({"text": ["a", "a"], "images": [[np.zeros((1, 1), int)]]}, "2 texts, but 1 lists"),
        ({"images": np.zeros((2, 2), int)}, "give a text"),
    ],
)
def test_inputs_that_cannot_be(processor: ArmProcessor, call: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        processor(**call)


def test_an_unfinished_picture(processor: ArmProcessor):
    row = processor.image_ids(np.zeros((2, 2), int))[:-2]
    with pytest.raises(InputError, match="ends inside a picture"):
        processor.decode_images(torch.tensor(row))
