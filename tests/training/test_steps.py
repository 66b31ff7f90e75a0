"""A step is `gradients` by micro-batches and one `apply`: sums, flooding and the loss's parameters, a value a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.catalogue.methods import ADAM, DECAY, L2, METHODS
from trainables.catalogue.rows import FLOOD, Hyperparameter, Method
from trainables.optimizers import fused, rules
from trainables.training.pack import Pack

EXAMPLES, FEATURES = 24, 5
VALUES = {"weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-3}
CUTS = ([24], [12, 12], [7, 7, 7, 3], [1] * 24)


def focal(outputs: Tensor, targets: Tensor, gamma: Tensor | float = 0.0) -> Tensor:
    """(1 - p)^gamma times the cross-entropy -log p."""
    loss = F.cross_entropy(outputs, targets, reduction="none")
    return (1 - (-loss).exp()) ** gamma * loss


def method(*parameters: str) -> Method:
    return replace(METHODS["adam"], name="test", loss=tuple(Hyperparameter(name=name) for name in parameters))


def pack(values: Mapping[str, list[float]], rows: int = 3) -> Pack:
    torch.manual_seed(0)
    models = [nn.Linear(FEATURES, 3) for _ in range(rows)]
    columns = {name: [value] * rows for name, value in VALUES.items()} | dict(values)
    hyper = {name: torch.tensor(column, dtype=torch.float64).unsqueeze(1) for name, column in columns.items()}
    return Pack(models, method(*values), hyper, focal, constrain="all", device=torch.device("cpu"))


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(EXAMPLES, FEATURES, generator=generator), torch.randint(3, (EXAMPLES,), generator=generator)


def run(what: Pack, sizes: list[int], steps: int = 4) -> tuple[Tensor, Tensor]:
    """Returns the losses of all steps [steps, R] and the weights after them [R, P]."""
    losses = []
    for step in range(steps):
        inputs, targets = batch(step)
        for x, y in zip(torch.split(inputs, sizes), torch.split(targets, sizes), strict=True):
            what.gradients((x,), y, shared=True, share=len(y) / EXAMPLES)
        losses.append(what.apply(torch.full((what.size, 1), 0.05, dtype=torch.float64)))
    return torch.stack(losses), what.state.weights


@pytest.mark.parametrize("sizes", CUTS[1:], ids=str)
@pytest.mark.parametrize("flood", [False, True])
def test_micro_batches_are_one_whole_batch(sizes: list[int], flood: bool) -> None:
    values = {FLOOD: [0.0, 0.9, 5.0]} if flood else {}
    whole, weights = run(pack(values), CUTS[0])
    losses, found = run(pack(values), sizes)
    torch.testing.assert_close(losses, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, weights, rtol=1e-4, atol=1e-5)


def literal_step(weight: Tensor, bias: Tensor, gamma: float, level: float) -> tuple[float, list[Tensor]]:
    inputs, targets = batch(0)
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    loss = focal(inputs @ weight.T + bias, targets, gamma).mean()
    return loss.item(), list(torch.autograd.grad((loss - level).abs() + level, [weight, bias]))


@pytest.mark.parametrize("rows", [[0], [1], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("sizes", CUTS[:3], ids=str)
def test_each_row_has_its_own_parameters_and_flood_level(rows: list[int], sizes: list[int]) -> None:
    """Against autograd's gradient of abs(L - b) + b, with L of the whole batch; the loss returned is not flooded."""
    gammas, levels = [0.0, 0.5, 2.0], [0.0, 5.0, 0.01]
    what = pack({"gamma": [gammas[i] for i in rows], FLOOD: [levels[i] for i in rows]}, len(rows))
    before, seen = what.state.weights.clone(), list[list[Tensor]]()
    what._update = lambda gradients, lr: seen.append(list(gradients))  # type: ignore[method-assign]
    losses, _ = run(what, sizes, steps=1)
    for row, i in enumerate(rows):
        weight, bias = before[row, : 3 * FEATURES].view(3, FEATURES), before[row, 3 * FEATURES :]
        loss, expected = literal_step(weight, bias, gammas[i], levels[i])
        assert losses[0, row].item() == pytest.approx(loss, rel=1e-5)
        for part, value in zip(seen[0], expected, strict=True):
            torch.testing.assert_close(part[row], value, rtol=1e-4, atol=1e-6)


def test_rows_keep_their_parameters_when_they_move() -> None:
    values = {"gamma": [0.0, 1.0, 2.0], FLOOD: [0.0, 0.5, 5.0]}
    moved = pack(values)
    _, weights = run(pack(values), CUTS[0])
    moved.select([2, 0, 0])
    _, found = run(moved, CUTS[0])
    torch.testing.assert_close(found, weights[[2, 0, 0]], rtol=1e-5, atol=1e-6)


def test_nothing_is_left_of_a_step_for_the_next() -> None:
    one, other = pack({}), pack({})
    run(one, CUTS[2], steps=1)
    other.state = one.state.select(range(3))
    inputs, targets = batch(7)
    for each in (one, other):
        each.gradients((inputs,), targets, shared=True)
    rate = torch.full((3, 1), 0.05, dtype=torch.float64)
    assert torch.equal(one.apply(rate), other.apply(rate))
    assert torch.equal(one.state.weights, other.state.weights)


OTHER = replace(DECAY, name="other", hook="trainables.optimizers.controls:AdamP")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        *((METHODS[f"{rule}{control}"], True) for rule in fused.CODES for control in ("", "-lawn")),
        (METHODS["adam-bwn"], True),
        (METHODS["adam-l2"], False),
        (METHODS["lamb-plus"], False),
        (replace(METHODS["adam"], control=None), True),
        (replace(METHODS["adam"], control=L2), False),
        (replace(METHODS["sgd"], control=DECAY), False),
        (replace(METHODS["adam"], control=OTHER), False),
        (replace(METHODS["adam"], rule=replace(ADAM, direction="elsewhere:adam")), False),
    ],
    ids=lambda value: value.name if isinstance(value, Method) else str(value),
)
def test_kernels_take_the_rules_and_controls_that_they_were_written_for(
    chosen: Method, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def step(rule: str, *tensors: object, **rest: object) -> Tensor:
        asked.append(rule)
        return torch.zeros(2)

    monkeypatch.setattr(fused, "step", step)
    monkeypatch.setattr(fused, "usable", lambda *tensors: True)
    monkeypatch.setattr(rules, "step_", lambda *tensors, **rest: None)
    monkeypatch.setattr(rules, "rule_of", lambda row: rules.RULES[row.name])
    names = [*chosen.names("control"), *chosen.names("rule")]
    hyper = {name: torch.full((2, 1), 0.5, dtype=torch.float64) for name in names if name != chosen.switch}
    models = [nn.Linear(FEATURES, 3) for _ in range(2)]
    what = Pack(models, chosen, hyper, focal, constrain="all", device=torch.device("cpu"))
    run(what, CUTS[0], steps=1)
    assert asked == ([chosen.rule.name] if expected else [])
