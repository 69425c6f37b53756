"""Tokenizer scores on folders of pictures: the formulas by hand, the path on the tiny chain."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny_vision
from arm.data.images import GridWeight, to_bytes
from arm.domain import Canvas
from arm.errors import DataError, InputError, WeightsError
from arm.evals import tokenizer_metrics
from arm.evals.reconstruction import picture_batches
from arm.evals.tokenizer_metrics import find_pictures, frechet_distance, load_extractor
from arm.pipeline import Arm
from arm.world.domain import World
from conftest import Call, TinyChain


def shapes(root: Path, count: int) -> Path:
    """One-thing pictures in folders named by their shape."""
    number = 0
    canvas = Canvas((GridWeight(7, 7),), 8)
    for batch in picture_batches(World(), "test", count, canvas, 5, singles=1.0):
        for picture, scene in zip(to_bytes(batch.images), batch.truths, strict=True):
            folder = root / scene.things[0].shape
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{number}.png")
            number += 1
    return root


def exact(mean: np.ndarray, covariance: np.ndarray, seed: int, count: int = 50) -> np.ndarray:
    """Samples whose mean and covariance are exactly these."""
    raw = np.random.default_rng(seed).normal(size=(count, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_in_closed_form():
    # In one dimension (m - n)^2 + (s - t)^2.
    a, b = np.array([[-1.0], [1.0]]), np.array([[2.0], [8.0]])
    s, t = math.sqrt(2), math.sqrt(18)
    assert frechet_distance(a, b) == pytest.approx(5**2 + (s - t) ** 2)
    # In two, the trace of the root of a 2x2 matrix M is sqrt(tr M + 2 sqrt(det M)).
    first, second = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    product = first @ second
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    expected = 1 + 4 + np.trace(first) + np.trace(second) - 2 * root
    found = frechet_distance(exact(np.zeros(2), first, 0), exact(np.array([1.0, 2.0]), second, 1))
    assert found == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    # Fewer pictures than features: singular, and still nearly nothing from itself.
    few = np.random.default_rng(2).normal(size=(3, 8))
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-4)
    with pytest.raises(ValueError, match="at least two"):
        frechet_distance(a[:1], b)


def test_classes_are_the_folders(tmp_path: Path):
    for name in ("n01/a.png", "n01/b.JPG", "big_dog/c.png", "big_dog/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    found = find_pictures(tmp_path)
    assert found.labels == ("big dog", "n01", "n01") and found.classes == ("big dog", "n01")
    (tmp_path / "classes.json").write_text(json.dumps({"n01": "tench"}))
    assert find_pictures(tmp_path).classes == ("big dog", "tench")
    # A sample is spread over the folder, and what it has to be told apart from is the whole of it.
    few = find_pictures(tmp_path, 2)
    assert [path.name for path in few.paths] == ["c.png", "b.JPG"]
    assert few.labels == ("big dog", "tench")
    one = find_pictures(tmp_path, 1)
    assert one.labels == ("big dog",) and one.classes == ("big dog", "tench")
    assert find_pictures(tmp_path, 9) == find_pictures(tmp_path)
    for text, message in (
        ("[]", "does not hold a JSON object"),
        ('{"n01": ["tench"]}', "the name of 'n01' is no text"),
    ):
        (tmp_path / "classes.json").write_text(text)
        with pytest.raises(DataError, match=message):
            find_pictures(tmp_path)
    (tmp_path / "classes.json").unlink()
    # A picture beside the folders has no class, so none has.
    Image.new("RGB", (4, 4)).save(tmp_path / "loose.png")
    assert find_pictures(tmp_path).classes == ()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        find_pictures(tmp_path / "empty")
    with pytest.raises(InputError, match="is no folder of pictures"):
        find_pictures(tmp_path / "nowhere")


def test_a_sample_is_spread_over_the_folder(tmp_path: Path):
    for n in range(10):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{n}.png")
    for limit, expected in ((4, "0369"), (6, "024579"), (9, "012346789"), (10, "0123456789")):
        assert "".join(p.stem for p in find_pictures(tmp_path, limit).paths) == expected


def test_a_sample_of_one_class_is_told_from_all(chain: TinyChain, tmp_path: Path):
    data = shapes(tmp_path / "shapes", 12)
    found = tokenizer_metrics.evaluate(
        Arm.from_pretrained(chain.model), data, limit=1, known_words=True
    )
    assert found["pictures"] == 1
    assert found["zero_shot"]["classes"] == len(list(data.iterdir())) > 1


def test_a_folder_from_end_to_end(run: Call, chain: TinyChain, tmp_path: Path):
    data = shapes(tmp_path / "shapes", 40)
    kinds = len(list(data.iterdir()))
    source = tiny_vision.extractor(tmp_path / "vit")
    (data / "star").mkdir(exist_ok=True)
    (data / "star/broken.png").write_bytes(b"no picture")
    options = ["--model", chain.model, "--data", data, "--json", tmp_path / "out.json"]
    code, said, errors = run("tokenizer", *options, "--extractor", source, "--known-words")
    assert code == 0 and "rFID can be compared only with figures by the very same extractor" in said
    assert "1 pictures passed over, as" in errors and "broken.png is no readable picture" in errors
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["pictures"], found["broken"], found["psnr"]["n"]) == (40, 1, 40)
    assert found["psnr"]["low"] < found["psnr"]["value"] < found["psnr"]["high"]
    assert 0 < found["codes"]["used"] <= 40 * 49 / 4096 and found["codes"]["drawn"] == 40 * 49
    assert found["rfid"]["features"] == 8 and found["rfid"]["distance"] >= 0
    assert found["rfid"]["extractor"] == str(source) and found["rfid"]["pictures"] == 40
    assert found["zero_shot"]["classes"] == kinds and found["zero_shot"]["top1"]["n"] == 40
    # The same pictures and the same codes give the same scores.
    assert run("tokenizer", *options, "--extractor", source, "--known-words")[0] == 0
    assert json.loads((tmp_path / "out.json").read_text()) == found


def test_what_is_said_of_wrong_input(run: Call, chain: TinyChain, tmp_path: Path):
    data = shapes(tmp_path / "shapes", 2)
    for folder in list(data.iterdir()):
        folder.rename(data / f"zebra_{folder.name}")
    code, said, _ = run("tokenizer", "--model", chain.model, "--data", data)
    assert code == 0 and "left_out" in said and "rfid" not in said
    for path in data.rglob("*.png"):
        path.write_bytes(b"no picture")
    code, _, errors = run("tokenizer", "--model", chain.model, "--data", data)
    assert code == 2 and "none of its 2 pictures can be read" in errors
    code, _, errors = run("tokenizer")
    assert code == 2 and "name it with --data" in errors


def test_what_is_no_extractor_is_named(tmp_path: Path):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(WeightsError, match="is no vision model"):
        load_extractor(str(tmp_path / "bert"))
    # Of a model with two towers the vision tower is taken.
    tower = load_extractor(str(tiny_vision.clip(tmp_path / "clip")))
    assert tower([np.zeros((9, 9, 3), dtype=np.uint8)] * 2).shape == (2, 16)


def test_psnr_is_of_what_was_encoded(chain: TinyChain, tmp_path: Path):
    """A large picture is compared at the model's size, and the mean is over pictures."""
    arm = Arm.from_pretrained(chain.model)
    for n, level in enumerate((0, 255)):
        Image.new("RGB", (300, 280), (level,) * 3).save(tmp_path / f"{n}.png")
    found = tokenizer_metrics.evaluate(arm, tmp_path)
    each = []
    for level in (0, 255):
        picture = np.full((56, 56, 3), level, dtype=np.uint8)
        output = np.asarray(arm.decode(arm.encode(Image.fromarray(picture))))
        error = np.mean((output.astype(float) - level) ** 2)
        each.append(10 * math.log10(255**2 / error))
    assert found["psnr"]["value"] == pytest.approx(np.mean(each), abs=1e-3)
    assert "zero_shot" not in found


def test_scores_are_kept_whatever_becomes_of_the_sheet(
    run: Call, chain: TinyChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, scores, sheet = tmp_path / "data", tmp_path / "out.json", tmp_path / "out"
    data.mkdir()
    for n in range(4):
        Image.new("RGB", (56, 56), (n, 0, 0)).save(data / f"{n}.png")
    for n in (0, 3):
        (data / f"{n}.png").write_bytes(b"broken")
    arm = Arm.from_pretrained(chain.model)
    # Those that are spread over the folder are broken: other ones are shown.
    assert tokenizer_metrics.reconstruction_sheet(arm, data, 2).width > 2 * 56

    def fail(*_: object) -> None:
        raise InputError("no sheet")

    monkeypatch.setattr(tokenizer_metrics, "reconstruction_sheet", fail)
    options = ("--model", chain.model, "--data", data, "--json", scores, "--out", sheet)
    code, said, errors = run("tokenizer", *options)
    assert code == 2 and "psnr" in said and errors.endswith("arm: no sheet\n")
    assert json.loads(scores.read_text())["pictures"] == 2
    code, _, errors = run("tokenizer", *options[:4], "--out", scores)
    assert code == 2 and "out.json cannot be written" in errors
