"""Configurations of runs: frozen dataclasses, changed by `key=value` overrides and recorded as JSON.

`load_run("standins:micro", ["batch=16", "grids=[[7,7],[6,8]]"])` calls the run's function (`arm.runs`) and replaces
fields of what it returns. Keys are dotted field names; values are JSON or bare text. Values of fields are read by
pydantic's TypeAdapter; dataclasses and containers of them are read here, since TypeAdapter neither builds a
dataclass from an array of its fields nor names the nearest field for an unknown one.

A configuration is restored from its JSON record, except for fields that hold objects (functions, rewards), which are
recorded by name only.
"""

import dataclasses
import json
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from arm.errors import ConfigError, nearest
from arm.files import write_json
from arm.runs import run_function

T = TypeVar("T")

MAY_CHANGE: Mapping[str, Any] = {"may_change": True}
"""Metadata of a dataclass field that may differ between a run and its resumption, since it does not change what is
computed: `field(metadata=MAY_CHANGE)`."""

UNCHANGED_IF_UNRECORDED: Mapping[str, Any] = {"unchanged_if_unrecorded": True}
"""Metadata of a dataclass field that says what runs had before the field existed: a record without it, of an earlier
version, is taken to have the present value instead of the default."""


def load_run(name: str, overrides: Sequence[str] = ()) -> Any:
    """The configuration of the run `name` (see `arm.runs.run_function`) with `key=value` overrides; of several for
    one key the last counts. Raises ConfigError for unknown names and keys, and for values of another type.
    """
    config = run_function(name)()
    if not (is_dataclass(config) and getattr(type(config), "__dataclass_params__").frozen):  # noqa: B009
        raise ConfigError(f"run '{name}' returns a {type(config).__name__}, not a frozen dataclass")
    changes: dict[str, Any] = {}
    for override in overrides:
        key, equals, raw = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is no override; write key=value, as loop.steps=10")
        *sections, leaf = key.split(".")
        value = _override(config, key, raw)
        branch = changes
        for section in sections:
            if branch.get(section) is None:
                branch[section] = {}
            branch = branch[section]
        branch[leaf] = value
    return _replace(config, changes, name)


def to_json(config: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON values: tuples as lists, paths and objects as strings."""
    return {name: _plain(getattr(config, name)) for name in _fields(type(config))}


def with_defaults(recorded: Any, config: Any) -> Any:
    """A recorded configuration, with default values for fields of `config` that did not exist when it was made."""
    if not (is_dataclass(config) and isinstance(recorded, dict)):
        return recorded
    filled = dict(recorded)
    for field in dataclasses.fields(config):
        if field.name in recorded:
            filled[field.name] = with_defaults(recorded[field.name], getattr(config, field.name))
        elif field.metadata.get("unchanged_if_unrecorded"):
            filled[field.name] = _plain(getattr(config, field.name))
        elif field.default is not dataclasses.MISSING:
            filled[field.name] = _plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            filled[field.name] = _plain(field.default_factory())
    return filled


def check_same_run(recorded: Any, config: Any, run_dir: Path) -> None:
    """Checks that `config` resumes the run whose configuration was `recorded` as JSON in `run_dir`.

    Raises ConfigError that names the first field that differs and is not marked MAY_CHANGE.
    """
    difference = _first_difference(with_defaults(recorded, config), config, "")
    if difference is not None:
        key, old, new = difference
        raise ConfigError(
            f"{run_dir} was trained with {key}={old}, now it is {new}; resume with the old value "
            "or choose another `out`"
        )


def _first_difference(recorded: Any, value: Any, key: str) -> tuple[str, Any, Any] | None:
    """(key, recorded value, present value) of the first field that differs; None where none does."""
    if not (is_dataclass(value) and isinstance(recorded, dict)):
        now = _plain(value)
        return None if recorded == now else (key, recorded, now)
    fields = {field.name: field for field in dataclasses.fields(value) if field.init}
    for name in sorted(fields.keys() | recorded.keys()):
        if name in fields and fields[name].metadata.get("may_change"):
            continue
        inner = f"{key}.{name}".lstrip(".")
        found = _first_difference(recorded.get(name), getattr(value, name, None), inner)
        if found is not None:
            return found
    return None


def dump(config: Any, path: Path) -> None:
    """Writes `to_json(config)` to a file, atomically."""
    write_json(to_json(config), path)


def from_json(cls: type[T], data: Any) -> T:
    """Restores a dataclass from what `to_json` returned for it.

    Raises ConfigError for unknown, missing and ill-typed keys, and for fields that hold objects.
    """
    return _build(cls, data, "")


def _fields(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _dotted(config: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a configuration, sections before their fields."""
    keys = []
    for name in _fields(type(config)):
        keys.append(prefix + name)
        value = getattr(config, name)
        if is_dataclass(value):
            keys += _dotted(value, f"{prefix}{name}.")
    return keys


def _override(config: Any, key: str, raw: str) -> Any:
    """The value that an override's text `raw` gives to `key`."""
    parts = key.split(".")
    owner, node = type(config), config
    for depth, part in enumerate(parts):
        if not is_dataclass(node):
            section = ".".join(parts[:depth])
            raise ConfigError(f"unknown key '{key}': '{section}' is {node!r} and has no fields")
        owner = type(node)
        if part not in _fields(owner):
            raise _unknown_key(key, owner, _nearest_keys(config, key, owner, part))
        node = getattr(node, part)
    annotation = get_type_hints(owner, include_extras=True)[parts[-1]]
    arms = _arms(annotation)
    if NoneType in arms and raw.lower() in ("none", "null"):
        return None
    section = type(node) if is_dataclass(node) else next(filter(is_dataclass, arms), None)
    if section is not None:
        example = f"{key}.{', '.join(_fields(section)[:1])}=..."
        raise ConfigError(
            f"'{key}' is a whole {_named(section)}; override its fields, as {example}"
        )
    return _parse(annotation, raw, key)


def _nearest_keys(config: Any, key: str, owner: Any, part: str) -> list[str]:
    """Keys to suggest for an unknown one: the same field of another section, else the nearest field of this
    section or the nearest key.
    """
    section, _, name = key.rpartition(".")
    known = _dotted(config)
    same = [other for other in known if other.split(".")[-1] == name]
    if same or part != name:
        return nearest(key, same) or same or nearest(key, known)
    return [f"{section}.{close}".lstrip(".") for close in nearest(part, _fields(owner))]


def _unknown_key(key: str, owner: Any, close: Sequence[str]) -> ConfigError:
    hint = f"Did you mean '{close[0]}'?" if close else f"Fields: {', '.join(_fields(owner))}."
    return ConfigError(f"unknown key '{key}': {_named(owner)} has no such field. {hint}")


class _Mismatch(ConfigError):
    """A value whose type is not its field's."""

    def __init__(self, key: str, value: Any, annotation: Any) -> None:
        super().__init__(f"{key or 'config'}={value!r}: expected {_named(annotation)}")


def _parse(annotation: Any, raw: str, key: str) -> Any:
    """Text as a value of the annotated type: as JSON, else as bare text (`runs/x` for a path, `.5`, `True`)."""
    try:
        value = json.loads(raw)
    except json.JSONDecodeError:
        value = raw
    try:
        return _decode(annotation, value, key)
    except _Mismatch:
        try:
            return _adapter(annotation, key).validate_strings(raw, strict=True)
        except ValidationError:
            pass
        raise


def _replace(config: Any, changes: Mapping[str, Any], name: str) -> Any:
    """A copy with all changes of one dataclass made at once, since fields may depend on each other."""
    values = {}
    for key, change in changes.items():
        section = getattr(config, key)
        values[key] = (
            _replace(section, change, name) if is_dataclass(section) and change else change
        )
    try:
        return dataclasses.replace(config, **values)
    except ValueError as error:
        changed = ", ".join(f"{key}={value!r}" for key, value in values.items())
        raise ConfigError(f"run '{name}' cannot have {changed}: {error}") from error


def _build(cls: type[T], data: Any, key: str) -> T:
    """A dataclass from a JSON object, or from an array of its fields in order."""
    names = _fields(cls)
    if isinstance(data, list) and len(data) <= len(names):
        data = dict(zip(names, data, strict=False))
    if not isinstance(data, Mapping):
        raise _Mismatch(key, data, cls)
    path = f"{key}." if key else ""
    for name in data:
        if name not in names:
            raise _unknown_key(path + name, cls, [path + close for close in nearest(name, names)])
    types = get_type_hints(cls, include_extras=True)
    values = {name: _decode(types[name], value, path + name) for name, value in data.items()}
    for field in dataclasses.fields(cast(Any, cls)):
        defaults = (field.default, field.default_factory)
        if field.init and field.name not in data and defaults == (dataclasses.MISSING,) * 2:
            raise ConfigError(f"'{path}{field.name}' is missing; {_named(cls)} needs it")
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{key or _named(cls)}: {error}") from error


def _decode(annotation: Any, value: Any, key: str) -> Any:
    """A JSON value as a value of the annotated type."""
    origin, args = get_origin(annotation), get_args(annotation)
    if is_dataclass(annotation):
        return _build(cast(type, annotation), value, key)
    if isinstance(value, dict | list) and origin in (Union, UnionType):
        return _decode_union(annotation, value, key)
    if isinstance(value, list) and origin in (tuple, list) and args:
        one_type = origin is list or args[-1] is Ellipsis
        types = args[:1] * len(value) if one_type else args
        if len(types) != len(value):
            raise _Mismatch(key, value, annotation)
        items = [
            _decode(t, v, f"{key}[{i}]") for i, (t, v) in enumerate(zip(types, value, strict=True))
        ]
        return origin(items)
    if isinstance(value, dict) and origin is dict and args[0] is str:
        return {name: _decode(args[1], item, f"{key}.{name}") for name, item in value.items()}
    if value is None and NoneType in _arms(annotation):
        return None
    try:
        return _adapter(annotation, key).validate_json(json.dumps(value), strict=True)
    except ValidationError:
        raise _Mismatch(key, value, annotation) from None


def _decode_union(annotation: Any, value: Any, key: str) -> Any:
    """A JSON object or array as a value of the only member of a union that accepts it."""
    arms = [arm for arm in _arms(annotation) if arm is not NoneType]
    if len(arms) == 1:
        return _decode(arms[0], value, key)
    fits = []
    for arm in arms:
        try:
            fits.append(_decode(arm, value, key))
        except ConfigError:
            continue
    if len(fits) != 1:
        raise _Mismatch(key, value, annotation)
    return fits[0]


def _adapter(annotation: Any, key: str) -> TypeAdapter:
    try:
        adapter = TypeAdapter(annotation)
        adapter.json_schema()  # raises for types that JSON cannot hold, as functions and instances of classes
        return adapter
    except PydanticUserError:
        raise ConfigError(
            f"'{key}' is an object ({_named(annotation)}), which text cannot give; "
            "write a run function that passes it"
        ) from None


def _arms(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _named(annotation: Any) -> str:
    """A type as messages show it: `Path | None`, `one of 'a', 'b'`, `tuple[GridWeight, ...]`."""
    if len(_arms(annotation)) > 1:
        return " | ".join(map(_named, _arms(annotation)))
    if annotation is NoneType:
        return "None"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(repr, get_args(annotation)))
    if get_origin(annotation) is None and isinstance(annotation, type):
        if issubclass(annotation, Enum):
            return "one of " + ", ".join(repr(member.value) for member in annotation)
        return annotation.__name__
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=\w)", "", str(annotation))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, numbers.Integral):  # NumPy's scalars
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    named = value if hasattr(value, "__qualname__") else type(value)
    if named is not value and " at 0x" not in repr(value):
        return repr(value)
    return f"{named.__module__}:{named.__qualname__}"
