"""Sums over lists of tensors: accuracy, agreement of all code paths, and the number of operations per step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables.optimizers import AdamLawn, LambLawn, SgdLawn, group_step, lists
from trainables.optimizers.lists import BLOCK, PART, Sums, lerp_, lerp_squares_, move_

FACES: dict[str, Callable[..., Any]] = {"sgd": SgdLawn, "adam": AdamLawn, "lamb": LambLawn}


@pytest.fixture
def list_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LIST_SUMS", True)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.optimizers.fused.usable", lambda *tensors: False)


@given(sizes=st.lists(st.integers(0, 10_000), min_size=1, max_size=5), seed=st.integers(0, 100), listed=st.booleans())
def test_sums_are_those_of_double_precision(sizes: list[int], seed: int, listed: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    if listed:  # a CPU's list-based norms lose digits with the length; an accelerator's do not
        sizes = [size // 8 for size in sizes]
    xs, ys = ([torch.randn(size, generator=generator) for size in sizes] for _ in range(2))
    lists.LIST_SUMS = listed
    try:
        dots, squares, norms = Sums().dots(xs, ys), Sums().squares(xs), Sums().norms(xs)
    finally:
        lists.LIST_SUMS = False
    for x, y, dot, square, norm in zip(xs, ys, dots, squares, norms, strict=True):
        x, y = x.double(), y.double()
        scale = float(x.norm() * y.norm())
        assert abs(float(dot) - float(x @ y)) <= 2e-6 * scale
        assert float(square) == pytest.approx(float(x @ x), rel=2e-6)
        assert float(norm) == pytest.approx(float(x.norm()), rel=2e-6)


@pytest.mark.parametrize("size", [PART, PART + 1, 3 * PART + 7])
def test_products_in_parts_are_those_of_double_precision(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    plain, rows, strided = (torch.rand(shape, generator=generator) for shape in [(size,), (size, 2), (2, size)])
    xs = [plain, rows, strided.t(), plain]
    ys = [plain.flip(0), strided.t(), rows, plain.double()]
    for x, y, dot, square in zip(xs, ys, Sums().dots(xs, ys), Sums().squares(xs), strict=True):
        assert float(dot) == pytest.approx(float((x.double() * y.double()).sum()), rel=1e-6)
        assert float(square) == pytest.approx(float(x.double().square().sum()), rel=1e-6)


def test_sums_over_a_long_tensor_make_no_tensor_of_its_length() -> None:
    x = torch.ones(3 * PART + 7)
    with Largest() as made:
        Sums().dots([x], [x])
        Sums().squares([x])
        Sums().norms([x])
    assert 0 < made.size <= BLOCK


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that an operation makes, without views of its arguments."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if isinstance(x, Tensor)}
        made = [x for x in tree_leaves(result) if x.untyped_storage().data_ptr() not in given]
        self.size = max([self.size, *(x.numel() for x in made)])
        return result


@pytest.mark.parametrize("listed", [False, True])
def test_rows_are_summed_alone(listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LIST_SUMS", listed)
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums = Sums(rows=True).squares([x, x[:, :7]])
    assert [part.shape for part in sums] == [(3, 1)] * 2
    torch.testing.assert_close(sums[1][:, 0], (x[:, :7] ** 2).sum(dim=1))
    torch.testing.assert_close(Sums(rows=True).norms([x])[0], x.norm(dim=1, keepdim=True))


def test_half_precision_is_summed_in_fp32() -> None:
    ones = torch.ones(70_000, dtype=torch.float16)  # whose squares would overflow
    assert float(Sums().norms([ones])[0]) == pytest.approx(70_000**0.5)


@pytest.mark.parametrize("a", [0.1, 0.9])
def test_a_float_and_a_tensor_give_the_same_result(a: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(2, 40, generator=generator, dtype=torch.float64) for _ in range(2))
    column = torch.full((2, 1), a, dtype=torch.float64)
    for function in (lerp_, lerp_squares_, move_):
        one, other = x.clone(), x.clone()
        function([one], [y.clone()], a)
        function([other], [y.clone()], column)
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-15)
    moved = x.clone()
    lerp_squares_([moved], [y], a)
    torch.testing.assert_close(moved, (1 - a) * x + a * y * y)


# --- whole steps ------------------------------------------------------------------------------------------------------

RESNET = [
    (64, 3, 7, 7),
    (64,),
    (64,),
    (64, 64, 1, 1),
    (64,),
    (64,),
    (64, 64, 3, 3),
    (64,),
    (256, 64, 1, 1),
    (10, 256),
] * 3


def parameters(scale: float = 0.1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator) * scale) for shape in RESNET]


def train(optimizer: torch.optim.Optimizer, ps: list[Tensor], steps: int) -> list[Tensor]:
    for t in range(steps):
        for p in ps:
            p.grad = torch.sin(7 * p.detach() + t)
        optimizer.step()
    return [p.detach() for p in ps]


@pytest.mark.parametrize("rule", FACES)
@pytest.mark.usefixtures("no_kernels")
def test_the_sums_of_accelerators_change_nothing_beyond_rounding(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for listed in (False, True):
        monkeypatch.setattr(lists, "LIST_SUMS", listed)
        ps = parameters()
        # With a smaller eps, Adam's first direction is the sign of rounding errors wherever P g is nearly 0.
        options = {} if rule == "sgd" else {"eps": 1e-2}
        ends.append(train(FACES[rule](ps, lr=1e-3, free_steps=2, **options), ps, 6))
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("rule", FACES)
@pytest.mark.usefixtures("no_kernels")
def test_how_a_list_is_cut_changes_no_bit(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for portion in (1, 5000, 10**9):
        monkeypatch.setattr(group_step, "PORTION", portion)
        ps = parameters()
        ends.append(train(FACES[rule](ps, lr=1e-3, free_steps=2), ps, 4))
    for other in ends[1:]:
        assert all(torch.equal(p, q) for p, q in zip(ends[0], other, strict=True))


@pytest.mark.parametrize("rule", FACES)
@pytest.mark.usefixtures("no_kernels")
def test_parameters_of_different_step_counts_share_a_step_as_if_each_were_alone(rule: str) -> None:
    ends = []
    for together in (True, False):
        ps = parameters()[:2]
        every = [FACES[rule](some, lr=1e-3) for some in ([ps] if together else [ps[:1], ps[1:]])]
        for t in range(4):
            for p in ps[: 1 if t < 2 else 2]:
                p.grad = torch.sin(7 * p.detach() + t)
            for optimizer in every:
                optimizer.step()
        ends.append([p.detach() for p in ps])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@given(sizes=st.lists(st.integers(0, 2 * group_step.PORTION), max_size=6))
def test_a_cpu_takes_portions_as_large_as_they_may_be_and_an_accelerator_all_at_once(sizes: list[int]) -> None:
    whole: list[Tensor] = [torch.empty(size, device="meta") for size in sizes]
    assert list(group_step.portions(whole)) == ([whole] if whole else [])
    ps: list[Tensor] = [torch.empty(1).expand(size) for size in sizes]
    cut = list(group_step.portions(ps))
    assert [id(p) for part in cut for p in part] == [id(p) for p in ps]
    numbers = [[p.numel() for p in part] for part in cut]
    assert all(len(part) == 1 or sum(part) <= group_step.PORTION for part in numbers)
    assert all(sum(one) + other[0] > group_step.PORTION for one, other in pairwise(numbers))


class Counting(TorchDispatchMode):
    """Counts operations that an accelerator would have to launch: all but views and reads of numbers on the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        views = ("detach", "view", "unbind", "split", "_local_scalar_dense", "slice", "as_strided")
        self.count += int(function.overloadpacket.__name__ not in views and function.namespace == "aten")
        return function(*args, **(kwargs or {}))


def operations(optimizer: torch.optim.Optimizer, ps: list[Tensor]) -> int:
    train(optimizer, ps, 2)
    counting = Counting()
    with counting:
        optimizer.step()
    return counting.count


@pytest.mark.parametrize(("rule", "times"), [("sgd", 3), ("adam", 3), ("lamb", 6)])
@pytest.mark.usefixtures("list_sums", "no_kernels")
def test_a_constrained_step_takes_few_times_the_operations_of_adamw_however_many_tensors(
    rule: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LAMB's trust ratio takes the norms of all weights and directions in addition."""
    monkeypatch.setattr(group_step, "PORTION", 10**9)
    ps, few = parameters(), parameters()[:9]
    adamw = operations(torch.optim.AdamW(few, lr=1e-3, foreach=True), few)
    found = operations(FACES[rule](few, lr=1e-3, free_steps=0), few)
    assert operations(FACES[rule](ps, lr=1e-3, free_steps=0), ps) == found
    assert found <= times * adamw
