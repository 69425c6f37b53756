"""Tables of pictures: batches of every size give what one picture gives."""

from typing import Any, ClassVar

import pytest
import torch

from arm.bench.pictures import decoders, differ_in_codes, differ_in_pixels, trials
from arm.bench.rounds import measure
from arm.model_directory import load_detokenizer
from arm.models.latent import LatentDetokenizer
from arm.pipeline import Arm
from arm.world.domain import World
from conftest import TinyChain

CPU = torch.device("cpu")


def test_batches_give_the_same_pictures(chain: TinyChain):
    arm = Arm.from_pretrained(chain.model)
    assert [decoder.name for decoder in decoders(arm)] == ["pixel", "flux", "sana"]
    found = list(trials(arm, World(), (1, 3), CPU))
    assert [trial.title.split(",")[0] for trial in found] == [
        "encode", "decode by pixel", "decode by flux", "decode by sana"
    ]  # fmt: skip
    for trial in found:
        one, three = (variant.run() for variant in trial.variants)
        assert (len(one), len(three)) == (1, 3)
        assert trial.differ(one, three) == ""
        assert not torch.equal(three[:1], three[1:2]), trial.title
    table = measure(found[0], 1, CPU, iter(range(100)).__next__)
    assert [row.left_out for row in table.rows] == ["", ""]
    assert table.unit == "pictures" and [row.amount for row in table.rows] == [1.0, 3.0]


def test_other_codes_and_pixels_are_told():
    codes, pixels = torch.zeros(2, 2, 2), torch.zeros(1, 3, 2, 2)
    assert "50.0% of its codes" in differ_in_codes(codes[:1], torch.tensor([[[0, 0], [1, 1]]]))
    assert differ_in_codes(codes, codes[:1]) == ""
    assert "up to 0.5 from" in differ_in_pixels(pixels, pixels + 0.5)
    assert differ_in_pixels(pixels, pixels + 1e-5) == ""


@pytest.mark.parametrize(("dtype", "alike"), [(torch.float32, False), (torch.bfloat16, True)])
def test_a_decoder_moves_itself(
    chain: TinyChain, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, alike: bool
):
    """As for users, who get a latent decoder's large networks in bf16 on a GPU; only there are the
    pixels of a batch compared less closely.
    """
    arm = Arm.from_pretrained(chain.model)
    latent: Any = load_detokenizer(arm.directory, arm.tokenizer, "sana")

    class Recorder(LatentDetokenizer):
        told: ClassVar[list[object]] = []

        def to(self, device: torch.device | str) -> object:
            self.told.append(device)
            return self.painter.transformer.to(dtype=dtype)

    recorder = Recorder(arm.tokenizer, latent.painter, latent.vae, 1)
    monkeypatch.setattr("arm.bench.pictures.decoders", lambda arm: iter([recorder]))
    _, trial = trials(arm, World(), (1,), CPU)
    assert Recorder.told == [CPU]
    pixels = trial.variants[0].run()
    assert (trial.differ(pixels, pixels + 0.01) == "") == alike
    assert "up to 0.5 from" in trial.differ(pixels, pixels + 0.5)


@pytest.mark.gpu
def test_on_a_gpu(chain: TinyChain):
    cuda = torch.device("cuda")
    for trial in trials(Arm.from_pretrained(chain.model), World(), (1, 2), cuda):
        table = measure(trial, 1, cuda, iter(range(100)).__next__)
        assert table.rows[0].peak_bytes
