"""Embedding lookup, for one model and for stacked ones.

`torch.vmap` would copy the stacked tables to another layout and back at every step; here each model's rows are read
and updated in place. Gradients are summed in fp32, under bf16 autocast too.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

UNSORTED = 3072
"""Indices beyond which CUDA's sum of an embedding's gradient sorts them, int32 in half the passes of int64."""

FEW_MODELS = 4
"""Models up to which a CPU sums the gradients of one model after the other, from more on of all at each index."""


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """Returns rows [B, D] of a table [N, D] at `index` [B]; equals `F.embedding`, under `torch.vmap` too."""
    found: Tensor = _Lookup.apply(table, index)
    return found


class _Lookup(torch.autograd.Function):
    """Lookup in one table; its vmap rule handles stacked tables."""

    @staticmethod
    def forward(table: Tensor, index: Tensor) -> Tensor:
        return F.embedding(index, table)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.rows = inputs[0].shape[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _sums(_summable(gradient), index, ctx.rows), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], table: Tensor, index: Tensor) -> tuple[Tensor, int]:
        table = stacked(table, in_dims[0], info.batch_size)
        if in_dims[1] is None and table.is_cpu:
            return _SharedLookup.apply(table, index), 0
        return _StackedLookup.apply(table, stacked(index, in_dims[1], info.batch_size)), 0


def stacked(x: Tensor, dim: int | None, models: int) -> Tensor:
    """Returns [K, ...] of a tensor that `torch.vmap` gives, with its models along `dim` or one for all."""
    return x.expand(models, *x.shape) if dim is None else x.movedim(dim, 0)


def sign(function: type[torch.autograd.Function]) -> None:
    """Keeps the signature of a function's forward: torch asks for it at every call, 10 µs each."""
    function.forward.__signature__ = inspect.signature(function.forward)  # type: ignore[attr-defined]


sign(_Lookup)


class _StackedLookup(torch.autograd.Function):
    """Tables [K, N, D], their indices [K, B] → [K, B, D], without a copy of tables that lie apart in memory."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        if not table.is_cpu:  # `table[rows, index]` is no operation of which recorded steps know that it has one shape
            return table.gather(1, index.unsqueeze(-1).expand(*index.shape, table.shape[-1]))
        found = table.new_empty(*index.shape, table.shape[-1])
        for rows, own, here in zip(table, index, found, strict=True):  # which takes less time than one gather
            torch.index_select(rows, 0, own, out=here)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _stacked_sums(_summable(gradient), index, ctx.shape), None


class _SharedLookup(torch.autograd.Function):
    """Tables [K, N, D], one shared index [B] → [K, B, D]; on a CPU only, as the order of its sums is fixed there."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return table.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        terms = _summable(gradient)
        if len(terms) <= FEW_MODELS:
            return _stacked_sums(terms, index.expand(len(terms), -1), ctx.shape), None
        return terms.new_zeros(ctx.shape).index_add_(1, index, terms), None


def _stacked_sums(terms: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
    """Returns the sums of the terms [K, B, D] at the indices [K, B] of each model, [K, N, D], as one of K N rows."""
    models, rows, size = shape
    shifted = index + rows * torch.arange(models, device=index.device).unsqueeze(1)
    return _sums(terms.reshape(-1, size), shifted.flatten(), models * rows).view(shape)


def _sums(terms: Tensor, index: Tensor, rows: int) -> Tensor:
    """Returns the sum of the terms [B, D] at each index [B] below `rows`, [rows, D], in a fixed order."""
    if terms.is_cpu:
        return terms.new_zeros(rows, terms.shape[-1]).index_add_(0, index, terms)
    if len(index) > UNSORTED and rows < 2**31:
        index = index.int()
    sums: Tensor = torch.ops.aten.embedding_dense_backward(terms, index, rows, -1, False)  # `index_add_`'s order varies
    return sums


def _summable(gradient: Tensor) -> Tensor:
    """Returns a gradient in fp32 or wider: a bf16 sum of ones stops at 256, and a row may be looked up more often.

    A gradient in fp32 is returned as it is. Under autocast a projected table is in bf16, and autograd
    rounds the sum to it once.
    """
    return gradient.float() if gradient.element_size() < 4 else gradient
