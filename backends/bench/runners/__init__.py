"""How each kind of mode runs a workload."""
