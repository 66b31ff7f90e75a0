"""A pack across the switch equals the public class and the literal transcription, with and without kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from trainables.catalogue.methods import METHODS
from trainables.optimizers import reference
from trainables.optimizers.build import torch_optimizer
from trainables.training.pack import Pack

SWITCHING = [name for name, method in METHODS.items() if method.switch and method.face]
LITERAL = ("sgd-lawn", "adam-lawn", "lamb-lawn")
"""Methods that are transcribed from the paper besides."""
HYPER: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-3},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-3},
}
"""With a smaller eps, Adam's first direction is the sign of rounding errors wherever P g is nearly 0."""
RATES = (0.02, 0.05, 0.03)
SWITCHES = (4, 7, 2)
STEPS = 10


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator)


def example_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def values_of(name: str) -> dict[str, float]:
    method = METHODS[name]
    return HYPER[method.rule.name] | ({"rate": 0.5} if "rate" in method.names("control") else {})


def pack_run(name: str, rows: list[int]) -> list[Tensor]:
    """Returns the weights of every row after each step; row i switches before step SWITCHES[i]."""
    hyper = {key: torch.full((len(rows), 1), value, dtype=torch.float64) for key, value in values_of(name).items()}
    models = [net(i) for i in rows]
    pack = Pack(models, METHODS[name], hyper, example_loss, constrain="all", device=torch.device("cpu"))
    lr = torch.tensor([[RATES[i]] for i in rows], dtype=torch.float64)
    trail = []
    for step in range(STEPS):
        if due := [row for row, i in enumerate(rows) if SWITCHES[i] == step]:
            pack.constrain(due)
        inputs, targets = batch(step)
        pack.gradients((inputs,), targets, shared=True)
        pack.apply(lr)
        trail.append(pack.state.weights.clone())
    return trail


def class_run(name: str, i: int) -> list[Tensor]:
    model = net(i)
    values = values_of(name) | {"peak_lr": RATES[i]}
    optimizer = torch_optimizer(METHODS[name], values, model.parameters(), free_steps=SWITCHES[i])
    trail = []
    for step in range(STEPS):
        inputs, targets = batch(step)
        optimizer.zero_grad()
        torch.autograd.backward(example_loss(model(inputs), targets).mean())
        optimizer.step()
        trail.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    return trail


def literal_run(name: str, i: int) -> list[Tensor]:
    """In double precision."""
    rule, model = METHODS[name].rule.name, net(i).double()
    w = {name: p.detach().clone() for name, p in model.named_parameters()}
    steps = iter(range(STEPS))

    def gradient(w: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs, targets = batch(next(steps))

        def loss(w: dict[str, Tensor]) -> Tensor:
            return example_loss(functional_call(model, w, (inputs.double(),)), targets).mean()

        found: dict[str, Tensor] = grad(loss)(w)
        return found

    held = [name for name, x in w.items() if x.dim() >= 2]
    run = reference.train(rule, w, gradient, [RATES[i]] * STEPS, HYPER[rule], held, SWITCHES[i])
    return [torch.cat([x.reshape(-1) for x in weights.values()]) for weights, _ in run]


@pytest.fixture(params=["kernels", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr("trainables.optimizers.fused.usable", lambda *tensors: False)
    return str(request.param)


@pytest.mark.parametrize("name", SWITCHING)
@pytest.mark.parametrize("rows", [[0], [0, 1, 2]], ids=["solo", "stacked"])
@pytest.mark.usefixtures("path")
def test_a_pack_equals_class_and_transcription_at_every_step(name: str, rows: list[int]) -> None:
    found = pack_run(name, rows)
    for row, i in enumerate(rows):
        for reference_run in (class_run, literal_run) if name in LITERAL else (class_run,):
            for ours, theirs in zip(found, reference_run(name, i), strict=True):
                torch.testing.assert_close(ours[row].to(theirs.dtype), theirs, rtol=1e-4, atol=2e-5)
