"""What a benchmark runs: modes, methods and the plan."""
