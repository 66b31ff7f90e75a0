"""A training function's trial: its optimizer, its schedule, and what it ends with if it is interrupted."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from lawn_tune.results import UTILIZATION
from tests.helpers.functions import LINE, SPACE, Functions, end_of
from tests.helpers.jobs import curve
from trainables.functions.child import GO, STOP
from trainables.functions.host import Host
from trainables.functions.run import _End, _Process
from trainables.functions.state import read_state, read_story, write_state
from trainables.functions.trial import FunctionTrial
from trainables.optimizers import AdamLawn
from trainables.training.schedules import lr_factor

CPU = torch.device("cpu")


def summary(said: list[dict[str, Any]]) -> dict[str, Any]:
    (outcome,) = end_of(said)["outcomes"]
    return {name: value for name, value in outcome["summary"].items() if name not in ("seconds", "peak_memory_bytes")}


def test_the_optimizer_makes_the_steps_of_its_method_at_the_scheduled_rates(tmp_path: Path) -> None:
    """Adam-LAWN, switched after 1.5 epochs of 4 steps; its state restores step, rate and phase."""
    job = Functions(tmp_path).job(place=1)
    trial = FunctionTrial(job.config, device=CPU, data_dir=tmp_path, send=lambda message: None)
    mine, theirs = (nn.Parameter(torch.arange(6.0).view(2, 3)) for _ in range(2))
    expected = AdamLawn([theirs], lr=0.02, free_steps=6)
    optimizer = trial.optimizer([mine], steps_per_epoch=4)
    for step in range(16):
        if step == 9:
            state = optimizer.state_dict()
            optimizer = trial.optimizer([mine], steps_per_epoch=4)
            optimizer.load_state_dict(state)
        for parameter in (mine, theirs):
            parameter.grad = torch.cos(parameter.detach() + step)
        rate = 0.02 * float(lr_factor("linear", torch.tensor(step), torch.tensor(4.0), 16))
        expected.param_groups[0]["lr"] = rate
        expected.step()
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] == rate
        assert torch.equal(mine, theirs), step
    assert isinstance(optimizer, AdamLawn)
    assert optimizer.constrained


@pytest.mark.parametrize("saves", [True, False])
def test_an_interrupted_trial_ends_with_the_bits_of_an_undisturbed_one(saves: bool, tmp_path: Path) -> None:
    own = Functions(tmp_path, LINE if saves else LINE.replace("trial.save(", "dict("))
    job = own.job(place=1)
    undisturbed = own.run(job, checkpoint_dir=str(tmp_path / "elsewhere"))
    stopped = own.run(job, stop=lambda messages: messages >= 2)
    assert end_of(stopped)["reason"] == "stopped"
    again = own.run(job)
    assert ("resumed from epoch" in end_of(again)["provenance"]) == saves
    assert end_of(again)["outcomes"][0]["summary"]["seconds"] > 0
    assert summary(again) == summary(undisturbed)
    assert UTILIZATION not in end_of(again)["provenance"], "it would be of the worker, which waits"
    assert curve(again) == curve(undisturbed)
    warnings = [text for message in undisturbed for text in message.get("warnings", ())]
    assert any("saves no state: a trial that is interrupted starts again" in text for text in warnings) != saves


class HeldHost:
    """A host whose process never reads."""

    def fork(self, channel: socket.socket, output: int) -> int:
        self.channel = channel.dup()
        self._process = subprocess.Popen(["sleep", "99"], start_new_session=True)
        return self._process.pid

    def fileno(self) -> int:
        return self.channel.fileno()

    def wait(self) -> int:
        return self._process.wait()


def test_a_process_that_reads_nothing_is_asked_to_stop_once_and_keeps_room_for_an_answer() -> None:
    """A function may hold Python's lock for long, and print meanwhile, at which each request would be repeated."""
    held = HeldHost()
    with _Process(cast(Host, held), {}, _End()) as process:
        for _ in range(1_000):
            process.ask_to_stop()
        process.answer(stop=True)
        assert held.channel.recv(1 << 20) == f"{{}}\n{STOP}{GO}".encode()
    held.channel.close()


def test_a_state_that_is_damaged_or_another_trial_s_starts_the_trial_again(tmp_path: Path) -> None:
    own = Functions(tmp_path)
    expected = summary(own.run(own.job(0)))
    file = tmp_path / "checkpoints" / "p.safetensors"
    own.run(own.job(1), stop=lambda messages: messages >= 2)
    for damage in (lambda: None, lambda: file.write_bytes(b"nonsense")):
        damage()
        said = own.run(own.job(0))
        assert any("cannot be used" in text for message in said for text in message.get("warnings", ()))
        assert summary(said) == expected


def test_confirm_trials_report_test_values_only(tmp_path: Path) -> None:
    own = Functions(tmp_path, LINE.replace("24).chunk", "24 if trial.train_on == 'train' else 20).chunk"))
    names = summary(own.run(own.job(confirm=True))).keys()
    assert {"last/test/mse", "best/test/mse", "last/train_loss", "last/learning_rate"} <= names
    assert not [name for name in names if "validation" in name]


def test_outcomes_of_examples_and_both_warnings(tmp_path: Path) -> None:
    source = """\
import torch

def train(trial):
    optimizer = trial.optimizer([torch.nn.Parameter(torch.ones(2, 2))], steps_per_epoch=2)
    for epoch in range(4):
        trial.report(epoch + 1, validation=75.0)
    trial.examples(torch.tensor([1, 0, 1, 1, 1, 0, 1, 1, 1]))
"""
    own = Functions(tmp_path, source, SPACE.replace("weight_decay = [0.1]", "weight_decay = [0.1]\nwidth = [3]"))
    said = own.run(own.job())
    (outcome,) = end_of(said)["outcomes"]
    assert (outcome["examples"], outcome["example_count"]) == (bytes([0b10111011, 0b10000000]), 9)
    warnings = " ".join(text for message in said for text in message.get("warnings", ()))
    assert "it does not read the hyperparameters width" in warnings
    assert "it made 0 steps of the 8 that its schedule has" in warnings


def test_a_method_of_the_function_s_own_has_any_hyperparameters_and_no_optimizer(tmp_path: Path) -> None:
    space = SPACE[: SPACE.index("[optimizers.adam]")] + "[optimizers.mine]\ndepth = [2, 3]\nzeta = [0.5]\n"
    body = "assert dict(trial.hyperparameters) == {'depth': 2, 'zeta': 0.5}; trial.optimizer([], steps_per_epoch=1)"
    own = Functions(tmp_path, f"def train(trial):\n    {body}\n", space)
    assert "mine is a method of your own: build its optimizer" in end_of(own.run(own.job()))["error"]


STATE = {
    "text": "a",
    3: [1, 2.5, None, True, (1, "b")],
    "tensor": torch.arange(6.0).view(2, 3).t(),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "scalar": torch.tensor(7),
    "empty": {"list": [], "tuple": (), "tensor": torch.zeros(0)},
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b and type(a) is type(b))


def test_a_state_comes_back_as_it_was_with_the_global_generators(tmp_path: Path) -> None:
    shared = torch.ones(3)
    state = STATE | {"tied": [shared, shared[:2]]}
    write_state(tmp_path / "state", {"epoch": 3}, state)
    drawn = torch.rand(3)
    assert same(read_state(tmp_path / "state", CPU), state)
    assert torch.equal(torch.rand(3), drawn)
    assert read_story(tmp_path / "state") == {"epoch": 3}
    with pytest.raises(TypeError, match=r"state\['x'\] is of type Linear"):
        write_state(tmp_path / "state", {}, {"x": nn.Linear(1, 1)})
    assert read_story(tmp_path / "state") == {"epoch": 3}, "the old file stays"
