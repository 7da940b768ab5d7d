"""`moto` whose S3 has a clock that a file sets: ``python moto_with_clock.py FILE``, then what moto's server takes.

The file has a number: by how many seconds its clock is ahead of that of this machine.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

from moto.core.utils import utcnow
from moto.s3 import models
from moto.server import main

clock = Path(sys.argv.pop(1))


def now() -> datetime:
    """Return the time by the clock of S3."""
    return utcnow() + timedelta(seconds=float(clock.read_text()))


vars(models)["utcnow"] = now
main(sys.argv[1:])
