"""Training code: optimizers, workloads, models and the pack that trains K trials at once. Knows torch, not the service."""
