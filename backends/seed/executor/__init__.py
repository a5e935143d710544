"""Forward passes: batches, attention, weights, early exits and their cost."""
