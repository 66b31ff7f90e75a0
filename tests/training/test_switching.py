"""Switching by itself: a trial that does is the one that was told when, whatever its company and interruptions."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.tasks import curve, pack, point, run, task, training
from trainables.catalogue.methods import METHODS
from trainables.losses import cross_entropy
from trainables.metrics import multiclass_margin
from trainables.outcomes import SWITCH_EPOCH, EpochRecord
from trainables.training.checkpoint import UnusableCheckpoint, load_checkpoint, save_checkpoint
from trainables.training.pack import Pack
from trainables.training.switching import INFLECTION, WINDOWS, MarginWatch

RULES = (-0.1, -0.4, INFLECTION)
"""Of `synthetic` in its six epochs: the first two switch in different epochs, the last by its bend."""

WHAT = task("adam-lawn", epochs=6)
POINTS = [point("adam-lawn", free_epochs=rule) for rule in RULES]


@cache
def alone(position: int) -> tuple[list[EpochRecord], float]:
    """Returns the records of a trial of `POINTS`, and the epoch at which it switches."""
    records, ends = run(pack(WHAT, [POINTS[position]]))
    epoch = records[-1].series[SWITCH_EPOCH][0]
    assert epoch is not None
    assert ends[0].summary[f"last/{SWITCH_EPOCH}"] == epoch
    return records, epoch


@pytest.mark.parametrize("position", range(len(RULES)))
def test_a_trial_that_switches_by_itself_equals_the_one_whose_free_epochs_say_when(position: int) -> None:
    records, epoch = alone(position)
    assert 0 < epoch < WHAT.epochs
    told, _ = run(pack(WHAT, [point("adam-lawn", free_epochs=epoch)]))
    assert [{n: v for n, v in row.items() if n != SWITCH_EPOCH} for row in curve(records, 0)] == curve(told, 0)


def test_under_lawn_it_is_the_margin_that_bends(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = alone(2)
    monkeypatch.setattr(Pack, "sizes", lambda self: torch.rand(self.size))
    assert run(pack(WHAT, [POINTS[2]]))[0] == expected


def test_such_trials_share_no_row_and_switch_on_their_own_margins() -> None:
    points = [*POINTS, *(point("adam-lawn", free_epochs=epochs) for epochs in (1.0, 2.0))]
    session = training(pack(WHAT, points))
    assert [row.members for row in session.rows] == [(0,), (1,), (2,), (3, 4)]
    while not session.finished:
        session.run_epoch()
    found = session.records[-1].series[SWITCH_EPOCH]
    assert found == [*(alone(position)[1] for position in range(len(RULES))), None, None]


def test_a_margin_that_is_never_reached_never_switches() -> None:
    high, never = (point("adam-lawn", free_epochs=free) for free in (-1e6, 99.0))
    records, _ = run(pack(WHAT, [high, never]))
    assert records[-1].series[SWITCH_EPOCH] == [None, None]
    for ours, plain in zip(curve(records, 0), curve(records, 1), strict=True):
        assert ours["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-6)


def test_the_end_of_training_is_no_time_to_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    session = training(pack(task("adam-lawn", epochs=1), [POINTS[0]]))
    last = session.total_steps
    monkeypatch.setattr(session.margins, "due", lambda measured: measured if session.steps_done == last else ())
    session.run_epoch()
    assert session.steps_done == last
    assert session.records[-1].series[SWITCH_EPOCH] == [None]


@pytest.mark.parametrize("epochs", [2, 5])
def test_a_resumed_pack_switches_when_an_undisturbed_one_does(epochs: int, tmp_path: Path) -> None:
    config, file = pack(WHAT, POINTS), tmp_path / "c.safetensors"
    session = training(config)
    for _ in range(epochs):
        session.run_epoch()
    save_checkpoint(file, session, 1.0)
    resumed = training(config)
    assert load_checkpoint(file, resumed) == 1.0
    for each in (session, resumed):
        while not each.finished:
            each.run_epoch()
    assert resumed.records == session.records
    assert torch.equal(resumed.pack.state.weights, session.pack.state.weights)


def test_a_checkpoint_with_a_switch_that_no_rule_can_make_is_named(tmp_path: Path) -> None:
    file, session = tmp_path / "c.safetensors", training(pack(WHAT, POINTS))
    session.run_epoch()
    for member, step, reason in ((0, 10**6, "trial 0 switched at step 1000000"), (None, 0, "lacks the switch")):
        session.margins.history.clear()
        session.switch_steps = [step if i == member else None for i in range(len(POINTS))]
        save_checkpoint(file, session, 1.0)
        with pytest.raises(UnusableCheckpoint, match=reason):
            load_checkpoint(file, training(pack(WHAT, POINTS)))


def test_a_watched_pack_has_the_median_margin_of_its_batch_and_the_same_gradients() -> None:
    """Of micro-batches the mean of their medians, by their shares."""
    torch.manual_seed(0)
    models = [torch.nn.Linear(6, 3) for _ in range(2)]
    inputs, targets = torch.randn(20, 6), torch.randint(3, (20,))
    hyper = {name: torch.zeros(2, 1, dtype=torch.float64) for name in ("momentum", "weight_decay")}
    losses = []
    for watch in (multiclass_margin, None):
        made = Pack(models, METHODS["sgd"], hyper, cross_entropy, constrain="all", device=torch.device("cpu"))
        made.watch = watch
        for part in (slice(0, 5), slice(5, 20)):
            made.gradients((inputs[part],), targets[part], shared=True, share=(part.stop - part.start) / 20)
        losses.append((made.apply(torch.full((2, 1), 0.1, dtype=torch.float64)), made.state.weights.clone()))
        if watch is not None:
            found = [multiclass_margin(model(inputs), targets) for model in models]
            medians = [(x[:5].median() + 3 * x[5:].median()).item() / 4 for x in found]
            assert made.margins.tolist() == pytest.approx(medians, rel=1e-5)
    assert all(torch.equal(*pair) for pair in zip(*losses, strict=True))


def test_cpr_bends_by_the_size_of_its_weights() -> None:
    session = training(pack(task("adam-cpr", epochs=6), [point("adam-cpr", free_epochs=INFLECTION)]))
    sizes, found = [], session.pack.sizes
    session.pack.sizes = lambda: sizes.append(found()) or sizes[-1]  # type: ignore[method-assign, func-returns-value]
    while session.switch_steps == [None]:
        session.run_epoch()
    norms = session.pack.layer_norms().double()[0]
    held = [i for i, layer in enumerate(session.pack.layers) if layer.constrained]
    assert found().item() == pytest.approx((norms[held] ** 2).sum().item() / 2, rel=1e-6)
    values, n = [size.item() for size in sizes], session.margins.windows
    bends = [i for i in range(2 * n, len(values)) if values[i] - values[i - n] < values[i - n] - values[i - 2 * n]]
    assert session.switch_steps == [bends[0] + 1], "a window is one of the four steps of an epoch"


@given(st.integers(1, 60), st.integers(1, 4))
def test_windows_end_with_the_epoch_and_cover_every_step(steps_per_epoch: int, epochs: int) -> None:
    watch = MarginWatch([-1.0], steps_per_epoch)
    lengths = [watch.window(step) for step in range(1, steps_per_epoch * epochs + 1)]
    assert all(lengths[steps_per_epoch - 1 :: steps_per_epoch])
    assert sum(lengths) == len(lengths)
    assert sum(map(bool, lengths)) == epochs * watch.windows <= epochs * WINDOWS


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(1, 12))
def test_rules_equal_their_formulas(margins: list[float], steps_per_epoch: int) -> None:
    watch = MarginWatch([-2.0, INFLECTION, 3.0], steps_per_epoch)
    n = watch.windows
    found: dict[int, int] = {}
    for i, margin in enumerate(margins):
        found |= dict.fromkeys(watch.due({0: (margin, 0.0), 1: (0.0, margin)}), i)
    above = [i for i, margin in enumerate(margins) if margin > 2]
    bends = [i for i in range(2 * n, len(margins)) if margins[i] - margins[i - n] < margins[i - n] - margins[i - 2 * n]]
    assert found == {member: first[0] for member, first in ((0, above), (1, bends)) if first}
