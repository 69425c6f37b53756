"""The model as VLMEvalKit runs it: `generate_inner` over a message of texts and pictures.

    from functools import partial
    from vlmeval.config import supported_VLM
    supported_VLM["arm"] = partial(ArmModel, model_path="micro")

One request at a time, as that harness asks. A request that the model cannot take is answered by "", and
why is logged.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vlmeval.vlm.base import BaseModel  # pyright: ignore[reportMissingImports]

from arm.errors import InputError
from arm.evals.requests import answer, answering, as_turn, from_message
from arm.pipeline import Arm


class ArmModel(BaseModel):
    """model_path: a shipped name or a directory. known_words: words that the model does not know are
    left out. options: generation options as transformers names them (max_new_tokens, temperature).
    """

    INTERLEAVE = True

    def __init__(
        self,
        model_path: str = "micro",
        known_words: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.arm = Arm.from_pretrained(model_path)
        self.known_words, self.seed = known_words, seed
        self.answering = answering(options)

    def generate_inner(
        self, message: Sequence[Mapping[str, Any]], dataset: str | None = None
    ) -> str:
        """The answer to a message: dicts of type text or image, an image's value being its path."""
        try:
            turn = as_turn(self.arm, from_message(message), known_words=self.known_words)
        except InputError as error:
            logging.getLogger(__name__).warning("%s", error)
            return ""
        return answer(self.arm, [turn], self.answering, seed=self.seed)[0]
