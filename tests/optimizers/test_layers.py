"""Which spans of the flat vector are layers, and which of them LAWN constrains."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.optimizers.layers import Layer, layers_of

SHAPES = [
    ("embedding.weight", torch.Size([5, 3])),
    ("norm.weight", torch.Size([3])),
    ("scale", torch.Size([])),
    ("head.0.weight", torch.Size([2, 3])),
    ("head.0.bias", torch.Size([2])),
]


def constrained(layers: tuple[Layer, ...]) -> list[str]:
    return [layer.name for layer in layers if layer.constrained]


def test_all_holds_every_matrix_embeddings_included_and_no_vector() -> None:
    assert constrained(layers_of(SHAPES)) == ["embedding.weight", "head.0.weight"]


@pytest.mark.parametrize("final", [("head.0.weight",), ("head.0",), ("head",), ("head.0.weight", "head.0.bias")])
def test_final_holds_only_the_matrices_it_names(final: tuple[str, ...]) -> None:
    assert constrained(layers_of(SHAPES, "final", final)) == ["head.0.weight"]


@pytest.mark.parametrize("final", [(), ("head.0.bias",), ("hea",), ("head", "missing"), ("norm", "scale")])
def test_final_that_marks_nothing_or_names_nothing_is_an_error(final: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="final"):
        layers_of(SHAPES, "final", final)


def test_hidden_holds_neither_embeddings_nor_the_output() -> None:
    shapes = [*SHAPES[:1], ("tower.weight", torch.Size([3, 3])), *SHAPES[1:]]
    assert constrained(layers_of(shapes, "hidden", embeddings=["embedding.weight"])) == ["tower.weight"]
    with pytest.raises(ValueError, match=r"'hidden' marks no tensor.*\['embedding.weight', 'head.0.weight'\]"):
        layers_of(SHAPES, "hidden", embeddings=["embedding.weight"])


def test_an_unknown_rule_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="all, final, hidden, got 'last'"):
        layers_of(SHAPES, "last")


@given(st.lists(st.lists(st.integers(0, 4), max_size=4), max_size=6))
def test_layers_lie_end_to_end_and_hold_each_tensor_whole(sizes: list[list[int]]) -> None:
    shapes = [(f"t{i}", torch.Size(size)) for i, size in enumerate(sizes)]
    layers = layers_of(shapes)
    assert [layer.start for layer in layers] == [0, *[layer.stop for layer in layers]][: len(layers)]
    assert [layer.stop - layer.start for layer in layers] == [shape.numel() for _, shape in shapes]
    assert [layer.constrained for layer in layers] == [len(shape) >= 2 for _, shape in shapes]
