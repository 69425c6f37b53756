"""Image -> the same image: what editing does to everything that an instruction leaves alone."""

import numpy as np

from arm.data.shards import Chain
from arm.data.tasks import Tokenize, picture, text
from arm.sequence import Sample, assistant, user
from arm.world.sampling import pick

ASK = ("show this picture", "draw this picture", "create this picture", "please show this image")


def copying(rng: np.random.Generator, chain: Chain, tokenize: Tokenize) -> Sample:
    image = picture(chain, int(rng.integers(len(chain.scenes))))
    return user(image, text(tokenize, pick(rng, ASK))), assistant(image)
