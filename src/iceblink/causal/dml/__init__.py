"""Double machine learning: effects from what nuisance models of other rows leave unexplained."""
