"""A workload of a user's: packs like any other, or one trial at a time where that cannot be, or one clear error."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lawn_tune.cli.main import app
from lawn_tune.planning.functions import archives
from lawn_tune.planning.packing import largest_size
from search_spaces.loader import load_space
from search_spaces.space import SpaceError
from tests.helpers.functions import end_of
from tests.helpers.jobs import curve
from tests.helpers.own_workload import summaries, waves
from tests.helpers.tasks import CPU, pack, point, task
from trainables.tasks import Trial
from trainables.training import packable
from trainables.workloads import build_workload
from trainables.workloads.own_code import import_code

FORWARD = "found = torch.relu(self.norm(self.filters(waves.unsqueeze(1))))"
DROPOUT = (FORWARD, f"{FORWARD}\n        found = torch.dropout(found, 0.3, self.training)")
SAME = ("last/train_loss", "last/weight_norm", "last/last_layer_norm")


@pytest.mark.parametrize("confirm", [False, True])
def test_a_member_of_a_pack_equals_its_solo_run(confirm: bool, tmp_path: Path) -> None:
    """Adam-LAWN: three trials that share a row until each of them switches, and three seeds."""
    own = waves(tmp_path)
    job = own.job(1, confirm, trials=3)
    together = summaries(end_of(own.run(job)))
    for place, member in enumerate(job.config.members):
        solo = replace(job, config=replace(job.config, members=(member,)))
        (alone,) = summaries(end_of(own.run(solo)))
        assert alone.keys() == together[place].keys()
        for name in SAME:  # kernels may sum in another order: last places of fp32, amplified by some steps
            assert together[place][name] == pytest.approx(alone[name], rel=2e-3), name
        assert ("last/validation/accuracy" in alone) != confirm


TURNED = """\
class Turned(nn.Module):
    def forward(self, found):
        return found[0].mT if isinstance(found, tuple) else found.mT
"""
CAUSES = {
    "control flow": (
        FORWARD,
        f"{FORWARD}\n        if found.sum() > 0: found = 2 * found",
        "flow depends on a value (waves.py:",
    ),
    "value": (
        "self.norm(",
        "self.filters.bias.max().item() * self.norm(",
        "a value is read from a tensor (waves.py:",
    ),
    "batch norm": ("BatchNorm1d(12)", "BatchNorm1d(12, momentum=None)", "a value is read from a tensor (waves.py:"),
    "shape": (
        "found.mean(dim=2)",
        "found[found[:, 0, 0] > -1].mean(dim=2)",
        "a shape depends on a value (waves.py:",
    ),
    "dropout": (*DROPOUT, "it draws random numbers, as dropout does (waves.py:"),
    "loss": ("1 - signs", "torch.rand(1) - signs", "it draws random numbers, as dropout does (waves.py:"),
    "operation": (
        "self.norm = nn.BatchNorm1d(12)",
        "self.norm = nn.Sequential(Turned(), nn.GRU(12, 12, batch_first=True), Turned())",
        "Batching rule not implemented for aten::gru.input",
    ),
    "state": (
        FORWARD,
        f"{FORWARD}\n        Filters.calls = getattr(Filters, 'calls', 0) + 1\n        found = found * Filters.calls",
        "the loss of a stacked step is",
    ),
    "buffers": (
        FORWARD,
        f"{FORWARD}\n        Filters.calls = getattr(Filters, 'calls', 0) + 1\n"
        "        self.norm.num_batches_tracked.add_(Filters.calls)",
        "the norm of the buffers of a stacked step is",
    ),
    "outputs": (
        FORWARD,
        f"{FORWARD}\n        if not self.training:\n            Filters.calls = getattr(Filters, 'calls', 0) + 1\n"
        "            found = found * Filters.calls",
        "the norm of the outputs of a stacked step is",
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_what_cannot_be_packed_is_named_and_trained_alone(name: str, tmp_path: Path) -> None:
    before, after, cause = CAUSES[name]
    own = waves(tmp_path, ("class Filters", f"{TURNED}\n\nclass Filters"), (before, after))
    end = end_of(own.run(own.job(trials=2)))
    assert (end["kind"], end["reason"]) == ("failed", "alone")
    whole = "waves.py:Waves cannot be trained in packs, its trials are trained one at a time: "
    assert end["error"].startswith(whole), end["error"]
    assert cause in end["error"].splitlines()[0]
    assert len(end["error"].splitlines()) == 1
    summaries(end_of(own.run(own.job())))


@pytest.mark.parametrize(
    ("precision", "alone", "stacked", "alike"),
    [
        ("float32", 1.0, 1.009, True),
        ("float32", 1.0, 1.011, False),
        ("bfloat16", 1.0, 1.09, True),
        ("bfloat16", 1.0, 1.12, False),
        ("float32", 0.0, 9e-6, True),
        ("float32", 0.0, 1.1e-5, False),
    ],
)
def test_a_stacked_step_may_differ_by_rounding(
    precision: str, alone: float, stacked: float, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pack(task(precision=precision), [point("adam-lawn")])
    steps = iter([{"the loss": [alone]}, {"the loss": [alone]}, {"the loss": [alone, stacked]}])
    monkeypatch.setattr(packable, "_step", lambda *_: next(steps))
    verdict = packable._verdict(config, build_workload(config.task, Path("nowhere"), CPU), CPU)
    assert verdict == ("" if alike else f"the loss of a stacked step is {stacked:.6g}, and {alone:.6g} alone")


def test_two_trials_that_do_not_fit_at_once_are_no_fault_of_the_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped(_: object, members: Sequence[Trial], *rest: object) -> dict[str, list[float]]:
        torch.empty(2**46 if len(members) > 1 else 1)
        return {"the loss": [1.0]}

    config = pack(task(), [point("adam-lawn")])
    monkeypatch.setattr(packable, "_step", stepped)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        packable._verdict(config, build_workload(config.task, Path("nowhere"), CPU), CPU)


def test_layers_that_draw_end_with_the_same_bits_after_an_interruption(tmp_path: Path) -> None:
    own = waves(tmp_path, DROPOUT)
    own.file.write_text(own.file.read_text().replace("epochs = 2", "epochs = 4"))
    undisturbed = own.run(own.job(), checkpoint_dir=str(tmp_path / "elsewhere"))
    stopped = own.run(own.job(), stop=lambda messages: messages >= 1, checkpoint_seconds=0.0)
    assert end_of(stopped)["reason"] == "stopped"
    again = own.run(own.job())
    assert end_of(again)["provenance"]["resumed from epoch"] == 2
    assert summaries(end_of(again)) == summaries(end_of(undisturbed))
    assert curve(again) == curve(undisturbed)
    other, first = (curve(one)[4]["train_loss"] for one in (own.run(own.job(1)), undisturbed))
    assert other != first


BAD = {
    "no tuple": ("for part in parts)", "for part in parts[:2])", r"data\(\) must return three tuples \(training, val"),
    "no tensor": (
        "(waves[part], kind[part])",
        "(waves[part], kind[part].tolist())",
        "training part is .* of type list",
    ),
    "lengths": ("kind[part])", "kind[part][1:])", "training tensors of different lengths, 96, 95"),
    "no validation data": ("slice(96, 144)", "slice(96, 96)", r"data\(\) returns no validation examples: hold some"),
    "NaN": ("    parts = ", "    waves[100] = torch.nan\n        parts = ", "validation tensors with NaN or infinity"),
    "examples": ("slice(0, 96)", "slice(0, 90)", "90 training examples, not examples = 96 in the space"),
    "other shapes": ("waves[part]", "waves[part][:, part.start // 144 :]", "test tensors whose shapes or types differ"),
    "raises": ("parts = slice", "1 / 0; parts = slice", r"data\(\) raised ZeroDivisionError: .* \(waves.py:28\)"),
    "exit": ("parts = slice", "raise SystemExit('enough'); parts = slice", r"data\(\) raised SystemExit: enough"),
    "no loss": ("def loss(", "def los(", r"it must define loss\(\)"),
    "two functions": ("def loss(", "def los(self): ...\n\n    def other(", r"it must define loss\(\)"),
    "no subclass": (
        "class Waves(OwnWorkload)",
        "class Waves",
        "it must be a class that inherits from trainables.workl",
    ),
    "arguments": (
        "    def model(self)",
        "    def __init__(self): ...\n\n    def model(self)",
        r"__init__\(\) raised TypeError: .*; it was given task, data_dir and device; leave it out, or pass them to",
    ),
    "no model": ("return Filters()", "return None", r"model\(\) must return a torch.nn.Module with parameters"),
    "double": ("return Filters()", "return Filters().double()", "must return a model in float32 on the CPU"),
    "frozen": ("return Filters()", "return Filters().requires_grad_(False)", "has requires_grad = False"),
    "infinite buffer": (
        "kernel_size=9)",
        "kernel_size=9)\n        self.register_buffer('mask', torch.tensor(-torch.inf))",
        "buffer mask holds NaN or infinity",
    ),
    "lazy": ("nn.Linear(12, 3)", "nn.LazyLinear(3)", "parameter scores.weight has no shape yet"),
    "wrong shapes": ("nn.Linear(12, 3)", "nn.Linear(11, 3)", r"the model raised RuntimeError: .*\(waves.py:16\)"),
    "outputs": ("self.scores(", "self.scores, (", r"the model must return one tensor \[B, ...\], here with B = 10"),
    "mean loss": (".sum(dim=1)", ".mean()", r"loss\(\) must return one number an example \[10\], not shape \(\)"),
    "constant loss": ("signs * outputs", "signs", "does not depend on the model's parameters"),
    "NaN loss": (".square()", ".sub(5).log()", r"loss\(\) is not finite at the initial weights"),
    "range": ("kind[part])", "kind[part] + 1)", r"loss\(\) raised RuntimeError: Class values must be smaller"),
    "parameter": (
        "def loss(self, outputs, targets)",
        "def loss(self, outputs)",
        r"loss\(\) raised TypeError: .*; it was",
    ),
    "metric": ("outputs.argmax(dim=1) == targets", "3.0", r"metric\(\) must return a tensor of each example \[10\]"),
    "metric shape": ("argmax(dim=1) == targets", "T", r"metric\(\) must return .*, not shape \(3, 10\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_workload_has_one_clear_error(name: str, tmp_path: Path) -> None:
    before, after, pattern = BAD[name]
    own = waves(tmp_path, (before, after))
    end = end_of(own.run(own.job(trials=2)))
    assert (end["kind"], end["reason"]) == ("failed", "workload")
    first = end["error"].splitlines()[0]
    assert first.startswith("waves.py:Waves: ")
    assert re.search(pattern, first), first


def test_a_class_must_inherit(tmp_path: Path) -> None:
    own = waves(
        tmp_path, ("class Waves(OwnWorkload):", "def Waves(task, data_dir, device): ...\n\nclass Old(OwnWorkload):")
    )
    assert (
        "must be a class that inherits from trainables.workloads.own.OwnWorkload" in end_of(own.run(own.job()))["error"]
    )


def test_a_number_is_a_metric_too(tmp_path: Path) -> None:
    """Of each example or of all: the same value, and no outcomes of examples."""
    means = [
        summaries(end_of(one.run(one.job(trials=2))))
        for form in (
            "(outputs.argmax(dim=1) == targets).float() * 100",
            "(outputs.argmax(dim=1) == targets).sum() / len(targets) * 100",
            "outputs.argmax(dim=1) == targets",
        )
        for one in [waves(tmp_path, ("outputs.argmax(dim=1) == targets", form))]
    ]
    names = ("last/test/accuracy", "last/validation/accuracy")
    values = [[trial[name] for trial in trials for name in names] for trials in means]
    assert values[0] == pytest.approx(values[2], rel=1e-5)
    assert values[1] == pytest.approx(values[2], rel=1e-5)


def test_targets_may_be_true_and_false(tmp_path: Path) -> None:
    own = waves(tmp_path, ("kind[part])", "kind[part] == 0)"), ("one_hot(targets", "one_hot(targets.long()"))
    summaries(end_of(own.run(own.job(trials=2))))


def test_a_loss_takes_the_parameters_of_its_method(tmp_path: Path) -> None:
    own = waves(tmp_path)
    smoothed = "[optimizers.adam-lsr]\npeak_lr = [0.03]\nwarmup_epochs = [1]\nsmoothing = [0.0, 0.2]\n"
    own.file.write_text(own.file.read_text() + smoothed)
    assert "smoothing" in end_of(own.run(own.job(2)))["error"]
    changed = ("targets):\n        signs = ", "targets, smoothing=0.0):\n        signs = (1 - smoothing) * ")
    waves(tmp_path, changed)
    own.file.write_text(own.file.read_text() + smoothed)
    first, second = summaries(end_of(own.run(own.job(2, trials=2))))
    assert first["last/train_loss"] != second["last/train_loss"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("examples = 96", "", "examples: missing key"),
        ('Waves"', 'Wave"', "workload: .*waves.py defines no Wave, got 'waves.py:Wave'. Did you mean 'Waves'"),
        ("waves.py:Waves", "Waves", "must name a module and what is in it"),
        ("batch_size = 32", "batch_size = 128", r"batch_size: must be at most the 96 training examples"),
        ("weight_decay", "width", "unknown hyperparameter"),
        ("[optimizers.adam]", "[optimizers.mine]", "must be one of sgd"),
        ("examples = 96", "examples = 96\ntrainable = 'waves.py:train'", "workload"),
        ('"accuracy"', '"ndcg"', "metric: must be one of"),
    ],
)
def test_a_space_that_does_not_fit_is_refused_by_its_plan(before: str, after: str, words: str, tmp_path: Path) -> None:
    own = waves(tmp_path)
    assert before in own.file.read_text()
    own.file.write_text(own.file.read_text().replace(before, after, 1))
    with pytest.raises(SpaceError, match=words) as caught:
        _ = own.cells
    assert str(caught.value).startswith(str(own.file))


def test_packs_are_as_large_as_those_of_other_workloads(tmp_path: Path) -> None:
    own = waves(tmp_path)
    for cell in own.cells:
        assert cell.grid.size == 9
        assert (largest_size(cell, "search"), largest_size(cell, "confirm")) == (9, 5)
        assert not cell.task.by_function
    changed = {
        trial.key for cell in waves(tmp_path, ("kernel_size=9", "kernel_size=7")).cells for trial in cell.search_trials
    }
    assert changed.isdisjoint(trial.key for cell in waves(tmp_path).cells for trial in cell.search_trials)


def test_modules_of_one_name_belong_to_their_archive(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        own = waves(tmp_path / name, ("import torch\n", "import torch\nimport other\n"))
        (tmp_path / name / "other.py").write_text(f"PLACE = '{name}'\n")
        (archive,) = archives([load_space(own.file)]).values()
        import_code(archive, "waves:Waves")
        found.append(sys.modules["other"].PLACE)
    assert found == ["a", "b", "a"]
    assert sys.modules["waves"].other is sys.modules["other"]


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("class Waves: ...\n")
    own = waves(tmp_path)
    own.file.write_text(own.file.read_text().replace("waves.py", "json.py"))
    assert "a module of this process has the name json" in end_of(own.run(own.job()))["error"]


def test_a_module_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    own = waves(tmp_path, ("import torch\n", "import no_such_module\n"))
    assert (
        "import of waves raised ModuleNotFoundError: No module named 'no_such_module' (waves.py:1)"
        in end_of(own.run(own.job()))["error"]
    )


def test_a_launch_shows_values_of_a_metric_of_the_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = waves(tmp_path)
    table = '{ name = "guessed", direction = "maximize", unit = "%", digits = 1 }'
    own.file.write_text(own.file.read_text().replace('"accuracy"', table))
    monkeypatch.chdir(tmp_path)
    launched = CliRunner().invoke(app, ["launch", "own.toml", "--executor", "inline", "--cells", "adam/*"])
    assert launched.exit_code == 0, launched.output
    assert re.search(r"adam/bs32 search, 9 trials: best validation guessed \d+\.\d %", launched.output)


@pytest.mark.long
def test_two_processes_train_it_with_the_bits_of_one_what_layers_draw_included(tmp_path: Path) -> None:
    own = waves(tmp_path, DROPOUT)
    job = own.job(1)
    job = replace(job, config=replace(job.config, task=replace(job.config.task, micro_batch=8)))
    alone, together = own.run(job), own.run(job, ranks=2)
    assert summaries(end_of(together)) == summaries(end_of(alone))
    assert end_of(together)["provenance"]["processes"] == 2
