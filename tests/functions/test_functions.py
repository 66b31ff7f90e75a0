"""A training function's trial: its optimizer, its schedule, and what it ends with if it is interrupted."""

from __future__ import annotations

import atexit
import os
import random
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from lawn_tune.planning.functions import archives
from lawn_tune.results import UTILIZATION
from search_spaces.loader import load_space
from tests.helpers.functions import LINE, SPACE, Functions, end_of
from tests.helpers.jobs import curve
from trainables.functions import run
from trainables.functions.child import GO, STOP
from trainables.functions.host import Host, host
from trainables.functions.run import FunctionRun, _End, _Process
from trainables.functions.state import read_state, read_story, write_state
from trainables.functions.trial import FunctionTrial
from trainables.optimizers import AdamLawn
from trainables.training.schedules import lr_factor
from trainables.training.trial import EpochEnded, Records, Unsaved, Warned

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


@pytest.fixture
def a_host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


def test_an_end_that_comes_together_with_the_beginning_is_still_waited_for(a_host: Host) -> None:
    a_host._control.close()
    a_host._control, process = socket.socketpair()
    with process:
        process.sendall(b"12\n-9\n")
        assert a_host.fork(process, 0) == 12
        assert select.select([a_host], [], [], 10)[0] == [a_host]
        assert a_host.wait() == -9


def test_a_host_ends_with_its_worker_and_not_by_a_signal_to_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    last: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", last.append)
    made = Host()
    assert os.getsid(made._process.pid) == made._process.pid
    (end,) = last
    end()
    assert not made.alive


@pytest.mark.parametrize("how", ["killed", "refuses"])
def test_a_host_that_begins_no_process_is_ended_and_named(
    how: str, a_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_host._control.settimeout(10)
    began = time.monotonic()
    if how == "killed":
        a_host._process.kill()
    else:
        monkeypatch.setattr(socket, "send_fds", Mock(side_effect=OSError("too many references")))
    with socket.socket() as channel:
        asks: list[Callable[[], int]] = [lambda: a_host.fork(channel, 0), a_host.wait]
        for ask in asks:
            with pytest.raises(ChildProcessError, match="begins the trials of functions ended with code -9"):
                ask()
    assert not a_host.alive
    assert a_host.fileno() == -1
    assert time.monotonic() - began < 10, "nobody waits for what has ended"


def function_run(folder: Path, body: str, checkpoint: Path | None = None, **options: float) -> FunctionRun:
    own = Functions(folder, f"import atexit, threading, time\n\ndef train(trial):\n    {body}\n")
    (archive,) = archives([load_space(own.file)]).values()
    usual: dict[str, Any] = {"checkpoint_seconds": 0.0, "report_seconds": 0.0, "threads": 1, "progress_seconds": 0.0}
    places: dict[str, Any] = {"data_dir": folder, "device": CPU, "checkpoint": checkpoint}
    return FunctionRun(own.job().config, archive, **places, **usual | options)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("str(trial.hyperparameters)", [[1], [2, 3, 4]]),
        ("pass", [[1], [2, 3, 4], [4]]),
        ("trial.report(1, validation=1.0); trial.report(2, validation=float('nan'))", [[1], [2]]),
    ],
    ids=["plain", "with a warning", "diverges"],
)
def test_each_epoch_is_recorded_once_and_no_file_is_left_open(
    body: str, expected: list[list[int]], tmp_path: Path
) -> None:
    """The first at once, the last ones by the end of the trial; warnings go with the last epoch."""
    rest = "for epoch in range(trial.epoch, 4): trial.report(epoch + 1, validation=1.0)"
    host()
    before = os.listdir("/proc/self/fd")
    trial = function_run(tmp_path, f"{body}\n    {rest}", report_seconds=1e9)
    events = list(trial)
    assert os.listdir("/proc/self/fd") == before
    assert [[one.epoch for one in event.records] for event in events if isinstance(event, Records)] == expected
    assert trial.outcomes is not None
    assert (trial.outcomes[0].epochs, trial.outcomes[0].example_count) == (expected[-1][-1], 0)


def test_the_end_of_the_output_is_its_last_lines_and_bytes() -> None:
    found = _End()
    for i in range(99):
        found.add(f"{i}\n".encode())
    assert found.text.split("\n") == [str(i) for i in range(49, 99)]
    found.add(b"x" * 9_000)
    assert found.text == "x" * 8_000


def test_a_function_whose_state_cannot_be_kept_is_not_waited_for_nor_told_to_save(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    body = "for epoch in range(trial.epochs): trial.report(epoch + 1, validation=1.0); trial.save({})"
    trial = function_run(tmp_path, body, checkpoint=tmp_path / "file" / "state")
    events = list(trial)
    assert trial.outcomes is not None
    assert [type(event) for event in events].count(Unsaved) == 3, "after the last epoch there is nothing to keep"
    assert not [event for event in events if isinstance(event, Warned) and "saves no state" in event.text]
    again = function_run(tmp_path, f"{body}\n    time.sleep(99)", checkpoint=tmp_path / "file" / "state")
    began = time.monotonic()
    for event in again:
        if isinstance(event, Unsaved):
            again.stop()
    assert again.outcomes is None
    assert time.monotonic() - began < run.STOP_SECONDS


def test_the_process_of_a_function_ends_with_it_whatever_it_has_left(tmp_path: Path) -> None:
    body = (
        "atexit.register(print, 'late'); threading.Thread(target=time.sleep, args=(99,)).start(); print('left', end='')"
    )
    trial, printed = function_run(tmp_path, body), _End()
    order = {"config": trial.config.to_dict(), "device": "cpu", "checkpoint": None, "checkpoint_seconds": 0.0}
    order |= {"code": str(tmp_path), "folder": str(tmp_path), "data_dir": str(tmp_path), "threads": 1}
    with _Process(host(), order, printed) as process:
        messages = [process.message()]
        while process.exit_code is None:
            messages.append(process.message())
        (end,) = (message for message in messages if message is not None)
        assert (end["kind"], process.exit_code, printed.text) == ("returned", 0, "left")


@pytest.mark.parametrize(
    ("seconds", "stops_at", "expected"), [(0.0, 9, [1, 2, 3]), (1e9, 9, [1]), (1e9, 3, [1, 3]), (0.0, 4, [1, 2, 3])]
)
def test_a_state_is_written_as_often_as_asked_for_and_once_more_by_a_launch_that_stops(
    seconds: float, stops_at: int, expected: list[int], tmp_path: Path
) -> None:
    """Of four epochs; after the last one there is nothing to continue."""
    sent: list[str] = []
    trial = FunctionTrial(
        Functions(tmp_path).job().config,
        device=CPU,
        data_dir=tmp_path,
        send=lambda message: sent.append(message["kind"]),
        stopping=lambda: trial.epoch >= stops_at,
        checkpoint=tmp_path / "state",
        checkpoint_seconds=seconds,
    )
    for epoch in range(1, 5):
        trial.report(epoch, validation=0.0)
        trial.save({})
        assert (sent.pop() == "saved") == (epoch in expected)
        assert read_story(tmp_path / "state")["records"][-1]["epoch"] == max(e for e in expected if e <= epoch)


def test_what_a_worker_does_between_events_is_not_the_time_of_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It checks the data before the first epoch, and may have to copy a checkpoint after each."""
    later = [0.0]

    def wait(*_: object) -> nullcontext[None]:
        later[0] += 100.0
        return nullcontext()

    monkeypatch.setattr(run, "verified", wait)
    monkeypatch.setattr(run, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later[0]))
    body = "for epoch in range(4): time.sleep(0.1); trial.report(epoch + 1, validation=1.0)"
    trial = function_run(tmp_path, body, progress_seconds=50.0)
    for event in trial:
        if isinstance(event, EpochEnded):
            wait()
    assert trial.outcomes is not None


def test_a_function_is_late_by_its_limit_or_ten_times_its_slowest_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now[0]))
    pace, forever = run._Pace(5.0, 2.0), run._Pace(0.0, 2.0)
    assert pace.reports_now(), "the first epoch at once"

    def after(seconds: float) -> tuple[bool, bool]:
        now[0] += seconds
        return pace.late, pace.reports_now()

    assert after(1.5) == (False, False)
    assert after(0.5) == (False, True)
    assert after(2.5) == (False, True)
    assert after(1.0) == (True, False)
    pace.epoch_ended()
    pace.begin()
    assert pace.seconds == 0.0
    assert after(55.0) == (False, True)
    assert after(0.5) == (True, False)
    assert not forever.late


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


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_a_state_keeps_the_generators_of_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, found = [torch.arange(3, dtype=torch.uint8), torch.ones(2, dtype=torch.uint8)], list[torch.Tensor]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ours)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", found.extend)
    write_state(tmp_path / "state", {}, None, CPU)
    assert read_state(tmp_path / "state", CPU) is None
    assert same(found, ours)


def test_what_was_on_the_host_stays_there_and_the_rest_comes_back_on_the_device(tmp_path: Path) -> None:
    """A generator takes its state from the host alone, and torch's optimizers read their counts of steps there."""
    gpu, found = torch.device("meta"), list[str]()
    for trained_on in (gpu, CPU):
        write_state(tmp_path / "state", {}, {"steps": [torch.tensor(3.0)]}, trained_on)
        found.append(read_state(tmp_path / "state", gpu)["steps"][0].device.type)
    assert found == ["cpu", "meta"]


def test_a_state_comes_back_as_it_was_with_the_global_generators(tmp_path: Path) -> None:
    shared = torch.ones(3)
    state = STATE | {"tied": [shared, shared[:2]]}
    write_state(tmp_path / "state", {"epoch": 3}, state, CPU)
    drawn = draws()
    assert same(read_state(tmp_path / "state", CPU), state)
    assert draws() == drawn
    assert read_story(tmp_path / "state") == {"epoch": 3}
    with pytest.raises(TypeError, match=r"state\['x'\] is of type Linear"):
        write_state(tmp_path / "state", {}, {"x": nn.Linear(1, 1)}, CPU)
    assert read_story(tmp_path / "state") == {"epoch": 3}, "the old file stays"
