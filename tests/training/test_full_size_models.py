"""VGG-19 and ResNet-50 at their real sizes: the model is the published one, and a step of each method its reference."""

from __future__ import annotations

from functools import cache
from pkgutil import resolve_name

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models import resnet50

from tests.helpers.tasks import point
from trainables.catalogue import catalogue
from trainables.catalogue.methods import METHODS
from trainables.losses import loss_of
from trainables.models.resnet import ResNet50
from trainables.optimizers import reference
from trainables.tasks import model_config
from trainables.training.pack import Pack

pytestmark = pytest.mark.long

PAPER = ("sgd", "adam", "adam-lawn", "lamb", "lamb-lawn", "lamb-plus", "adam-bwn", "adam-no-decay")
"""Methods of the paper's tables; label smoothing and flooding change the loss alone, and have steps of Adam."""
SHAPE, BATCH, RATE, EPS = {"channels": 3, "pixels": 32, "classes": 10}, 4, 0.01, 1e-3


def test_resnet_50_is_torchvisions_bit_for_bit() -> None:
    torch.manual_seed(0)
    ours, theirs = ResNet50(channels=3, classes=1000, width=64, zero_init=False), resnet50()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        assert ours.train(mode)(images).equal(theirs.train(mode)(images))


@cache
def example(name: str) -> tuple[nn.Module, Tensor, Tensor, dict[str, Tensor]]:
    """A model, a batch, and the gradient there in plain autograd."""
    torch.manual_seed(0)
    model: nn.Module = resolve_name(catalogue().models[name].build)(**SHAPE, **model_config(name).options)
    images, classes = torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH)
    weights = {key: value.detach().clone().requires_grad_() for key, value in model.named_parameters()}
    loss = nn.functional.cross_entropy(functional_call(model, weights, (images,)), classes)
    found = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    return model, images, classes, found


@pytest.mark.parametrize("optimizer", PAPER)
@pytest.mark.parametrize("name", ["vgg-19", "resnet-50"])
def test_a_step_equals_its_reference(name: str, optimizer: str) -> None:
    model, images, classes, gradient = example(name)
    method, values = METHODS[optimizer], METHODS[optimizer].complete(point(optimizer))
    values |= {"eps": EPS} if "eps" in values else {}  # a smaller one makes steps of rounding errors
    hyper = {key: torch.tensor([[value]], dtype=torch.float64) for key, value in values.items() if key != method.switch}
    loss = loss_of(catalogue().losses["cross-entropy"])
    pack = Pack([model], method, hyper, loss, constrain="all", device=torch.device("cpu"))
    held = method.control is not None and pack.control.held
    if held:
        pack.constrain([0])
    pack.gradients((images,), classes, shared=True)
    pack.apply(torch.tensor([[RATE]], dtype=torch.float64))

    base = method.rule.name
    w = {key: value.detach().double().clone() for key, value in model.named_parameters()}
    g = {key: value.double() for key, value in gradient.items()}
    state = reference.fresh_state(base, w)
    if held:
        radii = reference.read_radii(w, [key for key, value in w.items() if value.dim() >= 2])
        reference.constrained_step(base, w, g, state, RATE, 1, values, radii)
    else:
        reference.free_step(base, w, g, state, RATE, 1, values)
    before = torch.cat([value.detach().flatten() for value in model.parameters()])
    moved, expected = pack.state.weights[0], torch.cat([value.flatten() for value in w.values()]).float()
    assert not moved.equal(before)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5 * RATE)
