"""Property tests assert no time, and in CI draw the same examples each time."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("iceblink", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("iceblink")
