"""A torch optimizer class of the user's: packs of one, LAWN around it, exact resume, keys, and clear errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from typer.testing import CliRunner

from lawn_tune.cells import Cell
from lawn_tune.cli.main import app
from lawn_tune.executors.base import Job
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.worker import work
from lawn_tune.planning import classes
from lawn_tune.planning.functions import archives
from lawn_tune.planning.packing import make_packs
from lawn_tune.planning.plan import plan
from lawn_tune.planning.sources import read_code
from search_spaces.loader import load_space
from search_spaces.space import SpaceError
from tests.helpers.functions import LINE, Functions, end_of
from tests.helpers.functions import SPACE as FUNCTION_SPACE
from tests.helpers.jobs import curve
from trainables.optimizers.layers import Layer
from trainables.tasks import PackConfig
from trainables.training.own_steps import OwnSteps

ROOT = Path(__file__).parents[2]
SPACE = """\
description = "an optimizer of the user's"
dataset = "synthetic"
loss = "cross-entropy"
metric = "accuracy"

[model]
name = "small-vgg"
width = 2

[seeds]
search = [0]
confirm = [1, 2]

[[budgets]]
batch_size = 64
epochs = 3

[optimizers.lion]
class = "lion.py:Lion"
peak_lr = [0.001, 0.002]
warmup_epochs = [1]
weight_decay = [0.1]
beta1 = [0.8]

[optimizers.lion-lawn]
class = "lion.py:Lion"
control = "lawn"
peak_lr = [0.002]
warmup_epochs = [1]
free_epochs = [0, 1.5]

[optimizers.adam]
peak_lr = [0.01]
warmup_epochs = [1]
weight_decay = [0.1]

[[compare]]
challenger = "lion-lawn"
baseline = "lion"

[[compare]]
challenger = "lion"
baseline = "adam"
"""

LION = """\
import torch


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, noise=False):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay, noise=noise))
        self.calls = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.calls += 1
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p, dtype=torch.bfloat16))
                beta1, beta2 = group["betas"]
                step = m.float().lerp(p.grad, 1 - beta1).sign() * (1 + 0.01 * (self.calls % 7))
                if group["noise"]:
                    step = step * torch.rand_like(step)
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"])
                m.copy_(m.float().lerp(p.grad, 1 - beta2))
"""


def cells_of(folder: Path, space: str = SPACE, source: str = LION) -> dict[str, Cell]:
    (folder / "own.toml").write_text(space)
    (folder / "lion.py").write_text(source)
    return {cell.name.optimizer: cell for cell in plan(load_space(folder / "own.toml"))}


def run(folder: Path, cell: Cell, place: int = 0, stop: Callable[[int], bool] = lambda n: False, **values: Any) -> Any:
    """What a worker sends of one search trial."""
    job = Job(pack="p", config=PackConfig(task=cell.task, members=(cell.search_trials[place],)))
    chosen: dict[str, Any] = {
        "checkpoint_dir": str(folder / "checkpoints"),
        "report_seconds": 0.0,
        "checkpoint_seconds": 0.0,
    } | values
    code = archives([load_space(folder / "own.toml")])
    messages: list[dict[str, Any]] = []
    work(job, WorkerSettings(data_dir="", code=code, **chosen), messages.append, lambda: stop(len(messages)))
    return messages


def numbers(messages: list[dict[str, Any]]) -> dict[str, Any]:
    (outcome,) = end_of(messages)["outcomes"]
    return {key: x for key, x in outcome["summary"].items() if key not in ("seconds", "peak_memory_bytes")}


@pytest.mark.parametrize(("control", "ours"), [("", "adam"), ("lawn", "adam-lawn"), ("reparametrized", "")])
def test_a_class_of_torch_trains_as_the_rule_of_the_same_steps(control: str, ours: str, tmp_path: Path) -> None:
    """AdamW of torch against our Adam, and LAWN around it; its source neither travels nor counts."""
    start = SPACE[: SPACE.index("[optimizers.lion]")]
    grid = "peak_lr = [0.01]\nwarmup_epochs = [1]\n" + (
        "free_epochs = [1.5]\n" if control else "weight_decay = [0.1]\n"
    )
    eps = "eps = [1e-6]\n"
    extra = f'control = "{control}"\nweight_decay = [0]\n' if control else ""
    reference = f"[optimizers.{ours or 'adam-lawn-reparametrized'}]\n{grid}{eps}"
    space = start + f'[optimizers.own]\nclass = "torch.optim:AdamW"\n{grid}{eps}{extra}{reference}'
    own, rule = cells_of(tmp_path, space).values()
    assert own.task.code == ""
    mine, theirs = (numbers(run(tmp_path, cell, checkpoint_dir=str(tmp_path / str(cell.name)))) for cell in (own, rule))
    assert mine.keys() == theirs.keys()
    for name in ("last/train_loss", "last/weight_norm"):
        assert mine[name] == pytest.approx(theirs[name], rel=2e-3), name


def test_a_count_of_steps_that_torch_keeps_on_the_host_is_there_after_a_load(tmp_path: Path) -> None:
    """On a GPU, torch would wait for the count of each parameter at every step."""
    grid = 'class = "torch.optim:AdamW"\npeak_lr = [0.01]\nwarmup_epochs = [1]\nweight_decay = [0.1]\n'
    cell = cells_of(tmp_path, SPACE[: SPACE.index("[optimizers.lion]")] + f"[optimizers.own]\n{grid}")["own"]
    gpu, tensors = torch.device("meta"), dict[str, torch.Tensor]()
    values = {"peak_lr": 0.01, "weight_decay": 0.1}
    steps = OwnSteps(cell.task.method, values, [torch.ones(3, device=gpu)], [Layer("w", 0, 3, False)])
    steps._optimizer.state[steps._params[0]] = {"step": torch.tensor(3.0)}
    steps.load(steps.saved(tensors), tensors, gpu)
    assert steps._optimizer.state[steps._params[0]]["step"].tolist() == 3.0


@pytest.mark.parametrize(("method", "place"), [("lion", 0), ("lion-lawn", 1)])
def test_an_interrupted_trial_ends_with_the_bits_of_an_undisturbed_one(method: str, place: int, tmp_path: Path) -> None:
    """State in half precision, a count in an attribute, and random numbers are all restored."""
    space = SPACE.replace("beta1 = [0.8]", "noise = [1]")
    cell = cells_of(tmp_path, space, LION.replace("noise=False", "noise=True"))[method]
    undisturbed = run(tmp_path, cell, place, checkpoint_dir=str(tmp_path / "elsewhere"))
    assert end_of(run(tmp_path, cell, place, stop=lambda n: n >= 1))["reason"] == "stopped"
    torch.rand(3)  # what else happens in a worker
    again = run(tmp_path, cell, place)
    assert "resumed from epoch" in end_of(again)["provenance"]
    assert numbers(again) == numbers(undisturbed)
    assert curve(again) == curve(undisturbed)


@pytest.mark.long
def test_two_processes_have_the_bits_of_one_whoever_resumes(tmp_path: Path) -> None:
    """The class draws at random in each step, after micro-batches that only one of the processes computed."""
    space = SPACE.replace("beta1 = [0.8]", "noise = [1]").replace("epochs = 3", "epochs = 3\nmicro_batch = 12")
    cell = cells_of(tmp_path, space, LION.replace("noise=False", "noise=True"))["lion-lawn"]
    alone = run(tmp_path, cell, 1, checkpoint_dir=str(tmp_path / "elsewhere"))
    for ranks, after in ((2, 1), (1, 2)):
        folder = str(tmp_path / f"{ranks}")
        stopped = run(tmp_path, cell, 1, stop=lambda n: n >= 1, checkpoint_dir=folder, ranks=ranks)
        assert end_of(stopped)["reason"] == "stopped"
        found = run(tmp_path, cell, 1, checkpoint_dir=folder, ranks=after)
        assert "resumed from epoch" in end_of(found)["provenance"]
        assert (numbers(found), curve(found)) == (numbers(alone), curve(alone)), (ranks, after)


def test_every_trial_is_a_pack_of_its_own_and_every_key_changes_what_is_trained(tmp_path: Path) -> None:
    cell = cells_of(tmp_path)["lion"]
    assert [len(pack) for pack in make_packs(cell, "search", cell.search_trials, 7)] == [1, 1]
    ends = [numbers(run(tmp_path, cell, place))["last/train_loss"] for place in (0, 1)]
    changes = (("decay = [0.1]", "decay = [9]"), ("beta1 = [0.8]", "beta1 = [0.1]"), ("beta1 = [0.8]", "beta2 = [0]"))
    for old, new in changes:
        changed = cells_of(tmp_path, SPACE.replace(old, new, 1))["lion"]
        ends.append(numbers(run(tmp_path, changed))["last/train_loss"])
    assert len(set(ends)) == len(ends)


def test_a_plan_never_runs_the_class_whose_source_is_in_the_keys_of_its_own_methods(tmp_path: Path) -> None:
    before, after = cells_of(tmp_path), cells_of(tmp_path, source="raise RuntimeError('a plan ran it')\n" + LION)
    same = [name for name in before if before[name].search_trials == after[name].search_trials]
    assert same == ["adam"]
    assert before["lion"].task.code == before["lion-lawn"].task.code
    assert [before[name].baselines for name in before] == [("adam",), ("lion",), ()]
    assert all(Cell.from_dict(cell.to_dict()) == cell for cell in after.values())


def test_the_methods_of_the_page_are_a_space_s(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(\[optimizers.lion\].*?)```", (ROOT / "docs/plugins.md").read_text(), re.DOTALL)
    top = SPACE[: SPACE.index("[optimizers.lion]")].replace("epochs = 3", "epochs = 30")
    assert [cell.baselines for cell in cells_of(tmp_path, top + block).values()] == [(), ("lion",)]


def test_code_of_two_spaces_is_never_mixed_in_one_process(tmp_path: Path) -> None:
    cell = cells_of(tmp_path)["lion"]
    first = numbers(run(tmp_path, cell))
    other = cells_of(tmp_path, source=LION.replace(".sign()", ".sign().neg()"))["lion"]
    assert numbers(run(tmp_path, other))["last/train_loss"] > first["last/train_loss"]
    assert numbers(run(tmp_path, cells_of(tmp_path)["lion"])) == first


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("lion.py:Lion", "lion.py:Lyon", "lion.class: .*defines no Lyon, got 'lion.py:Lyon'. Did you mean 'Lion'"),
        ("lion.py:Lion", "nowhere.py:Lion", "optimizers.lion.class: there is no file"),
        ("lion.py:Lion", "lion", "optimizers.lion.class: must name a module and what is in it"),
        ('class = "lion.py:Lion"', "class = 3", "optimizers.lion.class: must be a non-empty string, got 3"),
        ('"lawn"', '"decay"', "lion-lawn.control: must be a control that begins after a free phase, one of"),
        ("peak_lr = [0.001, 0.002]", "", "optimizers.lion.peak_lr: missing key; lion requires peak_lr, warmup_epochs"),
        (
            'control = "lawn"',
            'control = "lawn"\nweight_decay = [0, 0.1]',
            r"lion-lawn.weight_decay: must be 0 under control = 'lawn', got \[0.0, 0.1\]. Write weight_decay = \[0\]",
        ),
        (".adam]", ".adam]\ncontrol = 'lawn'", "optimizers.adam.control: must be next to a class"),
        (".adam]", ".adam]\nclass = 'lion.py:Lion'", "adam.class: must be on a method whose name the catalogue lacks"),
        (
            "beta1",
            "bata1",
            "lion.bata1: unknown hyperparameter; lion.py:Lion takes beta1, beta2, .*mean 'beta1'",
        ),
        (
            'lion.py:Lion"',
            'torch.optim:AdamW"\nmomentum = [0]',
            "momentum: unknown .* takes amsgrad, beta1,",
        ),
    ],
)
def test_what_is_wrong_with_a_name_is_said_before_anything_runs(old: str, new: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=error):
        cells_of(tmp_path, SPACE.replace(old, new, 1))


def test_a_class_without_the_argument_that_the_schedule_sets_is_refused_by_the_plan(tmp_path: Path) -> None:
    rule = "must be a class that takes the argument lr, which the schedule sets before each step, got 'lion.py:Lion'"
    with pytest.raises(SpaceError, match=re.escape(f"optimizers.lion.class: {rule}. Add it.")):
        cells_of(tmp_path, source=LION.replace("lr=1e-4", "rate=1"))


HIDDEN = LION.replace("betas=(0.9, 0.99), ", "").replace("=False)", "=False, **more)").replace("betas=betas, ", "")
"""What it takes besides is not in its source."""

CLOSURE = LION.replace("closure=None", "closure")


SET = LION.replace('setdefault("m", ', 'setdefault("x", {1}) and self.state[p].setdefault("m", ')


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (LION.replace("(torch.optim.Optimizer)", ""), "optimizer class lion:Lion must be a subclass of torch.optim"),
        (HIDDEN, "optimizer class lion:Lion has no argument beta1; remove it from the grid"),
        (
            HIDDEN.replace("lr=1e-4", "rate=1"),
            "optimizer class lion:Lion must take the argument lr, which the sched",
        ),
        (CLOSURE, "optimizer class lion:Lion must make its step without a closure"),
        ("import no_such_module\n" + LION, "import of lion raised ModuleNotFoundError: No module named 'no_such"),
        ("raise SystemExit(2)\n" + LION, "import of lion raised SystemExit: 2"),
        (LION.replace("self.calls += 1", "raise KeyError('m')"), "KeyError: 'm'"),
        (LION.replace("self.calls += 1", "raise SystemExit(3)"), "optimizer class lion:Lion called sys.exit(3)"),
        (SET, "state of optimizer class lion:Lion['optimizer']['state'][0]['x'] is of type set"),
    ],
)
def test_a_class_that_cannot_be_used_fails_its_trial_with_the_reason(source: str, error: str, tmp_path: Path) -> None:
    end = end_of(run(tmp_path, cells_of(tmp_path, source=source)["lion"]))
    of_class = re.match("optimizer class lion:Lion (must|has)", error)
    reason = "class" if of_class else "workload" if error.startswith("import") else "error"
    assert (end["kind"], end["reason"]) == ("failed", reason)
    assert error in end["error"]


def test_such_a_class_ends_its_own_methods_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells_of(tmp_path, source=HIDDEN)
    end = CliRunner().invoke(app, ["launch", "own.toml", "--executor", "inline"], env={"COLUMNS": "400"})
    assert end.exit_code == 5
    assert "trained 3 trials" in end.output, "Adam's"
    assert end.output.count("has no argument beta1") == 2, "as it fails, and at the end"
    assert "1 trial failed: optimizer class lion:Lion has no" in end.output
    assert "hint: Correct it, then launch again." in end.output


def test_weight_decay_under_lawn_is_refused_by_name(tmp_path: Path) -> None:
    cell = cells_of(tmp_path, source=LION.replace("weight_decay=0.0", "weight_decay=0.01"))["lion-lawn"]
    assert "Lion must have no weight decay under LAWN in either phase" in end_of(run(tmp_path, cell))["error"]


def test_weights_that_turn_infinite_diverge(tmp_path: Path) -> None:
    cell = cells_of(tmp_path, source=LION.replace("m = self", "p.data = p.data / 0.0\n                m = self"))[
        "lion"
    ]
    assert end_of(run(tmp_path, cell))["outcomes"][0]["outcome"] == "diverged"


def test_a_training_function_gets_the_class_with_the_schedule_and_the_switch(tmp_path: Path) -> None:
    """Its sources travel with those of the function; keys that the class lacks are the function's."""
    methods = '[optimizers.lion]\nclass = "lion.py:Lion"\npeak_lr = [0.02]\nwarmup_epochs = [1]\nwidth = [3]\n'
    methods += methods.replace(".lion]", ".held]").replace("width = [3]", 'control = "lawn"\nfree_epochs = [1]')
    space = FUNCTION_SPACE[: FUNCTION_SPACE.index("[optimizers.adam]")] + methods
    (tmp_path / "lion.py").write_text(LION)
    own = Functions(tmp_path, LINE, space)
    plain, held = (own.run(own.job(place), checkpoint_dir=str(tmp_path / str(place))) for place in (0, 1))
    losses = [end_of(each)["outcomes"][0]["summary"]["last/train_loss"] for each in (plain, held)]
    assert losses[0] != losses[1]
    warnings = [text for message in plain for text in message.get("warnings", ())]
    assert warnings == ["train.py:train: it does not read the hyperparameters width: their values change nothing"]
    with patch.object(classes, "read_code", wraps=read_code) as read:
        code = own.cells[0].task.code
    read.assert_called_once()  # for both methods, and the function
    (tmp_path / "lion.py").write_text(LION + "\n")
    assert own.cells[0].task.code != code


def test_the_commands_say_which_class_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells_of(tmp_path, SPACE.replace("epochs = 3", "epochs = 2").replace("[0, 1.5]", "[1]"))

    def said(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(words), env={"COLUMNS": "400"})
        assert result.exit_code == code, result.output
        return result.output

    launch = ("launch", "own.toml", "--executor", "inline")
    assert "trained 10 trials" in said(*launch)
    assert "lion-lawn" in said("compare", "own", "--format", "md")
    (tmp_path / "lion.py").write_text(LION.replace("% 7", "% 5"))
    assert "lion:Lion has changed: 7 finished trials of its earlier code are kept" in said("plan", "own.toml")
    assert "Launch the whole space" in said(*launch, "--cells", "lion/*", code=2)
    assert "10 were in the ledger" in said(*launch, "--keep-code", "--seeds", "3")
    assert "ran changed code of lion:Lion" in said("compare", "own", "--format", "md")
    assert "trained 7 trials" in said(*launch)
