"""Whatever a training function does, its trial has a clear outcome, and the next one trains as if nothing had been."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.functions import LINE, Functions, end_of

REPORTS = "for epoch in range(trial.epochs): trial.report(epoch + 1, validation=0.5, test=0.5)"

FAILS = {
    "raises": ("print('so far'); 1 / 0", r"ZeroDivisionError: division by zero\nTraceback(?s:.)*output:\nso far$"),
    "never reports": ("pass", "it returned after 0 of 4 epochs reported"),
    "stops early": ("trial.report(1, validation=1)", "it returned after 1 of 4 epochs reported"),
    "reports twice": (
        "trial.report(1, validation=1); trial.report(1, validation=1)",
        r"trial.report\(1\) after epoch 1: epochs are reported once each, in order, from 1 to 4",
    ),
    "out of order": ("trial.report(2, validation=1)", r"trial.report\(2\) first: epochs are reported once each"),
    "too many": (f"{REPORTS}\n    trial.report(5, validation=1)", r"trial.report\(5\) after epoch 4"),
    "no validation": ("trial.report(1, test=1)", "needs validation=... while winners are searched for"),
    "unknown series": (
        "trial.report(1, validation=1, loss=2)",
        "trial.report takes validation, test, train_loss, .*, got loss",
    ),
    "a misspelt validation": ("trial.report(1, val=1)", "trial.report takes validation, .*, got val"),
    "several numbers": (
        "import torch; trial.report(1, validation=torch.ones(3))",
        r"trial.report takes one number as validation, got a tensor of shape \[3\]",
    ),
    "saves first": ("trial.save({})", "trial.save comes right after trial.report"),
    "saves objects": (
        "trial.report(1, validation=1); trial.save({'a': [trial]})",
        r"trial.save: state\['a'\]\[0\] is of type FunctionTrial; a state may hold",
    ),
    "no such key": ("trial.hyperparameters['widht']", "widht; this trial has peak_lr, warmup_epochs"),
    "a file of the folder": (
        "open('houses.csv')",
        "No such file or directory: 'houses.csv'; it runs in an empty folder",
    ),
    "a file next to it": (
        "from pathlib import Path; Path(__file__).with_name('houses.csv').read_text()",
        "houses.csv'; it runs in an empty folder, from a copy of its sources: read data from trial.data_dir",
    ),
    "a file elsewhere": ("open('/nowhere/houses.csv')", r"No such file or directory: '/nowhere/houses.csv'\n"),
    "sys.exit": ("import sys; sys.exit(3)", r"it called sys.exit\(3\)"),
    "os._exit": ("import os; print('bye', flush=True); os._exit(3)", r"ended with exit code 3\n\nThe end .*:\nbye"),
    "segfault": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
    "out of memory": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "often because memory ran out"),
    "a fraction of steps": (
        "trial.optimizer([], steps_per_epoch=24 / 5)",
        "steps_per_epoch must be a whole number from 1, got 4.8",
    ),
    "too many steps": (
        "import torch; o = trial.optimizer([torch.nn.Parameter(torch.ones(2, 2))], steps_per_epoch=1)\n"
        "    for i in range(5): o.param_groups[0]['params'][0].sum().backward(); o.step()",
        "called more than 4 times, the steps_per_epoch given to trial.optimizer times trial.epochs",
    ),
    "reads input": ("input()", "EOFError"),
    "reports from a fork": (
        "import os, sys\n    pid = os.fork()\n    if not pid: trial.report(1, validation=1)\n"
        "    os.waitpid(pid, 0); os._exit(9)",
        "trial.report works in the process of the function only|ended with exit code 9",
    ),
    "not a number": ("trial.report(1, validation='good')", "trial.report takes one number as validation, got 'good'"),
}


@pytest.mark.parametrize("name", FAILS)
def test_a_broken_function_fails_with_its_reason_and_its_output(name: str, tmp_path: Path) -> None:
    body, pattern = FAILS[name]
    own = Functions(tmp_path, f"def train(trial):\n    {body}\n")
    end = end_of(own.run(own.job()))
    assert (end["kind"], end["reason"]) == ("failed", "error")
    assert end["error"].startswith("train.py:train: ")
    assert re.search(pattern, end["error"]), end["error"]
    own_trace, _, _ = end["error"].partition("The end of its output")
    assert "functions/child.py" not in own_trace, "the traceback is of the user's code"


def test_what_cannot_be_imported_names_the_line(tmp_path: Path) -> None:
    own = Functions(tmp_path, "import no_such_module\n\ndef train(trial):\n    pass\n")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in end_of(own.run(own.job()))["error"]


def test_what_is_no_function_is_named(tmp_path: Path) -> None:
    own = Functions(tmp_path, "train = 3\n")
    error = end_of(own.run(own.job()))["error"]
    assert error.startswith("train.py:train: TypeError: train:train is not a function, but of type int\n")


def test_a_hang_is_ended_with_the_place_where_it_hangs(tmp_path: Path) -> None:
    own = Functions(tmp_path, "import time\n\ndef wait():\n    time.sleep(99)\n\ndef train(trial):\n    wait()\n")
    began = time.monotonic()
    error = end_of(own.run(own.job(), progress_seconds=0.6))["error"]
    assert "no epoch ended for" in error
    assert "in wait" in error
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')"])
def test_a_value_that_is_not_finite_is_a_diverged_trial(value: str, tmp_path: Path) -> None:
    body = f"try:\n        trial.report(1, validation=1.0)\n        trial.report(2, validation={value})\n"
    own = Functions(tmp_path, f"def train(trial):\n    {body}    finally:\n        open('cleaned', 'w').close()\n")
    end = end_of(own.run(own.job()))
    (outcome,) = end["outcomes"]
    assert (outcome["outcome"], outcome["epochs"]) == ("diverged", 2)
    assert outcome["summary"]["best/validation/mse"] == 1.0
    assert outcome["summary"]["last/validation/mse"] is None


def test_megabytes_of_output_leave_their_end(tmp_path: Path) -> None:
    body = f"for i in range(40_000): print(i, 'x' * 60)\n    {REPORTS}"
    own = Functions(tmp_path, f"def train(trial):\n    {body}\n    print('done\\r 10 %\\r100 %', end='')\n")
    output = end_of(own.run(own.job()))["provenance"]["output"]
    assert output.endswith("39999 " + "x" * 60 + "\n100 %")
    assert len(output) < 9_000


RUINS = f"""\
import os, random, sys, time
import numpy, torch


def train(trial):
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.manual_seed(5), random.seed(5), numpy.random.seed(5)
    os.chdir("/")
    os.environ["OMP_NUM_THREADS"] = "77"
    sys.modules["math"] = None
    print(os.getpid())
    if not os.fork():
        time.sleep(99)
    {REPORTS}
"""


def alive(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_nothing_that_a_function_does_to_its_process_reaches_the_next_trial(tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    (tmp_path / "ruins").mkdir()
    line, ruins = Functions(tmp_path / "line", LINE), Functions(tmp_path / "ruins", RUINS)
    before = line.run(line.job())
    ruined = end_of(ruins.run(ruins.job()))
    group = int(ruined["provenance"]["output"].split()[0])
    assert ruined["kind"] == "finished"
    deadline = time.monotonic() + 10  # a killed process is gone once the system has had time for that
    while (left := [each for each in psutil.process_iter() if alive(each, group)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "the fork is gone as well"
    summaries = [end_of(said)["outcomes"][0]["summary"] for said in (before, line.run(line.job()))]
    for summary in summaries:
        del summary["seconds"], summary["peak_memory_bytes"]
    assert summaries[0] == summaries[1]
