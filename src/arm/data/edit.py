"""Image + instruction -> image."""

import numpy as np

from arm.data.shards import Chain
from arm.data.tasks import Tokenize, picture, text
from arm.sequence import Sample, assistant, user


def edit(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample | None:
    if not chain.edits:
        return None
    index = int(rng.integers(len(chain.edits)))
    instruction = text(tokenize, chain.edits[index].instruction)
    return user(picture(chain, index), instruction), assistant(picture(chain, index + 1))
