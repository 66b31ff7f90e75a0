"""Models as plain modules, without data or training."""
