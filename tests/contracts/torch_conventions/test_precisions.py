"""Precisions and devices: what the state is kept in, and moves from one to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.conventions import (
    Case,
    assert_same,
    assign,
    every,
    own_through_both,
    parameters,
    push,
    radii_of,
    through_disk,
    train,
    values,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@own_through_both
def test_the_precision_of_the_state(case: Case, dtype: torch.dtype) -> None:
    trained = torch.float32 if dtype.itemsize == 2 else dtype
    ps = parameters(dtype)
    optimizer = case(ps)
    train(ps, optimizer, range(5))
    optimizer.load_state_dict(through_disk(optimizer.state_dict()))
    train(ps, optimizer, range(5, 7))
    for p in ps:
        tensors = {key: x for key, x in optimizer.state[p].items() if isinstance(x, Tensor)}
        assert ("master" in tensors) == (dtype.itemsize == 2)
        assert all(x.dtype == trained and x.shape == p.shape for x in tensors.values())
        assert p.dtype == dtype
    if case.lawn:
        assert all(c.dtype == trained for c in optimizer.radii.values())


@pytest.mark.parametrize("after", DTYPES)
@pytest.mark.parametrize("before", DTYPES)
@own_through_both
def test_a_state_loads_into_a_model_of_another_precision(case: Case, before: torch.dtype, after: torch.dtype) -> None:
    """Norms keep their value; moments are those saved, to the rounding of the precision they are kept in."""
    ps, qs = parameters(before), parameters(after)
    saving, loading = case(ps), case(qs, lr=0.5)
    train(ps, saving, range(5))
    assign(qs, ps)
    loading.load_state_dict(through_disk(saving.state_dict()))
    kept = torch.float32 if after.itemsize == 2 else after
    for p, q in zip(ps, qs, strict=True):
        for key in set(saving.state[p]) - {"step", "radius", "master"}:
            torch.testing.assert_close(loading.state[q][key], saving.state[p][key].to(kept), rtol=0, atol=0)
        assert ("master" in loading.state[q]) <= (after.itemsize == 2)
    if case.lawn:
        assert radii_of(loading) == radii_of(saving)
    train(qs, loading, range(5, 8))
    assert all(q.dtype == after and q.isfinite().all() for q in qs)
    if case.lawn and after.itemsize > 2:
        for q, c in loading.radii.items():
            torch.testing.assert_close(q.detach().norm(), c, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@own_through_both
def test_a_reloaded_half_precision_model_goes_on_from_its_masters(case: Case, dtype: torch.dtype) -> None:
    """Weights alone would have lost all steps that are smaller than their rounding."""
    whole, ps, qs = parameters(dtype), parameters(dtype), parameters(dtype, seed=1)
    train(whole, case(whole, lr=2**-13), range(20))
    stopped = case(ps, lr=2**-13)
    train(ps, stopped, range(10))
    resumed = case(qs)
    saved = through_disk({"weights": values(ps), "optimizer": stopped.state_dict()})
    resumed.load_state_dict(saved["optimizer"])  # in either order with the weights
    assign(qs, saved["weights"])
    train(qs, resumed, range(10, 20))
    assert_same(qs, whole)


def set_data(ps: Iterable[Tensor], others: Iterable[Tensor]) -> None:
    for p, q in zip(ps, others, strict=True):
        p.data = q.clone()


CHANGES: Mapping[str, Callable[[nn.ParameterList, list[Tensor]], object]] = {
    "load_state_dict": lambda model, new: model.load_state_dict({str(i): x for i, x in enumerate(new)}),
    "copy_": assign,
    "data.copy_": lambda model, new: [p.data.copy_(x) for p, x in zip(model, new, strict=True)],
    "data =": set_data,
    "fill_": lambda model, new: [p.detach().fill_(0.75) for p in model],
    "one element": lambda model, new: [p.detach().view(-1)[:1].fill_(0.75) for p in list(model)[1:]],
}


@pytest.mark.parametrize("at", [0, 2, 5])
@pytest.mark.parametrize("change", CHANGES)
@own_through_both
def test_half_precision_weights_changed_from_outside_are_taken_up(case: Case, change: str, at: int) -> None:
    half = nn.ParameterList(parameters(torch.bfloat16))
    full = nn.ParameterList([nn.Parameter(p.detach().float()) for p in half])
    optimizer, peer = case(half.parameters()), case(full.parameters())

    def both(steps: Iterable[int]) -> None:
        for i in steps:
            push(half, i)
            for p, q in zip(half, full, strict=True):
                q.grad = None if p.grad is None else p.grad.float()
            optimizer.step()
            peer.step()

    both(range(at))
    new = [x.detach() for x in parameters(torch.bfloat16, seed=4)]
    CHANGES[change](half, new)
    CHANGES[change](full, [x.float() for x in new])
    both(range(at, at + 1))
    assert_same(half, [q.to(torch.bfloat16) for q in full])
    both(range(at + 1, 8))
    torch.testing.assert_close(values(half), [q.detach().to(torch.bfloat16) for q in full], rtol=2**-7, atol=1e-4)


@every
def test_a_state_loads_onto_another_device(case: Case) -> None:
    ps = parameters()
    saving = case(ps)
    train(ps, saving, range(5))
    qs = [nn.Parameter(torch.empty_like(p, device="meta")) for p in ps]
    loading = case(qs)
    loading.load_state_dict(saving.state_dict())
    for q in qs:
        tensors = [x for key, x in loading.state[q].items() if isinstance(x, Tensor) and key != "step"]
        assert tensors
        assert all(x.device == q.device for x in tensors)
    if case.lawn:
        assert radii_of(loading) == radii_of(saving)
        assert loading.constrained == saving.constrained


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_a_run_moves_to_an_accelerator_and_back(case: Case) -> None:
    ps, whole = parameters(), parameters()
    train(whole, case(whole), range(9))
    optimizer = case(ps)
    for start, device in ((0, "cpu"), (3, "cuda"), (6, "cpu")):
        moved: list[Tensor] = [nn.Parameter(p.detach().to(device)) for p in ps]
        other = case(moved)
        other.load_state_dict(through_disk(optimizer.state_dict()))
        for i in range(start, start + 3):
            push(ps, i)
            for p, q in zip(ps, moved, strict=True):
                q.grad = None if p.grad is None else p.grad.to(device)
            other.step()
            assign(ps, moved)
        ps, optimizer = moved, other
    torch.testing.assert_close(values(ps), values(whole), rtol=1e-5, atol=1e-5)
