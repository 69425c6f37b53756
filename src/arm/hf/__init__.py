"""The whole model in the Hugging Face ecosystem.

    import arm.hf                                           # registers the classes below
    model = AutoModelForCausalLM.from_pretrained(directory)
    processor = AutoProcessor.from_pretrained(directory)

`directory` is any model directory (`arm.model_directory`), the same that `Arm.from_pretrained` reads. It holds
no code: without `import arm.hf` transformers does not know the model, and trust_remote_code changes nothing.
"""

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from arm.hf.modeling import ArmConfig, ArmForCausalLM
from arm.hf.processing import ArmProcessor

__all__ = ["ArmConfig", "ArmForCausalLM", "ArmProcessor", "register"]


def register() -> None:
    """Registers the model with transformers' Auto classes. Called at import; harmless when repeated."""
    AutoConfig.register(ArmConfig.model_type, ArmConfig, exist_ok=True)
    AutoModelForCausalLM.register(ArmConfig, ArmForCausalLM, exist_ok=True)
    AutoProcessor.register(ArmConfig, ArmProcessor, exist_ok=True)
    AutoTokenizer.register(ArmConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)


register()
