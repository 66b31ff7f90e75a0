"""One launch: its agenda, limits and display."""
