"""Loaders, opened when first used: a query feeds no model, and PyTorch, TensorFlow and JAX are slow extras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.interop import optional
from iceblink.late import Late

__all__ = ["jax_loader", "loader", "needs_jax", "needs_tf", "needs_torch", "opening", "tf_loader", "torch_loader"]

if TYPE_CHECKING:
    import iceblink.load.jax_loader as jax_loader
    import iceblink.load.loader as loader
    import iceblink.load.opening as opening
    import iceblink.load.tf_loader as tf_loader
    import iceblink.load.torch_loader as torch_loader
else:
    jax_loader = Late("iceblink.load.jax_loader")
    loader = Late("iceblink.load.loader")
    opening = Late("iceblink.load.opening")
    tf_loader = Late("iceblink.load.tf_loader")
    torch_loader = Late("iceblink.load.torch_loader")


def needs_torch() -> None:
    """Raise ConfigError where PyTorch is not installed."""
    optional("torch")


def needs_tf() -> None:
    """Raise ConfigError where TensorFlow is not installed."""
    optional("tensorflow", extra="tf")


def needs_jax() -> None:
    """Raise ConfigError where JAX is not installed."""
    optional("jax")
