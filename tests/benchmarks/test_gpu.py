"""The benchmark of GPUs does what it measures; here on a CPU and at small sizes, so its numbers say nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch

from benchmarks import gpu, gpu_page
from benchmarks.gpu_goals import GOALS, Goal
from benchmarks.steps import Images
from benchmarks.time_limit import OutOfTime, limit
from lawn_tune.cells import Phase
from lawn_tune.planning.packing import largest_packs, make_packs
from lawn_tune.planning.plan import plan
from lawn_tune.planning.spaces import find_space
from tests.helpers.graphs import stand_in
from trainables.models.vgg import Vgg19

__all__ = ["stand_in"]

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
METHODS_OF_TABLE_4 = ("sgd", "adam", "adam-lawn", "lamb", "lamb-lawn")
PARTS = ("optimizer_step", "ncf_large_batch", "packs", "graphs", "table4", "vgg19")

TORCH_ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in {"numpy", "ray", "optuna", "sqlalchemy", "pooch", "scipy", "typer", "rich", "PIL", "torchvision"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
sys.argv = ["benchmarks", "gpu", "--device", "cpu", "--minutes", "0.001"]
from benchmarks.__main__ import main
main()
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few steps as possible, and no compiler."""
    monkeypatch.setattr(gpu, "BURST", 0.0)
    monkeypatch.setattr(gpu, "REPEATS", (5, 5))
    monkeypatch.setattr(torch, "compile", lambda model, mode: model)


@pytest.mark.usefixtures("quick", "stand_in")
def test_every_part_is_measured_and_every_goal_is_judged() -> None:
    found = gpu.run(minutes=10, device="cpu", sizes=gpu.TRIAL)
    assert not any("not measured" in found[part] for part in PARTS), found
    assert found["optimizer_step"]["parameters"] == 17
    assert found["optimizer_step"]["ratio_to AdamW fused"]["AdamLawn constrained"]["n"] == 5
    assert set(found["ncf_large_batch"]["examples_per_second"]) == {"float32", "tf32", "bfloat16"}
    packs = {name: case for name, case in found["packs"].items() if name != "lowest_best_speed_up"}
    assert set(packs) == {"2 factors, batch 4", "3 factors, batch 4"}
    lowest = min(case["speed_up_over K=1"]["K=2"]["median"] for case in packs.values())
    assert found["packs"]["lowest_best_speed_up"] == lowest > 0
    assert set(found["vgg19"]["seconds_per_epoch"]) == {"pack", "compiled loop", "plain loop"}
    assert set(found["graphs"]) == {f"{name} K={rows}" for name in ("adam-lawn", "adam-l2") for rows in (1, 2)}
    for case in found["graphs"].values():
        assert case["ratio_to launches"]["graphs"]["n"] == 5
        assert case["replays"]["graphs"] >= 5
        assert case["replays"]["launches"] == 0
        assert case["same bits"]
    assert set(found["goals"]) == set(GOALS)
    assert all(goal["measured"] > 0 and goal["reached"] in (True, False) for goal in found["goals"].values())
    assert len(json.dumps(found, indent=2)) < 2**20
    assert not torch.are_deterministic_algorithms_enabled()
    check_shown(found)


def check_shown(found: dict[str, Any]) -> None:
    """Checks that the page shows what each part has found."""
    text = gpu_page.section({"date": "today", "machine": {"libraries": {"torch": "2"}}, "results": found})
    assert "Not measured" not in text
    assert [name for name in found["goals"] if f"| {name} | at " not in text] == []
    for part in ("optimizer_step", "vgg19"):
        assert [name for name in found[part]["seconds"] if f"| {name} | " not in text] == []
    names = [*found["ncf_large_batch"]["examples_per_second"], *METHODS_OF_TABLE_4]
    names += [f"{name}: million examples/s" for name in ("2 factors, batch 4", "3 factors, batch 4")]
    names += [name.replace("=", " = ") for name in found["graphs"]]
    assert [name for name in names if f"| {name} | " not in text] == []


@pytest.mark.usefixtures("quick")
def test_table_4_is_what_is_planned_at_the_times_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 methods x 4 batch sizes of 32 points and 3 confirm trials, in packs of 32 and 3 at batch size 1000."""
    seconds = {"step": 1e-3, "evaluation": 0.0}
    monkeypatch.setattr(gpu, "_timed", lambda calls, *others: {name: [seconds[name]] for name in calls})
    found = gpu._table4(CPU, gpu.TRIAL, 0.0)
    assert found["trials"] == 5 * 4 * (32 + 3)
    hours = 1e-3 * 300 * (491 + 496) / 3600
    assert found["of_cell"]["adam-lawn batch 1000"] == pytest.approx(hours)
    assert found["of_cell"]["sgd batch 400000"] == pytest.approx(1e-3 * 500 * (16 + 2) * 2 / 3600)
    assert found["gpu_hours"] == pytest.approx(sum(found["of_cell"].values()))
    assert found["of_kind"] == {"steps": pytest.approx(found["gpu_hours"]), "evaluation": 0.0}
    seconds |= {"step": 0.0, "evaluation": 1.0}  # a call a split, and one of a sample
    evaluated = gpu._table4(CPU, gpu.TRIAL, 0.0)
    assert evaluated["of_cell"]["lamb batch 10000"] == pytest.approx(300 * (2 * 1 + 1 + 1 + 1) / 3600)
    assert evaluated["gpu_hours"] == pytest.approx(evaluated["of_kind"]["evaluation"])
    assert evaluated["of_kind"]["steps"] == 0


def test_table_4_is_packed_as_by_a_launch_on_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_timed", lambda calls, *others: {name: [1.0] for name in calls})
    found = gpu._table4(CPU, gpu.TRIAL, 0.0)
    cells = [largest_packs(cell, on_gpu=True) for cell in plan(find_space(gpu.TABLE_4))]
    packs = [make_packs(cell, phase, cell.planned_trials(phase)) for cell in cells for phase in get_args(Phase)]
    assert found["packs"] == sum(map(len, packs)) < found["trials"] / 4


@pytest.mark.parametrize(
    ("goal", "found", "reached"),
    [
        (Goal(("a", "b"), 2.0), {"a": {"b": {"median": 2.0}}}, True),
        (Goal(("a", "b"), 2.0), {"a": {"b": {"median": 2.1}}}, False),
        (Goal(("a",), 2.0, least=True), {"a": 2.1}, True),
        (Goal(("a",), 2.0, least=True), {"a": 1.9}, False),
        (Goal(("a", "b"), 2.0), {"a": {"not measured": "no memory"}}, None),
    ],
)
def test_a_goal_is_reached_or_not_or_unknown(goal: Goal, found: dict[str, Any], reached: bool | None) -> None:
    assert goal.met(found)["reached"] is reached


def failing(*given: object) -> dict[str, Any]:
    raise torch.OutOfMemoryError("no room")


def endless(*given: object) -> dict[str, Any]:
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue  # as a compiler that tries something else


@pytest.mark.parametrize(("part", "reason"), [(failing, "no room"), (endless, "not done after")])
def test_a_part_that_fails_or_does_not_end_costs_the_others_nothing(
    part: Callable[..., Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_optimizers", "_large_batches", "_packs", "_graphs", "_vgg"):
        monkeypatch.setattr(gpu, name, lambda *given: {"done": True})
    monkeypatch.setattr(gpu, "_table4", part)
    found = gpu.run(minutes=0.1, device="cpu", sizes=gpu.TRIAL)
    assert reason in found["table4"]["not measured"]
    assert found["goals"]["Table 4, MovieLens-100k, GPU hours"]["reached"] is None
    assert found["packs"] == {"done": True}


def inner_and_rest() -> None:
    with pytest.raises(OutOfTime), limit(0.05):
        time.sleep(30)
    time.sleep(30)  # until the outer limit


def test_a_limit_within_a_limit_ends_no_later() -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTime), limit(0.1), limit(60):
        time.sleep(30)
    with pytest.raises(OutOfTime), limit(0.2):
        inner_and_rest()
    assert time.monotonic() - began < 20


def test_in_another_thread_there_is_no_limit() -> None:
    done: list[str] = []

    def work() -> None:
        with limit(0.0):
            done.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"]


@pytest.mark.usefixtures("quick")
def test_without_a_compiler_the_rival_is_the_plain_loop_and_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: object, mode: str) -> object:
        raise RuntimeError(f"no C compiler for {mode}")

    monkeypatch.setattr(torch, "compile", broken)
    found = {"vgg19": gpu._vgg(CPU, gpu.TRIAL, 10.0)}
    assert set(found["vgg19"]["seconds_per_epoch"]) == {"pack", "plain loop"}
    assert "default: RuntimeError: no C compiler for default" in found["vgg19"]["compiled loop"]
    assert found["vgg19"]["ratio_to plain loop"]["pack"]["n"] == 5
    assert GOALS["epoch of VGG-19 / compiled plain loop"].met(found)["reached"] is None


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_rival_compiles() -> None:
    model = Vgg19(channels=3, size=32, classes=10, width=1)
    step, how = gpu._compiled_loop(model, Images(5, 2, CPU), 500.0)
    assert step is not None, how
    assert how == "torch.compile, mode reduce-overhead"


def test_launches_are_calls_and_not_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [("cudaLaunchKernelExC", 3), ("cudaGraphLaunch", 2), ("void add_kernel()", 50), ("cuLaunchKernelEx", 1)]
    profile = nullcontext(SimpleNamespace(key_averages=lambda: [SimpleNamespace(key=k, count=n) for k, n in events]))
    monkeypatch.setattr(torch.profiler, "profile", lambda **options: profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert gpu._launches(lambda: None, torch.device("cuda")) == 6
    assert gpu._launches(lambda: None, CPU) is None


def test_it_needs_no_package_but_torch() -> None:
    """The command as typed, out of time before it begins: it imports all that it needs and ends."""
    kept = ROOT / "benchmarks/results/gpu.json"
    before = kept.read_bytes() if kept.exists() else None
    command = [sys.executable, "-W", "ignore", "-c", TORCH_ALONE]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.partition("\n")[2])
    assert "numpy" in found["machine"]["libraries"], "installed, but not importable"
    assert {found["results"][part]["not measured"].partition(":")[0] for part in PARTS} == {"OutOfTime"}
    assert (kept.read_bytes() if kept.exists() else None) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    command = [sys.executable, "-m", "benchmarks", "gpu"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "benchmark gpu needs a CUDA device" in result.stderr
