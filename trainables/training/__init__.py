"""The only training loop: packs of models trained as one."""
