"""How much is drafted: goodput, calibration and the gate."""
