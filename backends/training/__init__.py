"""Training scripts of the bundled models and of early-exit drafts."""
