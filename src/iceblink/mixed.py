"""Several datasets mixed by weight, on their way to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iceblink.dataset import Dataset
from iceblink.errors import ConfigError
from iceblink.load.late import needs_torch, torch_loader
from iceblink.load.loader import Setup
from iceblink.load.mixing import mixed_setup_of
from iceblink.load.opening import Opening, Options
from iceblink.loading import Feeding, Made

if TYPE_CHECKING:
    from iceblink.load.torch_loader import TorchLoader


class Mix(Feeding):
    """Datasets with the same columns, of whose rows every batch has a part by weight. Made by `mix`.

    A column ``source`` has the number of each row's dataset, int32, in the order in which they were given.
    """

    def __init__(self, sources: Mapping[str, Dataset], weights: Mapping[str, float], until: str | int | None) -> None:
        self._sources, self._weights, self._until = sources, weights, until

    def to_torch(self, batch_size: int, *, device: Any = None, **options: Any) -> TorchLoader:
        """Return a loader of batches for PyTorch; options are those of `Dataset.to_torch`, but for `pad`.

        Raises
        ------
        ConfigError, ColumnNotFound, BatchContractBroken
            As of `Dataset.to_torch`; also where datasets have not the same columns, or one has no rows for a step.
        """
        needs_torch()
        made = torch_loader.made_and_moved(options.get("ragged", "values"), device)
        return torch_loader.TorchLoader(self._setup(Options.of(batch_size, options, "to_torch"), "to_torch", *made))

    def _setup(self, options: Options, where: str, convert: Made = None, move: Made = None) -> Setup:
        session = next(iter(self._sources.values())).session
        plans = {name: source.plan for name, source in self._sources.items()}
        return mixed_setup_of(plans, self._weights, self._until, Opening(session, options, where, convert, move))


def mix(sources: Mapping[str, Dataset], weights: Mapping[str, float], *, until: str | int | None = None) -> Mix:
    """Mix datasets by weight, for a model that learns from all of them.

    Lazy. Each batch of each rank has rows of the datasets in proportion to their weights, rounded to whole rows in turn
    so that in the long run there are exactly as many as the weights say. Each dataset is shuffled as it would be alone,
    and begins anew when all its rows were seen, whenever that is; the next epoch of the mixture goes on where the last
    one ended. The loader's state is an epoch and a step all the same.

    Parameters
    ----------
    sources : mapping of str to Dataset
        With the same columns, of the same types.
    weights : mapping of str to float
        Above zero; their sum may be any. They are kept to one part in a million.
    until : str or int, optional
        What makes an epoch of the mixture: so many steps, or all those before a row of this dataset comes the second
        time. Default: of the dataset for which that is first.

    Returns
    -------
    Mix
        With `Mix.to_torch`, `to_tf`, `to_jax` and `to_numpy`.

    Raises
    ------
    ConfigError
        Names and weights do not fit together.
    """
    if not sources or set(sources) != set(weights):
        raise ConfigError(f"datasets {sorted(sources)}, weights {sorted(weights)}", "mix", "each dataset has a weight")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights.values()):
        raise ConfigError(f"weights {dict(weights)}", "mix", "a weight is above zero; leave out what has none")
    total = sum(weights.values())
    return Mix(dict(sources), {name: weights[name] / total for name in sources}, until)
