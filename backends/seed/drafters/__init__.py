"""Drafters: how drafts of live sequences are made."""
