"""Training a part of a model: frozen parameters, and LoRA (arXiv 2106.09685) by peft."""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from arm.errors import ConfigError


@dataclass(frozen=True)
class Finetune:
    """Which parameters of a model train; by default all.

    lora_rank: above 0, low-rank adapters of the linear layers named in `lora_targets` train, scaled by
    lora_alpha / lora_rank; of the model's own parameters only those whose names begin with one of `full`.
    freeze: parameters whose names match one of these regular expressions do not train.
    """

    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    full: tuple[str, ...] = ("visual",)
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise ValueError("lora_rank must not be negative")
        for pattern in self.freeze:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"freeze: '{pattern}' is no regular expression ({error})"
                ) from None

    @property
    def partial(self) -> bool:
        """Whether some parameters of the model do not train."""
        return bool(self.lora_rank or self.freeze)


def prepare(model: nn.Module, how: Finetune) -> nn.Module:
    """Freezes parameters and adds LoRA adapters, in place; returns the model.

    Raises ConfigError for a target or a pattern that matches nothing, and where peft is not installed.
    """
    if how.lora_rank:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError:
            raise ConfigError(
                "LoRA needs peft: pip install 'arm-lmm[train]', or set finetune.lora_rank=0"
            ) from None
        linear = {
            n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)
        }
        for target in how.lora_targets:
            if target not in linear:
                known = ", ".join(sorted(linear))
                raise ConfigError(
                    f"the model has no linear layer '{target}' for LoRA; it has {known}"
                )
        config = LoraConfig(
            r=how.lora_rank, lora_alpha=how.lora_alpha, target_modules=list(how.lora_targets)  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        inject_adapter_in_model(config, model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name or name.startswith(tuple(how.full)))
    for pattern in how.freeze:
        frozen = [p for name, p in model.named_parameters() if re.search(pattern, name)]
        if not frozen:
            raise ConfigError(f"finetune.freeze: no parameter matches '{pattern}'")
        for parameter in frozen:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError("finetune.freeze leaves nothing to train")
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Adds LoRA adapters to the weights and removes them, in place; returns the model."""
    layers: dict[str, Any] = {n: m for n, m in model.named_modules() if hasattr(m, "lora_A")}
    for name, layer in layers.items():
        layer.merge()
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer.get_base_layer())
    return model
