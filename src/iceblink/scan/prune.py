"""Row groups that cannot hold a wanted row: by their statistics, Bloom filters and page index.

Nothing is dropped on doubt. Values are ordered as the query kernel orders them: not-a-number is equal to itself and
above every number, and Parquet's statistics do not count it, so an upper bound of floats bounds nothing.

References
----------
.. [1] Apache Parquet format, ``parquet.thrift``: Statistics, ColumnOrder; ``PageIndex.md``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from iceblink.lake.row_lineage import is_lineage
from iceblink.lake.storage import Storage
from iceblink.predicate import (
    And,
    Compare,
    Everything,
    IsIn,
    IsNull,
    Nothing,
    NotNull,
    Or,
    Predicate,
    StartsWith,
    columns,
)
from iceblink.scan.bloom import BloomFilter, read_bloom
from iceblink.scan.damage import reading
from iceblink.scan.footer import Footer
from iceblink.scan.plain import decode, encode
from iceblink.scan.project import Column, Projection
from iceblink.scan.thrift import Want, read_struct

# ids in parquet.thrift
_NULL_PAGES, _MIN_VALUES, _MAX_VALUES, _NULL_COUNTS = 1, 2, 3, 5
_PAGE_INDEX: dict[int, Want] = dict.fromkeys((_NULL_PAGES, _MIN_VALUES, _MAX_VALUES, _NULL_COUNTS))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of the values of one column in some rows; the default is nothing.

    Parameters
    ----------
    lower, upper : object
        No value but a not-a-number is beyond them; None when unknown.
    no_nulls, all_null : bool
        Known to be so.
    nan : bool
        Whether there may be a not-a-number.
    """

    lower: Any = None
    upper: Any = None
    no_nulls: bool = False
    all_null: bool = False
    nan: bool = False


UNKNOWN = Bounds(nan=True)
Test = Callable[[Predicate], bool]


def may_hold(predicate: Predicate, test: Test) -> bool:
    """Tell whether some row may satisfy `predicate`, given `test` for its comparisons."""
    match predicate:
        case And(left, right):
            return may_hold(left, test) and may_hold(right, test)
        case Or(left, right):
            return may_hold(left, test) or may_hold(right, test)
        case Everything():
            return True
        case Nothing():
            return False
    return test(predicate)


def within(comparison: Predicate, bounds: Bounds) -> bool:
    """Tell whether some value inside `bounds` may satisfy a comparison of its column."""
    if bounds.all_null:
        return isinstance(comparison, IsNull)
    try:
        match comparison:
            case IsNull():
                return not bounds.no_nulls
            case NotNull():
                return True
            case Compare(_, op, value):
                return _compares(op, value, bounds)
            case IsIn(_, values):
                return any(_compares("=", value, bounds) for value in values)
            case StartsWith(_, prefix):
                above = bounds.upper is None or bounds.upper >= prefix
                return above and (bounds.lower is None or bounds.lower[: len(prefix)] <= prefix)
    except TypeError:  # a value of another type than the file's: no order, so no answer
        return True
    return True


def _compares(op: str, value: Any, bounds: Bounds) -> bool:
    value = getattr(value, "bytes", value)  # a uuid is ordered by its bytes
    if value != value:
        return True
    below = bounds.lower is None or bounds.lower < value
    above = bounds.nan or bounds.upper is None or bounds.upper > value
    match op:
        case "<":
            return below
        case "<=":
            return below or bounds.lower <= value
        case ">":
            return above
        case ">=":
            return above or bounds.upper >= value
        case "!=":
            return below or above
        case "=":
            return not (_exceeds(bounds.lower, value) or _exceeds(value, bounds.upper))
    return True


def _exceeds(left: Any, right: Any) -> bool:
    return left is not None and right is not None and bool(left > right)


def kept_groups(
    predicate: Predicate,
    footer: Footer,
    schema: pa.Schema,
    identity: Iterable[tuple[int, object]],
    storage: Storage,
    owner: str = "",
) -> list[int]:
    """Return the row groups of a file that may hold rows satisfying `predicate`.

    Parameters
    ----------
    predicate : Predicate
    footer : Footer
    schema : pa.Schema
        The table's, with field ids.
    identity : iterable of (int, object)
        Field id and value of identity-partitioned columns.
    storage : Storage
        Bloom filters and page indexes are read only when statistics leave a row group in doubt.
    owner : str
        Table and snapshot, in words, for errors.
    """
    groups = [group for group in range(footer.metadata.num_row_groups) if footer.metadata.row_group(group).num_rows]
    if isinstance(predicate, Everything):
        return groups
    asked = columns(predicate)
    wanted = pa.schema([field for field in schema if field.name in asked])
    projection = Projection.of(wanted, footer.schema, identity)
    known = {column.target.name: column for column in projection.columns}
    return [group for group in groups if _Group(footer, group, known, storage, owner).may_hold(predicate)]


def column_bounds(
    name: str, footer: Footer, groups: Iterable[int], schema: pa.Schema, identity: Iterable[tuple[int, object]]
) -> list[Bounds]:
    """Return what statistics say of one column of a table in each of some row groups."""
    if is_lineage(schema.field(name)):  # of a row that has a null there, the file decides
        return [UNKNOWN for _ in groups]
    (column,) = Projection.of(pa.schema([schema.field(name)]), footer.schema, identity).columns
    return [_statistics(footer, group, column) for group in groups]


def _statistics(footer: Footer, group: int, column: Column) -> Bounds:
    if column.source is None:
        if column.constant is None:
            return Bounds(all_null=True)
        value = column.constant[0].as_py()
        value = getattr(value, "bytes", value)
        return UNKNOWN if value != value else Bounds(value, value, no_nulls=True)
    if not column.flat:
        return UNKNOWN
    chunk = footer.metadata.row_group(group).column(column.leaves[0])
    found = chunk.statistics
    if found is None:
        return UNKNOWN
    lower, upper = _sound(found)
    counted = found.has_null_count
    return Bounds(
        lower,
        upper,
        no_nulls=counted and found.null_count == 0,
        all_null=counted and found.null_count == chunk.num_values,
        nan=pt.is_floating(column.source.type),
    )


class _Group:
    """One row group under question."""

    def __init__(self, footer: Footer, group: int, columns: Mapping[str, Column], storage: Storage, owner: str) -> None:
        self.footer, self.group, self.storage, self.owner = footer, group, storage, owner
        self.columns = columns
        self.bounds = {name: _statistics(footer, group, column) for name, column in columns.items()}
        self.blooms: dict[str, BloomFilter | None] = {}

    def may_hold(self, predicate: Predicate) -> bool:
        if not may_hold(predicate, self._by_bounds):
            return False
        if not may_hold(predicate, lambda part: self._by_bounds(part) and self._by_bloom(part)):
            return False
        # one open bound that the row group meets is met by a page too: only a point or an interval may fall between
        asked = Counter(_ends(predicate))
        return all(self._some_page_may_hold(predicate, name) for name in self.columns if asked[name] > 1)

    def _by_bounds(self, comparison: Predicate) -> bool:
        (name,) = columns(comparison)
        return within(comparison, self.bounds.get(name, UNKNOWN))

    def _by_bloom(self, comparison: Predicate) -> bool:
        match comparison:
            case Compare(name, "=", value):
                return self._in_bloom(name, [value])
            case IsIn(name, values):
                return self._in_bloom(name, values)
        return True

    def _in_bloom(self, name: str, values: Iterable[object]) -> bool:
        column = self.columns.get(name)
        if column is None or column.source is None or not column.flat:
            return True
        (leaf,) = column.leaves
        if name not in self.blooms:
            with reading(self.owner, self.footer.path, self.group):
                self.blooms[name] = read_bloom(self.storage, self.footer, self.group, leaf)
        bloom = self.blooms[name]
        if bloom is None:
            return True
        kind = self.footer.metadata.schema.column(leaf)
        stored = (encode(value, column.source.type, kind) for value in values)
        return any(value is None or bloom.may_contain(value) for value in stored)

    def _some_page_may_hold(self, predicate: Predicate, name: str) -> bool:
        """Tell whether a page of one column may hold a row, the other columns being known by row group only."""
        pages = self._pages(self.columns[name])
        if pages is None:
            return True
        whole = self.bounds[name]
        try:
            for page in pages:
                self.bounds[name] = page
                if may_hold(predicate, self._by_bounds):
                    return True
            return False
        finally:
            self.bounds[name] = whole

    def _pages(self, column: Column) -> list[Bounds] | None:
        if column.source is None or not column.flat:
            return None
        (leaf,) = column.leaves
        known = self.footer.page_bounds
        if (self.group, leaf) not in known:
            known[self.group, leaf] = self._read_pages(column.source.type, leaf)
        pages: list[Bounds] | None = known[self.group, leaf]
        return pages

    def _read_pages(self, dtype: pa.DataType, leaf: int) -> list[Bounds] | None:
        if not self.footer.metadata.row_group(self.group).column(leaf).has_column_index:
            return None
        chunk = self.footer.chunks[self.group][leaf]
        with (
            reading(self.owner, self.footer.path, self.group),
            self.storage.open_input(self.footer.path, constant=True) as file,
        ):
            file.seek(chunk.index_offset)
            index, _ = read_struct(file.read(chunk.index_length), _PAGE_INDEX)
        return page_bounds(index, dtype, self.footer.metadata.schema.column(leaf))


def _ends(predicate: Predicate) -> Iterator[str]:
    """Yield a column's name for each end of a range that `predicate` puts on it."""
    match predicate:
        case And(left, right) | Or(left, right):
            yield from _ends(left)
            yield from _ends(right)
        case Compare(name, "=") | IsIn(name) | StartsWith(name):
            yield from (name, name)
        case _:
            yield from columns(predicate)


def page_bounds(index: Mapping[int, Any], dtype: pa.DataType, leaf: Any) -> list[Bounds] | None:
    """Return the bounds of each page of a column index; None when they cannot be told."""
    null_pages: list[bool] = index.get(_NULL_PAGES, [])
    lower, upper = index.get(_MIN_VALUES, []), index.get(_MAX_VALUES, [])
    counts: list[int] = index.get(_NULL_COUNTS, [])
    if not null_pages or not len(null_pages) == len(lower) == len(upper) == (len(counts) or len(upper)):
        return None
    full = [page for page, null in enumerate(null_pages) if not null]
    lowest = decode([lower[page] for page in full], dtype, leaf)
    highest = decode([upper[page] for page in full], dtype, leaf)
    if lowest is None or highest is None:
        return None
    if any(value != value for value in (*lowest, *highest)):
        return None
    bounds = [Bounds(all_null=True)] * len(null_pages)
    for page, low, high in zip(full, lowest, highest, strict=True):
        bounds[page] = Bounds(low, high, bool(counts) and counts[page] == 0, False, pt.is_floating(dtype))
    return bounds


def _sound(statistics: Any) -> tuple[Any, Any]:
    """Return minimum and maximum as plain Python values; None for what is unknown or nonsense."""
    try:
        if not statistics.has_min_max:
            return None, None
        lower, upper = statistics.min, statistics.max
        return (None, None) if lower != lower or upper != upper else (lower, upper)
    except (ValueError, OverflowError):  # a time beyond Python's, text cut inside a character
        return None, None
