"""Benchmarks: iceblink and its peers in turns on the same data, medians and ratios printed, no time asserted."""
