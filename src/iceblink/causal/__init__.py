"""Effects of what was done, on whole tables: ``from iceblink import causal as ci``.

Every estimator reads a dataset block by block, where its rows are, and brings together what adds up: moments, scores,
counts. So the numbers are those of the whole table, memory is that of a few blocks, and one process or a cluster give
the same digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.causal import needs as needs  # it says which extra is missing
from iceblink.late import late_names

if TYPE_CHECKING:
    from iceblink.causal import models as models
    from iceblink.causal import plots as plots
    from iceblink.causal.arrays import OnArrays
    from iceblink.causal.dml.interactive import IRM
    from iceblink.causal.dml.linear_final import LinearDML, LinearEffects
    from iceblink.causal.dml.local import IIVM
    from iceblink.causal.dml.partialling_out import PLIV, PLR
    from iceblink.causal.dml.partially_linear import LinearPLR
    from iceblink.causal.doubt.e_values import EValue, e_value
    from iceblink.causal.doubt.pairs import rosenbaum_bounds
    from iceblink.causal.doubt.refute import Refutation, refute
    from iceblink.causal.doubt.regression_sensitivity import RegressionSensitivity
    from iceblink.causal.doubt.score_sensitivity import ScoreSensitivity
    from iceblink.causal.doubt.sensitivity import sensitivity
    from iceblink.causal.estimates import Estimates
    from iceblink.causal.experiments.ab_test import ABTest
    from iceblink.causal.experiments.metrics import Conversion, Mean, Quantile, Ratio
    from iceblink.causal.experiments.power import PowerAnalysis
    from iceblink.causal.experiments.results import ABResult, Effect
    from iceblink.causal.experiments.saved import SavedCells
    from iceblink.causal.experiments.sequential import AlwaysValid, GroupSequential
    from iceblink.causal.forests.causal import CausalForest, GrownForest
    from iceblink.causal.forests.uplift import GrownUplift, UpliftForest, UpliftTree
    from iceblink.causal.identification.front_door import FrontDoor
    from iceblink.causal.identification.graph import Graph
    from iceblink.causal.identification.identified import Identification
    from iceblink.causal.identification.implications import Implications
    from iceblink.causal.judging.curves import Curves
    from iceblink.causal.judging.doubly_robust import DoublyRobust, RowScores
    from iceblink.causal.judging.folding import folded
    from iceblink.causal.judging.groups import Calibration, GroupEffects, Groups
    from iceblink.causal.judging.predictor import BestLinearPredictor
    from iceblink.causal.judging.toc import TOC
    from iceblink.causal.judging.uplift import UpliftCurve
    from iceblink.causal.learners.crossed import XLearner
    from iceblink.causal.learners.doubly_robust import DRLearner
    from iceblink.causal.learners.learned import LearnedEffects
    from iceblink.causal.learners.residual import RLearner
    from iceblink.causal.learners.separate import TLearner
    from iceblink.causal.learners.single import SLearner
    from iceblink.causal.observational.adjusting import AIPW, IPW, IPWRA, RegressionAdjustment
    from iceblink.causal.observational.balance import Balance
    from iceblink.causal.observational.coarsened import CoarsenedMatching
    from iceblink.causal.observational.effects import Effects
    from iceblink.causal.observational.entropy import EntropyBalancing
    from iceblink.causal.observational.matching import NearestNeighbour
    from iceblink.causal.observational.overlap import Overlap, Propensity, Scores
    from iceblink.causal.observational.problem import Problem
    from iceblink.causal.observational.strata import Stratification
    from iceblink.causal.panels.staggered import Staggered
    from iceblink.causal.panels.synthetic import SyntheticControl, SyntheticDiD
    from iceblink.causal.panels.two_by_two import TwoByTwo
    from iceblink.causal.policies.budget import Budget, Spending
    from iceblink.causal.policies.tree import FittedTree, PolicyTree
    from iceblink.causal.policies.value import PolicyValue
    from iceblink.causal.provenance import Provenance
    from iceblink.causal.regression.fixed_effects import FixedEffects
    from iceblink.causal.regression.glm import Logit, Poisson
    from iceblink.causal.regression.ols import OLS
    from iceblink.causal.regression.two_stage import TwoStage
    from iceblink.causal.saved import SavedMoments
else:  # an estimator comes with what it needs, and the other sixty with nothing
    __getattr__, __dir__ = late_names(
        __name__,
        {
            "models": "",
            "plots": "",
            "arrays": "OnArrays",
            "dml.interactive": "IRM",
            "dml.linear_final": "LinearDML, LinearEffects",
            "dml.local": "IIVM",
            "dml.partialling_out": "PLIV, PLR",
            "dml.partially_linear": "LinearPLR",
            "doubt.e_values": "EValue, e_value",
            "doubt.pairs": "rosenbaum_bounds",
            "doubt.refute": "Refutation, refute",
            "doubt.regression_sensitivity": "RegressionSensitivity",
            "doubt.score_sensitivity": "ScoreSensitivity",
            "doubt.sensitivity": "sensitivity",
            "estimates": "Estimates",
            "experiments.ab_test": "ABTest",
            "experiments.metrics": "Conversion, Mean, Quantile, Ratio",
            "experiments.power": "PowerAnalysis",
            "experiments.results": "ABResult, Effect",
            "experiments.saved": "SavedCells",
            "experiments.sequential": "AlwaysValid, GroupSequential",
            "forests.causal": "CausalForest, GrownForest",
            "forests.uplift": "GrownUplift, UpliftForest, UpliftTree",
            "identification.front_door": "FrontDoor",
            "identification.graph": "Graph",
            "identification.identified": "Identification",
            "identification.implications": "Implications",
            "judging.curves": "Curves",
            "judging.doubly_robust": "DoublyRobust, RowScores",
            "judging.folding": "folded",
            "judging.groups": "Calibration, GroupEffects, Groups",
            "judging.predictor": "BestLinearPredictor",
            "judging.toc": "TOC",
            "judging.uplift": "UpliftCurve",
            "learners.crossed": "XLearner",
            "learners.doubly_robust": "DRLearner",
            "learners.learned": "LearnedEffects",
            "learners.residual": "RLearner",
            "learners.separate": "TLearner",
            "learners.single": "SLearner",
            "observational.adjusting": "AIPW, IPW, IPWRA, RegressionAdjustment",
            "observational.balance": "Balance",
            "observational.coarsened": "CoarsenedMatching",
            "observational.effects": "Effects",
            "observational.entropy": "EntropyBalancing",
            "observational.matching": "NearestNeighbour",
            "observational.overlap": "Overlap, Propensity, Scores",
            "observational.problem": "Problem",
            "observational.strata": "Stratification",
            "panels.staggered": "Staggered",
            "panels.synthetic": "SyntheticControl, SyntheticDiD",
            "panels.two_by_two": "TwoByTwo",
            "policies.budget": "Budget, Spending",
            "policies.tree": "FittedTree, PolicyTree",
            "policies.value": "PolicyValue",
            "provenance": "Provenance",
            "regression.fixed_effects": "FixedEffects",
            "regression.glm": "Logit, Poisson",
            "regression.ols": "OLS",
            "regression.two_stage": "TwoStage",
            "saved": "SavedMoments",
        },
    )

__all__ = [
    "Estimates", "Provenance", "plots", "OnArrays",
    "SavedMoments",
    "OLS", "TwoStage", "FixedEffects", "Logit", "Poisson",
    "LinearPLR",
    "SLearner", "TLearner", "XLearner", "RLearner", "DRLearner", "LearnedEffects",
    "models", "PLR", "PLIV", "IRM", "IIVM", "LinearDML", "LinearEffects",
    "UpliftTree", "UpliftForest", "GrownUplift", "CausalForest", "GrownForest",
    "ABTest", "Mean", "Conversion", "Ratio", "Quantile", "AlwaysValid", "GroupSequential", "ABResult", "Effect",
    "SavedCells", "PowerAnalysis",
    "Problem", "Propensity", "Scores", "Overlap", "Balance", "Effects",
    "IPW", "RegressionAdjustment", "AIPW", "IPWRA", "EntropyBalancing", "Stratification", "CoarsenedMatching",
    "NearestNeighbour",
    "Graph", "Identification", "Implications", "FrontDoor",
    "refute", "Refutation",
    "sensitivity", "RegressionSensitivity", "ScoreSensitivity", "e_value", "EValue", "rosenbaum_bounds",
    "Staggered", "TwoByTwo", "SyntheticControl", "SyntheticDiD",
    "folded", "DoublyRobust", "RowScores", "UpliftCurve", "TOC", "Curves", "BestLinearPredictor", "Calibration",
    "GroupEffects", "Groups",
    "PolicyTree", "FittedTree", "Budget", "Spending", "PolicyValue",
]  # fmt: skip
