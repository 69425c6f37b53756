"""What `generate` may sample, token by token: the rules of `arm.generate` as a logits processor."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

from arm.hf.reading import Next, read_ids
from arm.vocab import Vocab


def allowed_ids(vocab: Vocab) -> Tensor:
    """The ids that each `Next` admits, bool (5, size of the id space)."""
    spans = {
        Next.TEXT: (range(vocab.text_size), range(vocab.end, vocab.image + 1)),
        Next.HEIGHT: (vocab.heights(),),
        Next.WIDTH: (vocab.widths(),),
        Next.CODE: (range(vocab.first_code, vocab.size),),
        Next.IMAGE_END: (range(vocab.image_end, vocab.image_end + 1),),
    }
    table = torch.zeros(len(Next), vocab.size, dtype=torch.bool)
    for kind, ranges in spans.items():
        for span in ranges:
            table[kind, span.start : span.stop] = True
    return table


class PictureGrammar(LogitsProcessor):
    """-inf for every id that cannot follow: inside a picture only codes, exactly H * W of them, then
    </image>; after <image> its height, then its width; elsewhere words, <end> and <image>.
    """

    def __init__(self, vocab: Vocab) -> None:
        self.vocab, self.allowed = vocab, allowed_ids(vocab)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.allowed = self.allowed.to(scores.device)
        following = read_ids(input_ids.to(scores.device), self.vocab).following
        return scores.masked_fill(~self.allowed[following], -torch.inf)
