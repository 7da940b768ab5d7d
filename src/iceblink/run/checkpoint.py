"""A write that goes on where an earlier process stopped: unit by unit, and one commit at the end.

A unit is done when its data files are closed and the journal has them. Until then it counts for nothing: whoever goes
on removes what the dead process left of it and reads it again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from iceblink.errors import CheckpointMismatch, ConfigError, DataCorrupt
from iceblink.lake.commit import Commit
from iceblink.lake.files import NewFile
from iceblink.lake.leftovers import remove_uncommitted, remove_unused
from iceblink.lake.storage import Storage
from iceblink.lake.table import Table
from iceblink.plan.fingerprint import parts_of
from iceblink.plan.nodes import MapBatches, Plan, Stream
from iceblink.plan.rowwise import leaf_of, over
from iceblink.run.checkpoint_journal import Journal, folder_name, held
from iceblink.run.checkpoint_source import Unit, units_of
from iceblink.run.data_files import written
from iceblink.run.lower import chain_of, titled
from iceblink.run.pipeline.backend import Output
from iceblink.run.pipeline.chain import Outputs
from iceblink.run.pipeline.stream import Items, Refused, items
from iceblink.run.session import Session
from iceblink.scan.batch import Batch
from iceblink.types import show_field

_NO_ROWS = pa.RecordBatch.from_arrays([], schema=pa.schema([]))


@contextmanager
def checkpointed(session: Session, plan: Plan, name: str, checkpoint: str, asked: str) -> Iterator[Checkpointed]:
    """Open the job `checkpoint`, new or begun before; nobody else can meanwhile.

    Parameters
    ----------
    session : Session
    plan : Plan
        As the user has it.
    name : str
        The table to write.
    checkpoint : str
    asked : str
        How the table is written, in words.

    Raises
    ------
    CheckpointBusy
        It is open already.
    CheckpointMismatch
        It was begun with something else.
    """
    storage, folder = _place(session, name, checkpoint)
    with held(storage, folder, checkpoint):
        job = Checkpointed(session, plan, name, checkpoint, asked, Journal(storage, folder))
        try:
            if job.landed is None:
                job.take_up()
            yield job
        except BaseException:
            if not job.begun:
                job.remove()
            raise


def _place(session: Session, name: str, checkpoint: str) -> tuple[Storage, str]:
    """Return where the journal is: in the lake's folder, elsewhere in the table's."""
    catalog = session.catalog.holding(name)
    if catalog.folder is not None:
        return Storage(), f"{catalog.folder}/.jobs/{folder_name(checkpoint)}"
    if not catalog.exists(name):
        hint = "make the table with lake.create, then append to it"
        raise ConfigError("in this catalog a table that is not there yet takes no checkpoint", f"write to {name}", hint)
    table = catalog.load(name)
    return table.storage, f"{table.location}/metadata/.jobs/{folder_name(checkpoint)}"


class Checkpointed:
    """One write, its journal, and what it has done so far."""

    def __init__(self, session: Session, plan: Plan, name: str, checkpoint: str, asked: str, journal: Journal) -> None:
        self._session, self._name, self._checkpoint, self._journal = session, name, checkpoint, journal
        self._functions = list(_functions(plan))
        self._parts = {"table written": name, "how": asked, **parts_of(plan)}
        self._table: Table | None = None
        self._goes_on = bool(journal.of("plan"))
        self._tried = bool(journal.of("commit"))
        leaf = leaf_of(plan)
        self._nodes = chain_of(leaf)[0] if isinstance(leaf, MapBatches) else []

    @property
    def begun(self) -> bool:
        """Whether something is there to go on from."""
        return self._goes_on or any(self._journal.of(kind) for kind in ("done", "chunks", "commit"))

    @property
    def location(self) -> str | None:
        """Where the files are that an earlier process wrote; None if there was none."""
        return next((entry["location"] for entry in self._journal.of("plan")), None)

    @cached_property
    def landed(self) -> Table | None:
        """The table, if it has this job's commit."""
        if not self._session.catalog.exists(self._name):
            return None
        table = self._session.catalog.load(self._name)
        return table if Commit(table, self._checkpoint).landed() else None

    def take_up(self) -> None:
        """See to it that the plan is the same as before, and that nothing is read again to know its schema.

        Raises
        ------
        CheckpointMismatch
        """
        for entry in self._journal.of("plan"):
            self._check(entry["parts"], self._parts)
            for function, schema in zip(self._functions, entry["schemas"], strict=True):
                if schema and function.known_schema is None:
                    function.__dict__["schema"] = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(schema)))

    def written(self, session: Session, plan: Plan, table: Table, staged: bool = False) -> list[NewFile]:
        """Write the rows of `plan` to data files, but for those that are written already, and return all.

        Parameters
        ----------
        session : Session
        plan : Plan
            What the job was opened with, fitted to the table.
        table : Table
        staged : bool
            The table is yet to be made.

        Raises
        ------
        CheckpointMismatch
            The table has changed since the job began.
        DataCorrupt
            A file that the journal has is gone.
        """
        self._table = table
        target = _target_parts(table, staged)
        for entry in self._journal.of("plan"):
            self._check(entry["target"], target)
        if self._goes_on:
            self._check_files()
            self._remove_unfinished(table)
        else:
            schemas = [_schema_text(function.known_schema) for function in self._functions]
            self._journal.add("plan", parts=self._parts, target=target, location=table.location, schemas=schemas)
        leaf = leaf_of(plan)
        below = chain_of(leaf)[1] if isinstance(leaf, MapBatches) else plan
        units = units_of(below, session.engine, self._journal)
        done = len(self._journal.of("done"))
        if done < len(units):
            self._write_units(plan, table, titled(below), units, done)
        self._journal.add("commit")  # from here on it may have been tried
        return self._files()

    def written_last(self, session: Session, plan: Plan, table: Table) -> list[NewFile]:
        """Write rows that are found anew by each process that goes on: they are not journalled, only their files."""
        return written(session, plan, table, lambda token: self._journal.add("last", token=token), self._journal.folder)

    def end(self, table: Table) -> None:
        """Let the refused rows be seen, and remove what no process needs any more: the commit has been made."""
        for place, node in enumerate(self._nodes):
            files = [file for entry in self._journal.of("done") for file in entry["refused"].get(place, ())]
            if files:
                node.reject.commit(files, f"{self._checkpoint}, refused by function {place}", self._tried)
        if self._tried:
            remove_unused(table, [entry["token"] for entry in self._journal.of("files") + self._journal.of("last")])
        self._journal.remove()

    def remove(self) -> None:
        """Remove the job: it has done nothing."""
        if self._table is not None:
            self._remove_unfinished(self._table)
        self._journal.remove()

    # -- units ---------------------------------------------------------------------------------------------------------

    def _write_units(self, plan: Plan, table: Table, label: str, units: Sequence[Unit], done: int) -> None:
        refused = Refused(self._nodes, self._begin_refused, self._journal.folder)
        schema = self._nodes[-1].schema if self._nodes else plan.schema
        try:
            with closing(self._items(label, units, done)) as found:
                for number in range(done, len(units)):
                    rows = _until_mark(found, number + 1, refused)
                    stream = Stream(schema, partial(pa.RecordBatchReader.from_batches, schema, rows))
                    unit = over(plan, stream) if self._nodes else stream
                    files = written(self._session, unit, table, self._begin_files, self._journal.folder)
                    for _ in rows:  # a query that keeps no rows may not have read them
                        pass
                    self._journal.add("done", files=files, refused=refused.finish(number - done))
                for _ in found:  # let the workers end well
                    pass
        finally:
            refused.abort()

    def _items(self, label: str, units: Sequence[Unit], done: int) -> Items:
        def outputs() -> Outputs:
            for number in range(done, len(units)):
                with closing(units[number]()) as batches:
                    for batch in batches:
                        yield Output("rows", batch)
                yield Output("mark", Batch(_NO_ROWS, "", number + 1))

        if not self._nodes:
            return ((0, output.kind, output.data) for output in outputs())
        engine, last = self._session.engine, self._nodes[-1]
        return items(
            self._nodes,
            label,
            outputs,
            engine.backend(),
            lambda made: engine.job.recorders.__setitem__(last, made),
            engine.processes,
        )

    def _begin_files(self, token: str) -> None:
        self._journal.add("files", token=token)

    def _begin_refused(self, place: int, token: str) -> None:
        self._journal.add("refused", place=place, token=token)

    # -- what the journal has ------------------------------------------------------------------------------------------

    def _files(self) -> list[NewFile]:
        return [file for entry in self._journal.of("done") for file in entry["files"]]

    def _check(self, before: dict[str, str], now: dict[str, str]) -> None:
        different = [
            f"{name}: {before.get(name, 'not there')} -> {now.get(name, 'not there')}"
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]
        if different:
            raise CheckpointMismatch(
                f"checkpoint {self._checkpoint!r} was begun with something else",
                "; ".join(different),
                f"run it as it was, or choose another id; to give up what is done, remove {self._journal.folder}",
            )

    def _check_files(self) -> None:
        for file in self._files():
            try:
                found = self._journal.storage.size(file.path)
            except FileNotFoundError:
                found = None
            if found != file.file_bytes:
                raise DataCorrupt(
                    f"a file that the job wrote {'is gone' if found is None else 'was changed'}",
                    file.path,
                    f"to begin the job anew, remove {self._journal.folder}",
                )

    def _remove_unfinished(self, table: Table) -> None:
        """Remove the files that a process left when it died in the middle of a unit."""
        done = {file.token for file in self._files()}
        remove_uncommitted(table, [one["token"] for one in self._journal.of("files") if one["token"] not in done])
        refused = [file for entry in self._journal.of("done") for files in entry["refused"].values() for file in files]
        kept = {_token(file) for file in refused}
        for entry in self._journal.of("refused"):
            if entry["token"] not in kept:
                self._nodes[entry["place"]].reject.remove(entry["token"])


def _until_mark(found: Items, number: int, refused: Refused) -> Iterator[pa.RecordBatch]:
    """Yield the rows up to the next mark, which says that so many units are over."""
    for place, kind, batch in found:
        if kind == "mark":
            assert batch.first_row == number, "marks come in the order of the units"
            return
        if kind == "rejected":
            refused.take(place, batch)
        else:
            yield batch.data
        del batch


def _functions(plan: Plan) -> Iterator[MapBatches]:
    """Yield every function of a plan, always in the same order."""
    if isinstance(plan, MapBatches):
        yield plan
    for source in plan.inputs:
        yield from _functions(source)


def _target_parts(table: Table, staged: bool) -> dict[str, str]:
    columns = [
        f"{field.name} {show_field(field)} (id {(field.metadata or {}).get(b'PARQUET:field_id', b'').decode()})"
        for field in table.schema
    ]
    return {
        "its uuid": "yet to be made" if staged else table.uuid,
        "its columns": ", ".join(columns),
        "its partitions": ", ".join(table.partition_by),
        "its order": ", ".join(table.sort_by),
    }


def _schema_text(schema: pa.Schema | None) -> str:
    return "" if schema is None else base64.b64encode(schema.serialize()).decode()


def _token(file: Any) -> str:
    """Return the token in the name of a quarantine's file, whose name may be all there is."""
    return file.token if isinstance(file, NewFile) else str(file)
