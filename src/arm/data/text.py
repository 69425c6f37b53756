"""Text only: facts about things that no picture shows."""

import numpy as np

from arm.data.shards import Chain
from arm.data.tasks import Tokenize, text
from arm.sequence import Sample, Turn, assistant, user
from arm.world.facts import FACTS, fact_turn

FACTS_PER_SAMPLE = 2


def facts(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    turns: list[Turn] = []
    for _ in range(FACTS_PER_SAMPLE):
        question, answer = fact_turn(rng, FACTS[int(rng.integers(len(FACTS)))])
        turns += [user(text(tokenize, question)), assistant(text(tokenize, answer))]
    return tuple(turns)
