"""`Arm` on the tiny chain: shapes, determinism, errors. What it draws means nothing here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arm import pipeline, sequence
from arm.errors import InputError, WeightsError
from arm.generate import Guidance, Request, Result
from arm.pipeline import Arm
from arm.sampling import Sampling
from arm.sequence import Text
from arm.world.sampling import sample_scene
from arm.world.scene import render
from closeness import assert_close_fp32
from conftest import TinyChain


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(render(sample_scene(np.random.default_rng(0), 56, 56)))


def test_encode_gives_one_code_a_patch(arm: Arm, picture: Image.Image):
    codes = arm.encode(picture)
    assert codes.shape == (7, 7) and codes.min() >= 0 and codes.max() < 4096


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 48), (6, 8)), ((48, 64), (8, 6)), ((300, 310), (7, 7))]
)
def test_any_picture_goes_to_the_nearest_grid(
    arm: Arm, size: tuple[int, int], grid: tuple[int, int]
):
    assert arm.encode(Image.new("RGB", size, "white")).shape == grid


def test_a_picture_has_the_same_codes_in_every_form(arm: Arm, picture: Image.Image, tmp_path: Path):
    """A turned one too: a file, its bytes, what Pillow opened, an array, a tensor."""
    pixels = np.asarray(picture)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tmp_path / "turned.png"
    Image.fromarray(np.rot90(pixels)).save(turned, exif=exif)
    expected = arm.encode(picture)
    forms = [turned, str(turned), turned.read_bytes(), Image.open(turned), turned.open("rb")]
    forms += [pixels, pixels / 255, torch.from_numpy(pixels.copy()).permute(2, 0, 1)]
    for form in forms:
        assert np.array_equal(arm.encode(form), expected)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    assert np.array_equal(arm.encode(deep), arm.encode(Image.fromarray(pixels[..., 0])))
    for wrong in (Image.new("F", (9, 9), 1e6), 5, torch.zeros(2, 3, 9, 9)):
        for call in (
            arm.encode,
            lambda p: arm.ask(p, "how many?"),
            lambda p: arm.chat().say("a", p),
        ):
            with pytest.raises(InputError):
                call(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["pixel", "flux", "sana"])
def test_same_codes_and_seed_give_the_same_picture(chain: TinyChain, name: str):
    arm = Arm.from_pretrained(chain.model, name)
    assert arm.detokenizer.name == name
    codes = np.arange(42).reshape(6, 7)
    first, again = np.asarray(arm.decode(codes, seed=3)), np.asarray(arm.decode(codes, seed=3))
    assert first.shape == (48, 56, 3) and (first == again).all()
    assert (first != np.asarray(arm.decode(codes, seed=4))).any()


@pytest.mark.parametrize("name", ["pixel", "flux", "sana"])
def test_a_picture_does_not_depend_on_its_batch(chain: TinyChain, name: str):
    arm = Arm.from_pretrained(chain.model, name)
    codes = torch.arange(98).reshape(2, 7, 7)
    both = arm.detokenizer.decode(codes, seed=1)
    alone = arm.detokenizer.decode(codes[1:], seed=1)
    assert_close_fp32(both[1:], alone)


def test_guidance_changes_a_latent_decoder_and_is_refused_by_the_pixel_decoder(chain: TinyChain):
    arm = Arm.from_pretrained(chain.model, "flux")
    codes = np.zeros((7, 7), dtype=np.int64)
    plain = np.asarray(arm.decode(codes, guidance_scale=1.0))
    assert (plain != np.asarray(arm.decode(codes, guidance_scale=8.0))).any()
    with pytest.raises(ValueError, match="no guidance"):
        Arm.from_pretrained(chain.model, "pixel").decode(codes, guidance_scale=2.0)
    with pytest.raises(InputError, match="guidance_scale must be a number from -100 to 100"):
        arm.decode(codes, guidance_scale=1e300)


def test_create_edit_and_ask(arm: Arm, picture: Image.Image):
    images = arm.create("a red star", num_images=2, seed=1)
    assert [image.size for image in images] == [(56, 56)] * 2
    again = arm.create("a red star", num_images=2, seed=1)
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(images, again, strict=True))
    assert arm.create("a red star", size=(64, 48))[0].size == (64, 48)
    assert arm.edit(picture, "make the star green").size == (56, 56)
    assert isinstance(arm.ask(picture, "how many stars are there?"), str)


def test_guidance_and_sampling_matter(arm: Arm):
    plain = arm.draw_prompts(["a red star"], sampling=Sampling(0.0), guidance=Guidance(1, 1))[0]
    guided = arm.draw_prompts(["a red star"], sampling=Sampling(0.0), guidance=Guidance(40, 1))[0]
    assert (plain != guided).any()


def test_chat_keeps_its_history(arm: Arm, picture: Image.Image):
    chat = arm.chat()
    reply = chat.say("what color is the background?", picture)
    assert reply.text or reply.image is not None
    chat.say("how many things are there?")
    assert [turn.assistant for turn in chat.history] == [False, True, False, True]


def test_little_room_for_keys_and_values_changes_no_picture(
    arm: Arm, monkeypatch: pytest.MonkeyPatch
):
    prompts = ["a red star", "a blue ring", "a red star left of a blue ring"]
    together = arm.draw_prompts(prompts, sampling=Sampling(0.9), seed=3)
    batches, generate = [], pipeline.generate

    def counted(model: object, vocab: object, requests: list[Request], **rest: object):
        batches.append(len(requests))
        return generate(arm.model, arm.vocab, requests, **rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(pipeline, "generate", counted)
    monkeypatch.setattr(pipeline, "CACHE_BYTES", 1)
    alone = arm.draw_prompts(prompts, sampling=Sampling(0.9), seed=3)
    assert batches == [1, 1, 1]
    assert all((a == b).all() for a, b in zip(together, alone, strict=True))


def test_words_before_a_picture_are_kept(arm: Arm, monkeypatch: pytest.MonkeyPatch):
    """A reply of words and a picture: both are told, both are condition, the words of the picture's too."""
    said = arm.text_tokenizer.ids("a red star")
    grid = arm.defaults.grids[0]
    wants = Result(text_ids=list(said), wants_image=grid)
    monkeypatch.setattr(pipeline, "generate", lambda *a, **k: [[wants]])
    asked = []

    def drawn(requests: list[Request], **_: object) -> list[Result]:
        asked.extend(requests)
        return [Result(codes=np.zeros(grid, dtype=np.int64))]

    monkeypatch.setattr(arm, "run", drawn)
    chat = arm.chat()
    reply = chat.say("a red star")
    assert reply.text == "a red star" and reply.image is not None
    words, picture = chat.history[-1].parts
    assert words == Text(said) and isinstance(picture, sequence.Image)
    prompt = asked[0].streams[0].ids.tolist()
    vocab = arm.vocab
    begun = [vocab.assistant, *said, vocab.image, vocab.height(grid[0]), vocab.width(grid[1])]
    assert prompt[-len(begun) :] == begun


@pytest.mark.parametrize(
    ("size", "message"),
    [((60, 56), "multiples of 8"), ((0, 56), "multiples of 8"), ((800, 56), "up to 64")],
)
def test_a_size_that_does_not_fit(arm: Arm, size: tuple[int, int], message: str):
    with pytest.raises(InputError, match=message):
        arm.create("a red star", size=size)


def test_words(arm: Arm, picture: Image.Image):
    with pytest.raises(InputError, match="empty"):
        arm.create("  ")
    with pytest.raises(InputError, match=r"'sqare'.*'square'"):
        arm.ask(picture, "is there a sqare?")


def test_codes_out_of_range(arm: Arm):
    with pytest.raises(InputError, match=r"0\.\.4095"):
        arm.decode(np.full((7, 7), 4096))
    with pytest.raises(InputError, match="grid of integers"):
        arm.decode(np.zeros((7, 7)))


def test_unknown_model_and_decoder(chain: TinyChain, tmp_path: Path):
    with pytest.raises(WeightsError, match="no model 'nano'"):
        Arm.from_pretrained("nano")
    with pytest.raises(WeightsError, match=r"no arm\.json"):
        Arm.from_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="Did you mean 'flux'"):
        Arm.from_pretrained(chain.model, "flx")


@pytest.mark.parametrize("decoder", ["pixel", "flux"])
def test_every_part_moves(chain: TinyChain, decoder: str):
    arm = Arm.from_pretrained(chain.model, decoder).to("meta")
    painter = getattr(arm.detokenizer, "painter", arm.tokenizer)
    for part in (arm.model, arm.tokenizer, arm.tokenizer.encoder, painter):
        assert {p.device.type for p in part.parameters()} == {"meta"}
    assert arm.tokenizer.device.type == "meta"


def test_seeds_and_sizes_may_be_numbers_of_numpy_and_torch(arm: Arm):
    import torch

    expected = np.asarray(arm.create("a red star", seed=3, size=(56, 48))[0])
    for three, size in (
        (np.int64(3), np.array([56, 48])),
        (torch.tensor(3), (torch.tensor(56), np.int32(48))),
    ):
        assert (np.asarray(arm.create("a red star", seed=three, size=size)[0]) == expected).all()  # pyright: ignore[reportArgumentType]
    codes = np.arange(49).reshape(7, 7)
    assert (
        np.asarray(arm.decode(codes, seed=np.int64(2))) == np.asarray(arm.decode(codes, seed=2))  # pyright: ignore[reportArgumentType]
    ).all()
    with pytest.raises(InputError, match=r"seed must be a whole number, not 0\.5"):
        arm.create("a red star", seed=0.5)  # pyright: ignore[reportArgumentType]
