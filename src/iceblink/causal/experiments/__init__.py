"""Randomised experiments: arms compared by metrics, over all rows and by segment."""
