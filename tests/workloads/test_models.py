"""Models: sizes, initialization, and that stacking R of them changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pkgutil import resolve_name

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torchvision.models.vgg import make_layers

from trainables.catalogue import catalogue
from trainables.catalogue.models import VGG_19
from trainables.catalogue.rows import Value
from trainables.models.linear import FEW_OUTPUTS
from trainables.models.lookup import lookup
from trainables.models.ncf import PART, Ncf, projected
from trainables.models.resnet import Block, ResNet50
from trainables.models.vgg import MaxPool, SmallVgg, Vgg19
from trainables.tasks import model_config

USERS, ITEMS, ROWS = 30, 50, 3


def vgg(channels: int = 1, size: int = 8, width: int = 4) -> SmallVgg:
    return SmallVgg(channels=channels, size=size, classes=10, width=width)


def ncf(factors: int = 4, users: int = USERS, items: int = ITEMS, init: str = "xavier") -> Ncf:
    assert init in ("xavier", "normal-0.01")
    return Ncf(users=users, items=items, factors=factors, init="xavier" if init == "xavier" else "normal-0.01")


def pairs(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randint(USERS, shape), torch.randint(ITEMS, shape)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[..., tuple[Tensor, ...]]]] = {
    "vgg": (vgg, lambda *shape: (torch.randn(*shape, 1, 8, 8),)),
    "vgg-19": (  # 17 and 53 layers add up rounding errors
        lambda: Vgg19(channels=1, size=8, classes=10, width=2).double(),
        lambda *shape: (torch.randn(*shape, 1, 8, 8).double(),),
    ),
    "resnet-50": (
        lambda: ResNet50(channels=1, classes=10, width=2, zero_init=False).double(),
        lambda *shape: (torch.randn(*shape, 1, 8, 8).double(),),
    ),
    "ncf": (ncf, pairs),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "stages"), [(8, 2), (28, 3), (32, 4)])
def test_vgg_fits_the_image(size: int, channels: int, stages: int) -> None:
    model = vgg(channels, size)
    assert model(torch.randn(2, channels, size, size)).shape == (2, 10)
    kernels = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [kernel.out_channels for kernel in kernels] == [4 * 2**stage for stage in range(stages)]
    assert all(kernel.bias is None for kernel in kernels)


SIZES: list[tuple[str, dict[str, Value], dict[str, int], int]] = [
    ("vgg-19", {}, {"channels": 3, "pixels": 32, "classes": 10}, 20_035_018),
    ("vgg-19", {}, {"channels": 3, "pixels": 32, "classes": 100}, 20_035_018 + 90 * 513),
    ("resnet-50", {}, {"channels": 3, "pixels": 224, "classes": 1000}, 25_557_032),  # torchvision's count
    ("resnet-50", {"zero_init": True}, {"channels": 1, "pixels": 28, "classes": 10}, 23_508_032 + 20_490 - 2 * 49 * 64),
]


@pytest.mark.parametrize(("name", "options", "shape", "count"), SIZES)
def test_models_of_images_have_the_published_sizes_and_their_footprint(
    name: str, options: dict[str, Value], shape: dict[str, int], count: int
) -> None:
    row = catalogue().models[name]
    with torch.device("meta"):
        model = resolve_name(row.build)(**shape, **model_config(name).options | options)
        outputs: list[int] = []
        work: list[int] = []
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda _, inputs, output: outputs.append(output[0].numel()))
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(
                    lambda layer, inputs, output: work.append(output[0].numel() * layer.weight[0].numel())
                )
        side = shape["pixels"]
        assert model(torch.empty(2, shape["channels"], side, side)).shape == (2, shape["classes"])
    assert callable(row.footprint)
    size = row.footprint(model_config(name).options | options, shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == count == size.weights
    assert size.work == sum(work)
    assert size.largest == max(outputs)
    assert size.floats - sum(outputs) in (0, shape["channels"] * side**2)


def test_vgg_19_is_torchvisions_without_bias_and_with_one_full_layer() -> None:
    torch.manual_seed(0)
    ours = Vgg19(channels=3, size=32, classes=10, width=2)
    stages = [size for count, factor in VGG_19 for size in [*[2 * factor] * count, "M"]]
    theirs = nn.Sequential(make_layers(stages, batch_norm=True), nn.Flatten(), nn.Linear(16, 10))
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = None
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(4, 3, 32, 32)
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(images), theirs.train(mode)(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("zero_init", [False, True])
def test_a_block_of_resnet_may_start_as_its_shortcut(zero_init: bool) -> None:
    torch.manual_seed(0)
    model = ResNet50(channels=3, classes=10, width=2, zero_init=zero_init)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    images = torch.randn(4, 8, 6, 6).relu()
    assert len(blocks) == 16
    assert blocks[1](images).equal(images) == zero_init


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 7, 7), (1, 2, 5, 4)])
def test_both_ways_of_pooling_agree(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape)
    assert MaxPool().train()(images).equal(MaxPool().eval()(images))


def test_vgg_starts_at_the_usual_scale() -> None:
    torch.manual_seed(0)
    model = vgg(width=128)
    kernel = model.features[2][0]  # type: ignore[index]
    assert kernel.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.classifier.bias.any()


def test_ncf_has_the_sizes_of_mlp_3_with_64_factors() -> None:
    shapes = {name: tuple(weight.shape) for name, weight in ncf(64, users=943, items=1682).named_parameters()}
    assert shapes == {
        "user_embedding.weight": (943, 128),
        "item_embedding.weight": (1682, 128),
        "hidden1.weight": (128, 256),
        "hidden1.bias": (128,),
        "hidden2.weight": (64, 128),
        "hidden2.bias": (64,),
        "output.weight": (1, 64),
        "output.bias": (1,),
    }


@pytest.mark.parametrize("init", ["normal-0.01", "xavier"])
def test_ncf_starts_as_named(init: str) -> None:
    torch.manual_seed(0)
    for name, weight in ncf(64, 500, 500, init).named_parameters():
        if name.endswith("bias"):
            assert not weight.any()
        elif init == "normal-0.01" or "embedding" in name:
            assert weight.std().item() == pytest.approx(0.01, rel=0.3 if name == "output.weight" else 0.03)
        else:
            assert weight.abs().max().item() == pytest.approx(math.sqrt(6 / sum(weight.shape)), rel=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_final_layers_are_parameters_and_end_with_the_last_matrix(name: str) -> None:
    model = MODELS[name][0]()
    final = model.final_layers
    matrices = [key for key, weight in model.named_parameters() if weight.dim() >= 2]
    assert isinstance(final, tuple)
    assert set(final) <= set(matrices)
    assert final[-1] == matrices[-1]


PARTS = pytest.mark.parametrize("part", [PART, 256], ids=["whole", "in parts"])


@PARTS
@pytest.mark.parametrize("count", [3, 200], ids=["by pair", "by table"])
@pytest.mark.parametrize("factors", [4, 2 * FEW_OUTPUTS], ids=["narrow", "wide"])
def test_ncf_is_a_tower_over_joined_embeddings(
    factors: int, count: int, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.models.ncf.PART", part)
    torch.manual_seed(0)
    model = ncf(factors)
    users, items = pairs(count)
    joined = torch.cat([model.user_embedding(users), model.item_embedding(items)], dim=1)
    expected = model.output(model.hidden2(model.hidden1(joined).relu()).relu()).squeeze(1)
    values = [model(users, items), expected]
    torch.testing.assert_close(*values)
    slopes = [torch.autograd.grad(value.square().sum(), list(model.parameters())) for value in values]
    torch.testing.assert_close(*slopes)


@PARTS
@pytest.mark.parametrize("shared", [True, False], ids=["shared batch", "batch a row"])
@pytest.mark.parametrize("batch", [5, 100])
@pytest.mark.parametrize("name", MODELS)
def test_stacked_models_are_solo_models(
    name: str, batch: int, shared: bool, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.models.ncf.PART", part)
    torch.manual_seed(0)
    build, draw = MODELS[name]
    models = [build() for _ in range(ROWS)]
    inputs = draw(batch) if shared else draw(ROWS, batch)
    parameters, buffers = stack_module_state(models)

    def forward(weights: dict[str, Tensor], state: dict[str, Tensor], *batch: Tensor) -> Tensor:
        outputs: Tensor = functional_call(models[0], (weights, state), batch)
        return outputs

    dims = (0, 0, *(None if shared else 0 for _ in inputs))
    stacked = torch.vmap(forward, in_dims=dims)(parameters, buffers, *inputs)
    slopes = dict(zip(parameters, torch.autograd.grad(stacked.square().sum(), list(parameters.values())), strict=True))
    for row, model in enumerate(models):
        model.train()
        outputs = model(*(part if shared else part[row] for part in inputs))
        torch.testing.assert_close(stacked[row], outputs, rtol=1e-4, atol=1e-5)
        outputs.square().sum().backward()
        for key, weight in model.named_parameters():
            torch.testing.assert_close(slopes[key][row], weight.grad, rtol=1e-3, atol=1e-4)


TWICE = torch.cat([torch.zeros(4000), torch.full((1000,), 3.0)]).long()
"""Rows 0 and 3 of a table, repeated until a bf16 sum of twos would stop at 512; the true sums are exact in bf16."""
STACKS = {"solo": (1, True), "stacked, shared batch": (ROWS, True), "stacked, batch a row": (ROWS, False)}


def slopes(function: Callable[[Tensor, Tensor], Tensor], table: Tensor, shared: bool) -> Tensor:
    """The gradient of twice the sum of the rows that `function` looks up, for tables [R, N, D]; row r of a stack looks
    up r + 0 and r + 3 if batches are not shared."""
    table.requires_grad_()
    if len(table) == 1:
        rows = function(table[0], TWICE)
    elif shared:
        rows = torch.vmap(function, in_dims=(0, None))(table, TWICE)
    else:
        rows = torch.vmap(function)(table, TWICE + torch.arange(len(table)).unsqueeze(1))
    (found,) = torch.autograd.grad(rows.float().mul(2).sum(), table)
    return found


def true_slopes(table: Tensor, shared: bool) -> Tensor:
    expected = torch.zeros_like(table)
    for row in range(len(table)):
        shift = 0 if shared else row
        expected[row, shift], expected[row, 3 + shift] = 8000, 2000
    return expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [30, 6000], ids=["small table", "large table"])
@pytest.mark.parametrize("stack", STACKS)
def test_gradients_of_a_lookup_are_summed_exactly(stack: str, size: int, dtype: torch.dtype) -> None:
    models, shared = STACKS[stack]
    table = torch.ones(models, size, 4, dtype=dtype)
    found = slopes(lookup, table, shared)
    assert found.dtype == dtype
    assert found.equal(true_slopes(table, shared))


@pytest.mark.parametrize("size", [30, 6000], ids=["projected first", "looked up first"])
@pytest.mark.parametrize("stack", STACKS)
def test_gradients_of_a_projected_table_are_summed_exactly_under_autocast(stack: str, size: int) -> None:
    models, shared = STACKS[stack]
    table = torch.ones(models, size, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = slopes(lambda table, index: projected(table, torch.eye(4), index)(index), table, shared)
    assert found.dtype == torch.float32
    assert found.equal(true_slopes(table, shared))


@PARTS
@pytest.mark.parametrize("stack", STACKS)
def test_ncf_has_exact_gradients_under_autocast(stack: str, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One user, and a tower that adds its four features, on 4,096 pairs: 2 · 4,096 for each of them."""
    monkeypatch.setattr("trainables.models.ncf.PART", part)
    models, shared = STACKS[stack]
    model = ncf(factors=1, users=2, items=2)
    weights = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    weights |= {"user_embedding.weight": torch.ones(2, 2), "hidden1.weight": torch.eye(2, 4)}
    weights |= {"hidden2.weight": torch.ones(1, 2), "output.weight": torch.full((1, 1), 2.0)}
    table = weights.pop("user_embedding.weight").expand(models, 2, 2).clone().requires_grad_()
    pairs = (torch.zeros(4096).long(),) * 2

    def logits(table: Tensor, *pairs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(model, weights | {"user_embedding.weight": table}, pairs)
        return outputs

    with torch.autocast("cpu", torch.bfloat16):
        if models == 1:
            outputs = logits(table[0], *pairs)
        elif shared:
            outputs = torch.vmap(logits, in_dims=(0, None, None))(table, *pairs)
        else:
            outputs = torch.vmap(logits)(table, *(part.expand(models, -1) for part in pairs))
    (found,) = torch.autograd.grad(outputs.float().sum(), table)
    assert found.equal(torch.tensor([[8192.0], [0.0]]).expand(models, 2, 2))
