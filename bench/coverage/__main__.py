"""How often intervals of effects hold the truth, of studies drawn many times.

``python -m bench.coverage [studies] [kind ...]``; without kinds all of them. Of 1,000 studies 95 % intervals should
hold the truth in 93 to 97 %. What is known of a share by so many studies is printed behind it.
"""

from __future__ import annotations

import sys
from collections import Counter

from scipy import stats

from bench.coverage.double_machine_learning import double_machine_learning
from bench.coverage.doubt import doubt
from bench.coverage.experiments import experiments
from bench.coverage.forests import forests
from bench.coverage.judges import judges
from bench.coverage.learners import learners
from bench.coverage.studies import Draw, like_with_like, observational, panels, regressions, synthetic

KINDS: dict[str, Draw] = {
    "observational": observational,
    "like-with-like": like_with_like,
    "regressions": regressions,
    "panels": panels,
    "synthetic": synthetic,
    "dml": double_machine_learning,
    "learners": learners,
    "forests": forests,
    "judges": judges,
    "doubt": doubt,
}


def main(studies: int, kinds: list[str]) -> None:
    """Draw studies, and print a line for each estimator."""
    for kind in kinds or [*KINDS, "experiments"]:
        if kind == "experiments":
            for name, share in experiments(studies):
                show(name, round(share * studies), studies)
            continue
        held: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        for seed in range(studies):
            for name, low, high, truth in KINDS[kind](seed):
                asked[name] += 1
                held[name] += int(low <= truth <= high)
        for name, count in asked.items():
            show(name, held[name], count)


def show(name: str, held: int, asked: int) -> None:
    """Print a line: a star marks a share outside of 93 to 97 %."""
    low, high = stats.beta.interval(0.95, held + 0.5, asked - held + 0.5)
    star = " " if 0.93 <= held / asked <= 0.97 else "*"
    print(f"{name:50} {held / asked:6.1%}{star} of {asked:,} ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000, sys.argv[2:])
