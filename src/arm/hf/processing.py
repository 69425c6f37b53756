"""`ArmProcessor`: text and pictures -> ids, and ids -> text and pictures."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from arm.data.images import ImageInput, fit_to_grid, open_image, to_bytes, to_float
from arm.errors import InputError
from arm.hf import grammar
from arm.model_directory import (
    PART_FILES,
    TEXT_TOKENIZER_FILES,
    ModelFiles,
    copy_parts,
    load_defaults,
    load_detokenizer,
    model_files,
)
from arm.models.detokenizer import Detokenizer
from arm.models.pretrained import load_siglip
from arm.models.tokenizer import VisualTokenizer
from arm.sequence import pad_rows
from arm.vocab import Vocab

Picture = ImageInput
"""A picture in any form that `open_image` takes, or its codes: integers (H, W) of more than 8 bits."""

PLACEHOLDER = re.compile(r"(<image>(?!\s*<h=)|<code_\d+>)")


class ArmProcessor(ProcessorMixin):
    """The text tokenizer, the visual tokenizer and the decoders of a model directory.

    Each <image> in a text stands for the next of `images` and becomes <image> <h=H> <w=W> code*H*W
    </image>; an <image> that is followed by its height is kept, and opens a picture to be drawn.
    The networks that encode and decode pictures are loaded when they are first needed.
    """

    def __init__(
        self,
        tokenizer: Any,
        text_size: int,
        num_codes: int,
        max_side: int,
        image_stride: int,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template or tokenizer.chat_template)
        self.text_size, self.num_codes = text_size, num_codes
        self.max_side, self.image_stride = max_side, image_stride

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, source: str | Path, **options: Any
    ) -> "ArmProcessor":
        """Reads a model directory, or a hub id, whose visual parts are fetched when they are needed."""
        processor = super().from_pretrained(source, **options)
        processor.tokenizer.name_or_path = str(source)
        return processor

    def save_pretrained(self, save_directory: str | Path, *args: Any, **options: Any) -> Any:
        """Writes the processor, and arm.json and the visual parts where it was loaded from a model.

        Beside what `ArmForCausalLM.save_pretrained` writes, this makes a complete model directory.
        """
        written = super().save_pretrained(str(save_directory), *args, **options)
        if self.tokenizer.name_or_path and not (Path(save_directory) / "arm.json").exists():
            copy_parts(self.files.settings.parent, Path(save_directory))
        return written

    def to_dict(self) -> dict[str, Any]:
        """The sizes of the id space; transformers' own would copy the loaded networks first."""
        sizes = ("text_size", "num_codes", "max_side", "image_stride")
        return {name: getattr(self, name) for name in sizes} | {
            "processor_class": type(self).__name__
        }

    @property
    def vocab(self) -> Vocab:
        return Vocab(self.text_size, self.num_codes, self.max_side, self.image_stride)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask"]

    # Text and pictures -> ids

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        images: Picture | Sequence[Any] | None = None,
        text: str | Sequence[str] | None = None,
        videos: None = None,
        audio: None = None,
        *,
        return_tensors: str | None = None,
        padding: bool = False,
        add_special_tokens: bool = False,
    ) -> BatchFeature:
        """`input_ids` and `attention_mask` of one text (lists of ids) or of several.

        Tensors ("pt", "np") are padded on the left. images: in the order of the texts' <image>, or a
        list for each text. Nothing is added to a text: `apply_chat_template` writes the turns.
        Raises InputError for an unknown word, for another number of pictures than placeholders, and
        for a picture that cannot be read.
        """
        if text is None or videos is not None or audio is not None:
            raise InputError("give a text, with <image> where a picture stands, and images alone")
        texts = [text] if isinstance(text, str) else list(text)
        streams = _streams(images, len(texts))
        rows = [self._ids(one, stream) for one, stream in zip(texts, streams, strict=True)]
        if left := sum(1 for stream in streams for _ in stream):
            raise InputError(f"{left} of the pictures have no <image> in the text")
        if return_tensors is None and not padding:
            data = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}
            one = isinstance(text, str)
            return BatchFeature({name: rows[0] if one else rows for name, rows in data.items()})
        ones = [[1] * len(row) for row in rows]
        data = {
            "input_ids": pad_rows(rows, self.vocab.pad, left=True).tolist(),
            "attention_mask": pad_rows(ones, 0, left=True).tolist(),
        }
        return BatchFeature(data, tensor_type=return_tensors)

    def _ids(self, text: str, images: Iterator[Picture]) -> list[int]:
        ids: list[int] = []
        for piece in PLACEHOLDER.split(text):
            if piece == "<image>":
                image = next(images, None)
                if image is None:
                    raise InputError("there are more <image> in the text than pictures")
                ids += self.image_ids(self.encode_image(image))
            elif piece.startswith("<code_") and PLACEHOLDER.fullmatch(piece):
                ids.append(self._code_id(piece))
            elif piece:
                ids += self._text_ids(piece)
        return ids

    def _text_ids(self, text: str) -> list[int]:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for id_, (start, end) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
            if id_ == self.tokenizer.unk_token_id:
                raise InputError(f"the model does not know the word '{text[start:end]}'")
        return encoded.input_ids

    def _code_id(self, name: str) -> int:
        try:
            return self.vocab.code(int(name[len("<code_") : -1]))
        except ValueError as error:
            raise InputError(f"{name}: {error}") from None

    def image_ids(self, codes: NDArray[np.int64]) -> list[int]:
        """<image> <h=H> <w=W>, the codes (H, W) row by row, </image>. Raises InputError."""
        vocab = self.vocab
        try:
            opening = [vocab.image, vocab.height(codes.shape[0]), vocab.width(codes.shape[1])]
            return [*opening, *(vocab.code(int(code)) for code in codes.ravel()), vocab.image_end]
        except ValueError as error:
            raise InputError(str(error)) from None

    def encode_image(self, image: Picture) -> NDArray[np.int64]:
        """A picture -> its codes (H, W); codes stay as they are."""
        if isinstance(image, np.ndarray | Tensor) and image.ndim == 2:
            array = np.asarray(image)
            if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
                return array
        opened = open_image(image)
        grids, patch = load_defaults(self.files.settings.parent).grids, self._visual.patch
        return self._visual.encode(to_float(fit_to_grid(opened, grids, patch)[None]))[0].numpy()

    def labels(self, input_ids: Tensor) -> Tensor:
        """Labels of fine-tuning (B, T): what the assistant says; -100 elsewhere (`answer_labels`)."""
        return grammar.answer_labels(input_ids, self.vocab)

    # Ids -> text and pictures

    def decode(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, ids: Any, skip_special_tokens: bool = False, **options: Any
    ) -> str:
        """The text of ids (T,); codes as <code_123>. skip_special_tokens keeps only ordinary text."""
        pieces: list[str] = []
        row = torch.as_tensor(ids).flatten().tolist()
        for are_codes, run in groupby(row, self.vocab.is_code):
            if not are_codes:
                pieces.append(self.tokenizer.decode(list(run), skip_special_tokens, **options))
            elif not skip_special_tokens:
                pieces += [f"<code_{self.vocab.code_of(i)}>" for i in run]
        return "".join(pieces)

    def batch_decode(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, ids: Any, skip_special_tokens: bool = False, **options: Any
    ) -> list[str]:
        """`decode` of each row of ids."""
        return [self.decode(row, skip_special_tokens, **options) for row in ids]

    def codes(self, ids: Tensor) -> list[NDArray[np.int64]]:
        """The codes (H, W) of every picture in ids (T,) or (B, T), in their order.

        Raises InputError for an unfinished picture.
        """
        try:
            return grammar.picture_codes(torch.atleast_2d(torch.as_tensor(ids)), self.vocab)
        except ValueError as error:
            raise InputError(str(error)) from None

    def decode_images(
        self, ids: Tensor, *, seed: int = 0, decoder: str | None = None
    ) -> list[Pillow.Image]:
        """The pictures in ids (T,) or (B, T), painted by pixel, flux or sana (None: the default)."""
        painter = self._painter(decoder)
        codes = [torch.from_numpy(grid)[None] for grid in self.codes(ids)]
        return [Pillow.fromarray(to_bytes(painter.decode(one, seed=seed))[0]) for one in codes]

    # The visual parts, loaded when first needed

    @cached_property
    def files(self) -> ModelFiles:
        """Where the model's files lie; the visual parts are fetched where the processor came from the hub."""
        source = Path(self.tokenizer.name_or_path)
        if not source.is_dir():
            from huggingface_hub import snapshot_download

            names = [
                "arm.json",
                *PART_FILES,
                *(f"text_tokenizer/{f}" for f in TEXT_TOKENIZER_FILES),
            ]
            patterns = [*names, *(f"parts/{name}" for name in names)]
            source = Path(snapshot_download(str(source), allow_patterns=patterns))
        return model_files(source)

    @cached_property
    def _visual(self) -> VisualTokenizer:
        parts = self.files.parts
        return VisualTokenizer.load(parts, load_siglip(parts / "siglip").vision_model)

    def _painter(self, name: str | None) -> Detokenizer:
        chosen = name or load_defaults(self.files.settings.parent).detokenizer
        return load_detokenizer(self.files.parts, self._visual, chosen)


def _streams(images: Any, count: int) -> list[Iterator[Picture]]:
    """The pictures of each of `count` texts; a flat list is one stream that all texts draw from."""
    listed = list(images) if isinstance(images, list | tuple) else [images]
    if images is None:
        listed = []
    if not any(isinstance(image, list | tuple) for image in listed):
        return [iter(listed)] * count
    if len(listed) != count:
        raise InputError(f"there are {count} texts, but {len(listed)} lists of pictures")
    return [iter(group) for group in listed]
