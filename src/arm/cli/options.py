"""Options that several commands share, and what they are read into."""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from arm.errors import InputError
from arm.files import write_json

if TYPE_CHECKING:
    from arm.generate import Guidance
    from arm.pipeline import Arm
    from arm.sampling import Sampling

Model = Annotated[str, typer.Option("--model", help="A shipped name or a directory.")]
Decoder = Annotated[
    str | None, typer.Option("--decoder", help="pixel, flux or sana; the model's own by default.")
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="The same seed gives the same picture.")
]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy; the model's own by default.")]
TopK = Annotated[int | None, typer.Option(help="Sample from the k likeliest codes; 0 from all.")]
TopP = Annotated[float | None, typer.Option(help="Sample from the likeliest codes of this mass.")]
TextScale = Annotated[
    float | None, typer.Option("--guidance", help="Guidance by the text; 1 is none.")
]
ImageScale = Annotated[
    float | None, typer.Option("--image-guidance", help="Guidance by the source.")
]


def writable_file(path: Path | None) -> Path | None:
    """The path of a file to write. Raises InputError, before the work for it is done, where it cannot be written.

    Creates nothing: what counts is the nearest existing folder above it.
    """
    if path is None:
        return None
    if path.is_dir():
        raise InputError(f"{path} cannot be written (it is a folder); name a file")
    # A file is replaced by a new one beside it; a device such as /dev/stdout is written to.
    target = path
    if path.is_file() or not path.exists():
        target = next(parent for parent in path.resolve().parents if os.path.lexists(parent))
        if not target.is_dir():
            raise InputError(
                f"{path} cannot be written ({target} is not a folder); name another file"
            )
    if not os.access(target, os.W_OK):
        raise InputError(f"{path} cannot be written (permission denied); name another file")
    return path


JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="Write the result to this file.", callback=writable_file),
]


def option_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command some of whose parameters are dataclasses, of which each field becomes an option.

    Typer takes a flat list of parameters; here they are grouped into the objects that the command gets.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {n: hint for n, hint in hints.items() if is_dataclass(hint)}
    flat: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        keyword = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        if name not in groups:
            flat.append(keyword)
            continue
        field_hints = get_type_hints(groups[name], include_extras=True)
        for one in fields(groups[name]):
            default = inspect.Parameter.empty if one.default is MISSING else one.default
            annotation = field_hints[one.name]
            flat.append(keyword.replace(name=one.name, default=default, annotation=annotation))

    def run(**values: Any) -> Any:
        arguments = {
            name: group(**{one.name: values.pop(one.name) for one in fields(group)})
            for name, group in groups.items()
        }
        return command(**values, **arguments)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    run.__signature__ = inspect.Signature(flat)  # pyright: ignore[reportFunctionMemberAccess]
    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses progress bars and notices of transformers and diffusers."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # for when it is imported
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    yield


LARGE = 2 * 2**30
"""Size of a backbone's files, in bytes, above which it runs in bf16 on a GPU."""


def in_bf16(files: list[Path], on_gpu: bool) -> bool:
    """Whether the backbone with these weight files runs in bf16: a large one on a GPU; others in fp32."""
    return on_gpu and sum(file.stat().st_size for file in files) > LARGE


def load(model: str, decoder: str | None = None) -> "Arm":
    """Loads a model onto the GPU, or the CPU where there is none (CUDA_VISIBLE_DEVICES= hides a GPU). A backbone of
    more than 2 GiB is in bf16 on a GPU.
    """
    with quiet():
        import torch

        from arm.model_directory import find_model
        from arm.models.backbone import backbone_files
        from arm.pipeline import Arm

        on_gpu = torch.cuda.is_available()
        half = in_bf16(backbone_files(find_model(model)), on_gpu)
        dtype = torch.bfloat16 if half else torch.float32
        return Arm.from_pretrained(model, decoder, dtype=dtype).to("cuda" if on_gpu else "cpu")


def sampling(
    default: "Sampling", temperature: float | None, top_k: int | None, top_p: float | None
) -> "Sampling":
    from arm.sampling import Sampling

    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    values = {k: getattr(default, k) if v is None else v for k, v in given.items()}
    try:
        return Sampling(**values)
    except ValueError as error:
        raise InputError(str(error)) from None


def guidance(default: "Guidance", text: float | None, image: float | None = None) -> "Guidance":
    from arm.generate import Guidance

    try:
        return Guidance(
            default.text if text is None else text, default.image if image is None else image
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def parse_size(size: str | None) -> tuple[int, int] | None:
    """'64x48' -> (64, 48). Raises InputError for anything else."""
    if size is None:
        return None
    parts = size.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise InputError(f"'{size}' is no size; give WIDTHxHEIGHT in pixels, as 56x56")
    return int(parts[0]), int(parts[1])


def split_picture(line: str) -> tuple[str | None, str]:
    """A line of a chat as a picture's path and the words: "image PATH: words", else (None, line).

    A path may hold colons. It ends at the last colon that ends the name of a file, or at the first where none does.
    """
    begin, colon, rest = line.partition(" ")
    if begin != "image" or not colon or ":" not in rest:
        return None, line
    ends = [i for i, character in enumerate(rest) if character == ":"]
    files = [end for end in ends if os.path.isfile(rest[:end].strip())]
    end = files[-1] if files else ends[0]
    return rest[:end].strip(), rest[end + 1 :].strip()


def write_json_file(data: Any, path: Path | None) -> None:
    """Writes the file of --json, where one is asked for. Raises InputError where it cannot be written."""
    if path is None:
        return
    try:
        write_json(data, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error})") from None
