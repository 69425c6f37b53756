"""Image -> text: questions with short answers, several about one picture, or a caption."""

import numpy as np

from arm.data.shards import Chain
from arm.data.tasks import Tokenize, picture, text
from arm.sequence import Sample, Turn, assistant, user
from arm.world.captions import long_caption
from arm.world.questions import ASKERS, ask
from arm.world.sampling import pick
from arm.world.scene import Scene

QUESTIONS = 6
DESCRIBE = ("what do you see ?", "tell me about this picture", "what is in the picture ?")
KINDS = (*ASKERS, "existence", "count", "position", "comparison")
"""Kinds as often as asked: those that are harder to learn twice."""


def question_turns(
    rng: np.random.Generator, scene: Scene, tokenize: Tokenize, count: int
) -> list[Turn]:
    turns: list[Turn] = []
    for _ in range(count):
        question = ask(rng, scene, pick(rng, KINDS))
        if question is not None:
            turns += [
                user(text(tokenize, question.text)),
                assistant(text(tokenize, question.answer)),
            ]
    return turns


def understand(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample | None:
    index = int(rng.integers(len(chain.scenes)))
    scene, image = chain.scenes[index], picture(chain, index)
    if rng.random() < 0.12:
        answer = long_caption(rng, scene)
        return user(image, text(tokenize, pick(rng, DESCRIBE))), assistant(text(tokenize, answer))
    turns = question_turns(rng, scene, tokenize, QUESTIONS)
    if not turns:
        return None
    first = user(image, *turns[0].parts)
    return (first, *turns[1:])
