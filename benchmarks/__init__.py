"""Measured numbers: `python -m benchmarks [NAME...]` writes JSON to `benchmarks/results`."""
