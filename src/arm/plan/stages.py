"""Plans of the other stages: parameters, the bytes that they occupy, what rollouts take, host memory.

Activations and FLOPs of these stages are not modelled, as their tables say. Trained parts are built on
the meta device; of frozen ones only the headers of local weight files are read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from arm.data.images import to_float
from arm.errors import ConfigError
from arm.files import read_json
from arm.generate import drawing_request
from arm.model_directory import find_model, load_defaults, model_files
from arm.models.backbone_config import read_settings
from arm.models.blocks import GridTransformer
from arm.models.dit import PixelDiT
from arm.models.kv_cache import KVCache
from arm.models.qwen2 import Qwen2
from arm.models.tokenizer import TokenizerConfig
from arm.models.weights import opened
from arm.plan.hardware import Cluster, HostMemory
from arm.plan.language_model import Count
from arm.rl.grpo import GRPORun
from arm.sequence import Image, Text, user
from arm.train.detokenizer import DetokenizerRun, PretrainedPainter
from arm.train.finetune import prepare
from arm.train.optim import Optim
from arm.train.tokenizer import TokenizerRun
from arm.train.training import Loop

PROMPT_TOKENS = 64
"""Text tokens that a prompt or an instruction of a rollout is assumed to have."""
SHARDED = ("policy", "reference", "painter")
"""Parts that `loop.parallel.shard` divides among the processes; each process holds all of the others."""


@dataclass(frozen=True)
class Published:
    """A pretrained part that is not on this machine, by its published config.json."""

    width: int
    parameters: int = 0
    patch: int = 0


PUBLISHED = {
    "google/siglip2-so400m-patch16-512": Published(1152, patch=16),
    "Qwen/Qwen2.5-0.5B": Published(896, 494_032_768),
    "black-forest-labs/FLUX.1-dev:transformer": Published(3072, 11_901_408_320),
}


@dataclass(frozen=True)
class StagePlan:
    """What a run of another stage than the language model's occupies."""

    parts: dict[str, Count]
    """Parameters by name of the part."""
    state: dict[str, float]
    """Bytes of one GPU by kind, without activations."""
    sampling: dict[str, float]
    """Bytes of one GPU by kind that are occupied only while rollouts are sampled."""
    host: HostMemory
    notes: tuple[str, ...]

    @property
    def total(self) -> float:
        """Bytes of one GPU."""
        return sum(self.state.values()) + sum(self.sampling.values())


def stage_plan(run: Any, cluster: Cluster) -> StagePlan:
    """Raises ConfigError for runs that are not planned and for parts that cannot be counted."""
    notes: list[str] = []
    batch, sampling = 0.0, {}
    if isinstance(run, TokenizerRun):
        parts = _tokenizer(run, notes)
        batch = _pictures(run, _encoder(run.pretrained.siglip).patch)
    elif isinstance(run, DetokenizerRun):
        parts = _detokenizer(run, notes)
        batch = _pictures(run, _encoder(run.pretrained.siglip).patch)
    elif isinstance(run, GRPORun):
        parts = _grpo(run, notes)
        sampling = _sampling(run, parts["policy"], cluster, notes)
    else:
        raise ConfigError(
            f"no plan is made of a run of {type(run).__name__}: plans are of LM, tokenizer, detokenizer "
            "and GRPO runs"
        )
    notes.append("not modelled: activations, FLOPs and hours of this stage")
    state = _state(parts, run.loop, run.optim, cluster)
    shards = _shards(run.loop, cluster)
    # A sharded policy is read a tensor at a time; all other parts are built whole in host memory.
    streamed = isinstance(run, GRPORun) and shards > 1 and not run.finetune.partial
    whole = sum(c.total for n, c in parts.items() if not (streamed and n in SHARDED))
    checkpoint = (
        state["trained parameters"] + state["optimiser (at most)"] + state["moving average"]
    )
    host = HostMemory(batch, run.loop.workers, 4.0 * whole, checkpoint)
    return StagePlan(parts, state, sampling, host, tuple(notes))


def _shards(loop: Loop, cluster: Cluster) -> int:
    return cluster.count // loop.parallel.replicas if loop.parallel.shard else 1


def _state(parts: dict[str, Count], loop: Loop, optim: Optim, cluster: Cluster) -> dict[str, float]:
    divisors = {name: _shards(loop, cluster) if name in SHARDED else 1 for name in parts}
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


def _pictures(run: TokenizerRun | DetokenizerRun, patch: int) -> float:
    """Bytes of a batch of pictures on the largest grid."""
    area = max(grid.height * grid.width for grid in run.grids if grid.weight) * patch**2
    dtype = to_float(np.zeros((1, 1, 1, 3), np.uint8)).dtype  # what batches of pictures are made of
    return float(run.batch * 3 * area * dtype.itemsize)


def _stored(*files: Path) -> int:
    """Elements of all tensors in safetensors files, by their headers."""
    total = 0
    for file in files:
        with opened(file) as tensors:
            for key in tensors.keys():
                total += torch.Size(tensors.get_slice(key).get_shape()).numel()
    return total


def _frozen(source: str, name: str, notes: list[str]) -> dict[str, Count]:
    """A pretrained part; none, with a note, if it is neither on this machine nor in `PUBLISHED`."""
    base, _, folder = source.partition(":")
    total = _stored(*sorted((Path(base) / folder).glob("*.safetensors")))
    if not total and source in PUBLISHED:
        total = PUBLISHED[source].parameters
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


def _tokenizer(run: TokenizerRun, notes: list[str]) -> dict[str, Count]:
    towers = _encoder(run.pretrained.siglip)
    frozen = {
        "projector": run.keep_codes or run.keep_features,
        "de-projector": run.keep_features,
    }
    parts = {
        name: Count(size, 0 if frozen.get(name) else size)
        for name, size in _grid_networks(run.model, towers).items()
    }
    parts |= _frozen(run.pretrained.siglip, "SigLIP towers", notes)
    if run.weights.cap:
        parts |= _frozen(run.pretrained.caption_lm, "captioning model", notes)
        path = Path(run.pretrained.caption_lm) / "config.json"
        known = PUBLISHED.get(run.pretrained.caption_lm)
        width = read_json(path)["hidden_size"] if path.is_file() else known.width if known else 0
        adapter = (towers.width + 1) * width
        parts["caption adapter"] = Count(adapter, adapter)
    return parts


def _grid_networks(model: TokenizerConfig, towers: Published) -> dict[str, int]:
    shape = (model.width, model.num_blocks, model.num_heads, model.mlp_ratio)
    with torch.device("meta"):
        return {
            "projector": _numel(GridTransformer(towers.width, model.code_bits, *shape)),
            "de-projector": _numel(GridTransformer(model.code_bits, towers.width, *shape)),
            "pixel DiT": _numel(PixelDiT(model.pixel, towers.width, towers.patch)),
        }


def _detokenizer(run: DetokenizerRun, notes: list[str]) -> dict[str, Count]:
    width = _encoder(run.pretrained.siglip).width
    if isinstance(run.painter, PretrainedPainter):
        stored = _frozen(run.painter.source, "painter", notes)
        parts = {name: Count(count.total, count.total) for name, count in stored.items()}
        notes.append("not counted: the painter's new maps of z_q")
    else:
        path = Path(run.pretrained.vae) / "config.json"
        if not path.is_file():
            raise ConfigError(
                f"{path} does not exist, so the channels of the latents are not known"
            )
        with torch.device("meta"):
            size = _numel(run.painter.build(width, read_json(path)["latent_channels"]))
        parts = {"painter": Count(size, size)}
    for name in ("siglip", "vae"):
        parts |= _frozen(getattr(run.pretrained, name), name, notes)
    return parts | _frozen(str(run.tokenizer), "tokenizer", notes)


def _grpo(run: GRPORun, notes: list[str]) -> dict[str, Count]:
    config, _ = read_settings(find_model(run.model))
    with torch.device("meta"):
        policy = Qwen2(config)
        reference = Count(_numel(policy), 0)
        prepare(policy, run.finetune)
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    parts = {"policy": Count(_numel(policy), trained), "reference": reference}
    directory, decoder = model_files(run.model).parts, load_defaults(run.model).detokenizer
    encoder = (directory / "tokenizer.safetensors", directory / "siglip" / "model.safetensors")
    parts["visual tokenizer, SigLIP and pixel decoder"] = Count(_stored(*encoder), 0)
    if decoder != "pixel":
        painter = directory / f"detokenizer_{decoder}"
        vae = painter / "vae" if (painter / "vae").is_dir() else directory / "vae"
        files = [*painter.glob("*.safetensors"), *vae.glob("*.safetensors")]
        parts[f"decoder {decoder}"] = Count(_stored(*files), 0)
    notes.append("not counted: models of rewards, memory of decoding and judging")
    return parts


def _sampling(run: GRPORun, policy: Count, cluster: Cluster, notes: list[str]) -> dict[str, float]:
    """Bytes while rollouts are sampled: the KV cache of the larger task, and a sharded policy's weights."""
    how = run.loop.parallel
    config, vocab = read_settings(find_model(run.model))
    dtype = torch.bfloat16 if how.bf16 else torch.float32
    grid = max(load_defaults(run.model).grids, key=lambda size: size[0] * size[1])
    text = Text((0,) * PROMPT_TOKENS)
    caches = []
    for kind, task in run.tasks.items():
        editing = kind == "editing"
        turn = user(Image(np.zeros(grid, np.int64)), text) if editing else user(text)
        request = drawing_request((turn,), vocab, grid, task.guidance, has_image=editing)
        streams = len(request.streams) * -(-task.prompts // cluster.count)
        tokens = max(map(len, request.streams)) + grid[0] * grid[1]
        # The prompts' cache, and its copy for every sample.
        cache = KVCache.empty(config, streams * (1 + task.samples), tokens, dtype, "meta")
        caches.append(float(cache.k_LBKSH.nbytes + cache.v_LBKSH.nbytes))
    notes.append(
        f"KV cache: prompts of {PROMPT_TOKENS} text tokens (assumed), pictures of {grid[0]}x{grid[1]} "
        "tokens, all rollouts of a process and task at once"
    )
    gathered = float(policy.total * dtype.itemsize) if how.shard else 0.0
    return {"KV cache of rollouts": max(caches), "policy gathered for sampling": gathered}
