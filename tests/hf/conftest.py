"""The tiny chain's model in a folder of its own, as another machine would have it."""

from pathlib import Path

import pytest

from arm.hf.files import copy_model
from conftest import TinyChain


@pytest.fixture(scope="session")
def exported(chain: TinyChain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hf") / "model"
    copy_model(chain.model, out)
    return out
