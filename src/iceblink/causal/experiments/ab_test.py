"""A randomised experiment: what is compared, how, and the passes over the data that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from iceblink.causal.experiments.assignment import check_units
from iceblink.causal.experiments.cells import (
    FIRST_ROWS,
    Cells,
    TooManyCells,
    constants,
    first_rows,
    read_cells,
)
from iceblink.causal.experiments.grid import Grid, InArms, averaged
from iceblink.causal.experiments.lift import lifts
from iceblink.causal.experiments.lin import lined
from iceblink.causal.experiments.metrics import Mean, Metric, Quantile, Ratio, check_metric
from iceblink.causal.experiments.mismatch import sample_ratio
from iceblink.causal.experiments.multiple import CORRECTIONS, Correction, adjusted
from iceblink.causal.experiments.quantiles import in_arms
from iceblink.causal.experiments.results import ABResult, Effect
from iceblink.causal.experiments.saved import SavedCells, saved_cells
from iceblink.causal.experiments.scan import Scan
from iceblink.causal.experiments.sequential import AlwaysValid, Looking, Once
from iceblink.causal.passes import Missing, check_missing
from iceblink.causal.provenance import Provenance
from iceblink.errors import ColumnNotFound, ConfigError, PlanError, TypeMismatch, nearest
from iceblink.types import show_type

if TYPE_CHECKING:
    from iceblink.dataset import Dataset

MOST_ARMS = 100


@dataclass(frozen=True)
class ABTest:
    """An experiment with two or more arms, of which each row belongs to one by chance.

    The estimand is the difference between an arm and the control in the mean of a metric over all units, had all been
    in the one or in the other (the average treatment effect), and that difference as a part of the control (lift), of
    those metrics whose control is surely above 0.

    Parameters
    ----------
    arm : str
        The column that says which arm a row is in: texts, whole numbers or booleans.
    control : object
        The value of it that the others are compared with.
    metrics : sequence of Mean, Conversion, Ratio or Quantile
    unit : str, optional
        The column whose value each row has for itself, as a user's id; checked in one more scan, of two columns. A
        value in several arms, or in several rows, is refused.
    cluster : str, optional
        What was randomised, where rows are only parts of that (sessions of a user). A mean is then the sum of rows over
        their number, with errors of the clusters by the delta method.
    strata : str, optional
        A column known before: effects are weighted by the rows of strata (post-stratification).
    segments : str or sequence of str
        Columns for each of whose values the metrics are compared too.
    sequential : None, "always_valid", AlwaysValid or GroupSequential
        When results are looked at. Default: once, at the end.
    correction : {None, "bonferroni", "holm", "bh", "by"}
        For several comparisons: all metrics, arms and segments are one family. It changes p-values, not intervals.
    allocation : mapping, optional
        Of each arm to the part of the rows that it should have. Default: equal parts.
    level : float
        Of the intervals.
    missing : {"raise", "drop"}
        Whether rows that lack a value of a metric are left out of that metric.
    """

    arm: str
    control: Any
    metrics: Sequence[Metric]
    unit: str | None = None
    cluster: str | None = None
    strata: str | None = None
    segments: str | Sequence[str] = ()
    sequential: Literal["always_valid"] | Looking | None = None
    correction: Correction | None = None
    allocation: Mapping[Any, float] = field(default_factory=dict)
    level: float = 0.95
    missing: Missing = "raise"

    def __post_init__(self) -> None:
        segments = (self.segments,) if isinstance(self.segments, str) else tuple(dict.fromkeys(self.segments))
        object.__setattr__(self, "segments", segments)
        where = self.title
        given: Any = self.metrics
        metrics = tuple(given) if isinstance(given, Iterable) else (given,)
        if not isinstance(given, Iterable) or not all(isinstance(one, Mean | Ratio | Quantile) for one in metrics):
            raise ConfigError(f"metrics is {given!r}", where, 'a list of metrics: [ci.Mean("revenue")]')
        object.__setattr__(self, "metrics", metrics)
        check_missing(self.missing, where)
        if not self.metrics:
            raise ConfigError("there are no metrics", where, 'metrics=[Mean("revenue")]')
        names = [metric.name for metric in self.metrics]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"two metrics are called {twice!r}", where, "give one a name of its own: name=...")
        if self.correction is not None and self.correction not in CORRECTIONS:
            raise ConfigError(f"no correction {self.correction!r}", where, nearest(self.correction, CORRECTIONS, ""))
        if isinstance(self.sequential, str | type) and self.sequential != "always_valid":
            raise ConfigError(f"no {self.sequential!r}", where, '"always_valid" or ci.GroupSequential((0.25, 0.5))')
        if not 0 < self.level < 1:
            raise ConfigError(f"level is {self.level}", where, "between 0 and 1")
        for metric in self.metrics:
            if isinstance(metric, Quantile) and (self.cluster or self.strata):
                raise ConfigError(f"{metric.name}: a quantile has rows, not clusters or strata", where, "ask it apart")
            if isinstance(metric, Mean) and metric.method == "lin" and self.cluster:
                raise ConfigError(f"{metric.name}: lin takes rows, not clusters", where, 'say method="cuped"')

    @property
    def title(self) -> str:
        """What is compared."""
        return f"ABTest of {self.arm}, control {self.control}"

    def cells(self, data: Dataset, *, saved: SavedCells | None = None) -> SavedCells:
        """Return what the report needs of a table, at the version that the dataset is of, to be saved.

        Eager. With cells that were saved at an earlier version only the rows that came and went since are read, where
        these are fewer than all and rounding stays below 1e-10 of what each column varies by; else all rows are.

        Parameters
        ----------
        data : Dataset
            A table, with filters and computed columns as they were then.
        saved : SavedCells, optional

        Raises
        ------
        ColumnNotFound, TypeMismatch, QueryError
        SnapshotNotFound
            Snapshots between the two versions were expired.
        PlanError
            The dataset is not one table, row by row; the saved cells are of something else; the version was not made
            from theirs; there are more cells by all segments together than are held.
        ConfigError
            The test has what only all rows can tell: units, clusters, quantiles or Lin's errors.
        """
        asked = {"unit": self.unit, "cluster": self.cluster}
        rowful = [name for name, value in asked.items() if value is not None]
        rowful += [one.name for one in self.metrics if isinstance(one, Quantile) or getattr(one, "method", "") == "lin"]
        if rowful:
            raise ConfigError(f"{', '.join(rowful)}: only all rows can tell", self.title, "make a test of the rest")
        return saved_cells(data, self._scan(data), tuple(self.segments), saved)

    def fit(self, data: Dataset, *, saved: SavedCells | None = None) -> ABResult:
        """Compare the arms. Eager: reads the data once, whatever the number of metrics and segments.

        Before, it looks at the first 10,000 rows (rows that have to be computed first, as those of a `group_by`, are
        better written to a table). There are more scans for `unit` (one, of two columns), with `cluster` for each
        column of segments, for ``method="lin"`` (one, of these metrics' columns), for quantiles (about three, of their
        columns), and for segments that together make more cells than are held (one for each).

        Parameters
        ----------
        data : Dataset
        saved : SavedCells, optional
            Of `cells`, of this version or an earlier one: only what changed since is read.

        Raises
        ------
        ColumnNotFound, TypeMismatch
            Before anything is read.
        PlanError
            One arm only, no such control, units or clusters in several arms, too few rows.
        QueryError
            A value is missing.
        ConfigError
            The allocation has other arms.
        SnapshotNotFound, PlanError, ConfigError
            With `saved` those of `cells`.
        """
        scan = self._scan(data)
        if self.unit is not None:
            check_units(data, self.unit, self.arm, self.missing, self.title)
        cuts = [None, *self.segments]
        if saved is None:
            cells = list(self._cells(data, scan))
        else:
            cells = self._cut(self.cells(data, saved=saved).cells(scan, self.segments))
        arms = self._arms(cells[0])
        grids = [Grid.of(one, arms, cut is not None) for one, cut in zip(cells, cuts, strict=True)]
        sizes = grids[0].spread(grids[0].cells.units).sum(axis=(0, 2)).astype(int).tolist()
        ratio = sample_ratio(arms, sizes, self.allocation, self.title)
        found = self._estimated(data, grids, cuts)
        effects = [
            one for grid, cut, of in zip(grids, cuts, found, strict=True) for one in self._compared(grid, cut, of)
        ]
        for one in effects:
            if one.by is None and not np.isfinite(one.std_error):
                raise PlanError(
                    f"arm {one.arm} or the control has too few rows for {one.metric}", self.title, self._few(one.metric)
                )
        whole = [one for one in effects if np.isfinite(one.std_error)]
        left = dict.fromkeys(f"{one.by} = {one.segment}" for one in effects if not np.isfinite(one.std_error))
        if self.correction is not None:
            raised = adjusted(np.array([one.p_value for one in whole]), self.correction)
            whole = [replace(one, p_adjusted=float(p)) for one, p in zip(whole, raised, strict=True)]
        return ABResult(
            title=self.title,
            sample_ratio=ratio,
            effects=tuple(whole),
            level=self.level,
            rows=int(grids[0].spread(grids[0].cells["rows"]).sum()),
            left_out=tuple(left),
            provenance=Provenance.of(data, conventions=self._conventions()),
        )

    def _scan(self, data: Dataset) -> Scan:
        """Check names and types."""
        schema = data.schema
        for name in (self.arm, self.unit, self.cluster, self.strata, *self.segments):
            if name is None:
                continue
            if name not in schema.names:
                raise ColumnNotFound.of(name, schema.names, self.title)
            kind = schema.field(name).type
            if pa.types.is_floating(kind) or pa.types.is_nested(kind):
                hint = "name a column of texts or whole numbers; of numbers make bins with mutate"
                raise TypeMismatch(f"column {name!r} is {show_type(kind)}, not a category", self.title, hint)
        for metric in self.metrics:
            check_metric(metric, schema, self.title)
        return Scan(self.arm, self.strata, self.cluster, tuple(self.metrics), schema, self.missing, self.title)

    def _cells(self, data: Dataset, scan: Scan) -> Iterator[Cells]:
        """Yield the cells of all rows, then those by each column of segments."""
        first = first_rows(data, scan, self.segments)
        shifts = constants(first, scan)
        fixed = list(range(len(scan.keys)))
        if scan.cluster is not None:
            yield read_cells(data, scan, shifts, ())
            yield from (read_cells(data, scan, shifts, (segment,)) for segment in self.segments)
            return
        together = self._together(data, scan, shifts, first)
        if together is not None:
            yield from self._cut(together)
            return
        apart = [read_cells(data, scan, shifts, (segment,)) for segment in self.segments]
        yield apart[0].by(fixed)
        yield from apart

    def _cut(self, together: Cells) -> list[Cells]:
        """Return the cells of all rows, then those by each column of segments, of cells by all of them at once."""
        fixed = list(range(len(together.scan.keys)))
        return [together.by(fixed), *(together.by([*fixed, len(fixed) + at]) for at in range(len(self.segments)))]

    def _together(self, data: Dataset, scan: Scan, shifts: Mapping[str, float], first: pa.Table) -> Cells | None:
        """Return cells by all segments at once, which add up to those by each; None where there are too many."""
        if len(self.segments) > 1:
            seen = {*zip(*(first.column(name).to_pylist() for name in (*scan.keys, *self.segments)), strict=True)}
            if first.num_rows == FIRST_ROWS and len(seen) > FIRST_ROWS / 2:
                return None
        try:
            return read_cells(data, scan, shifts, self.segments)
        except TooManyCells:
            if len(self.segments) < 2:
                raise
            return None

    def _arms(self, cells: Cells) -> list[Any]:
        """Return the arms, the control first."""
        if not cells.keys:
            raise PlanError("there are no rows", self.title, "look at the filters")
        found = sorted({key[0] for key in cells.keys if key[0] is not None}, key=str)
        if len(found) > MOST_ARMS:
            raise PlanError(f"{self.arm} has {len(found):,} values", self.title, "is it the column of arms?")
        if self.control not in found:
            raise PlanError(
                f"no row is in arm {self.control!r}", self.title, nearest(str(self.control), [*map(str, found)], "arms")
            )
        if len(found) < 2:
            raise PlanError(f"all rows are in arm {self.control}", self.title, "there is nothing to compare it with")
        return [self.control, *(arm for arm in found if arm != self.control)]

    def _estimated(self, data: Dataset, grids: list[Grid], cuts: list[str | None]) -> list[dict[str, InArms]]:
        """Return every metric in every arm, for each grid."""
        lin = [one for one in self.metrics if isinstance(one, Mean) and one.method == "lin"]
        ranked = [one for one in self.metrics if isinstance(one, Quantile)]
        found: list[dict[str, InArms]] = [{} for _ in grids]
        for metrics, of in (
            (lin, lined(data, grids, cuts, lin) if lin else ()),
            (ranked, in_arms(data, grids, cuts, ranked) if ranked else ()),
        ):
            for named, one_cut in zip(found, of, strict=False):
                named |= zip([metric.name for metric in metrics], one_cut, strict=True)
        for named, grid in zip(found, grids, strict=True):
            rest = (one for one in self.metrics if isinstance(one, Mean | Ratio) and one.name not in named)
            named |= {metric.name: averaged(grid, metric) for metric in rest}
        return found

    def _compared(self, grid: Grid, cut: str | None, found: Mapping[str, InArms]) -> Iterator[Effect]:
        """Yield each arm's effect on each metric in each segment."""
        looking = self._looking()
        for metric in self.metrics:
            one = found[metric.name]
            for arm in range(1, len(grid.arms)):
                control, value = one.values[:, 0], one.values[:, arm]
                with np.errstate(divide="ignore", invalid="ignore"):
                    difference, rows = value - control, one.units[:, 0] + one.units[:, arm]
                    errors = np.sqrt(one.variances[:, 0] + one.variances[:, arm])
                    p_values = looking.p_values(difference, errors, rows, self.level)
                    reach = looking.reach(errors, rows, self.level)
                    each = looking.reach(np.ones(len(rows)), rows, self.level)
                    lift = lifts(control, value, (one.variances[:, 0], one.variances[:, arm]), each)
                    columns = (
                        rows, control, value, difference, errors, difference / errors, p_values, p_values,
                        difference - reach, difference + reach, *lift,
                    )  # fmt: skip
                for segment, (count, *numbers) in zip(grid.segments, np.array(columns).T.tolist(), strict=True):
                    yield Effect(
                        metric.name,
                        cut,
                        None if segment is None else str(segment),
                        str(grid.arms[arm]),
                        int(count),
                        *numbers,
                    )

    def _looking(self) -> Looking:
        if self.sequential is None:
            return Once()
        return AlwaysValid() if isinstance(self.sequential, str) else self.sequential

    def _conventions(self) -> tuple[str, ...]:
        """Return what is to be known of the errors."""
        found = [f"errors by {self.cluster}, delta method" if self.cluster else "Neyman errors, divisor n - 1"]
        if self.strata:
            found.append(f"post-stratified by {self.strata}")
        if any(isinstance(one, Ratio) for one in self.metrics) and not self.cluster:
            found.append("ratios by the delta method")
        if any(
            isinstance(one, Mean | Ratio) and one.adjust and getattr(one, "method", "cuped") == "cuped"
            for one in self.metrics
        ):
            found.append("CUPED with one θ for all arms")
        if any(isinstance(one, Mean) and one.method == "lin" for one in self.metrics):
            found.append("Lin's regression, HC2")
        if any(isinstance(one, Quantile) for one in self.metrics):
            found.append("quantiles by order statistics")
        found += [self._looking().convention, "lifts by Fieller"]
        if self.correction:
            found.append(f"p-values corrected by {self.correction}")
        return tuple(found)

    def _few(self, name: str) -> str:
        if isinstance(next(one for one in self.metrics if one.name == name), Ratio):
            return "two rows in each arm and stratum, whose denominators add up to more than 0"
        return f"two rows in each arm{' and stratum: pool strata' if self.strata else ', and more for quantiles'}"
