"""One trial from inside: parameters, seed, host, versions, curves, margins, norms, resumes, and why it failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboards.figures.base import capital
from dashboards.web import components, trial_figures
from dashboards.web.cards import Block, Drawing, FigureCard, page
from dashboards.web.page import Empty, View
from dashboards.web.pages.trials import TRIAL, href
from lawn_tune.cells import Cell
from lawn_tune.results import BINS, TrialRow
from lawn_tune.words import count, duration, fixed, hyperparameter, metric_name, metric_of
from search_spaces.levels import text as level_text

PATH = "/trial"

LAST_LINES = 60
"""Lines of an error that are shown: the end of its log."""


def trial_of(view: View) -> TrialRow | None:
    """Returns the trial that the address names, None if there is no such trial."""
    return view.snapshot.by_key.get(view.filters.one(TRIAL))


def _cell(view: View, row: TrialRow) -> Cell:
    return next(cell for cell in view.snapshot.cells if str(cell.name) == row.cell)


def _of(render: Callable[[View, TrialRow], Any]) -> Callable[[View], Any]:
    """Returns the function of a card that shows something of the trial, or that there is none."""

    def shown(view: View) -> Any:
        row = trial_of(view)
        if row is None:
            return Empty("The address names no trial of this space.", "Choose one in the table of the Cell page.")
        return render(view, row)

    return shown


def facts(view: View, row: TrialRow) -> list[Component]:
    """Returns the trial's outcome in numbers, its parameters, and where it belongs."""
    cell = _cell(view, row)
    seconds = row.summary.get("seconds")
    return [
        html.P(
            [
                components.method_name(cell.name.optimizer),
                f", batch {cell.name.batch_size:,}, {row.phase} seed {row.seed}, key ",
                html.Code(row.key),
            ]
        ),
        components.tiles(
            components.tile("Outcome", row.outcome, tone="bad" if row.outcome == "failed" else ""),
            components.tile("Epochs", f"{row.epochs:,} of {row.total_epochs:,}"),
            *(components.tile(name, value, "last epoch") for name, value in _values(cell, row)),
            components.tile("Device time", duration(seconds) if seconds else "–", "this trial's share of its pack"),
            components.tile("Attempts", f"{row.attempts:,}", resumes(row)),
        ),
        _terms((capital(hyperparameter(name)), level_text(value)) for name, value in row.hyperparameters.items()),
        html.P(
            [
                components.link("All trials of its cell", view.href("/cell", cell=row.cell)),
                " · ",
                components.link("Next to the winners of its cell", href(view, [row.key, row.cell])),
            ]
        ),
    ]  # fmt: skip


def _values(cell: Cell, row: TrialRow) -> Iterable[tuple[str, str]]:
    metric, known = cell.protocol.metric, metric_of(cell.protocol.metric)
    for split in ("validation", "test"):
        value = row.summary.get(f"last/{split}/{metric}")
        if value is not None and value == value:
            yield f"{split.capitalize()} {metric_name(metric)}", f"{fixed(value, known.digits)} {known.unit}".strip()


def resumes(row: TrialRow) -> str:
    """Returns where a trial last continued; an attempt that a stopped launch interrupted goes on as the same one."""
    epoch = row.provenance.get("resumed from epoch")
    if isinstance(epoch, int | float):
        return f"last resumed from epoch {epoch:,.1f}"
    if row.attempts < 2:
        return "never resumed"
    return f"resumed {count(row.attempts - 1, 'time')}, from the pack's last checkpoint"


def provenance(view: View, row: TrialRow) -> list[Component]:
    """Returns what the ledger knows of how the trial was trained: host, device, versions, dates, data, pack."""
    known = dict(_flat(row.provenance)) | {"pack": row.pack}
    return [_terms(known.items())]


def recorded(view: View, row: TrialRow) -> list[Component] | Empty:
    """Returns every number that the trial recorded."""
    known = {name: value for name, value in row.summary.items() if value is not None and not name.startswith(BINS)}
    if not known:
        return Empty("Nothing is recorded yet.")
    return [_terms((name, f"{value:.6g}") for name, value in known.items())]


def error(view: View, row: TrialRow) -> list[Component] | Empty:
    """Returns the end of the log of the trial's last failure."""
    lines = row.error.strip().splitlines()
    if not lines:
        return Empty("It has not failed.")
    cut = [html.P(f"The last {LAST_LINES} of {len(lines):,} lines.", className="help")] if lines[LAST_LINES:] else []
    return [*cut, html.Div(html.Pre("\n".join(lines[-LAST_LINES:])), className="table")]


def _terms(items: Iterable[tuple[str, str]]) -> Component:
    shown = ((name, html.Pre(value) if "\n" in value else value) for name, value in items)
    return html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in shown], className="facts")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", str(value)


def _figure(name: str, title: str, draw: Callable[[View], Drawing | Empty], height: int = 310) -> FigureCard:
    return FigureCard(name=f"trial-{name}", title=title, draw=_of(lambda view, row: draw(view)), height=height)


PAGE = page(
    path=PATH,
    title="Trial",
    order=70,
    listed=False,
    cards=(
        Block(name="trial-facts", title="Trial", render=_of(facts), wide=True),
        Block(name="trial-error", title="Error", render=_of(error), wide=True, brief=True),
        _figure("loss", "Train loss", trial_figures.train_loss),
        _figure("test", "Test metric", trial_figures.metric_of_split("test")),
        _figure("margin", "Margins", trial_figures.margins),
        _figure("validation", "Validation metric", trial_figures.metric_of_split("validation")),
        _figure("norm", "Weight norms", trial_figures.weight_norms, 430),
        _figure("reliability", "Reliability", trial_figures.reliability, 470),
        _figure("rate", "Learning rate", trial_figures.learning_rate),
        _figure("gradient", "Gradient norm", trial_figures.gradient),
        Block(name="trial-provenance", title="Environment", render=_of(provenance)),
        Block(name="trial-recorded", title="Recorded numbers", render=_of(recorded)),
    ),
)
