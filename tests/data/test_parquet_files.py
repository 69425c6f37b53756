"""Parquet files that unpack to much more than they seem to hold."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arm.data import parquet_files
from arm.data.check import check_source
from arm.data.convert import convert
from arm.data.parquet_files import fitting_rows, is_bomb, iterate_rows, unpacked_page_bytes
from arm.data.sources import open_source
from arm.errors import DataError

MIB = 2**20


def write(path: Path, values: list[bytes], **options: Any) -> Path:
    table = pa.table({"image": values, "text": [f"number {i}" for i in range(len(values))]})
    pq.write_table(table, path, **options)
    return path


def group(path: Path) -> Any:
    return pq.read_metadata(path).row_group(0)


def test_a_page_that_unpacks_a_thousandfold_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """20 MiB of zeros in a few kB: every row is a fault, and nothing is unpacked."""
    monkeypatch.setattr(parquet_files, "UNCHECKED_BYTES", 16 * MIB)
    path = tmp_path / "x.parquet"
    write(path, [bytes(4 * MIB)] * 5, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 20_000 and is_bomb(group(path))
    before = pa.total_allocated_bytes()
    report = check_source(open_source(path), max_faults=1)
    assert pa.total_allocated_bytes() - before < MIB
    assert (report.records, report.num_faults) == (5, 5)
    assert (
        "row 0: its row group unpacks to more than 100 times its bytes on disk" in report.faults[0]
    )
    with pytest.raises(DataError, match="its row group 0 unpacks to more than 100 times"):
        convert("ultraedit", path, tmp_path / "out")


def test_a_small_file_may_compress_well(tmp_path: Path):
    path = write(tmp_path / "x.parquet", [bytes(MIB)] * 3, compression="zstd", use_dictionary=False)
    assert not is_bomb(group(path))
    assert [len(row["image"]) for row in iterate_rows(path)] == [MIB] * 3


def test_rows_that_share_one_large_value(tmp_path: Path):
    """A dictionary of one value of 1 MiB stands for 100 rows; 64 MiB hold 63 of them, with their lengths."""
    path = tmp_path / "x.parquet"
    write(path, [b"\1" * MIB] * 100, compression="none", dictionary_pagesize_limit=2 * MIB)
    assert path.stat().st_size < 2 * MIB
    assert fitting_rows(path, group(path), 64 * MIB) == 63
    assert fitting_rows(path, group(path), MIB) == 1
    plain = write(
        tmp_path / "y.parquet", [b"x" * 100] * 1000, use_dictionary=False, compression="none"
    )
    size = group(plain).total_byte_size
    assert fitting_rows(plain, group(plain), size) == 1000
    assert fitting_rows(plain, group(plain), size // 10) in (99, 100)


def test_the_header_of_a_page_by_hand():
    """Field 1, a 32-bit integer of 2 (a dictionary page, 4 in zigzag); field 2 of 300 (600 = 0x258)."""
    assert unpacked_page_bytes(bytes([0x15, 4, 0x15, 0xD8, 0x04, 0x15])) == 300
    assert unpacked_page_bytes(b"") == unpacked_page_bytes(b"PAR1") == 0
    assert unpacked_page_bytes(bytes([0x15, 4, 0x15, 0xFF])) == 63  # cut off


def test_rows_are_read_group_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "x.parquet", [b"%d" % i for i in range(10)], row_group_size=4)
    monkeypatch.setattr(parquet_files, "ROWS", 3)
    assert [row["image"] for row in iterate_rows(path)] == [b"%d" % i for i in range(10)]
