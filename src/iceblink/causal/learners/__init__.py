"""Meta-learners: the effect on each row, by models of outcomes, treatments and effects put together."""
