"""What every task shares: the protocol, and how text becomes ids.

Text only: facts about things that no picture shows.

Image -> text: questions with short answers, several about one picture, or a caption.

Text -> image: draw what a caption says, or what a fact names indirectly.

Image + instruction -> image.

Image -> the same image: what editing does to everything that an instruction leaves alone.

Several turns: draw, ask about it, edit it, ask again.

The world's mix of tasks."""

from collections.abc import Callable, Sequence

import numpy as np

from arm.data.mixture import Dropout, Mix, Ratios, drop_some
from arm.sequence import Image, Sample, Text, Tokenize, Turn, assistant, user
from arm.world.chains import Chain
from arm.world.language import caption, long_caption
from arm.world.questions import ASKERS, FACTS, applicable, ask, fact_turn, indirect_caption
from arm.world.sampling import pick
from arm.world.scene import Scene

Task = Callable[[np.random.Generator, Chain, Tokenize], Sample | None]
"""A chain of pictures -> one training sample, or None where the chain does not serve the task."""


def text(tokenize: Tokenize, sentence: str) -> Text:
    return Text(tokenize(sentence))


def picture(chain: Chain, index: int) -> Image:
    return Image(chain.codes[index].astype(np.int64))


FACTS_PER_SAMPLE = 2


def facts(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    turns: list[Turn] = []
    for _ in range(FACTS_PER_SAMPLE):
        question, answer = fact_turn(rng, FACTS[int(rng.integers(len(FACTS)))])
        turns += [user(text(tokenize, question)), assistant(text(tokenize, answer))]
    return tuple(turns)


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


INDIRECT = 0.12
"""Share of prompts that name an attribute by a fact, where one applies."""


def prompt_for(rng: np.random.Generator, scene: Scene) -> str:
    if rng.random() < INDIRECT:
        facts = applicable(scene)
        if facts:
            found = indirect_caption(rng, scene, facts[int(rng.integers(len(facts)))])
            if found is not None:
                return found
    return caption(rng, scene)


def draw(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    index = int(rng.integers(len(chain.scenes)))
    prompt = prompt_for(rng, chain.scenes[index])
    return user(text(tokenize, prompt)), assistant(picture(chain, index))


def edit(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample | None:
    if not chain.edits:
        return None
    index = int(rng.integers(len(chain.edits)))
    instruction = text(tokenize, chain.edits[index].instruction)
    return user(picture(chain, index), instruction), assistant(picture(chain, index + 1))


ASK = ("show this picture", "draw this picture", "create this picture", "please show this image")


def copying(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    image = picture(chain, int(rng.integers(len(chain.scenes))))
    return user(image, text(tokenize, pick(rng, ASK))), assistant(image)


def interleaved(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    prompt = text(tokenize, prompt_for(rng, chain.scenes[0]))
    turns: list[Turn] = [user(prompt), assistant(picture(chain, 0))]
    for index, change in enumerate(chain.edits[:1]):
        turns += question_turns(rng, chain.scenes[index], tokenize, 1)
        instruction = text(tokenize, change.instruction)
        turns += [user(instruction), assistant(picture(chain, index + 1))]
        turns += question_turns(rng, chain.scenes[index + 1], tokenize, 1)
    return tuple(turns)


TASKS: dict[str, Task] = {
    "text": facts,
    "image_to_text": understand,
    "text_to_image": draw,
    "editing": edit,
    "interleaved": interleaved,
    "copying": copying,
}
GUIDED = ("text_to_image", "editing")
"""Tasks whose condition is sometimes dropped."""


def world_samples(
    chains: Sequence[Chain], ratios: Ratios, dropout: Dropout, tokenize: Tokenize
) -> Mix:
    """The mix of the world's tasks, each sample from a random chain that serves its task."""
    names = tuple(TASKS)
    weights = np.array([getattr(ratios, name) for name in names])

    def draw(rng: np.random.Generator) -> tuple[Sample, int]:
        while True:
            kind = int(rng.choice(len(names), p=weights / weights.sum()))
            chain = chains[int(rng.integers(len(chains)))]
            sample = TASKS[names[kind]](rng, chain, tokenize)
            if sample is not None:
                guided = names[kind] in GUIDED
                return (drop_some(rng, sample, dropout) if guided else sample), kind

    return Mix(tuple(f"world/{name}" for name in names), draw)
