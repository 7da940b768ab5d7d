"""Effects of what was done, on whole tables: ``from iceblink import causal as ci``.

Every estimator reads a dataset block by block, where its rows are, and brings together what adds up: moments, scores,
counts. So the numbers are those of the whole table, memory is that of a few blocks, and one process or a cluster give
the same digits.
"""

from __future__ import annotations

from iceblink.causal.dml.partially_linear import LinearPLR
from iceblink.causal.estimates import Estimates
from iceblink.causal.observational.adjusting import AIPW, IPW, IPWRA, RegressionAdjustment
from iceblink.causal.observational.balance import Balance
from iceblink.causal.observational.coarsened import CoarsenedMatching
from iceblink.causal.observational.effects import Effects
from iceblink.causal.observational.entropy import EntropyBalancing
from iceblink.causal.observational.matching import NearestNeighbour
from iceblink.causal.observational.overlap import Overlap, Propensity, Scores
from iceblink.causal.observational.problem import Problem
from iceblink.causal.observational.strata import Stratification
from iceblink.causal.regression.glm import Logit, Poisson
from iceblink.causal.regression.ols import OLS
from iceblink.causal.regression.two_stage import TwoStage

__all__ = [
    "Estimates",
    "LinearPLR",
    "Logit",
    "OLS",
    "Poisson",
    "TwoStage",
    "Problem",
    "Propensity",
    "Scores",
    "Overlap",
    "Balance",
    "Effects",
    "IPW",
    "RegressionAdjustment",
    "AIPW",
    "IPWRA",
    "EntropyBalancing",
    "Stratification",
    "CoarsenedMatching",
    "NearestNeighbour",
]
