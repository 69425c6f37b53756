"""Text -> image: draw what a caption says, or what a fact names indirectly."""

import numpy as np

from arm.data.shards import Chain
from arm.data.tasks import Tokenize, picture, text
from arm.sequence import Sample, assistant, user
from arm.world.captions import caption
from arm.world.facts import applicable, indirect_caption
from arm.world.scene import Scene

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
