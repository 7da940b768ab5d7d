"""PyTorch, opened when first used: it is an extra, and slow to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.interop import optional
from iceblink.late import Late

__all__ = ["needs_torch", "torch_loader"]

if TYPE_CHECKING:
    import iceblink.load.torch_loader as torch_loader
else:
    torch_loader = Late("iceblink.load.torch_loader")


def needs_torch() -> None:
    """Raise ConfigError where PyTorch is not installed."""
    optional("torch")
