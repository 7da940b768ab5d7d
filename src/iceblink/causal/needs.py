"""All of this stands on packages of an extra, or the import says what to do."""

from __future__ import annotations

from iceblink.interop import required

required("causal", "scipy", "threadpoolctl", "networkx")
