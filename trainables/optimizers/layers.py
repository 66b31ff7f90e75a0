"""Layers: the spans of a flat parameter vector, and which of them LAWN constrains."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod

import torch

from trainables.tasks import CONSTRAINTS


@dataclass(frozen=True)
class Layer:
    """One tensor's span in the flat vector of all parameters: `w[..., start:stop]`; the paper's superscript ℓ.

    `matrix` is False for biases and other tensors of one dimension.
    """

    name: str
    start: int
    stop: int
    constrained: bool
    matrix: bool = True


def layers_of(
    named_shapes: Iterable[tuple[str, torch.Size]],
    constrain: str = "all",
    final: Collection[str] = (),
    embeddings: Collection[str] = (),
) -> tuple[Layer, ...]:
    """Lays out tensors consecutively and marks those whose norm LAWN will hold.

    Args:
        named_shapes: each tensor's name and shape, in the order of the flat vector.
        constrain: "all" marks every tensor with two or more dimensions, embeddings included (eq. 1, "for all ℓ");
            "final" marks only those of them that `final` names; "hidden" all but `embeddings` and the last of them, the
            output. Biases and other 1-D tensors stay free.
        final: tensors, or modules with tensors, of the last homogeneous sub-network; used for "final" only.
        embeddings: names of the tables; used for "hidden" only.

    Returns:
        One layer per tensor, consecutive, the first at 0.

    Raises:
        ValueError: `constrain` is unknown or marks no tensor, or `final` has an unknown name.

    Source: §3, eq. (1) for "all", which tensors count is our choice; "final" is the arXiv version's rule; "hidden" is
        Hyperball's (arXiv 2606.16899).
    """
    if constrain not in CONSTRAINTS:
        raise ValueError(f"constrain must be one of {', '.join(CONSTRAINTS)}, got '{constrain}'")
    shapes = list(named_shapes)
    matrices = [name for name, shape in shapes if len(shape) >= 2]
    chosen = set(matrices)
    if constrain == "final":
        chosen &= _named_by(final, [name for name, _ in shapes])
    if constrain == "hidden":
        chosen -= {*embeddings, *matrices[-1:]}
    if constrain != "all" and not chosen:
        other = f"final names {[*final]}" if constrain == "final" else f"of {matrices} none is hidden"
        raise ValueError(f"constrain = '{constrain}' marks no tensor with two or more dimensions; {other}")
    return _lay_out(shapes, chosen)


def _named_by(final: Collection[str], names: Collection[str]) -> set[str]:
    """Returns the tensors that `final` names, each directly or through its module."""
    members = {entry: {n for n in names if n == entry or n.startswith(f"{entry}.")} for entry in final}
    missing = [entry for entry, found in members.items() if not found]
    if missing:
        raise ValueError(f"final must name tensors or modules of the model, got {missing}; tensors are {[*names]}")
    return set().union(*members.values())


def _lay_out(shapes: list[tuple[str, torch.Size]], chosen: set[str]) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    start = 0
    for name, shape in shapes:
        stop = start + prod(shape)
        layers.append(Layer(name, start, stop, name in chosen, len(shape) >= 2))
        start = stop
    return tuple(layers)
