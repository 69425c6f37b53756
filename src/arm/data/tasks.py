"""What every task shares: the protocol, and how text becomes ids."""

from collections.abc import Callable

import numpy as np

from arm.data.shards import Chain
from arm.sequence import Image, Sample, Text

Tokenize = Callable[[str], tuple[int, ...]]
"""A sentence -> ids of the text tokenizer."""

Task = Callable[[np.random.Generator, Chain, Tokenize], Sample | None]
"""A chain of pictures -> one training sample, or None where the chain does not serve the task."""


def text(tokenize: Tokenize, sentence: str) -> Text:
    return Text(tokenize(sentence))


def picture(chain: Chain, index: int) -> Image:
    return Image(chain.codes[index].astype(np.int64))
