"""Stage 3: the autoregressive model (ARM section 3): pre-training, continued training, supervised fine-tuning."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from arm.config import MAY_CHANGE, UNCHANGED_IF_UNRECORDED
from arm.data.code_shards import open_code_shards
from arm.data.mixture import Dropout, Mix, Ratios, conversation_samples, mixed, report_unusable
from arm.data.packing import DeliveredShares, RowPacker, packed_batch
from arm.data.records import SKIPPED, Skipped
from arm.domain import ChainDomain, EncodedChain, code_counts
from arm.errors import ConfigError, WeightsError
from arm.models.backbone import (
    Materialize,
    backbone_hash,
    load_backbone,
    load_qwen2,
    on_cpu,
    save_backbone,
    with_text_size,
)
from arm.models.backbone_config import read_qwen2_config
from arm.models.pretrained import load_text_tokenizer, locate
from arm.models.qwen2 import Qwen2, Qwen2Config
from arm.models.text import TextTokenizer
from arm.models.visual import compose_rare_rows
from arm.models.weights import weights_hash
from arm.sequence import PackedBatch, Weights
from arm.train import parallel
from arm.train.export import replace_backbone
from arm.train.finetune import Finetune, merge_lora, prepare
from arm.train.next_token import batch_losses, report_loss_free
from arm.train.optim import Optim, block_matrices
from arm.train.provenance import check_parts, check_sizes, shards_origin
from arm.train.sharding import apply_parallelism, is_sharded, materializer
from arm.train.training import Loop, Training, training_device
from arm.vocab import Vocab

SHARED = True
"""Whether all processes run this stage (`train/chain.py`)."""


@dataclass(frozen=True)
class Backbone:
    """Sizes of a backbone. text_size: rows of the text table, where it is larger than the text tokenizer as in
    the published Qwen2.5; 0 for the tokenizer's size.
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
    """A directory of code shards of conversations (`arm encode`). A sample comes from it with a probability
    proportional to its weight.
    """

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"{self.path}: its weight must be above 0; to leave it out, omit it")


@dataclass(frozen=True)
class LMRun:
    """One stage of training.

    The weights at the start are those in the directory `init_from`, the stage before. Without one, the text
    part is read from `pretrained`, a Qwen2 in Hugging Face's layout (a directory or a hub id), or else all
    weights are random. A text tokenizer with more words than `init_from` has adds rows to its tables.

    shards: code shards of the chains of `domain`, sampled by `ratios`, with weight 1 beside those of
    `conversations`, the user's own shards. A batch is `samples` samples, or `rows` full rows of `row_length`
    tokens over all processes, of which `micro_rows` per process go through the network at a time (0: all).
    attention: by a mask of T x T, or by documents (`models/attention.py`) for long rows. loss_chunk: positions
    whose logits exist at a time (0: all). weights: loss weights by kind of token. share_bits, grid_positions:
    see `models/visual.py`. min_count: after training, codes that occur in the shards fewer times than this
    get a row of the head composed from their bits (`compose_rare_rows`). parts: a model, by shipped name or
    path, whose other parts are combined with the trained backbone into a complete model, `out`/arm.
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
    domain: ChainDomain | None = field(default=None, metadata=UNCHANGED_IF_UNRECORDED)

    def __post_init__(self) -> None:
        if not self.shards and not self.conversations:
            raise ValueError("a run needs shards, conversations or both")
        if self.shards and self.domain is None:
            raise ValueError("shards are a domain's: a run with shards needs its domain")
        if min(self.rows, self.micro_rows, self.loss_chunk) < 0:
            raise ValueError("rows, micro_rows and loss_chunk must not be negative")
        if self.code_bits < 1:
            raise ValueError("code_bits must be at least 1, and equal the tokenizer's")
        if min(self.max_side, self.image_stride) < 1:
            raise ValueError("max_side and image_stride must be at least 1")
        if self.row_length < 1 or (not self.rows and self.samples < 1):
            raise ValueError("row_length, and one of samples and rows, must be at least 1")
        if self.loop.parallel.shard and self.micro_rows and not self.rows:
            raise ValueError(
                "micro_rows of a sharded model need the same number of rows in every process: set rows"
            )
        if self.finetune.lora_rank and self.min_count:
            raise ValueError("min_count changes the head, which a LoRA run should not: set it to 0")


def step_losses(run: LMRun, model: Qwen2, batch: PackedBatch) -> Mapping[str, Tensor]:
    """The losses of a batch, computed as the run says (`train/next_token.py`)."""
    return batch_losses(model, batch, run.micro_rows, run.attention, run.loss_chunk)


def config_of(run: LMRun, text_size: int) -> tuple[Qwen2Config, Vocab]:
    """The sizes of the network and its id space, for a text table of `text_size` rows."""
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
    """The sizes of a network that a run states, by name, and the width of a head, which follows from them."""
    names = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads",
             "head_size", "rope_theta", "tie_embeddings", "share_bits")  # fmt: skip
    sizes = {name: getattr(config, name) for name in names}
    return {**sizes, "grid_positions": config.max_side > 0}


def key_of(size: str) -> str:
    """The configuration key of a size of `sizes_of`, or of "vocab_size"."""
    keys = {
        "vocab_size": "backbone.text_size",
        "head_size": "backbone.hidden_size/num_heads",
        "grid_positions": "grid_positions",
        "share_bits": "share_bits",
    }
    return keys.get(size, f"backbone.{size}")


def build(run: LMRun, words: int, materialize: Materialize = on_cpu) -> tuple[Qwen2, Vocab]:
    """The model before its first step, and its id space. words: size of the text tokenizer. materialize: see
    `load_backbone`. Raises WeightsError where weights have other sizes than the run states.
    """
    text_size = run.backbone.text_size or words
    if words > text_size:
        raise ConfigError(
            f"backbone.text_size={text_size} is less than the tokenizer's {words} ids"
        )
    config, vocab = config_of(run, text_size)
    generator = torch.Generator().manual_seed(run.loop.seed)
    if run.init_from is not None:
        model, loaded = load_backbone(run.init_from, materialize)
        if loaded.text_size < text_size:
            if is_sharded(model):
                raise ConfigError(
                    "rows for new words cannot be added to a sharded model: set loop.parallel.shard=false"
                )
            model, loaded = with_text_size(model, loaded, text_size, generator)
        if replace(loaded, image_stride=vocab.image_stride) != vocab:
            raise WeightsError(f"{run.init_from} was trained with {loaded}, this run has {vocab}")
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
    there = replace(read_qwen2_config(source / "config.json"), share_bits=config.share_bits)
    check_sizes(
        source / "config.json",
        {"vocab_size": there.vocab_size, **sizes_of(there)},
        {"vocab_size": text.vocab_size, **sizes_of(text)},
        key_of,
    )
    model = load_qwen2(
        source, visual=config, extra_rows=config.vocab_size - text_size, generator=generator,
        dtype=torch.float32, materialize=materialize,
    )  # fmt: skip
    return model, vocab


def ready(run: LMRun, words: int) -> tuple[Qwen2, Vocab]:
    """The model on its device, sharded where the run says so, with gradients required of the parameters that
    the run trains; and its id space.
    """
    device, how = training_device(), run.loop.parallel
    if run.finetune.partial or not how.shard:
        model, vocab = build(run, words)
        torch.manual_seed(run.loop.seed)  # LoRA's initial weights
        prepare(model, run.finetune)
        apply_parallelism(model, how, device)
        return model.to(device), vocab
    return build(run, words, materializer(how, device))


def samples_of(
    run: LMRun, chains: Sequence[EncodedChain], text_tokenizer: TextTokenizer, vocab: Vocab
) -> Mix:
    """The mix of samples that the run trains on."""
    parts: list[tuple[float, Mix]] = []
    if chains and run.domain is not None:
        samples = run.domain.chain_samples(chains, run.ratios, run.dropout, text_tokenizer.ids)
        parts.append((1.0, samples))
    skipped = Skipped(run.out / SKIPPED)
    for source in run.conversations:
        shards = open_code_shards(source.path)
        own = conversation_samples(
            shards, run.dropout, text_tokenizer.ids, vocab, run.row_length, skipped
        )
        parts.append((source.weight, own))
    return mixed(parts)


def read_chains(run: LMRun) -> list[EncodedChain]:
    """All chains of the run's shards. Raises DataError for missing or damaged shards."""
    if run.domain is None:
        return []
    return [chain for directory in run.shards for chain in run.domain.read_chains(directory)]


def main(run: LMRun) -> None:
    """Trains one stage and writes the model to `out`/model."""
    parallel.init_processes()
    if run.rows % parallel.world_size():
        raise ConfigError(
            f"rows={run.rows} is no multiple of the {parallel.world_size()} processes"
        )
    conversations = tuple(source.path for source in run.conversations)
    if run.parts:
        check_parts(run.parts, conversations)
    text_tokenizer = TextTokenizer(load_text_tokenizer(run.text_tokenizer))
    chains = read_chains(run)
    model, vocab = ready(run, text_tokenizer.size)
    if parallel.is_main():
        size = sum(p.numel() for p in model.parameters())
        trains = sum(p.numel() for p in model.parameters() if p.requires_grad)
        part = "" if trains == size else f", {trains:,} of them train"
        print(f"{size:,} parameters{part}, {len(chains):,} chains", flush=True)
        for path in conversations:
            report_unusable(open_code_shards(path), text_tokenizer.ids, vocab, run.row_length)
    mix, seed = samples_of(run, chains, text_tokenizer, vocab), run.loop.seed
    packer = RowPacker(seed, run.row_length, mix, run.weights, vocab)
    shares, reported = DeliveredShares(mix.kinds), False

    def make_batch(step: int) -> PackedBatch:
        nonlocal reported
        if run.rows:
            own_rows = range(parallel.rank(), run.rows, parallel.world_size())
            batch = packer.batch(step, own_rows)
        else:
            batch = packed_batch(seed, step, run.samples, run.row_length, mix, run.weights, vocab)
        if not reported and parallel.is_main():
            reported = report_loss_free(batch, step, run.out.name)
        return batch

    origin = shards_origin((*run.shards, *conversations))
    start = run.init_from or (Path(run.pretrained) if run.pretrained else None)
    if start is not None and start.is_dir() and run.finetune.partial:
        origin["start"] = backbone_hash(start) if run.init_from else weights_hash(start)
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
                "min_count cannot compose rows of a sharded head; train without loop.parallel.shard"
            )
        counts = code_counts(chains, vocab.num_codes)
        for source in run.conversations:
            counts += open_code_shards(source.path).code_counts(vocab.num_codes)
        composed = compose_rare_rows(model.visual, torch.from_numpy(counts), run.min_count)
        if parallel.is_main():
            print(f"{composed} rows of the head composed from their bits", flush=True)
    save_backbone(model.eval(), vocab, run.out / "model", write=parallel.is_main())
    if run.parts and parallel.is_main():
        replace_backbone(run.parts, run.out / "model", run.out / "arm", run.text_tokenizer)
    parallel.barrier()
