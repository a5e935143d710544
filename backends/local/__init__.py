"""What backends share that run a model in this process."""
