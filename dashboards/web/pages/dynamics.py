"""Inside trials: losses, metrics, margins, norms and calibration over the epochs, of several trials side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from dashboards import style
from dashboards.figures.base import plain
from dashboards.figures.chosen_trials import Chosen, chosen, tint
from dashboards.figures.dynamics import DynamicsInfo, dynamics_figure, dynamics_info, lines, margin_figure
from dashboards.figures.reliability import ranks, reliability_figure, reliability_info
from dashboards.figures.seed_mean import HIGHEST, LOWEST, mean_curve, mean_row
from dashboards.figures.series import Curves, readable
from dashboards.web import components
from dashboards.web.cards import Block, Drawing, FigureCard, clientside, graph_id, page
from dashboards.web.components import Content
from dashboards.web.page import HERE, Empty, Page, View
from dashboards.web.pages.trials import DYNAMICS, MAX_TRIALS, TRIAL, by_key
from dashboards.web.snapshot import Snapshots
from lawn_tune.errors import LawnTuneError
from lawn_tune.results import TrialRow
from lawn_tune.words import count, duration, fixed, method, metric_name, metric_of

MAX_OFFERED = 40
"""Trials offered at once by the search box; a longer search finds the others."""


class Selection(NamedTuple):
    """The selection: trials and means over seeds with their curves, keys that the space lacks, and unreadable curves.

    `default` is True where the address names no trial and the first pair's winners are shown.
    """

    rows: tuple[TrialRow, ...]
    trials: tuple[Chosen, ...]
    curves: Curves
    unknown: tuple[str, ...]
    broken: Mapping[str, str]
    default: bool


def selection_of(view: View) -> Selection:
    """Returns what the address asks for."""
    wanted = tuple(dict.fromkeys(view.filters[TRIAL]))[:MAX_TRIALS]
    known, means = by_key(view), seed_means(view)
    keys = tuple(key for key in wanted or default_keys(view) if key in known or key in means)
    read = dict.fromkeys(run for key in keys for run in means.get(key, (key,)))
    curves, broken = readable(view.snapshot.curves, tuple(read))
    averaged = {key: mean_curve([curves[run] for run in means[key] if run in curves]) for key in keys if key in means}
    rows = tuple(mean_row([known[run] for run in means[key]]) if key in means else known[key] for key in keys)
    trials = chosen(view.snapshot.cells, rows, {key: len(means[key]) for key in keys if key in means})
    unknown = tuple(key for key in wanted if key not in keys)
    return Selection(rows, trials, {**curves, **averaged}, unknown, broken, default=not wanted)


def seed_means(view: View) -> Mapping[str, tuple[str, ...]]:
    """Returns cell → its winner's runs, over whose seeds it is shown as one line; cells stand for their winners."""
    results = view.snapshot.comparison.cells
    return {str(r.cell.name): tuple(r.estimate.keys.values()) for r in results if r.estimate}


def default_keys(view: View) -> tuple[str, ...]:
    """Returns the winners of the first pair that has any, as means over seeds, else of the first cell, else a trial."""
    comparison = view.snapshot.comparison
    groups = [(pair.baseline, pair.challenger) for pair in comparison.pairs] + [
        (result,) for result in comparison.cells
    ]
    for group in groups:
        keys = [str(result.cell.name) for result in group if result.estimate]
        if len(keys) == len(group):
            return tuple(keys)
    return tuple(row.key for row in view.snapshot.trials[:1])


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


def metrics(view: View) -> list[str]:
    """Returns the metrics that the space's trials report, the one that selects first."""
    first = view.snapshot.cells[0].protocol.metric
    return view.snapshot.once("metrics", lambda: list(dict.fromkeys([first, *_reported(view.snapshot.trials)])))


def _reported(rows: Sequence[TrialRow]) -> list[str]:
    done = next((row for row in rows if row.summary), None)
    return [name.removeprefix("last/test/") for name in (done.summary if done else ()) if name.startswith("last/test/")]


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
    rows = list(by_key(view).values())
    cells = {str(cell.name): cell for cell in view.snapshot.cells}
    names = {}
    for cell, runs in seed_means(view).items():
        name = cells[cell].name
        names[cell] = f"{method(name.optimizer)}, batch {name.batch_size:,}, winner, mean of {count(len(runs), 'seed')}"
    for row in rows:
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
    return [*notes, components.table(header, rows, "Selected trials", numbers=range(2, 9))]


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
    line = "solid" if style.is_lawn(trial.optimizer) else "dashed"
    mark = html.Span(className="line", style={"borderTop": f"2px {line} {tint(trial)}"})
    return [
        html.Span([html.Strong(trial.letter), mark, html.Span(trial.name)], className="trial-name", title=row.key),
        html.Span(row.outcome, className=f"outcome {row.outcome}"),
        f"{row.epochs} of {row.total_epochs}",
        *values,
        duration(seconds) if seconds else "–",
        components.link(row.cell.partition("/")[2], view.href("/cell", cell=row.cell)),
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or value != value else fixed(value, digits)


# --- figures ---------------------------------------------------------------------------------------------------------

Titled = tuple[tuple[str, str], ...]
"""Series and the title of its panel, one a panel."""


def _drawn(
    view: View, panels: Titled, words: Callable[[DynamicsInfo], str], *, log: bool, switches: bool = False
) -> Drawing | Empty:
    selection = selection_of(view)
    wanted = [(name, f"{LOWEST}{name}", f"{HIGHEST}{name}") for name, _ in panels]
    info = dynamics_info(selection.trials, selection.curves, wanted)
    titles = [title for (_, title), panel in zip(panels, info.panels, strict=True) if panel]
    info = info._replace(panels=tuple(panel for panel in info.panels if panel))
    if not info.panels:
        return nothing(selection, panels[0][1])
    scale = log and view.filters.one("scale") == "log"
    return Drawing(plain(dynamics_figure(info, titles, log=scale, switches=switches)), words(lines(info)))


def nothing(selection: Selection, what: str) -> Empty:
    """Returns why a figure has no line."""
    if not selection.rows:
        return Empty("No trial is selected.", "Select one above, or click a point on the Cell page.")
    if all(row.phase == "confirm" for row in selection.rows) and what.startswith("Validation"):
        return Empty("Confirm trials train on train + validation, so nothing is left to validate on.")
    return Empty(f"{what}: not recorded for {'this trial' if len(selection.rows) == 1 else 'these trials'}.")


def last_values(info: DynamicsInfo) -> str:
    """Returns the last value of each trial in the first panel."""
    parts = []
    for series in info.panels[0]:
        known = [(epoch, v) for epoch, v in zip(series.epochs, series.values, strict=True) if v is not None]
        parts.append(f"{series.trial.letter} {known[-1][1]:.4g}")
    return "Last: " + "; ".join(parts) + "."


def norm_words(info: DynamicsInfo) -> str:
    """Returns each trial's norm at its switch and at the end."""
    parts = []
    for series in info.panels[0]:
        known = [(epoch, v) for epoch, v in zip(series.epochs, series.values, strict=True) if v is not None]
        (first, start), (_, end) = known[0], known[-1]
        switch = series.trial.switch
        if switch is None:
            parts.append(f"{series.trial.letter} {start:.4g} after epoch {first}, {end:.4g} at the end")
        else:
            at = [v for epoch, v in known if epoch <= max(1, switch)][-1]
            parts.append(f"{series.trial.letter} {at:.4g} at the switch (epoch {switch:g}), {end:.4g} at the end")
    return "Global norm: " + "; ".join(parts) + "."


def train_loss(view: View) -> Drawing | Empty:
    """Draws the training loss."""
    return _drawn(view, (("train_loss", "Train loss"),), last_values, log=True)


def metric_of_split(split: str) -> Callable[[View], Drawing | Empty]:
    """Returns the function that draws the metric on a split."""

    def draw(view: View) -> Drawing | Empty:
        name = view.filters.one("metric", metrics(view)[0])
        name = name if name in metrics(view) else metrics(view)[0]
        unit = metric_of(name).unit
        title = f"{split.capitalize()} {metric_name(name)}" + (f" ({unit})" if unit else "")
        return _drawn(view, ((f"{split}/{name}", title),), last_values, log=False)

    return draw


def margins(view: View) -> Drawing | Empty:
    """Draws the median margin and the band of its percentiles."""
    selection = selection_of(view)
    info = dynamics_info(selection.trials, selection.curves, [("margin_p50", "margin_p10", "margin_p90")])
    if not info.panels[0]:
        return nothing(selection, "Margins")
    medians = info._replace(panels=(tuple(s for s in info.panels[0] if s.name == "margin_p50"),))
    return Drawing(plain(margin_figure(info, "Margin (logits)")), last_values(medians) if medians.panels[0] else "")


def weight_norms(view: View) -> Drawing | Empty:
    """Draws the norms of all weights and of the last layer through the switch."""
    panels = (
        ("weight_norm", "All weights"),
        ("last_layer_norm", "Last layer"),
        ("last_bn_gamma_norm", "Last BN gamma"),
    )
    return _drawn(view, panels, norm_words, log=True, switches=True)


def gradient(view: View) -> Drawing | Empty:
    """Draws the gradient's norm."""
    return _drawn(view, (("grad_norm", "Gradient norm"),), last_values, log=True)


def learning_rate(view: View) -> Drawing | Empty:
    """Draws the learning rate, which is zero at the end."""
    return _drawn(view, (("learning_rate", "Learning rate"),), _peaks, log=True)


def _peaks(info: DynamicsInfo) -> str:
    parts = [f"{s.trial.letter} {max(v for v in s.values if v is not None):.4g}" for s in info.panels[0]]
    return "Highest at an epoch's end: " + "; ".join(parts) + "."


def reliability(view: View) -> Drawing | Empty:
    """Draws accuracy against confidence."""
    selection = selection_of(view)
    cells = {str(cell.name): cell for cell in view.snapshot.cells}
    if selection.rows and all(ranks(cells[row.cell]) for row in selection.rows):
        return Empty("This task ranks candidates, so no prediction has a confidence: there is nothing to calibrate.")
    info = reliability_info(selection.trials, selection.rows)
    if not info.lines:
        return Empty(
            "Not recorded for these trials.",
            "Trials of classifiers store their bins when they finish; those trained by an earlier version have none.",
        ) if selection.rows else nothing(selection, "Reliability")  # fmt: skip
    parts = [f"{line.trial.letter} {100 * line.ece:.2f} %" for line in info.lines]
    missing = [trial.letter for trial in info.without]
    tail = f" Not recorded: {'; '.join(missing)}." if missing else ""
    return Drawing(
        plain(reliability_figure(info)), f"Expected calibration error, lower is better: {'; '.join(parts)}.{tail}"
    )


# --- the page --------------------------------------------------------------------------------------------------------

_EPOCHS = (
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
