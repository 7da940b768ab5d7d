"""What a graph of causes says of an effect: by which columns it can be estimated, and what would speak against it."""
