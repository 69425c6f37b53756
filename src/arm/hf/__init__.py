"""The whole model in the Hugging Face ecosystem.

    import arm.hf                                           # registers the classes below
    model = AutoModelForCausalLM.from_pretrained(directory)
    processor = AutoProcessor.from_pretrained(directory)

`arm.hf.files` writes and reads such directories. They hold no code: without `import arm.hf`
transformers does not know them, and trust_remote_code changes nothing.
"""

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from arm.hf.configuration import ArmConfig
from arm.hf.modeling import ArmForCausalLM
from arm.hf.processing import ArmProcessor

__all__ = ["ArmConfig", "ArmForCausalLM", "ArmProcessor", "register"]


def register() -> None:
    """Makes transformers' Auto classes know the model. Called at import; harmless when repeated."""
    AutoConfig.register(ArmConfig.model_type, ArmConfig, exist_ok=True)
    AutoModelForCausalLM.register(ArmConfig, ArmForCausalLM, exist_ok=True)
    AutoProcessor.register(ArmConfig, ArmProcessor, exist_ok=True)
    AutoTokenizer.register(ArmConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)


register()
