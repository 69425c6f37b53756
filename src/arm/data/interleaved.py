"""Several turns: draw, ask about it, edit it, ask again."""

import numpy as np

from arm.data.shards import Chain
from arm.data.t2i import prompt_for
from arm.data.tasks import Tokenize, picture, text
from arm.data.understand import question_turns
from arm.sequence import Sample, Turn, assistant, user


def interleaved(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    prompt = text(tokenize, prompt_for(rng, chain.scenes[0]))
    turns: list[Turn] = [user(prompt), assistant(picture(chain, 0))]
    for index, change in enumerate(chain.edits[:1]):
        turns += question_turns(rng, chain.scenes[index], tokenize, 1)
        instruction = text(tokenize, change.instruction)
        turns += [user(instruction), assistant(picture(chain, index + 1))]
        turns += question_turns(rng, chain.scenes[index + 1], tokenize, 1)
    return tuple(turns)
