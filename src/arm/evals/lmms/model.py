"""The model as lmms-eval runs it (its `simple` interface, version 0.7): `--model arm`.

    lmms-eval --model arm --model_args pretrained=micro --tasks TASK --batch_size 64

A request whose words or pictures the model cannot take is answered by nothing, which lmms-eval counts
as wrong; how many and why is said at the end.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import (  # pyright: ignore[reportMissingImports]
    GenerationResult,
)
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]

from arm.errors import ConfigError, InputError, did_you_mean
from arm.evals.requests import (
    answer,
    answering,
    as_turn,
    draw,
    interleaved,
    likelihoods,
    picture_reply,
    save_picture,
)
from arm.pipeline import BATCH, Arm
from arm.sequence import Turn

MODES = ("understanding", "generation")


class ArmModel(lmms):
    """`mode` understanding answers in words; generation answers by a picture, drawn from words alone
    or edited from the picture that comes with them.

    pretrained: a shipped name or a directory. known_words: words that the model does not know are left
    out. output_dir: where pictures are written. Raises ConfigError for other arguments.
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
        if mode not in MODES:
            raise ConfigError(f"--model_args: mode must be {' or '.join(MODES)}, not '{mode}'")
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
        """Answers in words, or in `generation` the JSON {"text", "images"} of a picture's path."""
        reply = self._answers if self.mode == MODES[0] else self._pictures
        return self._run(requests, self._turn_of, reply, nothing="")

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """For multiple choice: minus the log-probability of each continuation in nats, and whether
        greedy answering says it. Minus, since lmms-eval chooses the smallest; wrapped, since its
        version 0.7 turns a bare pair into a string.
        """

        def read(arguments: Sequence[Any]) -> tuple[Turn, str]:
            said = arguments[1]
            said = str(said(self._doc(arguments)) if callable(said) else said)
            said = self.arm.text_tokenizer.known(said) if self.known_words else said
            self.arm.text_tokenizer.ids(said)
            return self._turn_of(arguments), said

        def reply(_: Sequence[Any], pairs: Sequence[tuple[Turn, str]], *__: Any) -> list[Any]:
            turns, said = [turn for turn, _ in pairs], [words for _, words in pairs]
            return [(-logprob, greedy) for logprob, greedy in likelihoods(self.arm, turns, said)]

        found = self._run(requests, read, reply, nothing=(float("inf"), False))
        return [GenerationResult(pair) for pair in found]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[tuple[str, ...]]:
        """Every round is a question of its own, worded by the task from the answers so far."""
        return self._run(
            requests,
            lambda arguments: arguments,
            lambda chunk, *_: [self._rounds(arguments) for arguments in chunk],
            nothing=(),
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
        """Indices in batches of one task, and the place of the first within its task.

        What a request samples so depends on its place in its task, not on the tasks beside it.
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
        nothing: Any,
    ) -> list[Any]:
        """Replies in the order of the requests; `read` may refuse one by an InputError, and the others
        keep their places in the task.

        Raises InputError where all are refused.
        """
        replies: list[Any] = [nothing] * len(requests)
        refused: list[str] = []
        for start, indices in self._batches(requests):
            taken, items, places = [], [], []
            for place, index in enumerate(indices, start):
                try:
                    items.append(read(requests[index].args))
                    taken.append(index)
                    places.append(place)
                except InputError as error:
                    refused.append(str(error))
            chunk = [requests[index].args for index in taken]
            found = reply(chunk, items, places) if chunk else []
            for index, said in zip(taken, found, strict=True):
                replies[index] = said
        if refused:
            why = f"{len(refused)} of {len(requests)} requests cannot be taken: {refused[0]}"
            if len(refused) == len(requests):
                raise InputError(why)
            logging.getLogger(__name__).warning("%s", why)
        return replies

    def _answers(
        self, chunk: Sequence[Any], turns: Sequence[Turn], places: Sequence[int]
    ) -> list[str]:
        return answer(self.arm, turns, answering(chunk[0][1]), seed=self.seed, first=places)

    def _pictures(
        self, chunk: Sequence[Any], turns: Sequence[Turn], places: Sequence[int]
    ) -> list[str]:
        found = []
        drawn = draw(self.arm, turns, seed=self.seed, first=places)
        for (*_, doc_id, task, _split), picture in zip(chunk, drawn, strict=True):
            path = self.output_dir / f"{task}_{doc_id}_0.png"
            save_picture(picture, path)
            found.append(picture_reply([path]))
        return found

    def _rounds(self, arguments: Sequence[Any]) -> tuple[str, ...]:
        """Asks until the task says that it is over; a round that cannot be taken is answered by ""."""
        context, options, to_visual, to_text = arguments[:4]
        doc = self._doc(arguments)
        visuals = to_visual(doc) if to_visual else ()
        said: list[str] = []
        information = None
        while True:
            try:
                turn = self._turn(context, visuals)
                said += answer(self.arm, [turn], answering(options), seed=self.seed)
            except InputError as error:
                logging.getLogger(__name__).warning("%s", error)
                said.append("")
            visuals, context, over, outputs, information = to_text(
                doc,
                previous_output=list(said),
                round_idx=len(said),
                previous_round_info=information,
            )
            if over:
                return tuple(outputs)
            said = list(outputs)
