"""A job that raises, and one that hangs, are tried again and reported; the others do not notice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from lawn_tune.executors.watchdog import Watchdog
from tests.helpers.drivers import Results, Study, assert_same, assert_trained_once
from tests.helpers.sufferings import broken_once

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
    for epoch in range(3):
        time.sleep(0.2)
        watchdog.epoch_ended()
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


def test_an_epoch_may_take_ten_times_the_slowest_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda seconds, **_: asked.append(seconds))
    monkeypatch.setattr("faulthandler.cancel_dump_traceback_later", lambda: None)
    moments = iter([0.0, 7.0, 9.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(moments))
    with Watchdog(5.0) as watchdog:
        for _ in range(3):
            watchdog.epoch_ended()
    assert asked == [5.0, 5.0, 70.0, 70.0]
    with Watchdog(0.0) as never, never.paused():
        pass
    assert len(asked) == 4, "0 waits for ever"
