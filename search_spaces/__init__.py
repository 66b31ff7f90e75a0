"""Search spaces as data: one TOML file each, and the loader. Standard library only."""
