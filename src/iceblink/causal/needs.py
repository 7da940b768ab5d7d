"""What all of this stands on is installed, or the import says what to do."""

from __future__ import annotations

from iceblink.interop import optional

for _package in ("scipy", "threadpoolctl", "networkx"):
    optional(_package, "causal")
