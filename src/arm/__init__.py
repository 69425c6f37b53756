"""ARM: one autoregressive model that understands, draws and edits pictures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arm.pipeline import Arm

__version__ = "0.1.0"
__all__ = ["Arm", "__version__"]


def __getattr__(name: str) -> Any:
    """`arm.Arm`, imported at first use, since it takes torch and transformers along."""
    if name == "Arm":
        from arm.pipeline import Arm

        return Arm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
