"""One schema for all that a function returns: declared, or what its first output had."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from iceblink.errors import BatchContractBroken
from iceblink.plan.function import Function
from iceblink.run.pipeline.pieces import Piece
from iceblink.run.pipeline.schema import found, held


class TypesUnknown(BatchContractBroken):
    """The first output does not tell the type of a column; no row is to blame."""


class Contract:
    """What the outputs of a function are held to in one worker.

    Parameters
    ----------
    function : Function
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._found: pa.Schema | None = None
        self._from = ""

    def known(self, known: pa.Schema | None) -> pa.Schema | None:
        """Return the schema: declared, what other workers have found, or what this one saw first."""
        return next((schema for schema in (self._function.declared, known, self._found) if schema is not None), None)

    def hold(self, output: pa.RecordBatch, piece: Piece, known: pa.Schema | None) -> pa.RecordBatch | None:
        """Return `output` in the schema of all outputs; the first one sets it where neither side knows it.

        Parameters
        ----------
        output : pa.RecordBatch
        piece : Piece
            What the function was given.
        known : pa.Schema or None
            What other workers have found.

        Returns
        -------
        pa.RecordBatch or None
            None for an output without rows that does not tell its types.

        Raises
        ------
        BatchContractBroken
            A column is missing, unknown or of another type, or a value does not fit.
        TypesUnknown
            The first output has only nulls in a column.
        """
        schema = self.known(known)
        if schema is None:
            schema = self._find(output, piece)
            if schema is None:
                return None
        try:
            return held(output, schema, f"{called(self._function)}, {piece.place}")
        except BatchContractBroken as error:
            if self._function.declared is not None:
                raise
            hint = f"{error.hint}; that is what {self._from or 'the first batch'} gave: declare schema= to change it"
            raise BatchContractBroken(error.what, error.where, hint) from error.__cause__

    def _find(self, output: pa.RecordBatch, piece: Piece) -> pa.Schema | None:
        where = f"{called(self._function)}, {piece.place}"
        schema = output.schema
        twice = next((name for name, count in Counter(schema.names).items() if count > 1), None)
        if twice is not None:
            raise BatchContractBroken(f"two columns are named {twice!r}", where, "rename one of them")
        try:
            self._found, self._from = found(schema, where), piece.place
        except BatchContractBroken as error:
            if not output.num_rows:
                return None
            raise TypesUnknown(error.what, error.where, error.hint) from None
        return self._found


def called(function: Function) -> str:
    """Return the call as it was written, for messages."""
    return f"{'map' if function.per_row else 'map_batches'}({function.label})"
