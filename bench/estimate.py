"""How well the decoded size of a split is known before it is read, kind by kind: ``python -m bench.estimate``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.types as pt

from bench.command import Options, heading, read_options
from bench.drift_files import FILES, GROUPS, KINDS, SIGMA, ensure_drift
from bench.report import table
from iceblink.lake.storage import Storage
from iceblink.scan.estimate import DecodedRatios, decoded_bytes, learn
from iceblink.scan.footer import Footer, read_footer
from iceblink.scan.project import Projection

TITLE = "Split size estimates"


@dataclass(frozen=True)
class RowGroup:
    """One row group of one kind of column, and what it really decodes to [bytes]."""

    footer: Footer
    group: int
    real_bytes: int

    @property
    def projection(self) -> Projection:
        return Projection.of(self.footer.schema, self.footer.schema)

    @property
    def rows(self) -> int:
        return int(self.footer.metadata.row_group(self.group).num_rows)


Estimates = Iterator[tuple[RowGroup, float]]


def with_statistics(groups: list[RowGroup]) -> Estimates:
    """Iceblink, from SizeStatistics; nothing is learned."""
    for one in groups:
        yield one, decoded_bytes(one.projection, one.footer, one.group, ratios=DecodedRatios())


def without_statistics(groups: list[RowGroup]) -> Estimates:
    """Iceblink when no writer left SizeStatistics: one row group sampled, each that was read corrects the next."""
    ratios = DecodedRatios()
    stripped = [replace(one, footer=without_sizes(one.footer)) for one in groups]
    for number, one in enumerate(stripped):
        if number:
            yield one, decoded_bytes(one.projection, one.footer, one.group, ratios=ratios)
        learn("", one.projection, one.footer, one.group, {0: one.real_bytes}, ratios)


def without_sizes(footer: Footer) -> Footer:
    """Return the footer as a writer without SizeStatistics would have left it."""
    bare = replace(footer)
    bare.__dict__["chunks"] = tuple(  # the cached property, which would parse them anew
        tuple(replace(chunk, byte_array_bytes=None, repetition=(), definition=()) for chunk in group)
        for group in footer.chunks
    )
    return bare


def compressed_size(groups: list[RowGroup]) -> Estimates:
    """The share of the file's size on disk."""
    for one in groups:
        yield one, one.footer.file_bytes * one.rows / one.footer.metadata.num_rows


def schema_width(groups: list[RowGroup]) -> Estimates:
    """A width for each type, times the rows."""
    for one in groups:
        yield one, one.rows * sum(width(field.type) for field in one.footer.schema)


def width(dtype: pa.DataType) -> float:
    """Return the usual guess at one value: strings 20, binaries 100, lists and maps one element [bytes]."""
    if pt.is_struct(dtype):
        return sum(width(field.type) for field in dtype)
    if pt.is_map(dtype):
        return width(dtype.key_type) + width(dtype.item_type)
    if pt.is_list(dtype):
        return width(dtype.value_type)
    if pt.is_string(dtype):
        return 20
    return 100 if pt.is_binary(dtype) else float(dtype.bit_width / 8)


ESTIMATORS: dict[str, Callable[[list[RowGroup]], Estimates]] = {
    "iceblink, SizeStatistics": with_statistics,
    "iceblink, without": without_statistics,
    "compressed size": compressed_size,
    "schema width x rows": schema_width,
}


def report(options: Options) -> str:
    """Print the largest relative error of each estimator on each kind, and both means of errors below."""
    folder = ensure_drift(options.small)
    errors: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    rows = []
    for kind in KINDS:
        groups = row_groups(folder, kind)
        row = [kind]
        for name, estimator in ESTIMATORS.items():
            found = [abs(estimate - one.real_bytes) / one.real_bytes for one, estimate in estimator(groups)]
            errors[name] += found
            row.append(f"{max(found):.3f}")
        rows.append(row)
    rows.append(["**average of all**", *(f"{fmean(found):.3f}" for found in errors.values())])
    rows.append(["**maximum of all**", *(f"{max(found):.3f}" for found in errors.values())])
    what = (
        f"Largest relative error over {FILES} files x {GROUPS} row groups, lognormal(0, {SIGMA}) drift between files."
    )
    return f"{heading(TITLE, options)}\n{what}\n\n{table(['kind', *ESTIMATORS], rows)}\n"


def row_groups(folder: Path, kind: str) -> list[RowGroup]:
    """Return every row group of one kind, in order."""
    sizes = json.loads((folder / "sizes.json").read_text())[kind]
    groups = []
    for number, real in enumerate(sizes):
        path = folder / kind / f"{number:02d}.parquet"
        footer = read_footer(Storage(), str(path), path.stat().st_size)
        groups += [RowGroup(footer, group, nbytes) for group, nbytes in enumerate(real)]
    return groups


if __name__ == "__main__":
    print(report(read_options(TITLE)))
