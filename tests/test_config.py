"""Runs by name, typed overrides, JSON and back, each wrong input with the line a user reads."""

import json
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from arm.config import (
    MAY_CHANGE,
    UNCHANGED_IF_UNRECORDED,
    check_same_run,
    dump,
    from_json,
    load_run,
    to_json,
    with_defaults,
)
from arm.errors import (
    ConfigError,
)


class Color(Enum):
    RED = "red"
    TWO = 2


@dataclass(frozen=True)
class Grid:
    height: int
    width: int
    weight: float = 1.0


@dataclass(frozen=True)
class Model:
    hidden_size: int = 64
    num_heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} % num_heads {self.num_heads} is not 0"
            )


@dataclass(frozen=True)
class Loop:
    steps: int = 100
    model: Model = field(default_factory=Model)


class Judge:
    """No dataclass: text cannot give one."""


@dataclass(frozen=True)
class Run:
    out: Path
    model: Model = field(default_factory=Model)
    loop: Loop = field(default_factory=Loop)
    name: str = "run"
    lr: float = 1e-3
    compiled: bool = False
    init_from: Path | None = None
    seed: int | None = 3
    kind: Literal["flow", "ddpm"] = "flow"
    level: Literal[1, 2] = 1
    color: Color = Color.RED
    sizes: tuple[tuple[int, int], ...] = ((7, 7),)
    betas: tuple[float, float] = (0.9, 0.95)
    grids: tuple[Grid, ...] = (Grid(7, 7),)
    extra: dict[str, int] = field(default_factory=dict)
    shards: list[Path] = field(default_factory=list)
    side: int | tuple[int, int] = 8
    kl: Model | None = None
    sampler: Callable[[int], int] = abs
    judge: Judge | None = None
    halved: float = field(init=False, default=0.5)


def micro() -> Run:
    return Run(out=Path("runs/micro"))


def with_kl() -> Run:
    return replace(micro(), kl=Model())


def micro_large() -> Run:
    return replace(micro(), model=Model(256))


def needs(size: int) -> Run:
    return replace(micro(), model=Model(size))


def no_dataclass() -> dict[str, int]:
    return {}


def not_frozen() -> Any:
    @dataclass
    class Loose:
        steps: int = 1

    return Loose()


@pytest.fixture(autouse=True)
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`lab.runs`, a module of runs outside the package."""
    module = types.ModuleType("lab.runs")
    for function in (micro, with_kl, micro_large, needs, no_dataclass, not_frozen):
        monkeypatch.setattr(function, "__module__", "lab.runs")
        setattr(module, function.__name__, function)
    package = types.ModuleType("lab")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "lab", package)
    monkeypatch.setitem(sys.modules, "lab.runs", module)
    yield


def override(*overrides: str) -> Run:
    return load_run("lab.runs:micro", overrides)


def refusal(*overrides: str) -> str:
    """The one line that wrong overrides give."""
    with pytest.raises(ConfigError) as caught:
        override(*overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Names


def test_a_dotted_module_outside_the_package() -> None:
    config = load_run("lab.runs:micro")
    assert config == micro()
    with pytest.raises(FrozenInstanceError):
        config.lr = 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lab.runs:no_dataclass", "'lab.runs:no_dataclass' returns a dict, not a frozen dataclass"),
        ("lab.runs:not_frozen", "'lab.runs:not_frozen' returns a Loose, not a frozen dataclass"),
        ("lab.runs:micr", "there is no run 'lab.runs:micr'. Did you mean 'lab.runs:micro'?"),
    ],
)
def test_what_is_no_run(name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_run(name)
    assert expected in str(caught.value)


# Overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr=1e-3", 1e-3),
        ("lr=.5", 0.5),
        ("lr=2", 2.0),
        ("model.hidden_size=256", 256),
        ("loop.model.dropout=0.1", 0.1),
        ("loop.steps=10", 10),
        ("compiled=true", True),
        ("compiled=True", True),
        ("name=big run", "big run"),
        ("name=12", "12"),
        ("name=true", "true"),
        ('name="quoted"', "quoted"),
        ("name=", ""),
        ("name=a=b", "a=b"),
        ("out=/data/runs", Path("/data/runs")),
        ("out=7", Path("7")),
        ("init_from=runs/a", Path("runs/a")),
        ("init_from=none", None),
        ("seed=None", None),
        ("seed=null", None),
        ("seed=4", 4),
        ("kind=ddpm", "ddpm"),
        ("level=2", 2),
        ("color=red", Color.RED),
        ("color=2", Color.TWO),
        ("sizes=[[7,7],[6,8]]", ((7, 7), (6, 8))),
        ("sizes=[]", ()),
        ("betas=[0.9, 1]", (0.9, 1.0)),
        ("grids=[[7,7],[6,8,0.5]]", (Grid(7, 7), Grid(6, 8, 0.5))),
        ('grids=[{"height": 6, "width": 8}]', (Grid(6, 8),)),
        ('extra={"a": 1}', {"a": 1}),
        ('shards=["a", "b"]', [Path("a"), Path("b")]),
        ("side=9", 9),
        ("side=[8, 9]", (8, 9)),
        ("judge=none", None),
    ],
)
def test_typed_values(text: str, value: object) -> None:
    config = override(text)
    node: Any = config
    for part in text.partition("=")[0].split("."):
        node = getattr(node, part)
    assert node == value and type(node) is type(value)
    untouched = {"model", "loop", "betas", "lr"} - {text.partition("=")[0].split(".")[0]}
    assert all(getattr(config, name) == getattr(micro(), name) for name in untouched)


def test_the_last_of_a_key_wins() -> None:
    assert override("lr=1", "loop.steps=1", "lr=2", "loop.steps=2", "name=x") == replace(
        micro(), lr=2.0, loop=Loop(2), name="x"
    )


def test_fields_that_depend_on_each_other_change_together() -> None:
    assert override("model.hidden_size=9", "model.num_heads=3").model == Model(9, 3)
    assert refusal("model.hidden_size=9") == (
        "run 'lab.runs:micro' cannot have hidden_size=9: hidden_size 9 % num_heads 4 is not 0"
    )


def test_an_optional_section() -> None:
    assert load_run("lab.runs:with_kl", ["kl.dropout=0.5"]).kl == Model(dropout=0.5)
    assert load_run("lab.runs:with_kl", ["kl=none"]).kl is None
    assert load_run("lab.runs:with_kl", ["kl=none", "kl.dropout=0.5"]).kl == Model(dropout=0.5)
    assert load_run("lab.runs:with_kl", ["kl.dropout=0.5", "kl=none"]).kl is None
    assert refusal("kl.dropout=1") == "unknown key 'kl.dropout': 'kl' is None and has no fields"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "model.hiden_size=1",
            "unknown key 'model.hiden_size': Model has no such field. "
            "Did you mean 'model.hidden_size'?",
        ),
        ("modle.hiden_size=1", "unknown key 'modle.hiden_size': Run has no such field. "
         "Did you mean 'model.hidden_size'?"),
        ("steps=1", "unknown key 'steps': Run has no such field. Did you mean 'loop.steps'?"),
        ("--lr=1", "unknown key '--lr': Run has no such field. Did you mean 'lr'?"),
        ("model.qqqq=1", "unknown key 'model.qqqq': Model has no such field. "
         "Fields: hidden_size, num_heads, dropout."),
        ("halved=1", "unknown key 'halved': Run has no such field."),
        ("=1", "unknown key '': Run has no such field."),
        ("lr.x=1", "unknown key 'lr.x': 'lr' is 0.001 and has no fields"),
        ("lr", "'lr' is no override; write key=value"),
        ("loop.steps=abc", "loop.steps='abc': expected int"),
        ("loop.steps=1.5", "loop.steps=1.5: expected int"),
        ("loop.steps=true", "loop.steps=True: expected int"),
        ("loop.steps=[1]", "loop.steps=[1]: expected int"),
        ("loop.steps=", "loop.steps='': expected int"),
        ("lr=fast", "lr='fast': expected float"),
        ("compiled=maybe", "compiled='maybe': expected bool"),
        ("seed=x", "seed='x': expected int | None"),
        ("kind=flwo", "kind='flwo': expected one of 'flow', 'ddpm'"),
        ("color=green", "color='green': expected one of 'red', 2"),
        ("sizes=[7,7]", "sizes[0]=7: expected tuple[int, int]"),
        ("sizes=[[7,7],[6,8,9]]", "sizes[1]=[6, 8, 9]: expected tuple[int, int]"),
        ("sizes=[[7,7],[6,true]]", "sizes[1][1]=True: expected int"),
        ("betas=0.9", "betas=0.9: expected tuple[float, float]"),
        ("grids=7x7", "grids='7x7': expected tuple[Grid, ...]"),
        ("grids=[[7]]", "'grids[0].width' is missing; Grid needs it"),
        ("grids=[[1,2,3,4]]", "grids[0]=[1, 2, 3, 4]: expected Grid"),
        ('grids=[{"heigth": 6, "width": 8}]', "unknown key 'grids[0].heigth': Grid has no such field. "
         "Did you mean 'grids[0].height'?"),
        ('extra={"a": "x"}', "extra.a='x': expected int"),
        ("side=x", "side='x': expected int | tuple[int, int]"),
        ("side=[1,2,3]", "side=[1, 2, 3]: expected int | tuple[int, int]"),
        ("model={}", "'model' is a whole Model; override its fields, as model.hidden_size=..."),
        ("kl={}", "'kl' is a whole Model; override its fields, as kl.hidden_size=..."),
        ("sampler=abs", "'sampler' is an object (Callable[[int], int]), which text cannot give; "
         "write a run function that passes it"),
        ("judge=sys", "'judge' is an object (Judge | None), which text cannot give"),
    ],
)  # fmt: skip
def test_wrong_overrides(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected)


# JSON


def test_to_json_holds_plain_types() -> None:
    data = to_json(replace(micro(), color=Color.TWO, extra={"a": 1}, shards=[Path("x")]))
    assert json.loads(json.dumps(data)) == data
    assert data["out"] == "runs/micro" and data["init_from"] is None and data["color"] == 2
    assert data["sizes"] == [[7, 7]] and data["grids"] == [{"height": 7, "width": 7, "weight": 1.0}]
    assert data["model"] == {"hidden_size": 64, "num_heads": 4, "dropout": 0.0}
    assert data["extra"] == {"a": 1} and data["shards"] == ["x"]
    assert data["sampler"] == "builtins:abs"
    assert "halved" not in data


def test_objects_are_recorded_without_their_address() -> None:
    @dataclass(frozen=True)
    class Holder:
        thing: object

    assert to_json(Holder(Judge()))["thing"].endswith("Judge")
    assert " at 0x" not in str(to_json(Holder(lambda: 0)))
    assert to_json(Holder(slice(1, 2))) == {"thing": "slice(1, 2, None)"}


def test_dump_and_from_json_restore_the_same_dataclass(tmp_path: Path) -> None:
    run = replace(
        micro(),
        init_from=Path("a"), color=Color.TWO, kl=Model(8, 2), side=(1, 2), extra={"a": 1},
        sizes=((1, 2), (3, 4)), grids=(Grid(1, 2, 0.25),), shards=[Path("b")], lr=1e-7,
    )  # fmt: skip
    path = tmp_path / "deep" / "config.json"
    dump(run, path)
    data = json.loads(path.read_text())
    assert data == to_json(run) and path.read_text().endswith("}\n")
    assert sorted(path.parent.iterdir()) == [path]
    del data["sampler"], data["judge"]
    assert from_json(Run, data) == run
    assert from_json(Loop, to_json(Loop(7, Model(8, 2)))) == Loop(7, Model(8, 2))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"step": 1}, "unknown key 'step': Loop has no such field. Did you mean 'steps'?"),
        (
            {"model": {"num_head": 1}},
            "unknown key 'model.num_head': Model has no such field. Did you mean 'model.num_heads'?",
        ),
        ({"steps": "1"}, "steps='1': expected int"),
        ({"model": {"hidden_size": None}}, "model.hidden_size=None: expected int"),
        ({"model": 3}, "model=3: expected Model"),
        ({"model": {"hidden_size": 9}}, "model: hidden_size 9 % num_heads 4 is not 0"),
        ("text", "config='text': expected Loop"),
    ],
)
def test_wrong_json(data: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(Loop, data)
    assert str(caught.value) == expected


def test_json_that_lacks_a_field_or_names_an_object() -> None:
    with pytest.raises(ConfigError, match="'out' is missing; Run needs it"):
        from_json(Run, {})
    with pytest.raises(ConfigError, match="'sampler' is an object"):
        from_json(Run, to_json(micro()))


@dataclass(frozen=True)
class Grown:
    steps: int = 1
    later: int = 2
    domain: str = field(default="", metadata=UNCHANGED_IF_UNRECORDED)


def test_a_record_of_an_earlier_version_is_filled_up():
    """A new field had its default before, but for one that names what earlier runs always had."""
    present = Grown(steps=5, later=3, domain="world")
    assert with_defaults({"steps": 5}, present) == {"steps": 5, "later": 2, "domain": "world"}
    assert with_defaults({"steps": 5, "domain": "icons"}, present)["domain"] == "icons"


@dataclass(frozen=True)
class Part:
    url: str = field(metadata=MAY_CHANGE)
    size: int = 1


@dataclass(frozen=True)
class Whole:
    part: Part
    steps: int = field(default=3, metadata=MAY_CHANGE)
    url: str = "here"


def test_what_may_change_on_resume_is_metadata_of_the_field() -> None:
    """A field of the same name in another dataclass, as `url` here, must not change."""
    recorded = to_json(Whole(Part("a")))
    check_same_run(recorded, Whole(Part("b"), steps=9), Path("run"))
    for changed, fault in (
        (Whole(Part("a", size=2)), r"run was trained with part\.size=1, now it is 2"),
        (Whole(Part("a"), url="there"), "run was trained with url=here, now it is there"),
    ):
        with pytest.raises(ConfigError, match=fault):
            check_same_run(recorded, changed, Path("run"))


def test_a_record_may_be_older_than_a_field_but_not_hold_an_unknown_one() -> None:
    check_same_run({"part": {"url": "a"}}, Whole(Part("a")), Path("run"))
    with pytest.raises(ConfigError, match="trained with part\\.other=5, now it is None"):
        check_same_run({"part": {"url": "a", "other": 5}}, Whole(Part("a")), Path("run"))


def test_numbers_of_numpy_are_recorded_as_numbers() -> None:
    values = Whole(Part("a", size=np.int64(7)), steps=np.uint8(2))  # pyright: ignore[reportArgumentType]
    recorded = json.loads(json.dumps(to_json(values)))
    assert recorded["part"]["size"] == 7 and recorded["steps"] == 2
