"""Datasets with their models and losses, one file each."""
