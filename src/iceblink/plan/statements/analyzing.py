"""``ANALYZE TABLE``."""

from __future__ import annotations

from iceblink.plan.statements.kinds import Analyze
from iceblink.plan.statements.words import Words

_HINT = "write COMPUTE STATISTICS, and perhaps FOR COLUMNS a, b or FOR ALL COLUMNS"


def analyze(words: Words) -> Analyze:
    """Read what comes after ``ANALYZE``."""
    words.expect("TABLE", hint="write ANALYZE TABLE t COMPUTE STATISTICS")
    name = words.dotted("the name of a table")
    words.expect("COMPUTE", "STATISTICS", hint=_HINT)
    columns: tuple[str, ...] | None = None
    if words.has("NOSCAN"):
        raise words.fail("NOSCAN would count rows and bytes, which every snapshot says already", _HINT)
    if words.accept("FOR") and not words.accept("ALL", "COLUMNS"):
        words.expect("COLUMNS", hint=_HINT)
        columns = tuple(words.several(lambda: words.name("a column")))
    words.end(_HINT)
    return Analyze(name, columns)
