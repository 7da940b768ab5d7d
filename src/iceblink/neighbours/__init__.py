"""Datasets handed to and taken from other distributed frames: Ray Data and Dask."""
