"""Interrupted packs end with the bits of undisturbed ones: when checkpoints are written, and what is read of them."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.helpers.tasks import CORE, CPU, eight_points, events_of, pack, point, run, task, training
from trainables.catalogue.methods import METHODS
from trainables.outcomes import EpochRecord, TrialOutcome
from trainables.training import trial
from trainables.training.checkpoint import UnusableCheckpoint, load_checkpoint, save_checkpoint
from trainables.training.loop import Training
from trainables.training.trial import EpochEnded, PackRun, Records, Resumed, Saved, StepsEnded, Unsaved


@pytest.mark.parametrize("optimizer", METHODS)
def test_resuming_after_any_epoch_gives_the_same_bits(optimizer: str, tmp_path: Path) -> None:
    epochs = 4 if optimizer in CORE else 3
    config = pack(task(optimizer, epochs=epochs), eight_points(optimizer)[: epochs - 1])
    whole, ends = run(config)
    stops = iter([True] * (epochs - 1))
    file = tmp_path / "pack.safetensors"
    attempts, resumed = 0, list[TrialOutcome]()
    while not resumed:
        attempts += 1
        again, resumed = run(config, checkpoint=file, should_stop=lambda: next(stops, False))
    assert attempts == epochs
    assert again == whole
    plain = [dataclasses.replace(end, summary={}) for end in ends]
    assert [dataclasses.replace(end, summary={}) for end in resumed] == plain


def test_resuming_after_any_step_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, step = list[float](), Training._step

    def drawing(*given: Any) -> None:
        step(*given)
        drawn.append(torch.rand(1).item())  # as a layer with dropout does

    monkeypatch.setattr(Training, "_step", drawing)
    points = [point("adam-lawn", free_epochs=free, warmup_epochs=0.0) for free in (0.5, 1.75, -1e-6, -1e-6)]
    config = pack(task(epochs=2, micro_batch=20), points, [0, 0, 0, 1])
    whole, ends = run(config)
    assert any(0 < (step or 0) < 2 for step in whole[-1].series["switch_epoch"]), "one switches by itself"
    places, again = list[float](), list[EpochRecord]()
    found: list[TrialOutcome] | None = None
    while found is None:
        session = PackRun(
            config,
            data_dir=Path("nowhere"),
            device=CPU,
            checkpoint=tmp_path / "c",
            report_seconds=0.0,
            pause_seconds=0.0,
        )
        for event in session:
            if isinstance(event, StepsEnded | EpochEnded):
                session.stop()
            elif isinstance(event, Resumed):
                places.append(event.epoch)
            elif isinstance(event, Records):
                again += event.records
        found = session.outcomes
    assert places == [step / 4 for step in range(1, 8)]
    assert again == whole
    assert drawn[:8] == drawn[8:]
    assert len({*drawn}) == 8
    assert [dataclasses.replace(end, summary={}) for end in found] == [
        dataclasses.replace(end, summary={}) for end in ends
    ]


def test_checkpoints_by_steps_are_where_they_were_asked_for_and_exact(tmp_path: Path) -> None:
    config = pack(task(epochs=3), [point("adam-lawn", free_epochs=free) for free in (0.5, 1.75)])
    whole = run(config)[0]
    options: dict[str, Any] = {"checkpoint_seconds": 1e9, "checkpoint_steps": 5, "pause_seconds": 1e9}
    saved = list[Path]()
    for event in PackRun(config, data_dir=Path("nowhere"), device=CPU, checkpoint=tmp_path / "c", **options):
        if isinstance(event, Saved):
            saved.append(event.file.rename(tmp_path / f"{len(saved)}"))
    for file, place in zip(saved, (1.25, 2.5), strict=True):  # after 5 and 10 of 12 steps
        events, _ = events_of(config, checkpoint=file, **options)
        assert events[0] == Resumed(place)
        assert [record for event in events if isinstance(event, Records) for record in event.records] == whole


def test_a_checkpoint_by_steps_that_cannot_be_written_is_not_tried_at_every_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options: dict[str, Any] = {"checkpoint_seconds": 1e9, "checkpoint_steps": 1, "pause_seconds": 1e9}
    events, ends = events_of(pack(task(), [point("adam-lawn")]), checkpoint=tmp_path / "file/c", **options)
    assert sum(isinstance(event, Unsaved) for event in events) == 1
    assert ends


def test_the_time_between_checkpoints_that_cannot_be_written_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(trial, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    options: dict[str, Any] = {"checkpoint_seconds": 1.0, "pause_seconds": 0.0}
    events, _ = events_of(pack(task(epochs=8), [point("adam-lawn")]), checkpoint=tmp_path / "file/c", **options)
    pauses = [event for event in events if isinstance(event, StepsEnded | EpochEnded | Unsaved)]
    tried = [i for i, event in enumerate(pauses) if isinstance(event, Unsaved)]
    gaps = [after - before for before, after in itertools.pairwise(tried)]
    assert len(gaps) >= 3
    assert gaps[-1] >= 4 * gaps[0]


def test_with_no_time_between_checkpoints_every_epoch_is_saved_however_coarse_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "time", SimpleNamespace(monotonic=lambda: 0.0))
    events, _ = events_of(pack(task(), [point("adam-lawn")]), checkpoint=tmp_path / "c", checkpoint_seconds=0.0)
    assert sum(isinstance(event, Saved) for event in events) == task().epochs - 1


def test_a_pack_whose_trial_is_diverging_is_saved_at_the_end_of_its_epoch(tmp_path: Path) -> None:
    config = pack(task("sgd", epochs=2), [point("sgd"), point("sgd", peak_lr=1e9, warmup_epochs=0.0)])
    seconds: dict[str, Any] = {"checkpoint_seconds": 0.0, "pause_seconds": 0.0}
    places, sound = list[float](), True
    for event in PackRun(config, data_dir=Path("nowhere"), device=CPU, checkpoint=tmp_path / "c", **seconds):
        if isinstance(event, Saved):
            session = training(config)
            load_checkpoint(event.file, session)
            places.append(session.steps_done)
            sound &= session.sound
    assert sound
    assert places == sorted(places)
    assert {4, 5, 6, 7} <= {*places} < {*range(1, 8)}


def test_a_resumed_training_reads_the_stored_norms_bit_for_bit(tmp_path: Path) -> None:
    config = pack(task(), [point("adam-lawn", free_epochs=f) for f in (0.5, 1.0)])
    first = training(config)
    for _ in range(2):
        first.run_epoch()
    for seconds in (0.0, 1.5):  # a clock may not have moved
        save_checkpoint(tmp_path / "c", first, seconds)
        second = training(config)
        assert load_checkpoint(tmp_path / "c", second) == seconds
    for name in ("weights", "radii", "step", "constrained"):
        assert torch.equal(getattr(first.pack.state, name), getattr(second.pack.state, name))
    assert second.rows == first.rows


@pytest.mark.parametrize(("saved", "before"), [(None, 0.0), (500.0, 500.0), (-1.0, 0.0)])
def test_the_seconds_of_a_pack_are_those_of_all_its_parts(
    saved: float | None, before: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a checkpoint, resumed, and with one that cannot be used, as its seconds are below 0."""
    ticks = itertools.count(1000)
    monkeypatch.setattr(trial, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    config = pack(task(epochs=3), [point("adam-lawn"), point("adam-lawn", peak_lr=0.02)])
    file = tmp_path / "c"
    session = training(config)
    session.run_epoch()
    if saved is not None:
        save_checkpoint(file, session, saved)
    first = next(ticks)
    _, ends = run(config, checkpoint=file if saved is not None else None)
    passed = next(ticks) - first - 2  # a tick before it began, and one after its end
    assert [end.summary["seconds"] for end in ends] == [(before + passed) / 2] * 2


@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "garbage", "other pack"])
def test_a_useless_checkpoint_is_ignored(harm: str, tmp_path: Path) -> None:
    config = pack(task(epochs=2), [point("adam-lawn")])
    file = tmp_path / "c"
    session = training(pack(task(epochs=2), [point("adam-lawn", peak_lr=0.5)]) if harm == "other pack" else config)
    session.run_epoch()
    save_checkpoint(file, session, 0.0)
    whole = file.read_bytes()
    content = {"missing": None, "empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"\xff" * 400}.get(
        harm, whole
    )
    file.unlink() if content is None else file.write_bytes(content)
    fresh = training(config)
    with nullcontext() if harm == "missing" else pytest.raises(UnusableCheckpoint):
        assert load_checkpoint(file, fresh) is None
    assert fresh.epoch == 0
    assert run(config, checkpoint=file)[0] == run(config)[0]


def test_a_stopped_pack_is_saved_before_it_ends_and_a_finished_one_is_not(tmp_path: Path) -> None:
    config = pack(task(epochs=3), [point("adam-lawn")])
    options: dict[str, Any] = {"data_dir": Path("nowhere"), "device": CPU, "checkpoint": tmp_path / "c"}
    stopped = PackRun(config, checkpoint_seconds=1e9, pause_seconds=1e9, **options)
    seen = []
    for event in stopped:
        seen.append(event)
        if isinstance(event, EpochEnded):
            stopped.stop()
    assert [type(event) for event in seen][:2] == [EpochEnded, Saved]
    assert stopped.outcomes is None
    finished = PackRun(config, checkpoint_seconds=0.0, pause_seconds=1e9, **options)
    events = list(finished)
    assert sum(isinstance(event, Saved) for event in events) == 1, "after the second of three epochs only"
    assert finished.outcomes is not None
