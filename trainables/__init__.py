"""Training code: optimizers, workloads, models, packs of K trials. Knows torch, not the service."""
