"""Ways to run packs: in this process, or on Ray."""
