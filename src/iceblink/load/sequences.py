"""What a user asks for rows of different lengths: documents packed into sequences, or batches of rows alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pack:
    """Pack documents into sequences of one length; the sequences are the rows of a loader.

    Documents are packed with others of their row group, or of their small files: what fills up the last sequence there
    is all the padding that ``whole=False`` makes. With ``shuffle`` they are put in another order before, the same in
    every epoch; the sequences come in another order in each. `Loader.explain` says how much is padding.

    The column's lengths decide how many sequences there are, so it is read once when a loader is made; a ``cache`` of
    the loader keeps the numbers.

    A batch has the columns named, of shape (rows, length), and two of int32 of the same shape:

    - ``document``: 1 for the tokens of the first document in a sequence, 2 for those of the second; 0 for padding.
      Tokens may attend to each other where it is the same.
    - ``position``: of a token in its document, or in the piece of it that is in this sequence, from 0.

    Parameters
    ----------
    columns : str or sequence of str
        Lists of numbers: token ids, and what has a value for each token beside them. No other columns are read.
    length : int
        Tokens of a sequence.
    whole : bool
        Whether a document that fits into a sequence stays in one piece: best fit, longest first [1]_, which makes a
        little more padding. Default: documents follow each other and are cut where a sequence ends.
    fill : int
        What padding is in the columns.

    References
    ----------
    .. [1] Ding et al.: Fewer truncations improve language modeling, ICML 2024, section 3.
    """

    columns: str | Sequence[str]
    length: int
    whole: bool = False
    fill: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)


@dataclass(frozen=True)
class Bucket:
    """Make batches of rows of similar length, so that little of them is padding.

    The rows of `steps` batches that follow each other are sorted by length and dealt out to as many batches, which come
    in an order of their own. Each rank does so with its own rows, and the n-th batches of all ranks are about as long
    as each other. Who resumes a job with another number of ranks sorts the rows of those that began it.

    Parameters
    ----------
    column : str
        Lists or text, sorted by their length; or numbers, which are the lengths.
    steps : int
        More of them make less padding, and batches less alike what rows drawn one by one would make.
    """

    column: str
    steps: int = 16
