"""A job that raises, and one that hangs, are tried again and reported; the others do not notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lawn_tune.executors.watchdog import Watchdog
from tests.helpers.drivers import Results, Study, assert_same, assert_trained_once
from tests.helpers.sufferings import broken_once
from tests.helpers.tasks import pack, point, task

StudyAt = Callable[[str], Study]


def test_a_job_that_raises_is_tried_again(sqlite_url: str, study_at: StudyAt, undisturbed: Results) -> None:
    study = study_at(sqlite_url)
    driver = study.launch(change=broken_once)
    assert driver.errors.count("ZeroDivisionError: out of luck — trying again") == 6
    found = assert_same(study, undisturbed)
    assert_trained_once(study)
    assert sorted(found.attempts.values()) == [1] * 12 + [2] * 12


HANGING = """
import sys, time
from lawn_tune.executors.watchdog import Watchdog
with Watchdog(0.5) as watchdog:
    for steps in range(3):
        time.sleep(0.2)
        watchdog.moved()
    with watchdog.paused():
        time.sleep(1.0)
    print("alive", flush=True)
    {hang}
"""


@pytest.mark.parametrize("hang", ["time.sleep(60)", "import re; re.match('(a+)+$', 'a' * 60 + 'b')"])
def test_a_worker_that_hangs_ends_itself_whoever_holds_the_lock(hang: str) -> None:
    began = time.monotonic()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HANGING.format(hang=hang)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1
    assert done.stdout == "alive\n", "who waits for another does not hang"
    assert "Timeout" in done.stderr
    assert time.monotonic() - began < 40


WORKING = """
import json, sys, time
from lawn_tune.executors.base import Job
from lawn_tune.executors.messages import WorkerSettings
from lawn_tune.executors.worker import work
from trainables.tasks import PackConfig
from trainables.training.loop import Training

seconds, step = iter(json.loads(sys.argv[1])), Training._step
Training._step = lambda *given: (time.sleep(next(seconds)), step(*given))
config = PackConfig.from_dict(json.loads(sys.argv[2]))
settings = WorkerSettings(data_dir="", checkpoint_dir=sys.argv[3], progress_seconds=5.0)
work(Job(pack="p", config=config), settings, lambda message: print(json.dumps(message, default=bytes.hex), flush=True))
"""


def test_an_epoch_may_take_any_time_while_its_steps_end(tmp_path: Path) -> None:
    """Two workers need longer for the four steps of an epoch than the timeout, and one hangs in the second step."""
    config = json.dumps(pack(task("adam", epochs=1), [point("adam")]).to_dict())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    moving, stuck = (
        subprocess.Popen(
            [sys.executable, "-c", WORKING, json.dumps(seconds), config, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for seconds in ([2.1] * 4, [2.1, 1000.0])
    )
    (said, _), (_, trace) = (worker.communicate(timeout=200) for worker in (moving, stuck))
    first, *_, last = map(json.loads, said.splitlines())
    assert first == {"kind": "progress", "records": []}, "the launch knows at once where the job is trained"
    assert (moving.returncode, last["kind"]) == (0, "finished")
    assert stuck.returncode == 1
    assert "Timeout" in trace


def test_progress_may_take_ten_times_the_longest_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda seconds, **_: asked.append(seconds))
    monkeypatch.setattr("faulthandler.cancel_dump_traceback_later", lambda: None)
    moments = iter([0.0, 7.0, 9.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(moments))
    with Watchdog(5.0) as watchdog:
        for _ in range(3):
            watchdog.moved()
    assert asked == [5.0, 5.0, 70.0, 70.0]
    with Watchdog(0.0) as never, never.paused():
        pass
    assert len(asked) == 4, "0 waits for ever"
