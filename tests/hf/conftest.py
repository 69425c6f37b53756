"""The tiny chain's model in Hugging Face's layout."""

from pathlib import Path

import pytest

from arm.hf.files import to_hf
from conftest import TinyChain


@pytest.fixture(scope="session")
def exported(chain: TinyChain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hf") / "model"
    to_hf(chain.model, out)
    return out
