"""The words that make loaders of a dataset: batches for PyTorch, TensorFlow, JAX and NumPy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from iceblink.load.late import jax_loader, loader, needs_jax, needs_tf, needs_torch, opening, tf_loader, torch_loader
from iceblink.plan.function import OnError
from iceblink.verbs import Verbs

if TYPE_CHECKING:
    from iceblink.load.batches import Ragged, Text
    from iceblink.load.cache.disk import Cache
    from iceblink.load.loader import Loader, Setup
    from iceblink.load.opening import Options
    from iceblink.load.order import Quality
    from iceblink.load.sequences import Bucket, Pack
    from iceblink.load.tf_loader import TfLoader
    from iceblink.load.torch_loader import TorchLoader

Made: TypeAlias = Callable[[Any], Any] | None


class Feeding(ABC):
    """What feeds models: it is planned as options say, and becomes a loader of the batches that a library wants."""

    @abstractmethod
    def _setup(self, options: Options, where: str, convert: Made = None, move: Made = None) -> Setup:
        """Return what a loader is made of; `convert` and `move` are those of `Finish`."""

    def to_numpy(self, batch_size: int, **options: Any) -> Loader:
        """Return a loader of batches as dicts of NumPy arrays; options: those of `Dataset.to_torch` but `device`."""
        return loader.Loader(self._setup(opening.Options.of(batch_size, options, "to_numpy"), "to_numpy"))

    def to_tf(self, batch_size: int, *, signature: Any = None, **options: Any) -> TfLoader:
        """Return a loader whose ``dataset`` is a ``tf.data.Dataset``; other options are those of `Dataset.to_torch`.

        `signature` is what `transform` or `collate` return, in the words of ``tf.data.Dataset.from_generator``; that of
        the columns is known. Columns that TensorFlow has no tensors for are a ConfigError.
        """
        needs_tf()
        return tf_loader.to_tf(self._setup, batch_size, signature, options)

    def to_jax(self, batch_size: int, *, device: Any = None, **options: Any) -> Loader:
        """Return a loader of batches as dicts of ``jax.Array``; other options are those of `Dataset.to_torch`.

        `device` is a ``jax.Device``, or a ``jax.sharding.Sharding``: then arrays are global, made of the rows of all
        processes. Text stays as it is; integers that JAX would cut to 32 bits are refused while iterating.
        """
        needs_jax()
        return jax_loader.to_jax(self._setup, batch_size, device, options)


class Loading(Verbs, Feeding):
    """A dataset that feeds models."""

    def to_torch(
        self,
        batch_size: int,
        *,
        columns: Sequence[str] | None = None,
        shuffle: bool = False,
        quality: Quality | None = None,
        seed: int = 0,
        drop_last: bool = False,
        pad: bool = False,
        rank: int | None = None,
        world: int | None = None,
        device: Any = None,
        memory: int | str | None = None,
        prefetch: int | str | None = None,
        cache: Cache | str | Path | bool | None = None,
        nulls: Any = "raise",
        tensors: Mapping[str, bool] | None = None,
        ragged: Ragged = "values",
        text: Text = "list",
        transform: Callable[[dict[str, Any]], Any] | None = None,
        collate: Callable[[Any], Any] | None = None,
        on_error: OnError = "raise",
        quarantine: str | None = None,
        workers: int = 1,
        processes: bool | None = None,
        sequences: Pack | Bucket | None = None,
    ) -> TorchLoader:
        """Return a loader of batches for PyTorch: dicts of tensors, read ahead by threads, epoch after epoch.

        Eager in metadata, and in one row group, whose lists tell their length. Filters and deletes are counted, so that
        the length is exact and every rank has the same number of batches. A table, and what looks at one row of it at
        a time, is read where it lies; anything else is run now, and its rows are kept in the engine's ``spill_dir``.

        The loader is an iterable for a bare loop, and for ``DataLoader(loader, batch_size=None)``. It has
        ``state_dict`` and ``load_state_dict``: the order of rows is a function of dataset, seed and epoch, and of the
        rows a step and the number of ranks with which the job was begun.

        Parameters
        ----------
        batch_size : int
            Rows of a batch of one rank.
        columns : sequence of str, optional
            Those to read. Default: all.
        shuffle : bool
            Whether each epoch has an order of its own.
        quality : {"block", "window", "global"}, optional
            "global" is a permutation of all rows, which must fit in memory or in the cache. "window" takes the rows of
            a batch from as many row groups as the memory allows, "block" from one at a time; both permute them inside.
            Default: the best that `memory` allows. ``loader.explain()`` says what it is worth.
        seed : int
        drop_last, pad : bool
            Whether the last batch, if short, is left out, or filled up with the epoch's first rows, which a column
            ``padded`` then tells apart. Default: it is shorter.
        rank, world : int, optional
            Which of how many this process is. Default: as ``torch.distributed`` says, else ``RANK`` and
            ``WORLD_SIZE``, else alone.
        device : str or torch.device, optional
            Where tensors go, behind `collate`; to a GPU they are copied from pinned memory while it computes.
        memory : int or str, optional
            For decoded rows of this rank [bytes, or a text such as ``"1GiB"``]. Default: 320 MiB, or the engine's
            budget if that is less. One row group is always in it.
        prefetch : int or str, optional
            Finished batches that wait [bytes]. Default: 16 MiB.
        cache : Cache, folder or bool, optional
            Keeps decoded row groups on a local disk for the next epochs and jobs, which then map them; True: in
            ``~/.cache/iceblink``, up to 50 GiB. Data files never change, so it is never stale.
        nulls : {"raise", "mask"} or mapping of str to value or "mask"
            What becomes of nulls in numbers: an error, zeros beside a column ``NAME_valid``, or a value of each column.
        tensors : mapping of str to bool, optional
            Columns of lists that have lists of any length although the first row group does not: ``{"ids": False}``.
        ragged : {"values", "pad", "nested"}
            Lists of any length as ``(values, offsets)``, padded with zeros beside a mask ``NAME_valid``, or as a
            nested tensor of jagged layout.
        text : {"list", "arrow"}
            Strings and bytes as Python's, or as Arrow arrays, which cost nothing until somebody looks.
        transform : callable, optional
            Applied to each batch as a dict of NumPy arrays, ahead of whoever waits for it.
        collate : callable, optional
            Applied to each batch of tensors, as the last step; may return anything.
        on_error : {"raise", "skip", "quarantine"}
            "skip" puts other rows in the place of those that cannot be read, that have no place in a tensor, or on
            which `transform` or `collate` fails, found by halving: the next row group's, or the batch's own, the same
            each time. ``stats()`` counts them, and a `RowsReplaced` event names each. "quarantine" gives the same
            batches, and keeps those rows in `quarantine`.
        quarantine : str, optional
            Table (made when first needed), or folder if it has a slash, for the rows replaced, each once, with error,
            traceback, file, row, epoch and step. Committed when a pass ends, left early or not; each rank, and each
            worker of a DataLoader, commits its own.
        workers : int
            Threads that call `transform` and `collate`, for functions that give up Python's lock.
        processes : bool, optional
            Whether each has a process of its own that calls `transform`: for pure Python. They are spawned for each
            pass; `transform` and what it returns go there and back pickled, arrays in shared memory. A batch of which
            a process dies is given to another, once. Default: for a function declared `iceblink.pure_python`.
        sequences : Pack or Bucket, optional
            What becomes of rows of different lengths: ``ib.Pack("ids", 2048)`` packs them into rows of one length,
            ``ib.Bucket("ids")`` makes batches of rows of similar length. Default: batches are as the rows come.

        Returns
        -------
        TorchLoader
            Numbers have shape (rows,), lists of one length, tensors and fixed bytes (rows, ...), without a copy where
            rows lie as they are wanted; times are integers in their unit; what has no place in a tensor is an Arrow
            array.

        Raises
        ------
        ConfigError
            PyTorch is not installed, or something asked for cannot be: now, and not as ranks that wait for each other.
        ColumnNotFound
        BatchContractBroken
            A null or a list of another length where the tensor has no place for it; also while iterating.
        SchemaMismatch
            The table of the quarantine has other columns.
        DataCorrupt, FunctionError
            While iterating: of a file, of `transform` or `collate`.
        WriteError
            While iterating: the quarantine could not be written to.
        """
        needs_torch()
        options = opening.Options(
            batch_size, columns, shuffle, quality, seed, drop_last, pad, rank, world, memory, prefetch, cache,
            nulls, tensors or {}, ragged, text, transform, collate, on_error, quarantine, workers, processes, sequences,
        )  # fmt: skip
        made = torch_loader.made_and_moved(ragged, device)
        return torch_loader.TorchLoader(self._setup(options, "to_torch", *made))

    def _setup(self, options: Options, where: str, convert: Made = None, move: Made = None) -> Setup:
        return opening.setup_of(self.plan, self.session, options, where, convert, move)
