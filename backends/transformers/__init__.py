"""Backend ``transformers``: plain batched decoding."""
