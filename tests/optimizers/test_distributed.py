"""Training in two processes equals training in one: DDP, FSDP2 with uneven shards, distributed checkpoints."""

from __future__ import annotations

import copy
import os
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from trainables.optimizers import AdamLawn, Lamb, LambLawn, Lawn, SgdLawn, lawn

pytestmark = pytest.mark.long

WORLD, STEPS, FREE_STEPS, STOP = 2, 8, 3, 5
"""Processes, steps of a run, the switch, and the step at which a run is saved, after the switch."""
SECONDS = 120
"""Time limit for waiting for the other process."""

OPTIMIZERS: Mapping[str, Callable[..., Any]] = {
    "adam-lawn": AdamLawn,
    "sgd-lawn": SgdLawn,
    "lamb-lawn": LambLawn,
    "lamb": lambda params, lr=0.0625, free_steps=None: Lamb(params, lr),
    "lawn(adamw)": lambda params, lr=0.0625, free_steps=None: Lawn(AdamW(params, lr=lr, weight_decay=0), free_steps),
}
LAWNS = [name for name in OPTIMIZERS if name != "lamb"]


class Net(nn.Module):
    """Over two processes: an even weight, one of 7 rows, one of a single row, so that one process has none of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.second(self.first(x).tanh()).tanh()
        out: Tensor = self.last(hidden)
        return out


def backward(model: nn.Module, step: int, rows: slice = slice(None)) -> None:
    """Each process takes its rows of the batch, so that the mean of their gradients is that of the batch."""
    generator = torch.Generator().manual_seed(step)
    dtype = next(model.parameters()).dtype
    x, y = (torch.randn(8, n, generator=generator, dtype=torch.float64).to(dtype) for n in (6, 1))
    model.zero_grad()
    torch.autograd.backward(nn.functional.mse_loss(model(x[rows]), y[rows]))


def own_rows() -> slice:
    return slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)


def train(model: nn.Module, optimizer: Any, steps: Iterable[int], rows: slice = slice(None)) -> None:
    for i in steps:
        backward(model, i, rows)
        optimizer.step()


def whole(x: Tensor) -> Tensor:
    return (x.full_tensor() if isinstance(x, DTensor) else x).detach().clone()


def outcome(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """The state of a run: weights, held norms, the phase."""
    radii = getattr(optimizer, "radii", {})
    return {
        "weights": [whole(p) for p in model.parameters()],
        "radii": [whole(radii[p]) for p in model.parameters() if p in radii],
        "phase": [{key: group.get(key) for key in ("phase", "steps")} for group in optimizer.param_groups],
    }


def make(name: str, model: nn.Module, free_steps: int | None = FREE_STEPS, lr: float = 0.0625) -> Any:
    return OPTIMIZERS[name](model.parameters(), lr=lr, free_steps=free_steps)


def alone(name: str, free_steps: int | None = FREE_STEPS, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """A run in one process."""
    model = Net().to(dtype)
    optimizer = make(name, model, free_steps)
    train(model, optimizer, range(STEPS))
    return outcome(model, optimizer)


# --- what the two processes do ----------------------------------------------------------------------------------------


def sharded(dtype: torch.dtype = torch.float64) -> nn.Module:
    model, mesh = Net().to(dtype), init_device_mesh("cpu", (WORLD,))
    for layer in (model.first, model.second, model.last):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def ddp(name: str, free_steps: int | None, folder: Path) -> dict[str, Any]:
    model = DistributedDataParallel(Net().to(torch.float64))
    optimizer = make(name, model, free_steps)
    train(model, optimizer, range(STEPS), own_rows())
    return outcome(model, optimizer)


def fsdp(name: str, free_steps: int | None, dtype: torch.dtype, folder: Path) -> dict[str, Any]:
    model = sharded(dtype)
    sizes = [p.to_local().numel() for p in model.parameters() if isinstance(p, DTensor)]
    assert len(sizes) == 6
    optimizer = make(name, model, free_steps)
    train(model, optimizer, range(STEPS), own_rows())
    return outcome(model, optimizer) | {"empty": 0 in sizes}


Resume = Callable[[nn.Module, Any, nn.Module, Any, Path], None]
"""(model, its optimizer, fresh model, its optimizer, a folder): brings the fresh two to the state of the others."""


def in_memory(
    options: StateDictOptions, model: nn.Module, saving: Any, fresh: nn.Module, loading: Any, _: Path
) -> None:
    weights = copy.deepcopy(get_model_state_dict(model, options=options))
    state = copy.deepcopy(get_optimizer_state_dict(model, saving, options=options))
    if options.broadcast_from_rank0 and dist.get_rank() > 0:
        weights, state = {}, {}
    set_model_state_dict(fresh, weights, options=options)
    set_optimizer_state_dict(fresh, loading, state, options=options)


def on_disk(options: StateDictOptions, model: nn.Module, saving: Any, fresh: nn.Module, loading: Any, to: Path) -> None:
    """As loops do it: the saved state is read into the form of the new optimizer's state."""

    def both(net: nn.Module, optimizer: Any) -> dict[str, Any]:
        state = get_optimizer_state_dict(net, optimizer, options=options)
        return {"model": get_model_state_dict(net), "optimizer": state}

    save(both(model, saving), checkpoint_id=to)
    read = both(fresh, loading)
    load(read, checkpoint_id=to)
    set_model_state_dict(fresh, read["model"])
    set_optimizer_state_dict(fresh, loading, read["optimizer"], options=options)


RESUMES: Mapping[str, Resume] = {
    "sharded": partial(in_memory, StateDictOptions()),
    "full": partial(in_memory, StateDictOptions(full_state_dict=True)),
    "full from rank 0": partial(in_memory, StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)),
    "flat": partial(in_memory, StateDictOptions(flatten_optimizer_state_dict=True)),
    "disk": partial(on_disk, StateDictOptions()),
    "disk, flat": partial(on_disk, StateDictOptions(flatten_optimizer_state_dict=True)),
}


def resumed(name: str, how: str, at: int, folder: Path) -> dict[str, Any]:
    """Trains, saves, loads into a fresh model and optimizer, and continues with these."""
    model = sharded()
    optimizer = make(name, model)
    train(model, optimizer, range(at), own_rows())
    fresh = sharded()
    for p in fresh.parameters():
        p.detach().mul_(1.5)  # a fresh model is not the one that was saved
    loading = make(name, fresh, lr=0.5)
    RESUMES[how](model, optimizer, fresh, loading, folder)
    steps = [group.get("steps") for group in loading.param_groups]
    assert steps in ([at], [None]), f"loading has made steps of its own: {steps}"
    train(fresh, loading, range(at, STEPS), own_rows())
    return outcome(fresh, loading)


def looked_at(name: str, at: int, folder: Path) -> dict[str, Any]:
    """Trains, and reads the state in between without using it."""
    model = sharded()
    optimizer = make(name, model)
    train(model, optimizer, range(at), own_rows())
    model.zero_grad()
    get_optimizer_state_dict(model, optimizer)
    train(model, optimizer, range(at, STEPS), own_rows())
    return outcome(model, optimizer)


STATES = ("adam-lawn", "lawn(adamw)")
"""One optimizer of each kind of state: our own, and a wrapped optimizer's."""
RESUMED = [
    *((name, how) for name in STATES for how in RESUMES),
    *((name, "disk") for name in ("sgd-lawn", "lamb-lawn", "lamb")),
]
"""The kinds of saved states."""
Scenario = Callable[[Path], dict[str, Any]]
LOOKED_AT = (0, FREE_STEPS)
PHASES: Mapping[str, int | None] = {"constrained": 0, "switching": FREE_STEPS}
SHARDED = [*((name, "switching") for name in OPTIMIZERS), ("adam-lawn", "constrained"), ("lawn(adamw)", "constrained")]
SCENARIOS: Mapping[str, Scenario] = {
    **{f"ddp {name}": partial(ddp, name, FREE_STEPS) for name in OPTIMIZERS},
    **{f"fsdp {name} {phase}": partial(fsdp, name, PHASES[phase], torch.float64) for name, phase in SHARDED},
    **{f"bf16 {name}": partial(fsdp, name, FREE_STEPS, torch.bfloat16) for name in ("adam-lawn", "sgd-lawn", "lamb")},
    **{f"resumed {name} {how}": partial(resumed, name, how, STOP) for name, how in RESUMED},
    **{f"at the switch {name}": partial(resumed, name, "sharded", FREE_STEPS) for name in STATES},
    **{f"early {name}": partial(resumed, name, "disk", 1) for name in STATES},
    **{f"looked at {name} {at}": partial(looked_at, name, at) for name in LAWNS for at in LOOKED_AT},
}


def attempt(scenario: Scenario, folder: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of torch's checkpoints
            return scenario(folder)
    except Exception:
        return {"error": traceback.format_exc()}


def process(rank: int, folder: str) -> None:
    """Runs all scenarios in one of the processes; their outcomes are checked in the test process."""
    torch.set_num_threads(1)
    lawn.CACHED = 30  # if shards were worked on in parts, the processes would have different ones
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    store = torch._C._distributed_c10d.FileStore(f"{folder}/store", WORLD)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD, store=store, timeout=timedelta(seconds=SECONDS))
    outcomes = {name: attempt(do, Path(folder, f"{i}")) for i, (name, do) in enumerate(SCENARIOS.items())}
    torch.save(outcomes, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads live on, and one that still frees a tensor aborts an interpreter that ends


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The outcome of every scenario, by rank."""
    folder = tmp_path_factory.mktemp("processes")
    start_processes(process, (str(folder),), nprocs=WORLD, start_method="spawn")  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORLD)]


# --- what must come of it ---------------------------------------------------------------------------------------------


def assert_is(outcomes: list[dict[str, Any]], scenario: str, expected: dict[str, Any], rtol: float = 1e-9) -> None:
    for by_name in outcomes:
        got = by_name[scenario]
        assert "error" not in got, got["error"]
        assert got["phase"] == expected["phase"]
        for what in ("weights", "radii"):
            torch.testing.assert_close(got[what], expected[what], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ddp_on_halves_is_one_process_on_the_batch(outcomes: list[dict[str, Any]], name: str) -> None:
    assert_is(outcomes, f"ddp {name}", alone(name))


@pytest.mark.parametrize(("name", "phase"), SHARDED)
def test_sharded_weights_train_as_whole_ones_and_hold_their_whole_norms(
    outcomes: list[dict[str, Any]], name: str, phase: str
) -> None:
    scenario = f"fsdp {name} {phase}"
    assert_is(outcomes, scenario, alone(name, PHASES[phase]))
    assert [by_name[scenario]["empty"] for by_name in outcomes] == [False, True]  # one holds nothing of the last layer
    if name != "lamb":
        weights, radii = (outcomes[0][scenario][what] for what in ("weights", "radii"))
        torch.testing.assert_close([p.norm() for p in weights[::2]], radii)


@pytest.mark.parametrize("name", ["adam-lawn", "sgd-lawn", "lamb"])
def test_sharded_bf16_weights_have_sharded_masters(outcomes: list[dict[str, Any]], name: str) -> None:
    """Gradients are summed in bf16, so they differ from those of one process in the last of its 8 bits."""
    expected = alone(name, dtype=torch.bfloat16)
    assert_is(outcomes, f"bf16 {name}", expected, rtol=0.05)
    assert outcomes[0][f"bf16 {name}"]["weights"][0].dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "how"), RESUMED)
def test_a_distributed_checkpoint_resumes(outcomes: list[dict[str, Any]], name: str, how: str) -> None:
    """To rounding: what is not in a checkpoint's form, as a norm that a fresh optimizer lacks, is read again."""
    assert_is(outcomes, f"resumed {name} {how}", alone(name))


@pytest.mark.parametrize("name", STATES)
def test_a_distributed_checkpoint_right_at_the_switch_resumes(outcomes: list[dict[str, Any]], name: str) -> None:
    assert_is(outcomes, f"at the switch {name}", alone(name))


@pytest.mark.parametrize("name", STATES)
def test_a_distributed_checkpoint_of_the_free_phase_resumes(outcomes: list[dict[str, Any]], name: str) -> None:
    assert_is(outcomes, f"early {name}", alone(name))


@pytest.mark.parametrize("at", LOOKED_AT)
@pytest.mark.parametrize("name", LAWNS)
def test_reading_a_state_is_no_step(outcomes: list[dict[str, Any]], name: str, at: int) -> None:
    """torch makes the state of an optimizer that has none by a step at rate zero without gradients."""
    assert_is(outcomes, f"looked at {name} {at}", alone(name))
