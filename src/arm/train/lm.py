"""Stage 3: the autoregressive model (ARM section 3), in the stages PT, CT and SFT."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from arm.config import MAY_CHANGE
from arm.data.code_shards import open_code_shards, shards_digest
from arm.data.mixture import Dropout, Mix, Ratios, conversation_samples, mixed
from arm.data.packing import DeliveredShares, RowPacker, packed_batch
from arm.data.records import SKIPPED, Skipped
from arm.errors import ConfigError, WeightsError
from arm.model_directory import copy_text_tokenizer, find_model, parts_of
from arm.models.backbone import load_backbone, save_backbone, with_text_size
from arm.models.pretrained import load_text_tokenizer
from arm.models.pretrained_files import locate
from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.models.qwen2_files import Materialize, from_hf, on_cpu, read_config
from arm.models.text import TextTokenizer
from arm.models.visual import compose_rare_rows
from arm.models.weights import weights_hash
from arm.sequence import PackedBatch, Weights
from arm.train import parallel
from arm.train.export import with_backbone
from arm.train.finetune import Finetune, merge_lora, prepare
from arm.train.next_token import batch_losses
from arm.train.optim import Optim, block_matrices
from arm.train.provenance import check_sizes, tokenizer_hash, tokenizer_of
from arm.train.sharding import apply_parallelism, is_sharded, materializer
from arm.train.training import Loop, Training, training_device
from arm.vocab import Vocab
from arm.world.chains import Chain, code_counts, read_shards
from arm.world.tasks import world_samples

SHARED = True
"""Several processes may run it together (`train/chain.py`)."""


@dataclass(frozen=True)
class Backbone:
    """Sizes of a backbone. text_size: ids of the text table where that is larger than the tokenizer, as
    in the published Qwen2.5; 0 takes the tokenizer's.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    rope_theta: float = 10_000.0
    tie_embeddings: bool = True
    text_size: int = 0


@dataclass(frozen=True)
class Conversations:
    """Code shards of conversations (`arm encode`), and how often a sample is one of theirs."""

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"{self.path}: its weight must be above 0; leave it out instead")


@dataclass(frozen=True)
class LMRun:
    """One stage. `init_from` is the directory of the stage before; without one the text part comes from
    `pretrained`, a Qwen2 in Hugging Face's layout (a directory or a hub id), or else from nothing.

    shards: code shards of the world's chains, mixed by `ratios`; conversations: the user's own, by their
    weights, the world's counting 1. A batch is `samples` samples, or with `rows` that many full rows of
    `row_length` tokens over all processes; `micro_rows` of a process's go through the network at a time.
    attention: by a mask of T x T, or by documents (`models/attention.py`), for long rows. loss_chunk:
    positions whose logits exist at a time (0: all). parts: a model, by shipped name or path, whose other
    parts go with the trained backbone into a whole model, `out`/arm. A tokenizer with more words than
    `init_from` knows gives it new rows. share_bits, grid_positions: see `models/visual.py`.
    min_count: at the end, codes that stand in the shards fewer times than this get a row of the head
    that is composed of their bits (`compose_rare_rows`).
    """

    out: Path = field(metadata=MAY_CHANGE)
    text_tokenizer: Path
    shards: tuple[Path, ...]
    init_from: Path | None
    backbone: Backbone
    code_bits: int
    max_side: int
    grid_positions: bool
    image_stride: int
    samples: int
    row_length: int
    weights: Weights
    ratios: Ratios
    dropout: Dropout
    loop: Loop
    optim: Optim
    min_count: int = 0
    pretrained: str | None = None
    conversations: tuple[Conversations, ...] = ()
    rows: int = 0
    micro_rows: int = 0
    attention: Literal["mask", "documents"] = "mask"
    loss_chunk: int = 0
    share_bits: bool = True
    finetune: Finetune = field(default_factory=Finetune)
    parts: str = ""

    def __post_init__(self) -> None:
        if not self.shards and not self.conversations:
            raise ValueError("a run needs shards, conversations or both")
        if min(self.rows, self.micro_rows, self.loss_chunk) < 0:
            raise ValueError("rows, micro_rows and loss_chunk must not be negative")
        if self.code_bits < 1:
            raise ValueError("code_bits must be at least 1, as the tokenizer's")
        if min(self.max_side, self.image_stride) < 1:
            raise ValueError("max_side and image_stride must be at least 1")
        if self.row_length < 1 or (not self.rows and self.samples < 1):
            raise ValueError("row_length, and one of samples and rows, must be at least 1")
        if self.loop.parallel.shard and self.micro_rows and not self.rows:
            raise ValueError(
                "a sharded model goes by micro_rows only where every process has as many rows: set rows"
            )
        if self.finetune.lora_rank and self.min_count:
            raise ValueError("min_count rewrites the head, which LoRA runs should not: set it to 0")


def step_losses(run: LMRun, model: Qwen2, batch: PackedBatch) -> Mapping[str, Tensor]:
    """The losses of a batch, computed the way the run says."""
    return batch_losses(model, batch, run.micro_rows, run.attention, run.loss_chunk)


def config_of(run: LMRun, text_size: int) -> tuple[Qwen2Config, Vocab]:
    """Sizes of the network and its id space for a text table of `text_size` ids."""
    size = run.backbone
    vocab = Vocab(text_size, 2**run.code_bits, run.max_side, run.image_stride)
    try:
        config = Qwen2Config(
            vocab_size=vocab.first_code,
            num_codes=vocab.num_codes,
            code_bits=run.code_bits,
            hidden_size=size.hidden_size,
            intermediate_size=size.intermediate_size,
            num_layers=size.num_layers,
            num_heads=size.num_heads,
            num_kv_heads=size.num_kv_heads,
            rope_theta=size.rope_theta,
            tie_embeddings=size.tie_embeddings,
            max_side=run.max_side if run.grid_positions else 0,
            share_bits=run.share_bits,
        )
    except ValueError as error:
        raise ConfigError(f"backbone: {error}") from None
    return config, vocab


def sizes_of(config: Qwen2Config) -> dict[str, Any]:
    """What a run decides of its network, by name, and the width of a head, which follows."""
    names = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads",
             "head_size", "rope_theta", "tie_embeddings", "share_bits")  # fmt: skip
    found = {name: getattr(config, name) for name in names}
    return {**found, "grid_positions": config.max_side > 0}


def key_of(size: str) -> str:
    """The run's key for what `sizes_of` calls `size`, or for "vocab_size"."""
    keys = {
        "vocab_size": "backbone.text_size",
        "head_size": "backbone.hidden_size/num_heads",
        "grid_positions": "grid_positions",
        "share_bits": "share_bits",
    }
    return keys.get(size, f"backbone.{size}")


def build(run: LMRun, words: int, materialize: Materialize = on_cpu) -> tuple[Qwen2, Vocab]:
    """The model before its first step, and its id space. `words`: size of the text tokenizer; `materialize`:
    see `from_hf`. Raises WeightsError where weights are of another size than the run says.
    """
    text_size = run.backbone.text_size or words
    if words > text_size:
        raise ConfigError(
            f"backbone.text_size={text_size} is less than the tokenizer's {words} ids"
        )
    config, vocab = config_of(run, text_size)
    generator = torch.Generator().manual_seed(run.loop.seed)
    if run.init_from is not None:
        model, found = load_backbone(run.init_from, materialize)
        if found.text_size < text_size:
            if is_sharded(model):
                raise ConfigError("a model is given new words whole: set loop.parallel.shard=false")
            model, found = with_text_size(model, found, text_size, generator)
        if replace(found, image_stride=vocab.image_stride) != vocab:
            raise WeightsError(f"{run.init_from} was trained with {found}, this run has {vocab}")
        check_sizes(run.init_from, sizes_of(model.config), sizes_of(config), key_of)
        return model, vocab
    if run.pretrained is None:
        with torch.device("meta"):
            model = Qwen2(config)
        materialize(model)
        model.init_weights(generator)
        return model, vocab
    source = locate(run.pretrained)
    text = replace(config, vocab_size=text_size, num_codes=0, code_bits=0, max_side=0)
    visual = {"num_codes": 0, "code_bits": 0, "share_bits": config.share_bits}
    there = read_config(source / "config.json", visual)
    check_sizes(
        source / "config.json",
        {"vocab_size": there.vocab_size, **sizes_of(there)},
        {"vocab_size": text.vocab_size, **sizes_of(text)},
        key_of,
    )
    model = from_hf(
        source, config.num_codes, config.code_bits, config.vocab_size - text_size,
        max_side=config.max_side, share_bits=config.share_bits, generator=generator,
        dtype=torch.float32, materialize=materialize,
    )  # fmt: skip
    return model, vocab


def ready(run: LMRun, words: int) -> tuple[Qwen2, Vocab]:
    """The model on its device, shared out over the processes where the run says so, with what it is to
    train requiring gradients.
    """
    device, how = training_device(), run.loop.parallel
    if run.finetune.partial or not how.shard:
        model, vocab = build(run, words)
        torch.manual_seed(run.loop.seed)  # of LoRA's first weights
        prepare(model, run.finetune)
        apply_parallelism(model, how, device)
        return model.to(device), vocab
    return build(run, words, materializer(how, device))


def samples_of(run: LMRun, chains: list[Chain], text_tokenizer: TextTokenizer, vocab: Vocab) -> Mix:
    """The run's mix of samples."""
    parts: list[tuple[float, Mix]] = []
    if chains:
        parts.append((1.0, world_samples(chains, run.ratios, run.dropout, text_tokenizer.ids)))
    skipped = Skipped(run.out / SKIPPED)
    for source in run.conversations:
        shards = open_code_shards(source.path)
        talk = conversation_samples(
            shards, run.dropout, text_tokenizer.ids, vocab, run.row_length, skipped
        )
        parts.append((source.weight, talk))
    return mixed(parts)


def main(run: LMRun) -> None:
    """Trains one stage and writes the model to `out`/model."""
    parallel.init_processes()
    if run.rows % parallel.world_size():
        raise ConfigError(f"rows={run.rows} cannot be shared by {parallel.world_size()} processes")
    # Rather a fault now than after the last step.
    if run.parts:
        parts = parts_of(find_model(run.parts))
        for source in run.conversations:
            made_by = tokenizer_of(source.path)
            if made_by and made_by != tokenizer_hash(parts, str(parts / "siglip")):
                raise ConfigError(
                    f"{source.path} holds codes of another tokenizer than that of parts={run.parts}, which "
                    f"would paint them; encode the data again with `arm encode ... --model {run.parts}`"
                )
    text_tokenizer = TextTokenizer(load_text_tokenizer(run.text_tokenizer))
    chains: list[Chain] = [chain for directory in run.shards for chain in read_shards(directory)]
    model, vocab = ready(run, text_tokenizer.size)
    if parallel.is_main():
        size = sum(p.numel() for p in model.parameters())
        trains = sum(p.numel() for p in model.parameters() if p.requires_grad)
        part = "" if trains == size else f", {trains:,} of them train"
        print(f"{size:,} parameters{part}, {len(chains):,} chains", flush=True)
    mix, seed = samples_of(run, chains, text_tokenizer, vocab), run.loop.seed
    packer = RowPacker(seed, run.row_length, mix, run.weights, vocab)
    shares = DeliveredShares(mix.kinds)

    def make_batch(step: int) -> PackedBatch:
        if not run.rows:
            return packed_batch(seed, step, run.samples, run.row_length, mix, run.weights, vocab)
        return packer.batch(step, range(parallel.rank(), run.rows, parallel.world_size()))

    folders = (*run.shards, *(source.path for source in run.conversations))
    origin = {f"content of {path}": shards_digest(path) for path in folders}
    made_by = {path: tokenizer_of(path) for path in folders}
    origin |= {f"tokenizer of {path}": value for path, value in made_by.items() if value}
    start = run.init_from or (Path(run.pretrained) if run.pretrained else None)
    if start is not None and start.is_dir() and run.finetune.partial:
        origin["start"] = weights_hash(start)
    with Training(
        run, model, out=run.out, loop=run.loop, optim=run.optim, origin=origin,
        muon=block_matrices(model),
    ) as training:  # fmt: skip
        for _, batch in training.batches(make_batch, split_rows=not run.rows):
            training.update({**step_losses(run, model, batch), **shares.after(batch)})
            training.save_if_due()
    merge_lora(model)
    if run.min_count and model.visual is not None and chains:
        if is_sharded(model):
            raise ConfigError(
                "min_count composes rows of a whole head; train without loop.parallel.shard"
            )
        counts = code_counts(chains, vocab.num_codes)
        for source in run.conversations:
            counts += open_code_shards(source.path).code_counts(vocab.num_codes)
        composed = compose_rare_rows(model.visual, torch.from_numpy(counts), run.min_count)
        if parallel.is_main():
            print(f"{composed} rows of the head composed of their bits", flush=True)
    save_backbone(model.eval(), vocab, run.out / "model", write=parallel.is_main())
    if run.parts and parallel.is_main():
        with_backbone(find_model(run.parts), run.out / "model", run.out / "arm")
        copy_text_tokenizer(locate(run.text_tokenizer), run.out / "arm/backbone")
    parallel.barrier()
