"""Spaces to cells, points, packs, costs and winners. Imports no torch."""
