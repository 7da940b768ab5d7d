"""Will a flight arrive late? Gradient boosted trees of scikit-learn, trained in memory, scored batch by batch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from iceblink.errors import ConfigError

WORDS = ("carrier", "origin", "dest")
KEYS = ("time_hour", "carrier", "flight", "origin")
NUMBERS = ("hour", "weekday", "distance", "temp", "wind_speed", "precip", "visib", "plane_age", "seats")


class DelayModel:
    """A classifier, and the vocabulary it knows of each column in `WORDS`."""

    def __init__(self, flights: pa.Table) -> None:
        """Learn from `flights`: the columns `WORDS` and `NUMBERS`, and whether each was `late`."""
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier
            from threadpoolctl import threadpool_limits
        except ImportError as error:
            raise ConfigError("scikit-learn is not installed", "demo", "pip install 'iceblink[demo]'") from error
        self.vocabulary = {word: pc.unique(flights[word].combine_chunks()) for word in WORDS}
        self.trees = HistGradientBoostingClassifier(categorical_features=[*range(len(WORDS))], random_state=0)
        with threadpool_limits(1):  # OpenMP's threads wait by spinning: on a busy machine two are slower than one
            self.trees.fit(self.features(flights), flights["late"].to_numpy())

    def features(self, flights: pa.Table | pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the model's input, float64 of shape (rows, features); null and unknown words are NaN."""
        codes = [pc.index_in(flights[word], self.vocabulary[word]) for word in WORDS]
        columns = [*codes, *(flights[number] for number in NUMBERS)]
        return np.column_stack([pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False) for column in columns])

    def risk(self, flights: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the probability that each flight arrives late, shape (rows,)."""
        probabilities: np.ndarray[Any, np.dtype[np.float64]] = self.trees.predict_proba(self.features(flights))
        return probabilities[:, 1]

    def save(self, path: Path) -> None:
        """Write the model to a file, for `Scorer`."""
        path.write_bytes(pickle.dumps(self))


class Scorer:
    """What `map_batches` runs: built once per worker, so that the model is loaded once, then called with each batch."""

    def __init__(self, path: Path) -> None:
        self.model: DelayModel = pickle.loads(path.read_bytes())

    def __call__(self, flights: pa.RecordBatch) -> pa.RecordBatch:
        """Return the flights' keys, what happened, and the `risk` that the model saw."""
        known = flights.select([*KEYS, "month", "hour", "late"])
        return known.append_column("risk", pa.array(self.model.risk(flights), pa.float64()))
