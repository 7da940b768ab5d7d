"""Whether predicted effects are right: of rows that the prediction has not seen."""
