"""The model as other harnesses run it: lmms-eval (`LmmsModel`) and VLMEvalKit (`VLMEvalModel`).

    lmms-eval --model arm --model_args pretrained=micro --tasks TASK --batch_size 64

    from functools import partial
    from vlmeval.config import supported_VLM
    supported_VLM["arm"] = partial(VLMEvalModel, model_path="micro")

lmms-eval finds the model by the entry point `arm.evals:lmms_eval_manifest` and uses its `simple`
interface, version 0.7. A request that the model cannot take gets an empty answer, which the harness
counts as wrong; the reason is logged.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from arm.errors import ConfigError, InputError, did_you_mean
from arm.evals.requests import (
    answer,
    answer_options,
    as_turn,
    draw,
    from_message,
    interleaved,
    likelihoods,
    picture_reply,
    save_picture,
)
from arm.pipeline import BATCH, Arm
from arm.sequence import Turn

LMMS_MODES = ("understanding", "generation")
logger = logging.getLogger(__name__)


def _base_class(module: str, name: str) -> Any:
    """The class that a harness's models derive from; `object` where the harness is not installed."""
    try:
        return getattr(import_module(module), name)
    except ImportError:
        return object


class VLMEvalModel(_base_class("vlmeval.vlm.base", "BaseModel")):
    """The model for VLMEvalKit, which asks one request at a time.

    model_path: a shipped name or a directory. known_words: leave out words that the model does not
    know. options: generation options as transformers names them (max_new_tokens, temperature).
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
        self.options = answer_options(options)

    def generate_inner(
        self, message: Sequence[Mapping[str, Any]], dataset: str | None = None
    ) -> str:
        """The answer to a message: dicts of type text or image, an image's value being its path."""
        try:
            turn = as_turn(self.arm, from_message(message), known_words=self.known_words)
        except InputError as error:
            logger.warning("%s", error)
            return ""
        return answer(self.arm, [turn], self.options, seed=self.seed)[0]


class LmmsModel(_base_class("lmms_eval.api.model", "lmms")):
    """The model for lmms-eval.

    pretrained: a shipped name or a directory. mode: "understanding" answers with text, "generation"
    with a picture, drawn from text or edited from the picture that comes with it. known_words: leave
    out words that the model does not know. output_dir: where pictures are written.

    Raises ConfigError for other arguments.
    """

    def __init__(
        self,
        pretrained: str = "micro",
        mode: str = "understanding",
        seed: int = 0,
        known_words: bool = False,
        output_dir: str = "lmms_pictures",
        decoder: str | None = None,
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        names = ("pretrained", "mode", "seed", "known_words", "output_dir", "decoder")
        for name in unknown:
            raise ConfigError(
                f"--model_args: there is no '{name}'; there are {', '.join(names)}."
                f"{did_you_mean(name, names)}"
            )
        if mode not in LMMS_MODES:
            raise ConfigError(f"--model_args: mode must be {' or '.join(LMMS_MODES)}, not '{mode}'")
        if device not in (None, "cpu"):
            raise ConfigError(f"--device: this model runs on cpu, not on {device}")
        self.arm = Arm.from_pretrained(str(pretrained), decoder)
        self.mode, self.seed, self.known_words = mode, int(seed), bool(known_words)
        self.output_dir = Path(output_dir)
        automatic = str(batch_size).startswith("auto")
        self.batch_size = int(max_batch_size or BATCH) if automatic else int(batch_size)

    @property
    def device(self) -> Any:
        return self.arm.model.embed_tokens.weight.device

    # What lmms-eval calls

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers in text, or in mode "generation" the JSON {"text", "images"} with a picture's path."""
        reply = self._answers if self.mode == LMMS_MODES[0] else self._pictures
        return self._run(requests, self._turn_of, reply, refused_reply="")

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """For multiple choice: the negative log-likelihood (nats) of each continuation, and whether greedy
        answering gives it.

        Negative, because lmms-eval chooses the smallest; in a GenerationResult, because its version
        0.7 turns a plain pair into a string.
        """

        def read(arguments: Sequence[Any]) -> tuple[Turn, str]:
            text = arguments[1]
            text = str(text(self._doc(arguments)) if callable(text) else text)
            text = self.arm.text_tokenizer.known(text) if self.known_words else text
            self.arm.text_tokenizer.ids(text)
            return self._turn_of(arguments), text

        def reply(_: Sequence[Any], pairs: Sequence[tuple[Turn, str]], *__: Any) -> list[Any]:
            turns, texts = [turn for turn, _ in pairs], [text for _, text in pairs]
            return [(-logprob, greedy) for logprob, greedy in likelihoods(self.arm, turns, texts)]

        pairs = self._run(requests, read, reply, refused_reply=(float("inf"), False))
        wrap = import_module("lmms_eval.api.instance").GenerationResult
        return [wrap(pair) for pair in pairs]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[tuple[str, ...]]:
        """Each round is a separate question, which the task words from the answers so far."""
        return self._run(
            requests,
            lambda arguments: arguments,
            lambda chunk, *_: [self._rounds(arguments) for arguments in chunk],
            refused_reply=(),
        )

    # How

    def _doc(self, arguments: Sequence[Any]) -> Any:
        doc_id, task, split = arguments[-3:]
        return self.task_dict[task][split][doc_id]

    def _turn(self, context: str, visuals: Any) -> Turn:
        pictures = [Path(v) if isinstance(v, str) else v for v in visuals or ()]
        return as_turn(self.arm, interleaved(context, pictures), known_words=self.known_words)

    def _turn_of(self, arguments: Sequence[Any]) -> Turn:
        to_visual = arguments[2]
        return self._turn(arguments[0], to_visual(self._doc(arguments)) if to_visual else ())

    def _batches(self, requests: Sequence[Any]) -> Iterator[tuple[int, list[int]]]:
        """Indices in batches of one task, with the position of each batch's first within its task.

        What a request samples so depends on its position in its task, not on the other tasks.
        """
        tasks = [str(request.args[-2:]) for request in requests]
        for _, group in groupby(range(len(requests)), key=tasks.__getitem__):
            indices = list(group)
            for start in range(0, len(indices), self.batch_size):
                yield start, indices[start : start + self.batch_size]

    def _run(
        self,
        requests: Sequence[Any],
        read: Callable[[Sequence[Any]], Any],
        reply: Callable[[Sequence[Any], Sequence[Any], Sequence[int]], list[Any]],
        refused_reply: Any,
    ) -> list[Any]:
        """Replies in the order of the requests.

        `read` may refuse a request by InputError; the others keep their positions in the task. Raises
        InputError where all are refused.
        """
        replies: list[Any] = [refused_reply] * len(requests)
        refused: list[str] = []
        for start, indices in self._batches(requests):
            taken, items, positions = [], [], []
            for position, index in enumerate(indices, start):
                try:
                    items.append(read(requests[index].args))
                    taken.append(index)
                    positions.append(position)
                except InputError as error:
                    refused.append(str(error))
            chunk = [requests[index].args for index in taken]
            outputs = reply(chunk, items, positions) if chunk else []
            for index, output in zip(taken, outputs, strict=True):
                replies[index] = output
        if refused:
            why = f"{len(refused)} of {len(requests)} requests cannot be taken: {refused[0]}"
            if len(refused) == len(requests):
                raise InputError(why)
            logger.warning("%s", why)
        return replies

    def _answers(
        self, chunk: Sequence[Any], turns: Sequence[Turn], positions: Sequence[int]
    ) -> list[str]:
        options = answer_options(chunk[0][1])
        return answer(self.arm, turns, options, seed=self.seed, first=positions)

    def _pictures(
        self, chunk: Sequence[Any], turns: Sequence[Turn], positions: Sequence[int]
    ) -> list[str]:
        replies = []
        drawn = draw(self.arm, turns, seed=self.seed, first=positions)
        for (*_, doc_id, task, _split), picture in zip(chunk, drawn, strict=True):
            path = self.output_dir / f"{task}_{doc_id}_0.png"
            save_picture(picture, path)
            replies.append(picture_reply([path]))
        return replies

    def _rounds(self, arguments: Sequence[Any]) -> tuple[str, ...]:
        """Asks until the task ends the dialogue; a round that cannot be taken is answered by ""."""
        context, options, to_visual, to_text = arguments[:4]
        doc = self._doc(arguments)
        visuals = to_visual(doc) if to_visual else ()
        replies: list[str] = []
        information = None
        while True:
            try:
                turn = self._turn(context, visuals)
                replies += answer(self.arm, [turn], answer_options(options), seed=self.seed)
            except InputError as error:
                logger.warning("%s", error)
                replies.append("")
            visuals, context, over, outputs, information = to_text(
                doc,
                previous_output=list(replies),
                round_idx=len(replies),
                previous_round_info=information,
            )
            if over:
                return tuple(outputs)
            replies = list(outputs)
