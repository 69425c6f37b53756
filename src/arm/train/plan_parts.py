"""Plans of the other runs: parameters that train and that are frozen, and the bytes that they hold.

Activations and FLOPs of these stages are not modelled, and the tables say so. Trained parts are built
on the meta device; of frozen ones only the headers of local weight files are read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arm.errors import ConfigError
from arm.files import read_json
from arm.model_directory import find_model
from arm.models.backbone_config import read_settings
from arm.models.blocks import GridTransformer
from arm.models.dit import PixelDiT
from arm.models.qwen2 import Qwen2
from arm.models.tokenizer import TokenizerConfig
from arm.models.weights import opened
from arm.rl.grpo import GRPORun
from arm.train.detokenizer import DetokenizerRun, PretrainedPainter
from arm.train.finetune import prepare
from arm.train.optim import Optim
from arm.train.plan import Cluster
from arm.train.plan_sizes import Count
from arm.train.tokenizer import TokenizerRun
from arm.train.training import Loop


@dataclass(frozen=True)
class Published:
    """What is known of a pretrained part that is not on this machine, from its config.json."""

    width: int
    parameters: int = 0
    patch: int = 0


PUBLISHED = {
    "google/siglip2-so400m-patch16-512": Published(1152, patch=16),
    "Qwen/Qwen2.5-0.5B": Published(896, 494_032_768),
    "black-forest-labs/FLUX.1-dev:transformer": Published(3072, 11_901_408_320),
}
SHARED_OUT = ("policy", "reference", "painter")
"""Parts of which a process holds a share where `loop.parallel.shard` says so; all others it holds whole."""


@dataclass(frozen=True)
class PartsPlan:
    """parts: parameters by name. state: bytes of one GPU by kind, activations not among them."""

    parts: dict[str, Count]
    state: dict[str, float]
    notes: tuple[str, ...]

    @property
    def total(self) -> float:
        return sum(self.state.values())


def parts_plan(run: Any, cluster: Cluster) -> PartsPlan:
    """Raises ConfigError for a run whose cost is not planned, and for parts that cannot be counted."""
    if isinstance(run, TokenizerRun):
        parts, notes = _tokenizer(run)
    elif isinstance(run, DetokenizerRun):
        parts, notes = _detokenizer(run)
    elif isinstance(run, GRPORun):
        parts, notes = _grpo(run)
    else:
        name = type(run).__name__
        raise ConfigError(
            f"no plan is made of a run of {name}: plans are of LM, tokenizer, detokenizer and GRPO runs"
        )
    notes.append("not modelled: activations, FLOPs and hours of this stage")
    return PartsPlan(parts, _state(parts, run.loop, run.optim, cluster), tuple(notes))


def _state(parts: dict[str, Count], loop: Loop, optim: Optim, cluster: Cluster) -> dict[str, float]:
    shards = cluster.count // loop.parallel.replicas if loop.parallel.shard else 1
    divisors = {name: shards if name in SHARED_OUT else 1 for name in parts}
    trained = sum(count.trained / divisors[name] for name, count in parts.items())
    total = sum(count.total / divisors[name] for name, count in parts.items())
    return {
        "trained parameters": 4 * trained,
        "frozen parameters (fp32 at most)": 4 * (total - trained),
        "gradients": 4 * trained,
        "optimiser (at most)": 8 * trained,
        "moving average": 4 * trained if optim.ema else 0.0,
    }


def _numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _frozen(source: str, name: str, notes: list[str]) -> dict[str, Count]:
    """A pretrained part, by the headers of its files."""
    base, _, folder = source.partition(":")
    files = sorted((Path(base) / folder).glob("*.safetensors"))
    total = PUBLISHED[source].parameters if source in PUBLISHED else 0
    if files:
        total = 0
        for file in files:
            with opened(file) as tensors:
                for key in tensors.keys():
                    total += torch.Size(tensors.get_slice(key).get_shape()).numel()
    if not total:
        notes.append(f"not counted: {name}, since {source} is not on this machine")
        return {}
    return {name: Count(total, 0)}


def _encoder(source: str) -> Published:
    path = Path(source) / "config.json"
    if path.is_file():
        vision = read_json(path)["vision_config"]
        return Published(vision["hidden_size"], patch=vision["patch_size"])
    if source in PUBLISHED:
        return PUBLISHED[source]
    raise ConfigError(f"{source} is not on this machine, so its width is not known; fetch it first")


def _tokenizer(run: TokenizerRun) -> tuple[dict[str, Count], list[str]]:
    notes: list[str] = []
    towers = _encoder(run.pretrained.siglip)
    parts = _grids(run.model, towers)
    keep = {"projector": run.keep_codes or run.keep_features, "de-projector": run.keep_features}
    counts = {n: Count(c, 0 if keep.get(n) else c) for n, c in parts.items()}
    counts |= _frozen(run.pretrained.siglip, "SigLIP towers", notes)
    if run.weights.cap:
        counts |= _frozen(run.pretrained.caption_lm, "captioning model", notes)
        path = Path(run.pretrained.caption_lm) / "config.json"
        known = PUBLISHED.get(run.pretrained.caption_lm)
        width = read_json(path)["hidden_size"] if path.is_file() else known.width if known else 0
        adapter = (towers.width + 1) * width
        counts["caption adapter"] = Count(adapter, adapter)
    return counts, notes


def _grids(model: TokenizerConfig, towers: Published) -> dict[str, int]:
    shape = (model.width, model.num_blocks, model.num_heads, model.mlp_ratio)
    with torch.device("meta"):
        return {
            "projector": _numel(GridTransformer(towers.width, model.code_bits, *shape)),
            "de-projector": _numel(GridTransformer(model.code_bits, towers.width, *shape)),
            "pixel DiT": _numel(PixelDiT(model.pixel, towers.width, towers.patch)),
        }


def _detokenizer(run: DetokenizerRun) -> tuple[dict[str, Count], list[str]]:
    notes: list[str] = []
    width = _encoder(run.pretrained.siglip).width
    if isinstance(run.painter, PretrainedPainter):
        found = _frozen(run.painter.source, "painter", notes)
        parts = {name: Count(count.total, count.total) for name, count in found.items()}
        notes.append("not counted: the painter's new maps of z_q")
    else:
        path = Path(run.pretrained.vae) / "config.json"
        if not path.is_file():
            raise ConfigError(f"{path} is not there, so the channels of the latents are not known")
        with torch.device("meta"):
            size = _numel(run.painter.build(width, read_json(path)["latent_channels"]))
        parts = {"painter": Count(size, size)}
    for name in ("siglip", "vae"):
        parts |= _frozen(getattr(run.pretrained, name), name, notes)
    return parts | _frozen(str(run.tokenizer), "tokenizer", notes), notes


def _grpo(run: GRPORun) -> tuple[dict[str, Count], list[str]]:
    config, _ = read_settings(find_model(run.model))
    with torch.device("meta"):
        policy = Qwen2(config)
        reference = Count(_numel(policy), 0)
        prepare(policy, run.finetune)
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    notes = ["not counted: decoders and rewards, the KV cache of rollouts"]
    return {"policy": Count(_numel(policy), trained), "reference": reference}, notes
