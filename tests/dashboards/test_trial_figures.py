"""Figures of the page on dynamics that draw several series of the same trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dashboards.web.cards import Drawing
from dashboards.web.page import Empty, View
from dashboards.web.pages import dynamics
from dashboards.web.pages.trial import resumes
from dashboards.web.snapshot import Snapshots
from dashboards.web.trial_figures import flattening, together
from tests.helpers.studied import EPOCHS, Damaged, studied
from tests.helpers.tasks import pack, point, task, training
from trainables.training.flattening import flattening_series


def view_of(source: Damaged) -> View:
    """The trial that won among those of Adam-LAWN, whose switch is after epoch 3."""
    return View.of(
        Snapshots(source), {"space": "digits", "filters": {"trial": [source.planned[1].search_trials[8].key]}}
    )


def test_metric_margin_and_loss_are_in_one_figure_with_the_switch() -> None:
    source = studied()
    drawing = together(view_of(source))
    assert isinstance(drawing, Drawing)
    lines = [trace for trace in drawing.figure["data"] if trace["mode"] == "lines"]
    series = source.series[source.planned[1].search_trials[8].key]
    for trace, axis, name in zip(lines, ("y", "y2", "y3"), ("test/accuracy", "margin_p50", "train_loss"), strict=True):
        assert trace["yaxis"] == axis
        np.testing.assert_allclose(trace["y"], series[name])
    assert drawing.summary == f"Last: {series['test/accuracy'][-1]:.4g}."
    assert {shape["x0"] for shape in drawing.figure["layout"]["shapes"]} == {3.0}


def test_a_resumed_trial_is_never_called_unresumed() -> None:
    row = studied().rows[0]
    for attempts, epoch, text in (
        (1, None, "never resumed"),
        (1, 46.88, "last resumed from epoch 46.9"),
        (3, 1200, "last resumed from epoch 1,200.0"),
        (3, None, "resumed 2 times, from the pack's last checkpoint"),
    ):
        known = {} if epoch is None else {"resumed from epoch": epoch}
        assert resumes(replace(row, attempts=attempts, provenance=known)) == text


def test_the_table_of_trials_has_no_empty_column() -> None:
    source = studied()
    searched = str(dynamics.trials(view_of(source)))
    confirmed = str(dynamics.trials(View.of(Snapshots(source), {"space": "digits"})))
    assert "Validation accuracy" in searched
    assert "Test accuracy" in confirmed
    assert "Validation accuracy" not in confirmed


def test_every_measure_of_flattening_has_a_panel_once_it_is_stored() -> None:
    source = studied()
    missing = flattening(view_of(source))
    assert isinstance(missing, Empty)
    assert "--flattening" in missing.todo
    session = training(pack(task("adam"), [point("adam")]))
    measured = flattening_series(session.pack, session.workload, session.start_epoch().rates[:, -1], 48)
    for i, name in enumerate(measured):
        source.series[source.planned[1].search_trials[8].key][name] = np.full(EPOCHS, 1.0 + i)
    drawing = flattening(view_of(source))
    assert isinstance(drawing, Drawing)
    drawn = [trace["y"][0] for trace in drawing.figure["data"] if trace["mode"] == "lines"]
    assert sorted(drawn) == [1.0 + i for i in range(len(measured))]
