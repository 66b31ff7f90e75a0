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
        models = info.batch_size
        table = table.movedim(in_dims[0], 0) if in_dims[0] is not None else table.expand(models, *table.shape)
        if in_dims[1] is None and table.is_cpu:
            return _SharedLookup.apply(table, index), 0
        own = index.movedim(in_dims[1], 0) if in_dims[1] is not None else index.expand(models, *index.shape)
        return _StackedLookup.apply(table, own), 0


# torch asks for the signature at every call, and finding it out takes as long as a lookup of a thousand rows.
_Lookup.forward.__signature__ = inspect.signature(_Lookup.forward)  # type: ignore[attr-defined]


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
        models, rows, size = ctx.shape
        shifted = index + rows * torch.arange(models, device=index.device).unsqueeze(1)
        terms = _summable(gradient).reshape(-1, size)
        return _sums(terms, shifted.flatten(), models * rows).view(ctx.shape), None


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
        return terms.new_zeros(ctx.shape).index_add_(1, index, terms), None


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
