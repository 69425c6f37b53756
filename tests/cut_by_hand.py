"""The distribution that tokens are sampled from, worked out without tensors."""

import numpy as np
from numpy.typing import NDArray

from arm.sampling import Sampling


def cut_by_hand(logits: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """Log-probabilities of one row by sorting a list: temperature, then top-k, then top-p."""
    scaled = [float(x) / sampling.temperature for x in logits]
    kept = sorted(range(len(scaled)), key=lambda i: -scaled[i])
    kept = [i for i in kept if scaled[i] > -np.inf][: sampling.top_k or None]
    total = sum(np.exp(scaled[i]) for i in kept)
    nucleus, mass = [], 0.0
    for i in kept:
        if mass < sampling.top_p:
            nucleus.append(i)
        mass += float(np.exp(scaled[i]) / total)
    total = sum(np.exp(scaled[i]) for i in nucleus)
    result = np.full(len(scaled), -np.inf)
    result[nucleus] = [scaled[i] - np.log(total) for i in nucleus]
    return result
