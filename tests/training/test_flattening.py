"""Loss flattening against matrices written out: every derivative of a small model, example by example."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from tests.helpers.tasks import pack, point, run, task, training
from trainables.catalogue.methods import METHODS
from trainables.catalogue.page import page
from trainables.losses import bce, cross_entropy
from trainables.models import ncf
from trainables.training import flattening
from trainables.training.checkpoint import load_checkpoint, save_checkpoint
from trainables.training.flattening import (
    FLAT,
    SIGNS,
    STEPS,
    Surface,
    escape,
    flattening_series,
    sample,
    top_eigenvalue,
)
from trainables.training.pack import Pack
from trainables.workloads.base import Batch

EXAMPLES, RATE, BATCH, TRAINED = 30, 0.3, 4, 100
SIZE = 4 * 3 + 3 + 3 * 3 + 3


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))


def probe() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(EXAMPLES, 4, generator=generator), torch.randint(3, (EXAMPLES,), generator=generator)


class Sampled:
    """A workload that has a sample only, in two parts."""

    examples = TRAINED

    def probe(self) -> Iterator[Batch]:
        inputs, targets = probe()
        for part in (slice(0, 19), slice(19, EXAMPLES)):
            yield Batch((inputs[part],), targets[part], len(targets[part]))


def stacked(method: str = "adam-lsr") -> Pack:
    values = METHODS[method].hyperparameters
    hyper = {name: torch.full((2, 1), value or 0.1, dtype=torch.float64) for name, value in values.items()}
    return Pack([net(0), net(1)], METHODS[method], hyper, cross_entropy, constrain="all", device=torch.device("cpu"))


def literal(row: int, smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the losses [n], their gradients [n, P] and the Hessian of their mean [P, P], in double precision."""
    model = net(row).double()
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    inputs, targets = probe()
    inside = smoothing * 3 / 2

    def losses(w: Tensor) -> Tensor:
        parts = torch.split(w, [shape.numel() for shape in shapes])
        weights = {name: x.view(shape) for name, x, shape in zip(names, parts, shapes, strict=True)}
        outputs = functional_call(model, weights, (inputs.double(),))
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=inside)

    return losses(start), jacrev(losses)(start), jacrev(jacrev(lambda w: losses(w).mean()))(start)


def escaping(curvature: Tensor, noise: Tensor, rate: float, batch: int, examples: int) -> Tensor:
    """Returns the matrix of `escape`; a batch of all examples has no noise, and there is none that is larger."""
    once = torch.eye(SIZE) - rate * curvature
    share = (examples - batch) / (batch * (examples - 1)) if batch < examples else 0.0
    return once @ once + rate**2 * share * noise


@pytest.mark.parametrize("method", ["adam-lsr", "adam"])
def test_every_measure_equals_that_of_the_matrices(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flattening, "FLAT", 1.0)
    monkeypatch.setattr(flattening, "SIGNS", 100)
    monkeypatch.setattr(flattening, "STEPS", SIZE)
    what: Any = Sampled()
    found = flattening_series(stacked(method), what, torch.tensor([RATE, RATE / 2]), BATCH)
    for row, rate in enumerate((RATE, RATE / 2)):
        losses, gradients, curvature = literal(row, 0.05 if method == "adam-lsr" else 0.0)
        centered = gradients - gradients.mean(dim=0)
        noise = centered.T @ centered / EXAMPLES
        expected = {
            "flat_share": float((losses < 1.0).double().mean()),
            "flat_grad_norm": float(gradients.mean(dim=0).norm()),
            "noise_top": float(torch.linalg.eigvalsh(noise)[-1]),
            "hessian_top": float(torch.linalg.eigvalsh(curvature)[-1]),
            "escape": float(torch.linalg.eigvalsh(escaping(curvature, noise, rate, BATCH, TRAINED))[-1]),
        }
        assert 0 < expected["flat_share"] < 1
        for name, value in expected.items():
            assert float(found[name][row]) == pytest.approx(value, rel=1e-4), name
        assert float(found["noise_trace"][row]) == pytest.approx(float(noise.trace()), rel=0.2)


@pytest.mark.parametrize(("batch", "examples"), [(4, 100), (1, 2), (7, 7), (9, 4), (1, 1)])
def test_escape_multiplies_by_its_matrix(batch: int, examples: int) -> None:
    what: Any = Sampled()
    surface, v = (
        Surface(stacked("adam"), 0, sample(what)),
        torch.randn(SIZE, generator=torch.Generator().manual_seed(0)),
    )
    _, gradients, curvature = literal(0, 0.0)
    centered = gradients - gradients.mean(dim=0)
    expected = escaping(curvature, centered.T @ centered / EXAMPLES, 3.0, batch, examples) @ v.double()
    torch.testing.assert_close(escape(surface, 3.0, batch, examples)(v).double(), expected, rtol=1e-4, atol=1e-4)


def test_the_estimate_of_a_trace_is_exact_over_signs_that_are_orthogonal(monkeypatch: pytest.MonkeyPatch) -> None:
    what: Any = Sampled()
    surface, signs = Surface(stacked("adam"), 0, sample(what)), torch.ones(1, 1)
    centered = (gradients := literal(0, 0.0)[1]) - gradients.mean(dim=0)
    while len(signs) < SIZE:
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    left = iter((signs[:, :SIZE].long() + 1) // 2)
    monkeypatch.setattr(flattening, "SIGNS", len(signs))
    monkeypatch.setattr(torch, "randint", lambda *_, **__: next(left))
    assert surface.noise_trace().item() == pytest.approx((centered.square().sum() / EXAMPLES).item(), rel=1e-4)


def test_a_flat_loss_is_below_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    what: Any = Sampled()
    losses = Surface(stacked("adam"), 0, sample(what)).losses
    for name, value in (("STEPS", 1), ("SIGNS", 1), ("FLAT", losses.max().item())):
        monkeypatch.setattr(flattening, name, value)
    found = flattening_series(stacked("adam"), what, torch.tensor([RATE, RATE]), BATCH)["flat_share"][0]
    assert found.item() == pytest.approx((EXAMPLES - 1) / EXAMPLES)


class PartlyUsed(nn.Module):
    """Of which one parameter is in no loss, and another in no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.bias = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3] * self.bias


def test_parameters_without_a_derivative_have_a_zero() -> None:
    hyper = {name: torch.full((1, 1), 0.1, dtype=torch.float64) for name in METHODS["adam"].hyperparameters}
    device = torch.device("cpu")
    made = Pack([PartlyUsed()], METHODS["adam"], hyper, lambda x, _: x.sum(1), constrain="all", device=device)
    inputs, targets = probe()
    surface, v = Surface(made, 0, [Batch((inputs,), targets, EXAMPLES)]), torch.ones(5)
    assert surface.gradient.tolist() == pytest.approx([0, 0, *inputs[:, :3].mean(0).tolist()])
    assert surface.hessian(v).tolist() == [0] * 5
    covariance = torch.cov(inputs[:, :3].T, correction=0)
    assert surface.noise(v).tolist() == pytest.approx([0, 0, *covariance.sum(1).tolist()], abs=1e-6)


def test_the_page_on_methods_has_the_numbers_of_the_measures() -> None:
    text = " ".join(page().split())
    assert f"a loss below 1e{round(math.log10(FLAT))} " in text
    assert 10 ** round(math.log10(FLAT)) == FLAT
    assert f"at most {flattening.EXAMPLES} examples, eigenvalues come from {STEPS} Lanczos steps" in text
    assert f"the trace from {SIGNS} random vectors" in text


def test_the_sample_is_a_fixed_choice_of_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flattening, "EXAMPLES", 21)
    what: Any = Sampled()
    first, again = sample(what), sample(what)
    assert [part.examples for part in first] == [19, 2]
    chosen = {tuple(row.tolist()) for part in first for row in part.inputs[0]}
    assert len(chosen) == 21
    assert chosen <= {tuple(row.tolist()) for row in probe()[0]}
    assert all(torch.equal(one.inputs[0], other.inputs[0]) for one, other in zip(first, again, strict=True))


def test_a_few_steps_find_the_largest_of_many_eigenvalues_and_not_the_largest_magnitude() -> None:
    values = torch.linspace(-3, 1, 400) ** 3
    values[7] = 5.0
    for scale in (1.0, 2.0**-30, 2.0**30):
        scaled = scale * values
        found = top_eigenvalue(scaled.mul, 400, torch.device("cpu"))
        assert float(found) == pytest.approx(scale * 5.0, rel=5e-3)
    assert float(top_eigenvalue(torch.zeros_like, 400, torch.device("cpu"))) == 0.0
    assert math.isnan(float(top_eigenvalue(lambda v: v * math.nan, 400, torch.device("cpu"))))


def test_embeddings_can_be_differentiated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hyper = {name: torch.full((1, 1), 0.1, dtype=torch.float64) for name in METHODS["adam"].hyperparameters}
    made = Pack(
        [ncf.build(users=5, items=7, factors=2, init="xavier")],
        METHODS["adam"],
        hyper,
        bce,
        constrain="all",
        device=torch.device("cpu"),
    )
    users, items = torch.arange(20) % 5, torch.arange(20) % 7
    parts = [Batch((users, items), (torch.arange(20) % 2).float(), 20)]
    surface = Surface(made, 0, parts)
    v = torch.randn(len(surface.gradient), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(ncf, "lookup", lambda table, index: F.embedding(index, table))
    simple = Surface(made, 0, parts)
    for ours, plain in ((surface.hessian(v), simple.hessian(v)), (surface.noise(v), simple.noise(v))):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6)
        assert float(ours.norm()) > 0


def test_it_is_measured_on_request_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flattening, "STEPS", 3)
    config = pack(task("adam-lawn", epochs=1), [point("adam-lawn"), point("adam-lawn", peak_lr=0.02)])
    plain, _ = run(config)
    asked, ends = run(config, flattening=True)
    names = {"flat_share", "flat_grad_norm", "noise_trace", "noise_top", "hessian_top", "escape"}
    for without, measured in zip(plain, asked, strict=True):
        assert measured.series.keys() - without.series.keys() == names
        assert without.series == {name: measured.series[name] for name in without.series}
        assert all(value is not None and math.isfinite(value) for name in names for value in measured.series[name])
    assert {f"last/{name}" for name in names} <= ends[0].summary.keys()


def test_a_resumed_training_may_measure_more_or_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flattening, "STEPS", 1)
    monkeypatch.setattr(flattening, "SIGNS", 1)
    config = pack(task("adam-lawn", epochs=3), [point("adam-lawn")])
    for before in (True, False):
        first = training(config)
        first.flattening = before
        first.run_epoch()
        save_checkpoint(tmp_path / "c", first, 0.0)
        for flag in (not before, before):
            again = training(config)
            again.flattening = flag
            load_checkpoint(tmp_path / "c", again)
            again.run_epoch()
            assert len({tuple(record.series) for record in again.records}) == 1
            escape = [record.series.get("escape", [None])[0] is not None for record in again.records]
            assert escape == [before, flag]
            save_checkpoint(tmp_path / "d", again, 0.0)
            assert load_checkpoint(tmp_path / "d", training(config)) == 0.0
