"""Effects that differ between rows, by trees over binned features: uplift forests and honest causal forests."""
