"""Logits attenuated at the switch (paper, Figure 1): a factor on the outputs of held rows, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers.tasks import curve, pack, point, run, task
from trainables.catalogue.methods import METHODS
from trainables.losses import cross_entropy
from trainables.training.pack import Pack

FACTORS = (0.2, 0.5)


def made() -> tuple[list[nn.Linear], Pack]:
    torch.manual_seed(0)
    models = [nn.Linear(6, 3) for _ in FACTORS]
    hyper = {name: torch.full((2, 1), value or 0.0).double() for name, value in (("beta1", 0.9), ("beta2", 0.999))}
    hyper |= {"eps": torch.full((2, 1), 1e-6).double(), "logit_factor": torch.tensor(FACTORS).double().view(2, 1)}
    method = METHODS["adam-lawn-attenuated"]
    return models, Pack(models, method, hyper, cross_entropy, constrain="all", device=torch.device("cpu"))


def test_outputs_shrink_by_the_factor_at_the_switch_of_a_row() -> None:
    _, stacked = made()
    inputs = torch.randn(20, 6)
    before = stacked.predict(inputs)
    stacked.constrain([0])
    after = stacked.predict(inputs)
    assert torch.equal(after[0], before[0] * FACTORS[0])
    assert torch.equal(after[1], before[1])


@pytest.mark.parametrize("held", [True, False])
def test_losses_and_gradients_are_those_of_the_attenuated_logits(held: bool) -> None:
    models, stacked = made()
    inputs, targets = torch.randn(20, 6), torch.randint(3, (20,))
    if held:
        stacked.constrain([0, 1])
    stacked.gradients((inputs,), targets, shared=True)
    loss = stacked.apply(torch.zeros(2, 1, dtype=torch.float64))
    for row, model in enumerate(models):
        expected = nn.functional.cross_entropy((FACTORS[row] if held else 1.0) * model(inputs), targets)
        expected.backward()  # type: ignore[no-untyped-call]
        norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
        assert loss[row].item() == pytest.approx(expected.item(), rel=1e-6)
        assert stacked.grad_norm[row].item() == pytest.approx(norm.item(), rel=1e-5)
        assert stacked.losses_of(row, (inputs,), targets)[1].mean().item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_factor_of_one_is_adam_lawn() -> None:
    ours, _ = run(pack(task("adam-lawn-attenuated"), [point("adam-lawn-attenuated", logit_factor=1.0)]))
    plain, _ = run(pack(task("adam-lawn"), [point("adam-lawn")]))
    assert curve(ours, 0) == curve(plain, 0)
