"""One optimizer step of stacked models on a GPU, in as few passes over memory as the rule allows; see `gpu` for calls.

The computation, its symbols and line numbers are those of `rules.py` and kernels.c. A layer that LAWN holds, and any
layer under LAMB, takes three passes: the sums of its projection, the slots with the sums of the direction, the weights.
The third pass computes the direction again from the slots, which costs no more memory traffic than storing it. Other
layers take one pass, or three with them.

Each program computes one block of one layer of one row. Sums are those of the blocks in single precision, then of
a layer's blocks in their order in double precision: a result depends on no other row, and a step has the same bits
every time.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
# Triton's functions are another language: their values have no Python types, and `tl.constexpr` marks constants.

from __future__ import annotations

import triton
import triton.language as tl

SGD: tl.constexpr = tl.constexpr(0)
LAMB: tl.constexpr = tl.constexpr(2)

LR: tl.constexpr = tl.constexpr(0)
WEIGHT_DECAY: tl.constexpr = tl.constexpr(1)
MOMENTUM: tl.constexpr = tl.constexpr(2)
BETA1: tl.constexpr = tl.constexpr(3)
BETA2: tl.constexpr = tl.constexpr(4)
EPS: tl.constexpr = tl.constexpr(5)
NUMBERS: tl.constexpr = tl.constexpr(6)
"""Columns of a row's hyperparameters."""

WW: tl.constexpr = tl.constexpr(0)
"""|w|² before the step."""
PULL: tl.constexpr = tl.constexpr(1)
"""wᵀg/|w|², what line 4 takes of w from the gradient."""
ALONG: tl.constexpr = tl.constexpr(2)
"""wᵀr/|w|², what line 9 takes of w from the direction."""
CAREFUL: tl.constexpr = tl.constexpr(3)
"""1 where r lies along w, so that |P r|² as a difference of two sums would be rounding error: it is summed itself, and
what rounding left of wᵀP r."""
KEEP: tl.constexpr = tl.constexpr(4)
MOVE: tl.constexpr = tl.constexpr(5)
"""The step is w ← keep·w − move·(r − along·w)."""
BIAS1: tl.constexpr = tl.constexpr(6)
BIAS2: tl.constexpr = tl.constexpr(7)
"""1/(1 − βᵗ) of line 7: computed once a layer, as double precision in every thread would take as long as memory."""
FACTORS: tl.constexpr = tl.constexpr(8)
"""Columns of a layer's factors."""


@triton.jit
def _block(places, sizes, block, BLOCK: tl.constexpr):
    """Returns the layer of a block, the positions of its weights in the layer, and which exist."""
    layer = tl.load(places + 2 * block)
    at = tl.load(places + 2 * block + 1) * BLOCK + tl.arange(0, BLOCK)
    return layer, at, at < tl.load(sizes + layer)


@triton.jit
def _tensor(addresses, strides, layer, row):
    """Returns a pointer to one row of one layer of a list of tensors."""
    start = tl.load(addresses + layer).to(tl.pointer_type(tl.float32))
    return start + row * tl.load(strides + layer)


@triton.jit
def _single(x):
    """A number in the precision of the weights."""
    return x.to(tl.float32)


@triton.jit
def _direction(w, m, v, numbers, factors, decay, RULE: tl.constexpr):
    """Lines 7 and 8: the direction of a block from its slots."""
    if RULE == SGD:
        r = m
    else:
        bias1 = _single(tl.load(factors + BIAS1))
        bias2 = _single(tl.load(factors + BIAS2))
        r = bias1 * m / (tl.sqrt(bias2 * v) + _single(tl.load(numbers + EPS))) + decay * w
    return r


@triton.jit
def projection_sums(
    places, sizes, addresses, strides, sums, squares, layers, blocks, RULE: tl.constexpr, BLOCK: tl.constexpr
):
    """wᵀg, |w|² and |g|² of each block."""
    row = tl.program_id(1).to(tl.int64)
    layer, at, exists = _block(places, sizes, tl.program_id(0), BLOCK)
    w = tl.load(_tensor(addresses, strides, layer, row) + at, mask=exists, other=0.0)
    g = tl.load(_tensor(addresses + 3 * layers, strides + 3 * layers, layer, row) + at, mask=exists, other=0.0)
    here = row * blocks + tl.program_id(0)
    tl.store(sums + 2 * here, tl.sum(w * g).to(tl.float64))
    tl.store(sums + 2 * here + 1, tl.sum(w * w).to(tl.float64))
    tl.store(squares + here, tl.sum(g * g).to(tl.float64))


@triton.jit
def _layer_sums(sums, firsts, layer, row, blocks, WIDTH: tl.constexpr):
    """Returns the sums of one layer's two columns over its blocks, in double precision."""
    first = tl.load(firsts + layer)
    last = tl.load(firsts + layer + 1)
    one = tl.zeros((WIDTH,), tl.float64)
    two = tl.zeros((WIDTH,), tl.float64)
    for start in range(first, last, WIDTH):
        at = start + tl.arange(0, WIDTH)
        here = sums + 2 * (row * blocks + at)
        one += tl.load(here, mask=at < last, other=0.0)
        two += tl.load(here + 1, mask=at < last, other=0.0)
    return tl.sum(one), tl.sum(two)


@triton.jit
def _correction(beta, t):
    return 1 / (1 - tl.exp(t * tl.log(beta)))


@triton.jit
def layer_factors(
    sums, firsts, radii, numbers, steps, step_row, step_layer, factors, layers, blocks, RULE: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """The bias corrections of each layer; with three passes also |w|², and what line 4 takes of w from the gradient."""
    layer = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    numbers += row * NUMBERS
    factors += (row * layers + layer) * FACTORS
    if RULE != SGD:
        t = tl.load(steps + row * step_row + layer * step_layer).to(tl.float64)
        tl.store(factors + BIAS1, _correction(tl.load(numbers + BETA1), t))
        tl.store(factors + BIAS2, _correction(tl.load(numbers + BETA2), t))
    held = tl.load(radii + row * layers + layer) > 0
    if held | (RULE == LAMB):
        wg, ww = _layer_sums(sums, firsts, layer, row, blocks, WIDTH)
        tl.store(factors + WW, ww)
        tl.store(factors + PULL, tl.where(held, wg / tl.where(ww == 0, 1.0, ww), 0.0))


@triton.jit
def directions(
    places, sizes, addresses, strides, radii, numbers, factors, sums, squares, layers, blocks, RULE: tl.constexpr,
    BLOCK: tl.constexpr, THREE: tl.constexpr,
):  # fmt: skip
    """Lines 4 to 8: the slots; then wᵀr and |r|² of each block if there are three passes, else the weights and |g|².

    All layers of a launch are alike: a choice by layer costs so many registers that it takes half as long again.
    """
    row = tl.program_id(1).to(tl.int64)
    layer, at, exists = _block(places, sizes, tl.program_id(0), BLOCK)
    held = tl.load(radii + row * layers + layer) > 0
    numbers += row * NUMBERS
    factors += (row * layers + layer) * FACTORS
    decay = _single(tl.where(held, 0.0, tl.load(numbers + WEIGHT_DECAY)))
    pull = _single(tl.load(factors + PULL, mask=held, other=0.0))
    w_at = _tensor(addresses, strides, layer, row) + at
    m_at = _tensor(addresses + layers, strides + layers, layer, row) + at
    v_at = _tensor(addresses + 2 * layers, strides + 2 * layers, layer, row) + at
    w = tl.load(w_at, mask=exists, other=0.0)
    g = tl.load(_tensor(addresses + 3 * layers, strides + 3 * layers, layer, row) + at, mask=exists, other=0.0)
    m = tl.load(m_at, mask=exists, other=0.0)
    v = m
    if RULE == SGD:
        m = _single(tl.load(numbers + MOMENTUM)) * m + (g - (pull - decay) * w)
    else:
        d = g - pull * w
        beta1 = tl.load(numbers + BETA1)
        beta2 = tl.load(numbers + BETA2)
        v = tl.load(v_at, mask=exists, other=0.0)
        m = _single(beta1) * m + _single(1 - beta1) * d
        v = _single(beta2) * v + _single(1 - beta2) * d * d
        tl.store(v_at, v, mask=exists)
    tl.store(m_at, m, mask=exists)
    r = tl.where(exists, _direction(w, m, v, numbers, factors, decay, RULE), 0.0)
    here = row * blocks + tl.program_id(0)
    if THREE:
        tl.store(sums + 2 * here, tl.sum(w * r).to(tl.float64))
        tl.store(sums + 2 * here + 1, tl.sum(r * r).to(tl.float64))
    else:
        tl.store(w_at, w - _single(tl.load(numbers + LR)) * r, mask=exists)
        tl.store(squares + here, tl.sum(g * g).to(tl.float64))


@triton.jit
def _store_move(here, numbers, c, ww, wp, pp, RULE: tl.constexpr):
    """Lines 10 and 11 as w ← keep·w − move·p, where p is P r, or r for a layer that is not held."""
    lr = tl.load(numbers + LR)
    if RULE == LAMB:
        lr *= tl.where(ww * pp > 0, tl.sqrt(ww / tl.where(pp > 0, pp, 1.0)), 1.0)
    norm = tl.sqrt(ww - 2 * lr * wp + lr * lr * pp)
    # The difference is 0, or NaN for a norm that overflowed: c/inf would turn a diverged layer into zeros.
    scale = tl.where(c > 0, c / tl.where(norm == 0, 1.0, norm) + (norm - norm), 1.0)
    tl.store(here + KEEP, scale)
    tl.store(here + MOVE, scale * lr)


@triton.jit
def moves(sums, firsts, radii, numbers, factors, layers, blocks, RULE: tl.constexpr, WIDTH: tl.constexpr):
    """The factors of lines 9 to 11 from wᵀr and |r|² of each layer."""
    layer = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    c = tl.load(radii + row * layers + layer).to(tl.float64)
    if (c > 0) | (RULE == LAMB):
        wr, rr = _layer_sums(sums, firsts, layer, row, blocks, WIDTH)
        here = factors + (row * layers + layer) * FACTORS
        ww = tl.load(here + WW)
        along = tl.where(c > 0, wr / tl.where(ww == 0, 1.0, ww), 0.0)
        across = rr - along * wr
        tl.store(here + ALONG, along)
        tl.store(here + CAREFUL, (across < 1e-3 * rr).to(tl.float64))
        _store_move(here, numbers + row * NUMBERS, c, ww, 0.0, across, RULE)


@triton.jit
def careful_sums(
    places, sizes, addresses, strides, radii, numbers, factors, sums, layers, blocks, RULE: tl.constexpr,
    BLOCK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """wᵀP r and |P r|² of each block of the layers whose direction lies along the weights; `GROUP` blocks a program.

    There is nearly never one: a program looks at all of its blocks at once.
    """
    row = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * GROUP
    near = first + tl.arange(0, GROUP)
    theirs = row * layers + tl.load(places + 2 * near, mask=near < blocks, other=0)
    careful = tl.load(factors + theirs * FACTORS + CAREFUL, mask=tl.load(radii + theirs) > 0, other=0.0)
    if tl.max(careful) > 0:
        for block in range(first, tl.minimum(first + GROUP, blocks)):
            layer, at, exists = _block(places, sizes, block, BLOCK)
            here = factors + (row * layers + layer) * FACTORS
            held = tl.load(radii + row * layers + layer) > 0
            if tl.load(here + CAREFUL, mask=held, other=0.0) > 0:
                w, r = _again(addresses, strides, layer, row, at, exists, numbers, here, 0.0, layers, RULE)
                p = tl.where(exists, r - _single(tl.load(here + ALONG)) * w, 0.0)
                tl.store(sums + 2 * (row * blocks + block), tl.sum(w * p).to(tl.float64))
                tl.store(sums + 2 * (row * blocks + block) + 1, tl.sum(p * p).to(tl.float64))


@triton.jit
def careful_moves(sums, firsts, radii, numbers, factors, layers, blocks, RULE: tl.constexpr, WIDTH: tl.constexpr):
    """As `moves`, for those layers."""
    layer = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    c = tl.load(radii + row * layers + layer).to(tl.float64)
    here = factors + (row * layers + layer) * FACTORS
    if tl.load(here + CAREFUL, mask=c > 0, other=0.0) > 0:
        wp, pp = _layer_sums(sums, firsts, layer, row, blocks, WIDTH)
        _store_move(here, numbers + row * NUMBERS, c, tl.load(here + WW), wp, pp, RULE)


@triton.jit
def _again(
    addresses, strides, layer, row, at, exists, numbers, factors, decay, layers, RULE: tl.constexpr
):  # fmt: skip
    """Returns a block's weights and its direction, computed from the slots of this step."""
    w = tl.load(_tensor(addresses, strides, layer, row) + at, mask=exists, other=0.0)
    m = tl.load(_tensor(addresses + layers, strides + layers, layer, row) + at, mask=exists, other=0.0)
    v = m
    if RULE != SGD:
        v = tl.load(_tensor(addresses + 2 * layers, strides + 2 * layers, layer, row) + at, mask=exists, other=0.0)
    return w, _direction(w, m, v, numbers + row * NUMBERS, factors, decay, RULE)


@triton.jit
def move(
    places, sizes, addresses, strides, radii, numbers, factors, layers, RULE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Lines 9 to 11, of layers that are not held as well."""
    row = tl.program_id(1).to(tl.int64)
    layer, at, exists = _block(places, sizes, tl.program_id(0), BLOCK)
    held = tl.load(radii + row * layers + layer) > 0
    decay = _single(tl.where(held, 0.0, tl.load(numbers + row * NUMBERS + WEIGHT_DECAY)))
    here = factors + (row * layers + layer) * FACTORS
    w, r = _again(addresses, strides, layer, row, at, exists, numbers, here, decay, layers, RULE)
    if held | (RULE == LAMB):
        p = r - _single(tl.load(here + ALONG)) * w
        w = _single(tl.load(here + KEEP)) * w - _single(tl.load(here + MOVE)) * p
    else:  # as in a single pass
        w = w - _single(tl.load(numbers + row * NUMBERS + LR)) * r
    tl.store(_tensor(addresses, strides, layer, row) + at, w, mask=exists)


@triton.jit
def total(squares, result, blocks, WIDTH: tl.constexpr):
    """|g|² of each row, over its blocks in order."""
    row = tl.program_id(0).to(tl.int64)
    sum_ = tl.zeros((WIDTH,), tl.float64)
    for start in range(0, blocks, WIDTH):
        at = start + tl.arange(0, WIDTH)
        sum_ += tl.load(squares + row * blocks + at, mask=at < blocks, other=0.0)
    tl.store(result + row, tl.sum(sum_))
