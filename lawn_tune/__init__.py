"""The tuning service: plans cells, schedules packs, keeps the ledger, compares LAWN against weight decay."""

__version__ = "0.1.0"
