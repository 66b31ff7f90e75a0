"""Plain modules, no data, no training."""
