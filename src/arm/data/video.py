"""Videos -> interleaved records: every n-th frame as a picture, in the order of time.

The paper pre-trains on interleaved video besides interleaved web pages. A video of 500 frames at `every` = 30 and `frames` = 8 becomes
three records of 8, 8 and 1 frames. Words come from a text file of the video's name beside it ("cat.mp4", "cat.txt"), and stand
before the frames of each record. Decoding is PyAV's: pip install 'arm-lmm[video]'.
"""

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from arm.data.conversation import PLACEHOLDER, parse_conversation
from arm.data.convert import RECORDS, Track, check_unused, write_new_picture
from arm.data.image_files import check_pixels
from arm.data.records import SKIPPED, Skipped, without_place
from arm.data.source_folder import list_folder
from arm.errors import ArmError, DataError, shown
from arm.files import atomic_write, is_file, make_folder, read_text

CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": (".mp4", ".mov", ".m4v", ".3gp"),
    "matroska,webm": (".mkv", ".webm"),
    "avi": (".avi",),
    "mpeg": (".mpg", ".mpeg"),
    "mpegts": (".ts", ".mts"),
}
"""FFmpeg's names of the containers that are read, and the suffixes of their files. None of them opens another file, as
playlists do.
"""
SUFFIXES = frozenset(suffix for suffixes in CONTAINERS.values() for suffix in suffixes)
OPEN_OPTIONS = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
JPEG_QUALITY = 95


def convert_videos(
    source: Path, out: Path, every: int = 30, frames: int = 8, track: Track = iter
) -> tuple[int, int]:
    """Writes `out`/train.jsonl and the frames under `out`/images; an earlier conversion is never replaced.

    source: a video, or a folder with videos at any depth. every: a record has frames 0, every, 2 * every, ...
    frames: the most frames of one record. Returns how many records were written, and how many videos could not be
    read to their end (`out`/skipped.jsonl names them; the records before that point are kept).
    Raises DataError where there is no video, none can be read, or `out` holds a conversion already.
    """
    files = video_files(source)
    root = source if source.is_dir() else source.parent
    _library()
    check_unused(out, files)
    make_folder(out / "images")
    count = 0
    try:
        (out / SKIPPED).unlink(missing_ok=True)
        skipped = Skipped(out / SKIPPED)
        with (
            atomic_write(out / RECORDS) as temporary,
            temporary.open("w", encoding="utf-8") as lines,
        ):
            for number, file in enumerate(track(files)):
                name = shown(file.relative_to(root).as_posix())
                try:
                    for record in _records(file, name, out, number, every, frames):
                        lines.write(json.dumps(record, ensure_ascii=False) + "\n")
                        count += 1
                except ArmError as error:
                    skipped.add(name, without_place(name, error))
            if not count:
                raise DataError(
                    f"{shown(str(source))} holds no video that can be read; see {shown(str(skipped.path))}"
                )
    except OSError as error:
        raise DataError(
            f"{shown(str(out))} cannot be written ({shown(str(error))}); make room there"
        ) from None
    return count, len(skipped)


def video_files(source: Path) -> list[Path]:
    """The file, or the videos below a folder, in order. Raises DataError where there is none."""
    if is_file(source):
        return [source]
    names = list_folder(source).files if source.is_dir() else ()
    files = [source / name for name in names if Path(name).suffix.lower() in SUFFIXES]
    if not files:
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{shown(str(source))} is no video and no folder with any ({known})")
    return files


def read_frames(file: Path, name: str, every: int) -> Iterator[tuple[int, Image.Image]]:
    """Every `every`-th frame of a video's first video stream from frame 0 on, with its number, upright.

    Raises DataError, which begins with `name`, where the file is no video or is damaged from there on.
    """
    av = _library()
    number = 0
    try:
        with av.open(str(file), options=OPEN_OPTIONS) as container:
            if not container.streams.video:
                raise DataError(f"{name} has no video stream")
            stream = container.streams.video[0]
            check_pixels(stream.width, stream.height)
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                if number % every == 0:
                    check_pixels(frame.width, frame.height)
                    image = frame.to_image()
                    yield (
                        number,
                        image.rotate(frame.rotation, expand=True) if frame.rotation else image,
                    )
    except ArmError as error:
        raise DataError(f"{name}: {without_place(name, error)}") from None
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError, MemoryError) as error:
        raise DataError(
            f"{name} cannot be read after frame {number} ({shown(str(error))}); it may be damaged"
        ) from None


def _library() -> Any:
    try:
        import av
    except ImportError:
        raise DataError(
            "videos need PyAV, which is not installed: pip install 'arm-lmm[video]'"
        ) from None
    return av


def _records(
    file: Path, name: str, out: Path, video: int, every: int, frames: int
) -> Iterator[dict[str, Any]]:
    """The records of one video, which is number `video` of all; the frames of each are written before it."""
    beside = file.with_suffix(".txt")
    words = read_text(beside).strip() if is_file(beside) else ""
    images: list[str] = []
    first = 0
    for number, image in read_frames(file, name, every):
        if len(images) == frames:
            yield _record(words, images, f"{name}:{first}")
            images = []
        first = number if not images else first
        images.append(f"images/{video:06d}-{number:08d}.jpg")
        content = BytesIO()
        image.save(content, "JPEG", quality=JPEG_QUALITY)
        write_new_picture(content.getvalue(), out / images[-1])
    if images:
        yield _record(words, images, f"{name}:{first}")


def _record(words: str, images: Sequence[str], name: str) -> dict[str, Any]:
    content = " ".join([*([words] if words else []), *[PLACEHOLDER] * len(images)])
    messages = [{"role": "assistant", "content": content}]
    record = {"id": name, "messages": messages, "images": list(images)}
    parse_conversation(record, name)
    return record
