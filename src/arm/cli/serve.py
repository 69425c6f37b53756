"""`arm serve`: the HTTP server."""

import importlib.util
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from arm.cli.options import load
from arm.errors import InputError
from arm.files import read_text


def _check_installed() -> None:
    """Raises InputError where the packages of the extra `serve` are missing."""
    for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"the package {package} is missing; install it with: pip install 'arm-lmm[serve]'"
            )


def _check_address(host: str, port: int) -> None:
    """Raises InputError, before models are loaded, where the address cannot be served."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be served ({error.strerror}); choose another --host or --port"
        ) from None


def _keys(keys: list[str], file: Path | None) -> tuple[str, ...]:
    """The keys of the options, and those of a file, one a line."""
    lines = [] if file is None else read_text(file).splitlines()
    known = (*keys, *(line.strip() for line in lines if line.strip()))
    if file is not None and not known:
        raise InputError(f"{file} holds no key; write one a line")
    if not all(known):
        raise InputError("--api-key is empty; give a key")
    return known


def _url_prefix(prefix: str) -> str:
    """A prefix that ends the host's name, so that no other host begins with it."""
    parts = urlsplit(prefix)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"--allow-url {prefix} is no URL; give one like https://example.org/")
    return prefix if parts.path else prefix + "/"


def _name(model: str) -> str:
    """The name by which clients ask for a model: that of its directory."""
    return Path(model).resolve().name if Path(model).exists() else model


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A shipped name or a directory; several times for several."),
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 serves other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    api_key: Annotated[
        list[str] | None, typer.Option(help="A key that clients must send; several times.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="A file of keys, one a line.")] = None,
    allow_url: Annotated[
        list[str] | None,
        typer.Option(help="Fetch pictures from URLs that begin so; none by default."),
    ] = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 256,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Largest request, in MiB.")] = 64,
    max_image_mb: Annotated[int, typer.Option(min=1, help="Largest picture file, in MiB.")] = 50,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take.")] = 600,
) -> None:
    """Serve models over HTTP, as OpenAI's clients expect: pictures, edits and chat."""
    _check_installed()
    names = model or ["micro"]
    if len({_name(one) for one in names}) < len(names):
        raise InputError("two models have the same name; rename a directory")
    keys = _keys(api_key or [], api_key_file)
    prefixes = tuple(_url_prefix(prefix) for prefix in allow_url or [])
    _check_address(host, port)
    models = {_name(one): load(one) for one in names}
    from arm.serve.app import run
    from arm.serve.server import Limits, MiB

    limits = Limits(keys, max_body_mb * MiB, max_image_mb * MiB, max_queue, timeout, prefixes)
    run(models, limits, host, port)
