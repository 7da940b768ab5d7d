"""``_``, the row being described: what `iceblink` gives to whoever writes expressions."""

from ibis import _ as row

__all__ = ["row"]
