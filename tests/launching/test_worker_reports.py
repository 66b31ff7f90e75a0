"""What a worker did on its machine reaches the user, once: kernels it compiled, checkpoints it could not use."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lawn_tune.executors import worker
from lawn_tune.executors.base import Progress
from lawn_tune.executors.messages import read_message
from lawn_tune.launching.launch import Launch
from lawn_tune.launching.progress import Display
from tests.helpers.jobs import a_job, curve, place, run, settings
from trainables.optimizers import fused

__all__ = ["place"]

LINE = "compiled the optimizer kernels for this machine in 1.2 s"


@pytest.fixture
def fresh_process() -> Iterator[None]:
    """Nobody asked for kernels yet."""
    worker._kernel_lines.cache_clear()
    yield
    worker._kernel_lines.cache_clear()


def texts(said: list[dict[str, Any]], kind: str) -> list[str]:
    return [text for message in said for text in message.get(kind, ())]


def compile_now(log: Callable[[str], None] | None = None) -> bool:
    assert log is not None
    log(LINE)
    return True


@pytest.mark.usefixtures("fresh_process")
def test_a_worker_builds_the_kernels_before_it_trains_and_reports_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []

    def build(log: Callable[[str], None] | None = None) -> bool:
        calls.append(None)
        return compile_now(log)

    monkeypatch.setattr(fused, "build_kernels", build)
    said = run(a_job(), settings(str(tmp_path)))
    assert said[0]["notes"][0].endswith(f": {LINE}")
    assert len(texts(said, "notes")) == 1
    assert not texts(said, "warnings")
    run(a_job(), settings(str(tmp_path)))
    assert len(calls) == 1, "once a process"


@pytest.mark.usefixtures("fresh_process")
def test_kernels_that_are_there_are_not_mentioned(tmp_path: Path) -> None:
    assert fused.build_kernels()
    assert not texts(run(a_job(), settings(str(tmp_path))), "notes")


def test_a_launch_shows_a_note_once_and_not_as_a_warning(tmp_path: Path) -> None:
    message = {"kind": "progress", "records": [], "notes": [f"m1: {LINE}"], "warnings": ["look out"]}
    event = read_message(a_job(), message)
    assert isinstance(event, Progress)
    for quiet in (False, True):
        out = io.StringIO()
        display = Display(Console(file=out, width=200), [], quiet=quiet)
        launch = Launch([], None, None, display)  # type: ignore[arg-type]
        for _ in range(3):
            launch._show(event.warnings, display.warned)
            launch._show(event.notes, display.noted)
        assert out.getvalue().count("! look out") == 1
        assert out.getvalue().count(f" m1: {LINE}") == (0 if quiet else 1)


def test_a_checkpoint_that_cannot_be_used_is_named_with_the_reason(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(a_job(), settings("/dev/null/never"))
    run(a_job(), settings(place), stop_after=2)
    store = settings(place).checkpoints
    with store.open("p") as file:
        file.write_bytes(file.read_bytes()[:-4])
        store.keep("p", file)
    with caplog.at_level(logging.WARNING):
        said = run(a_job(), settings(place))
    assert said[-1]["kind"] == "finished"
    assert "resumed from epoch" not in said[-1]["provenance"]
    assert curve(said) == curve(whole)
    (warning,) = texts(said, "warnings")
    assert warning.startswith(f"the checkpoint {place}/p.safetensors cannot be used on ")
    assert "SafetensorError" in warning
    assert warning.endswith("; its pack starts again")
    assert not caplog.records, "shown by the launch, and so not logged as well"
