"""The sample: so many mutants, shared by the areas by their size.

A mutant's place in the draw is a hash of the seed and of its own text. So a change of the product redraws only what it
touches, and survivors that were dealt with stay dealt with.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from tests.mutants.areas import Area
from tests.mutants.mutations import Mutation, Shown, mutations_of


def sample(root: Path, areas: list[Area], n: int, seed: int, only: str = "") -> dict[str, list[Mutation]]:
    """Draws `n` mutations, of each area in proportion to how many it has; of the file `only`, if given."""
    everything = {
        area.name: [
            mutation
            for file in area.sources(root)
            if only in ("", file)
            for mutation in mutations_of(file, (root / file).read_bytes())
        ]
        for area in areas
    }
    shares = shared(n, {name: len(mutations) for name, mutations in everything.items()})
    return {name: _drawn(root, everything[name], shares[name], f"{seed}/{name}") for name in everything}


def shared(n: int, sizes: dict[str, int]) -> dict[str, int]:
    """Divides n in proportion to sizes, by largest remainder and no more than there is."""
    total = sum(sizes.values())
    if n >= total:
        return sizes
    exact = {name: n * size / total for name, size in sizes.items()}
    shares = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: shares[name] - exact[name])[: n - sum(shares.values())]:
        shares[name] += 1
    return shares


def _drawn(root: Path, mutations: list[Mutation], n: int, seed: str) -> list[Mutation]:
    drawn: list[Mutation] = []
    for mutation in in_drawing_order(mutations, seed):
        if len(drawn) == n:
            break
        if mutation.parses_in((root / mutation.file).read_bytes()):
            drawn.append(mutation)
    return sorted(drawn)


def in_drawing_order(mutations: list[Mutation], seed: str) -> list[Mutation]:
    """Sorts by a hash of seed and text; equal changes of equal lines are told apart by their order in the file."""
    seen: Counter[Shown] = Counter()
    places: dict[Mutation, str] = {}
    for mutation in mutations:
        text = "\0".join((seed, *mutation.shown, str(seen[mutation.shown])))
        places[mutation] = hashlib.sha256(text.encode()).hexdigest()
        seen[mutation.shown] += 1
    return sorted(mutations, key=places.__getitem__)
