"""One id space (ARM section 3): text, then special, then shape tokens, then visual codes.

The only place in the package that adds or subtracts offsets.
"""

from dataclasses import dataclass

SPECIAL_TOKENS = ("<pad>", "<user>", "<assistant>", "<end>", "<image>", "</image>")


@dataclass(frozen=True)
class Vocab:
    """Sizes of the four ranges. `text_size` counts the text tokenizer's ids, which stay unchanged;
    grids have 1 to `max_side` tokens a side; codes are 0 to num_codes - 1. The codes of each picture
    start at a position that is a multiple of `image_stride` (1: at the next position). Raises ValueError for
    sizes that no id space has.
    """

    text_size: int
    num_codes: int
    max_side: int
    image_stride: int = 1

    def __post_init__(self) -> None:
        if min(self.num_codes, self.max_side, self.image_stride) < 1 or self.text_size < 0:
            raise ValueError(
                f"num_codes, max_side and image_stride must be at least 1, text_size at least 0: {self}"
            )

    def first_position(self, position: int) -> int:
        """The first position from `position` on at which a picture's codes may start.

        With a stride, two pictures of a sample lie a fixed distance apart whatever is said between
        them, so that attention by relative position can look up the same place in both.
        """
        return -(-position // self.image_stride) * self.image_stride

    @property
    def pad(self) -> int:
        return self.text_size

    @property
    def user(self) -> int:
        return self.text_size + 1

    @property
    def assistant(self) -> int:
        return self.text_size + 2

    @property
    def end(self) -> int:
        return self.text_size + 3

    @property
    def image(self) -> int:
        return self.text_size + 4

    @property
    def image_end(self) -> int:
        return self.text_size + 5

    @property
    def _shapes(self) -> int:
        return self.text_size + len(SPECIAL_TOKENS)

    @property
    def first_code(self) -> int:
        """The first id of a code, and so the number of rows of the text embedding."""
        return self._shapes + 2 * self.max_side

    @property
    def size(self) -> int:
        return self.first_code + self.num_codes

    def height(self, tokens: int) -> int:
        """The id of <h=tokens>. Raises ValueError outside 1..max_side."""
        return self._shapes + self._side(tokens) - 1

    def width(self, tokens: int) -> int:
        """The id of <w=tokens>. Raises ValueError outside 1..max_side."""
        return self._shapes + self.max_side + self._side(tokens) - 1

    def heights(self) -> range:
        return range(self._shapes, self._shapes + self.max_side)

    def widths(self) -> range:
        return range(self._shapes + self.max_side, self.first_code)

    def side(self, shape_id: int) -> int:
        """The number of tokens that a shape id names."""
        if not self._shapes <= shape_id < self.first_code:
            raise ValueError(f"{shape_id} is no shape id ({self._shapes}..{self.first_code - 1})")
        return (shape_id - self._shapes) % self.max_side + 1

    def code(self, code: int) -> int:
        """The id of a visual code. Raises ValueError outside 0..num_codes - 1."""
        if not 0 <= code < self.num_codes:
            raise ValueError(f"code {code} is outside 0..{self.num_codes - 1}")
        return self.first_code + code

    def is_code(self, token: int) -> bool:
        return self.first_code <= token < self.size

    def code_of(self, token: int) -> int:
        """The visual code of an id. Raises ValueError for any other id."""
        if not self.is_code(token):
            raise ValueError(f"{token} is no visual id ({self.first_code}..{self.size - 1})")
        return token - self.first_code

    def _side(self, tokens: int) -> int:
        if not 1 <= tokens <= self.max_side:
            raise ValueError(f"a grid side of {tokens} tokens is outside 1..{self.max_side}")
        return tokens
