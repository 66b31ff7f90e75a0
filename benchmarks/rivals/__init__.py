"""The same searches as users would write them: typical Ray Tune, expert Ray Tune, Optuna in processes."""
