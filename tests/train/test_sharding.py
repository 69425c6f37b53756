"""A sharded model trains as in one process: the same losses, checkpoints and weights. bf16 products."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from arm.models.weights import load_tensors
from arm.train import sharding
from arm.train.sharding import Parallel, multiply_in_bf16
from conftest import TinyChain
from launch import logged, losses, run, tiny_lm


def train(chain: TinyChain, out: Path, processes: int, steps: int, *more: str) -> None:
    run(*tiny_lm(chain, out, steps, "rows=4", "optim.ema=0.5", *more), processes=processes)


def largest_difference(one: Path, two: Path) -> float:
    a, b = (load_tensors(out / "model/model.safetensors") for out in (one, two))
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max()) for k in a)


@pytest.fixture(scope="module")
def alone(chain: TinyChain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of one process, whole rows, nothing shared out."""
    out = tmp_path_factory.mktemp("alone")
    train(chain, out, 1, 4)
    return out


SHARED = ("loop.parallel.shard=true",)


def test_two_shards_equal_one_process(chain: TinyChain, alone: Path, tmp_path: Path):
    """Sharded by two, recomputing, chunked, by documents, in pieces; resumed by one process alone."""
    more = (*SHARED, "loop.parallel.recompute=selective", "attention=documents", "loss_chunk=7",
            "micro_rows=1")  # fmt: skip
    train(chain, tmp_path, 2, 2, *more)
    files = sorted(path.name for path in (tmp_path / "step_00000002").iterdir())
    assert len(files) == 3 and files[-1] == "state.json"
    train(chain, tmp_path, 1, 4, "attention=documents", "loss_chunk=7", "micro_rows=1")
    assert losses(tmp_path) == pytest.approx(losses(alone), abs=1e-4)
    assert largest_difference(tmp_path, alone) < 1e-4


def test_one_process_hands_over_to_four_in_two_replicas(
    chain: TinyChain, alone: Path, tmp_path: Path
):
    train(chain, tmp_path, 1, 2)
    train(chain, tmp_path, 4, 4, *SHARED, "loop.parallel.replicas=2", "loop.parallel.recompute=all")
    assert losses(tmp_path) == pytest.approx(losses(alone), abs=1e-4)
    assert largest_difference(tmp_path, alone) < 1e-4


def test_a_run_ends_with_the_average(alone: Path):
    last = load_tensors(alone / "step_00000004/state.safetensors")
    model = load_tensors(alone / "model/model.safetensors")
    assert torch.equal(model["model.norm.weight"], last["ema.norm.weight"])
    assert not torch.equal(model["model.norm.weight"], last["model.norm.weight"])


def reinforce(chain: TinyChain, out: Path, *more: str) -> list[dict[str, float]]:
    """Four updates of both tasks by two processes; what they logged."""
    model = {"RL_MODEL": str(chain.model), "RL_OUT": str(out)}
    run("train", "tests.rl_run:exact", *more, processes=2, **model)
    return logged(out)


@pytest.mark.parametrize("changes", [(), ("anchors.understanding=0",)])
def test_reinforcement_learning_of_a_sharded_model(
    changes: tuple[str, ...], chain: TinyChain, tmp_path: Path
):
    """Sampling, both KLs, the anchors and the held-out scores are those of two whole models; also where the
    answers are watched alone.
    """
    whole = reinforce(chain, tmp_path / "whole", *changes)
    shared = reinforce(chain, tmp_path / "shared", *changes, *SHARED)
    assert len(whole) == len(shared) == 6
    for one, two in zip(whole, shared, strict=True):
        assert one.keys() == two.keys()
        for name in (n for n in one if not n.startswith(("seconds", "s_per", "minutes"))):
            assert two[name] == pytest.approx(one[name], abs=1e-4), name
    a, b = (
        load_tensors(tmp_path / name / "model/model.safetensors") for name in ("whole", "shared")
    )
    assert max(float((a[k].float() - b[k].float()).abs().max()) for k in a) < 1e-3


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)) for _ in range(3))  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def saved_bytes(what: sharding.Recompute) -> tuple[int, list[torch.Tensor]]:
    """Bytes that a backward pass finds saved, and the gradients it makes."""
    torch.manual_seed(0)
    model = Stack()
    sharding.checkpoint_activations(model, what)
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(64, 8)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(x).square().mean()
    loss.backward()
    return sum(storages.values()), [p.grad for p in model.parameters() if p.grad is not None]


def test_recomputing_saves_less_and_changes_no_gradient():
    everything, expected = saved_bytes("nothing")
    fewest, found = saved_bytes("all")
    assert fewest < everything
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    _, selective = saved_bytes("selective")
    assert all(torch.equal(a, b) for a, b in zip(expected, selective, strict=True))


def test_the_selective_policy_keeps_what_does_not_widen():
    from torch.utils.checkpoint import CheckpointPolicy

    keep, x = CheckpointPolicy.MUST_SAVE, torch.zeros(4, 8)
    mm, attention = torch.ops.aten.mm.default, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default  # fmt: skip
    assert sharding._keep(None, mm, x, torch.zeros(8, 8)) == keep
    assert sharding._keep(None, mm, x, torch.zeros(8, 9)) != keep
    assert sharding._keep(None, torch.ops.aten.addmm.default, x, x, torch.zeros(8, 2)) == keep
    assert sharding._keep(None, attention, x, x, x) == keep
    assert sharding._keep(None, torch.ops.aten.gelu.default, x) != keep


def test_blocks_are_whole_however_they_are_made():
    """A block of FLUX holds lists of its own, each of which would be gathered by itself."""
    inner = nn.ModuleList([nn.Linear(2, 2), nn.Dropout()])
    outer = [nn.ModuleDict({"attention": inner, "mlp": nn.Linear(2, 2)}), nn.Identity()]
    network = nn.ModuleDict({"embed": nn.Linear(2, 2), "body": nn.Sequential(nn.ModuleList(outer))})
    assert sharding.blocks(network) == [outer[0]]


def test_replicas_need_shards():
    with pytest.raises(ValueError, match="set shard too"):
        Parallel(replicas=2)
    with pytest.raises(ValueError, match="at least 1"):
        Parallel(shard=True, replicas=0)


@pytest.mark.parametrize("what", ["selective", "all"])
def test_blocks_that_recompute_are_compiled(what: sharding.Recompute):
    """They once were not: torch.compile found nothing to do, and said nothing."""
    torch.compiler.reset()
    model, graphs = Stack(), []
    sharding.checkpoint_activations(model, what)

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    for block in sharding.blocks(model):
        block.compile(dynamic=True, backend=backend)
    model(torch.randn(64, 8)).square().mean().backward()
    assert graphs


class Special(nn.Linear):
    """A subclass with a forward pass of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input


def test_linear_layers_multiply_in_bf16_and_return_fp32():
    torch.manual_seed(0)
    layer = nn.Linear(64, 8)
    x = torch.randn(16, 64, requires_grad=True)
    exact = layer(x)
    names = list(layer.state_dict())
    multiply_in_bf16(layer)
    rounded = layer(x)
    assert rounded.dtype == torch.float32 and list(layer.state_dict()) == names
    assert torch.equal(rounded, rounded.bfloat16().float())  # what bf16 products can hold
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.02)
    rounded.square().sum().backward()
    assert layer.weight.dtype == torch.float32
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    assert x.grad is not None and x.grad.dtype == torch.float32


@pytest.mark.parametrize("bias", [True, False])
def test_nested_layers_change_and_other_modules_do_not(bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=bias), nn.Sequential(nn.LayerNorm(8), Special(8, 8)))
    x = torch.randn(3, 8)
    inner = model[1](x)
    assert multiply_in_bf16(model) is model
    assert type(model[0]) is not nn.Linear and isinstance(model[0], nn.Linear)
    assert torch.equal(model[1](x), inner)
    assert model[0](x).shape == (3, 8)
