"""The optimizer classes on a device, in training loops as people write them: graphs have the bits of launches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.gpu.conftest import device_of
from tests.gpu.test_steps import waiting_is_an_error
from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn, gpu, repeated

FACES: Mapping[str, Callable[..., Any]] = {
    "SgdLawn": partial(SgdLawn, free_steps=8),
    "AdamLawn": partial(AdamLawn, free_steps=8),
    "LambLawn": partial(LambLawn, free_steps=8),
    "Lamb": partial(Lamb, weight_decay=0.1),
}


def _trained(face: str, device: torch.device, half: bool) -> tuple[list[Tensor], int]:
    """Returns everything that training changes, and the number of replays."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(70, 90), nn.ReLU(), nn.Linear(90, 5)).to(device)
    if half:
        model.bfloat16()
    inputs = torch.randn(32, 70).to(device, torch.bfloat16 if half else torch.float32)
    optimizer = FACES[face](model.parameters(), lr=0.01)
    for t in range(24):
        optimizer.param_groups[0]["lr"] = 0.01 + 0.001 * (t // 4)
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    steps = optimizer._steps._found[0].steps
    slots = [torch.as_tensor(x) for state in optimizer.state.values() for x in state.values()]
    return [*model.parameters(), *slots], steps._replays if steps else 0


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("face", FACES)
def test_graphs_have_the_bits_of_launches(
    face: str, half: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_graphs, replays = _trained(face, device, half)
    assert replays > 8 or half or device.type == "cpu"
    monkeypatch.setattr("trainables.optimizers.repeated.graphs", lambda device: None)
    by_launches, replays = _trained(face, device, half)
    assert replays == 0
    assert all(one.equal(other) for one, other in zip(by_graphs, by_launches, strict=True))


def test_lawn_has_the_bits_of_launches_and_follows_torch_operations(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(70, 90), nn.ReLU(), nn.Linear(90, 5)).to(device)
        optimizer = Lawn(torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0), free_steps=4)
        for t in range(16):
            optimizer.zero_grad()
            (model(torch.ones(8, 70, device=device)) - t).square().mean().backward()
            optimizer.step()
        found = [steps for kept in (optimizer._tangents[0]._moves,) for steps in kept._found.values()]
        replays.append(sum(steps._replays for steps in found))
        return [p.detach() for p in model.parameters()]

    replays: list[int] = []
    by_graphs = trained()
    monkeypatch.setattr("trainables.optimizers.repeated.graphs", lambda device: None)
    assert all(one.equal(other) for one, other in zip(by_graphs, trained(), strict=True))
    monkeypatch.setattr(gpu, "usable", lambda *tensors: False)
    torch.testing.assert_close(by_graphs, trained(), rtol=1e-3, atol=1e-4)
    assert (replays[0] > 0) == (device.type == "cuda")
    assert replays[1:] == [0, 0]


@pytest.mark.parametrize("face", FACES)
def test_a_step_waits_for_nothing(face: str, device: torch.device) -> None:
    """Once it is a graph, and with a new learning rate."""
    params = [nn.Parameter(torch.randn(shape, device=device)) for shape in ((30, 20), (20,))]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = FACES[face](params, lr=0.01)
    for _ in range(12):
        optimizer.step()
    with waiting_is_an_error(device):
        for lr in (0.01, 0.02):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()


@pytest.mark.gpu
def test_a_gpu_has_graphs_that_pass_their_trial() -> None:
    assert repeated.graphs(device_of("cuda")) is not None
