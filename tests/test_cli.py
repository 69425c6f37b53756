"""The command line: every verb runs, and bad input is one line on stderr with exit code 2."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arm.world.sampling import sample_scene
from arm.world.scene import render
from conftest import Call, TinyChain
from launch import environment


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(render(sample_scene(np.random.default_rng(0), 56, 56))).save(path)
    return path


def test_every_verb(chain: TinyChain, call: Call, picture: Path, tmp_path: Path):
    model = ("--model", chain.model)
    assert call("ask", picture, "what color is the background?", *model)[0] == 0
    drawn = tmp_path / "drawn.png"
    assert (
        call("create", "a red star", "--out", drawn, "--size", "64x48", "--seed", 3, *model)[0] == 0
    )
    assert Image.open(drawn).size == (64, 48)
    assert call("create", "a red star", "--out", drawn, "-n", 2, *model)[0] == 0
    assert (tmp_path / "drawn-2.png").is_file()
    edited = tmp_path / "edited.png"
    assert call("edit", picture, "make the background white", "--out", edited, *model)[0] == 0
    assert Image.open(edited).size == (56, 56)
    codes = tmp_path / "codes.json"
    assert call("encode", picture, "--out", codes, *model)[0] == 0
    assert np.array(json.loads(codes.read_text())["codes"]).shape == (7, 7)
    for decoder in ("pixel", "flux", "sana"):
        out = tmp_path / f"{decoder}.png"
        assert (
            call("decode", codes, "--out", out, "--decoder", decoder, "--steps", 1, *model)[0] == 0
        )
        assert Image.open(out).size == (56, 56)


def test_chat(
    chain: TinyChain, call: Call, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    lines = f"image {picture}: what do you see?\nwhat is a zebra?\n\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    code, _, err = call("chat", "--model", chain.model, "--out", tmp_path / "chat")
    assert code == 0 and "does not know the word 'zebra'" in err


def test_the_end_of_input_ends_a_chat_quietly(
    chain: TinyChain, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Ctrl-D at a terminal."""

    def end(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    code, out, err = call("chat", "--model", chain.model, "--out", tmp_path / "chat")
    assert code == 0 and out == "\n" and "Aborted" not in err and "arm:" not in err


def test_a_chat_goes_on_after_bytes_that_are_not_utf8(
    chain: TinyChain, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    lines = io.BytesIO(b"a red st\xe4r\nwhat is a zebra?\n\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines, "utf-8"))
    code, _, err = call("chat", "--model", chain.model, "--out", tmp_path / "chat")
    assert code == 0 and "the text holds '\\udce4'" in err and "the word 'zebra'" in err


def test_demo_and_eval(
    chain: TinyChain, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from arm.evals import tasks

    tiny = tasks.EvalSize(4, 1, 1, 1, 1, 3)
    monkeypatch.setattr(tasks, "quick_size", lambda seed=2026: tiny)
    code, out, _ = call("demo", "--model", chain.model, "--out", tmp_path / "demo")
    assert code == 0 and "world-geneval" in out
    assert Image.open(tmp_path / "demo/sheet.png").width > 900
    assert len(list((tmp_path / "demo").glob("edit-*.png"))) == 8
    result = tmp_path / "out.json"
    assert call("eval", "world", "--quick", "--model", chain.model, "--json", result)[0] == 0
    data = json.loads(result.read_text())
    for path in (
        "recon.exact", "recon.psnr", "recon.zero_shot", "geneval.overall", "geneval.greedy.overall",
        "geneval.cfg1.overall", "gedit.sc", "gedit.pq", "gedit.o", "gedit.greedy.o", "gedit.cfg1.o",
        "vqa.accuracy", "vqa.yesno_f1", "wise.overall", "wise.greedy.overall", "wise.cfg1.overall",
    ):  # fmt: skip
        score = data
        for key in path.split("."):
            score = score[key]
        assert score.keys() == {"value", "low", "high", "n"}, path
        assert score["low"] - 1e-9 <= score["value"] <= score["high"] + 1e-9, path
    assert set(data["gedit"]["kinds"]) == {
        "add", "remove", "replace", "recolor", "resize", "move", "swap", "background",
    }  # fmt: skip
    assert len(data["geneval"]["tags"]) == 6 and 0 < data["recon"]["usage"] <= 1


def test_decoders_side_by_side(
    chain: TinyChain, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from arm.evals import decoders

    original = decoders.compare
    monkeypatch.setattr(
        decoders, "compare", lambda arm, domain, out, *_: original(arm, domain, out, 8, 2026)
    )
    code, out, _ = call("eval", "decoders", "--model", chain.model, "--out", tmp_path)
    assert code == 0 and "agreement.pixel_flux" in out
    assert Image.open(tmp_path / "decoders.png").height > 4 * 56


def _bomb(path: Path) -> Path:
    Image.new("1", (9000, 9000)).save(path)
    return path


def _cut(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask", "{tmp}/none.png", "where?"), "does not exist"),
        (("ask", "{tmp}", "where?"), "is no file"),
        (("ask", "{tmp}/text.png", "where?"), "no readable picture"),
        (("ask", "{tmp}/cut.png", "where?"), "no readable picture"),
        (("ask", "{tmp}/bomb.png", "where?"), "64"),
        (("ask", "{tmp}/picture.png", ""), "the text is empty"),
        (("ask", "{tmp}/picture.png", "\udcff"), "is not UTF-8"),
        (("ask", "w" * 300, "where?"), "does not exist"),
        (("encode", "w" * 300), "does not exist"),
        (("create", ""), "the text is empty"),
        (("create", "a red sqare"), "does not know the word 'sqare'. Did you mean 'square'?"),
        (("create", "a star", "--size", "60x56"), "multiples of 8"),
        (("create", "a star", "--size", "big"), "no size"),
        (("create", "a star", "--temperature", "-1"), "must not be negative"),
        (("create", "a star", "--temperature", "1e-9"), "temperature must be 0 or at least 0.001"),
        (("create", "a star", "--guidance", "1e300"), "must be numbers from -100 to 100"),
        (("create", "a star", "-n", "0"), "num_images"),
        (("create", "a star", "--decoder", "fluks"), "Did you mean 'flux'?"),
        (("create", "a star", "--out", "{tmp}/picture.png/x.png"), "cannot be written"),
        (("decode", "{tmp}/text.png"), "no file of codes"),
        (("eval", "worlds"), "Did you mean 'world'?"),
    ],
)
def test_bad_input_is_one_line(
    chain: TinyChain,
    call: Call,
    picture: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
):
    (tmp_path / "text.png").write_text("not a picture")
    _cut(tmp_path / "cut.png")
    _bomb(tmp_path / "bomb.png")
    filled = [a.replace("{tmp}", str(tmp_path)) for a in arguments]
    code, _, err = call(*filled, "--model", chain.model)
    assert code == 2
    assert message in err and "Traceback" not in err
    assert err.startswith("arm: ") and err.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "lm:micro_p"), "micro_pt"),
        (("train", "lmm:micro_pt"), "lm"),
        (("train", "lm:micro_pt", "loop.step=3"), "loop.steps"),
        (("train", "lm:micro_pt", "loop.steps=many"), "loop.steps"),
        (("ask", "x.png", "where?", "--model", "nano"), "no model 'nano'"),
        (("plan", "lm:micro_pt", "--code-share", "nan"), "shares of code and text"),
        # Where nothing can be written is said before a model is looked for.
        (("demo", "--model", "nano", "--out", __file__), "test_cli.py cannot be written"),
        (("eval", "decoders", "--model", "nano", "--out", __file__), "cannot be written"),
        (("eval", "guidance", "--model", "nano", "--out", f"{__file__}/x"), "cannot be written"),
        (("eval", "world", "--model", "nano", "--into", __file__), "no block <!-- scores -->"),
        (("eval", "sweep", "--model", "nano", "--into", __file__), "'sweep' has no table"),
        (("create", "a star", "--model", "n" * 5000), "no model 'nnn"),
        (("eval", "plot", "n" * 5000, "--out", "x.svg"), "File name too long"),
    ],
)
def test_bad_names_are_one_line(call: Call, arguments: tuple[str, ...], message: str):
    code, _, err = call(*arguments)
    assert code == 2 and message in err and err.strip().count("\n") == 0


@pytest.mark.parametrize(
    "file", ["tokenizer.safetensors", "model.safetensors", "siglip/model.safetensors", "detokenizer_flux/painter.safetensors", "vae/diffusion_pytorch_model.safetensors"]
)  # fmt: skip
def test_a_weight_file_cut_in_half(
    chain: TinyChain, call: Call, picture: Path, tmp_path: Path, file: str
):
    import shutil

    model = tmp_path / "model"
    shutil.copytree(chain.model, model)
    path = model / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, err = call("create", "a star", "--model", model, "--decoder", "flux")
    assert code == 2 and err.startswith("arm: ") and err.strip().count("\n") == 0
    assert file.split("/")[0] in err
    path.unlink()
    code, _, err = call("create", "a star", "--model", model, "--decoder", "flux")
    assert code == 2 and err.startswith("arm: ") and err.strip().count("\n") == 0


def test_settings_of_another_kind(chain: TinyChain, call: Call, tmp_path: Path):
    import shutil

    model = tmp_path / "model"
    shutil.copytree(chain.model, model)
    data = json.loads((model / "arm.json").read_text())
    data["guidence"] = data.pop("guidance")
    (model / "arm.json").write_text(json.dumps(data))
    code, _, err = call("create", "a star", "--model", model)
    assert code == 2 and "arm.json" in err and "guidance" in err


def test_large_backbones_run_in_bf16_on_a_gpu_alone(tmp_path: Path):
    from arm.cli.options import LARGE, in_bf16

    weights = tmp_path / "model.safetensors"
    with weights.open("wb") as file:
        file.truncate(LARGE + 1)  # a hole: no byte of it is written
    assert in_bf16([weights], on_gpu=True) and not in_bf16([weights], on_gpu=False)
    with weights.open("wb") as file:
        file.truncate(LARGE // 2)
    assert not in_bf16([weights], on_gpu=True)


def test_a_full_disk_is_one_line_and_a_defect_is_not(
    chain: TinyChain, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import errno

    from arm import demo

    def fails_with(code: int) -> None:
        def run(*_: object) -> None:
            raise OSError(code, os.strerror(code), str(tmp_path))

        monkeypatch.setattr(demo, "run", run)

    fails_with(errno.ENOSPC)
    code, _, err = call("demo", "--model", chain.model, "--out", tmp_path)
    assert code == 2 and "No space left on device" in err and err.strip().count("\n") == 0
    assert str(tmp_path) in err
    fails_with(errno.EBADF)
    with pytest.raises(OSError):
        call("demo", "--model", chain.model, "--out", tmp_path)


def test_as_a_process():
    """The real program: exit code 2, one line, no traceback; help in little time without torch."""
    result = subprocess.run(
        [sys.executable, "-m", "arm", "create", "a star", "--model", "nano"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "no model 'nano'" in result.stderr


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("DataError('x.jsonl: no record')", 2, "arm: x.jsonl: no record"),
        ("OSError(28, 'No space left on device')", 2, "arm: No space left on device; what was"),
        ("ZeroDivisionError('a defect')", 1, "ZeroDivisionError: a defect"),
    ],
)
def test_exit_codes_tell_what_is_at_fault(fault: str, code: int, words: str):
    """A user's error and a full disk end with 2 and one line, a defect of ours with 1 and a traceback."""
    program = f"""
import arm.cli
from arm.errors import DataError

def command():
    raise {fault}

arm.cli.app = command
arm.cli.main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == code and words in ended.stderr
    assert ("Traceback" in ended.stderr) == (code == 1)
