"""Inside trials: losses, metrics, margins, norms and calibration over the epochs, of several trials side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from dashboards.figures.chosen_trials import Chosen, chosen, tint
from dashboards.web import components
from dashboards.web.cards import Block, FigureCard, clientside, graph_id, page
from dashboards.web.components import Content
from dashboards.web.page import HERE, Empty, Page, View
from dashboards.web.pages.trials import DYNAMICS, MAX_TRIALS, TRIAL
from dashboards.web.snapshot import Snapshots
from dashboards.web.trial_figures import (
    flattening,
    gradient,
    learning_rate,
    margins,
    metric_of_split,
    metrics,
    reliability,
    seed_means,
    selection_of,
    together,
    train_loss,
    weight_norms,
)
from lawn_tune.errors import LawnTuneError
from lawn_tune.results import TrialRow
from lawn_tune.words import count, duration, fixed, method, metric_name, metric_of

NONE = "–"
"""What a table shows for a value that there is not; a column of nothing else is left out."""

MAX_OFFERED = 40
"""Trials offered at once by the search box; a longer search finds the others."""


# --- the control -----------------------------------------------------------------------------------------------------

_PICK = {"kind": "filter", "name": TRIAL, "default": ""}


def _controls(view: View) -> list[Component]:
    picked = [key for key in view.filters[TRIAL] if key in trial_names(view)]
    pick = dmc.MultiSelect(
        id=_PICK, label=f"Trials (up to {MAX_TRIALS})", data=offers(view, "", picked), value=picked,
        placeholder="search: method, batch, value, seed or key", searchable=True, clearable=True, size="xs",
        maxValues=MAX_TRIALS, hidePickedOptions=True, filter={"function": "lawnAny"}, className="control trials",
        nothingFoundMessage="no such trial", limit=MAX_OFFERED,
    )  # fmt: skip
    scales = (("linear", "linear"), ("log", "log"))
    return [pick, components.choice(view, "scale", "Vertical axes", scales, "linear"), *_metric_control(view)]


def _metric_control(view: View) -> list[Component]:
    names = [(name, metric_name(name)) for name in metrics(view)]
    return [components.choice(view, "metric", "Metric", names, names[0][0])] if len(names) > 1 else []


def offers(view: View, search: str, picked: Sequence[str]) -> list[dict[str, str]]:
    """Returns the trials that the control offers: those picked, and the first whose names hold every word searched."""
    names = trial_names(view)
    words = search.lower().split()
    found = [key for key, text in names.items() if all(_spelled(word, text.lower()) for word in words)][:MAX_OFFERED]
    return [{"value": key, "label": names[key]} for key in dict.fromkeys([*picked, *found]) if key in names]


def _spelled(word: str, text: str) -> bool:
    """True where a text holds a word, or the number that a word spells: 1e-3, .001 and 0.001 are one."""
    number, plain = _number_of(word), _THOUSANDS.sub("", text)
    return word in text or (number is not None and number in map(_number_of, _PARTS.split(plain)))


_THOUSANDS, _PARTS = re.compile(r"(?<=\d),(?=\d{3})"), re.compile(r"[^\w.+-]+")


def _number_of(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def trial_names(view: View) -> Mapping[str, str]:
    """Returns key → name of every mean over seeds and every trial: method, batch, point, seed, value, key."""
    return view.snapshot.once("trial names", lambda: _names(view))


def _names(view: View) -> dict[str, str]:
    cells = {str(cell.name): cell for cell in view.snapshot.cells}
    names = {}
    for cell, runs in seed_means(view).items():
        name = cells[cell].name
        names[cell] = f"{method(name.optimizer)}, batch {name.batch_size:,}, winner, mean of {count(len(runs), 'seed')}"
    for row in view.snapshot.trials:
        (trial,) = chosen([cells[row.cell]], [row])
        names[row.key] = f"{trial.name}{_value(cells[row.cell].protocol.metric, row)} · {row.key}"
    return names


def _value(metric: str, row: TrialRow) -> str:
    if row.outcome != "complete":
        return f" · {row.outcome}"
    split = "validation" if row.phase == "search" else "test"
    value = row.summary.get(f"last/{split}/{metric}")
    known = metric_of(metric)
    return "" if value is None else f" · {split} {fixed(value, known.digits)} {known.unit}".rstrip()


# --- selection --------------------------------------------------------------------------------------------------------


def trials(view: View) -> list[Component] | Empty:
    """Returns the trials in a table that is the legend of all figures."""
    selection = selection_of(view)
    if not selection.rows and not selection.unknown:
        return Empty("No trial of this space has started.", "Its first epochs appear here as they are trained.")
    notes: list[Component] = [
        html.P(f"There is no trial '{key}' in this space.", className="bad") for key in selection.unknown
    ]
    notes += [
        html.P(f"The curves of trial {key} cannot be read: {why}.", className="bad")
        for key, why in selection.broken.items()
    ]
    if selection.default and selection.rows:
        notes.append(
            html.P(
                "No trial is selected: these are the winners of the first pair, means over their seeds.",
                className="help",
            )
        )
    if not selection.rows:
        return notes
    if all(row.phase == "confirm" for row in selection.rows):
        notes.append(
            html.P("Confirm trials train on train + validation, so there is no validation metric.", className="help")
        )
    metric = metric_of(metrics(view)[0])
    name = f"{metric_name(metrics(view)[0])}{', ' + metric.unit if metric.unit else ''}"
    header = (
        "Trial",
        "Outcome",
        "Epochs",
        f"Validation {name}",
        f"Test {name}",
        "Train loss",
        "Median margin",
        "ECE (lower is better)",
        "Time",
        "Cell",
    )
    rows = [_trial_row(view, trial, row) for trial, row in zip(selection.trials, selection.rows, strict=True)]
    shown = [i for i in range(len(header)) if any(row[i] != NONE for row in rows)]
    table = [[row[i] for i in shown] for row in rows]
    numbers = [at for at, i in enumerate(shown) if i in range(2, 9)]
    return [*notes, components.table([header[i] for i in shown], table, "Selected trials", numbers=numbers)]


def _trial_row(view: View, trial: Chosen, row: TrialRow) -> list[Content]:
    metric = metrics(view)[0]
    digits = metric_of(metric).digits
    names = (
        (f"last/validation/{metric}", digits),
        (f"last/test/{metric}", digits),
        ("last/train_loss", 4),
        ("last/margin_p50", 2),
        ("ece", 4),
    )
    values = [_number(row.summary.get(name), n) for name, n in names]
    seconds = row.summary.get("seconds")
    mark = components.line(trial.optimizer, tint(trial))
    return [
        html.Span([html.Strong(trial.letter), mark, html.Span(trial.name)], className="trial-name", title=row.key),
        html.Span(row.outcome, className=f"outcome {row.outcome}"),
        f"{row.epochs} of {row.total_epochs}",
        *values,
        duration(seconds) if seconds else NONE,
        components.link(row.cell.partition("/")[2], view.href("/cell", cell=row.cell)),
    ]


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None or value != value else fixed(value, digits)


# --- the page --------------------------------------------------------------------------------------------------------

_EPOCHS = (
    "dynamics-together",
    "dynamics-flattening",
    "dynamics-loss",
    "dynamics-validation",
    "dynamics-test",
    "dynamics-margin",
    "dynamics-norm",
    "dynamics-gradient",
    "dynamics-rate",
)
"""The cards whose epoch axes move together."""

_DIAMONDS = "Diamonds: the end of LAWN's free phase. Bands: lowest to highest of the seeds."


def _page() -> Page:
    cards = page(
        path=DYNAMICS,
        title="Dynamics",
        order=40,
        controls=_controls,
        cards=(
            Block(name="dynamics-trials", title="Trials", render=trials, wide=True),
            FigureCard(
                name="dynamics-together", title="Through the switch", draw=together, height=570,
                help="Test metric, median margin and train loss of the same trials; dotted lines: the switch.",
            ),
            FigureCard(name="dynamics-loss", title="Train loss", draw=train_loss, height=310, help=_DIAMONDS),
            FigureCard(name="dynamics-test", title="Test metric", draw=metric_of_split("test"), height=310),
            FigureCard(
                name="dynamics-margin", title="Margins", draw=margins, height=310,
                help="Median over training examples, band from the 10th to the 90th percentile.",
            ),
            FigureCard(name="dynamics-gradient", title="Gradient norm", draw=gradient, height=310),
            FigureCard(
                name="dynamics-norm", title="Weight norms", draw=weight_norms, height=570,
                help="Dotted lines: the switch, after which LAWN holds constrained tensors' norms; others stay free.",
            ),
            FigureCard(
                name="dynamics-reliability", title="Reliability", draw=reliability, height=470,
                help="How often predictions of a confidence are right, on test; below the diagonal is overconfident. "
                "Below: how many predictions each of the 15 bins holds.",
            ),
            FigureCard(name="dynamics-rate", title="Learning rate", draw=learning_rate, height=310),
            FigureCard(
                name="dynamics-validation", title="Validation metric", draw=metric_of_split("validation"), height=310,
            ),
            FigureCard(
                name="dynamics-flattening", title="Loss flattening", draw=flattening, height=1100,
                help="On a fixed sample of training examples: how flat losses and gradients are. SGD can leave a "
                "minimum where the escape condition exceeds 1.",
            ),
        ),
    )  # fmt: skip

    def register(app: Dash, source: Snapshots) -> None:
        cards.register(app, source)
        _register_offers(app, source)
        clientside(
            app,
            "epochs",
            Output("dynamics-trials-title", "className"),
            *(Input(graph_id(card), "relayoutData") for card in _EPOCHS),
            prevent_initial_call=True,
        )

    return replace(cards, register=register)


def _register_offers(app: Dash, source: Snapshots) -> None:
    @app.callback(
        Output(_PICK, "data"),
        Input(_PICK, "searchValue"),
        Input(HERE, "data"),
        State(_PICK, "value"),
        State(_PICK, "data"),
        prevent_initial_call=True,
    )
    def offer(
        search: str | None,
        place: Mapping[str, Any] | None,
        value: Sequence[str] | None,
        before: Sequence[Mapping[str, str]],
    ) -> list[Mapping[str, str]]:
        try:
            view = View.of(source, place or {})
            found = offers(view, search or "", [*view.filters[TRIAL], *(value or ())])
        except LawnTuneError:
            raise PreventUpdate from None
        # The control forgets a value that is not offered, and this answer may be older than the value picked last: what
        # was offered a moment ago stays.
        new = {option["value"] for option in found}
        return [*found, *[option for option in before if option["value"] not in new][: 3 * MAX_OFFERED]]


PAGE = _page()
