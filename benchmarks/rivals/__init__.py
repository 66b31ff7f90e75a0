"""The same searches as their users would write them: Ray Tune plainly, Ray Tune by an expert, Optuna in processes."""
