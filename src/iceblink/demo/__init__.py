"""A year of flights through the main job: land, ask, train, score, correct, travel back, draw."""
