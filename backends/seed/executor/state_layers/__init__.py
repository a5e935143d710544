"""Kinds of layers with a state in place of keys and values; a kind is a file and a line in :mod:`.registry`."""
