"""Regressions of whole tables: a pass for the coefficients, and one more where errors are robust or clustered."""
