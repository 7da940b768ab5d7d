"""What would have to be true for an estimate to be wrong, and what an estimate says where the answer is known."""
