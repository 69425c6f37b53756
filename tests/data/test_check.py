"""The numbers of a check, and that it names each fault."""

from pathlib import Path

import pytest
from PIL import Image

from arm.data.check import Report, Spread, check_source, spread
from arm.data.sources import open_source
from arm.errors import DataError
from user_data import EDITING, SHORT, TEXT, write_jsonl


def checked(path: Path, **options: object) -> Report:
    return check_source(open_source(path), **options)  # type: ignore[arg-type]


def test_counts_by_hand(tmp_path: Path):
    path = write_jsonl(tmp_path / "x.jsonl")
    Image.new("RGB", (30, 4)).save(tmp_path / "blue.png")
    report = checked(path)
    assert (report.records, report.images, report.num_faults, report.faults) == (6, 7, 0, ())
    assert report.tasks == {
        "text": 1, "understanding": 1, "drawing": 2, "editing": 1, "interleaved": 1
    }  # fmt: skip
    # red, green, red, blue, green, red, blue: two of seven are wide
    assert report.width == Spread(8, 8, 30) and report.height == Spread(4, 8, 8)
    assert report.longest_text == (len("what color is it?") + len("red"), "x.jsonl:2")
    data = report.to_dict()
    assert data["width"] == {"least": 8, "median": 8, "largest": 30} and data["tasks"]["text"] == 1


def test_medians():
    assert spread([]) is None
    assert spread([5]) == Spread(5, 5, 5)
    assert spread([9, 1, 4, 2]) == Spread(1, 2, 9)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    records = [TEXT, {"messages": []}, EDITING, SHORT, {**SHORT, "image": "none.png"}]
    path = write_jsonl(tmp_path / "x.jsonl", records)
    (tmp_path / "blue.png").write_bytes(b"broken")
    return path


def test_every_fault_is_named(faulty: Path):
    report = checked(faulty)
    assert (report.records, report.images, report.num_faults) == (5, 4, 4)
    places = [fault.split(": ")[0] for fault in report.faults]
    assert places == ["x.jsonl:2", "x.jsonl:3", "x.jsonl:4", "x.jsonl:5"]
    assert "messages is empty" in report.faults[0] and "none.png does not" in report.faults[3]
    assert report.width == Spread(8, 8, 8)  # the one picture that is whole
    assert report.to_dict()["faults"] == report.faults


def test_a_name_that_no_file_can_have_is_a_fault(tmp_path: Path):
    long = "data:image/jpeg;base64," + "x" * 8000
    path = write_jsonl(tmp_path / "x.jsonl", [{**SHORT, "image": long}, SHORT])
    report = checked(path)
    (fault,) = report.faults
    assert fault.startswith("x.jsonl:1: data:image/jpeg;base64,xxx") and len(fault) < 1000
    assert "(8,023 characters) does not exist or may not be read" in fault
    assert report.width == Spread(8, 8, 8)


def test_files_that_are_left_out_are_named(tmp_path: Path):
    write_jsonl(tmp_path / "x.jsonl")
    (tmp_path / "notes.md").write_text("about these data")
    report = checked(tmp_path)
    assert report.left_out == ("files ending in .md, which are not read here: 1 (notes.md)",)
    assert report.to_dict()["left_out"] == report.left_out and report.num_faults == 0


def test_whatever_a_picture_does_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Errors that nobody has thought of, while a picture is decoded or fitted."""
    source = open_source(write_jsonl(tmp_path / "x.jsonl", [SHORT, TEXT]))
    for place in ("arm.data.image_files.to_rgb", "arm.data.records.fit_to_grid"):
        for error in (MemoryError(), RuntimeError("one\ntwo \x1b[31m"), ZeroDivisionError("x")):

            def fail(*_: object, error: Exception = error) -> None:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(place, fail)
                with pytest.raises(
                    DataError, match=r"^x\.jsonl:1: blue\.png is no readable"
                ) as told:
                    source.record(0).fitted_image(0, ((1, 1),), 8)
                assert str(told.value).isprintable()
                if place.endswith("to_rgb"):
                    report = check_source(source)
                    assert (report.num_faults, report.faults) == (1, (str(told.value),))


def test_few_faults_are_shown_and_all_counted(faulty: Path):
    report = checked(faulty, max_faults=1)
    assert report.num_faults == 4 and len(report.faults) == 1
    report = checked(faulty, images=False)
    assert report.num_faults == 1 and report.images == 4
    assert report.width is None and report.to_dict()["width"] is None
