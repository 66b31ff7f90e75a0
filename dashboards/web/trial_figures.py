"""The trials that the page on dynamics shows, and its figures: one function a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dashboards.figures.base import plain
from dashboards.figures.chosen_trials import Chosen, chosen
from dashboards.figures.dynamics import DynamicsInfo, dynamics_figure, dynamics_info, lines, margin_figure
from dashboards.figures.reliability import ranks, reliability_figure, reliability_info
from dashboards.figures.seed_mean import HIGHEST, LOWEST, mean_curve, mean_row
from dashboards.figures.series import Curves, readable
from dashboards.web.cards import Drawing
from dashboards.web.comparison_part import main_first
from dashboards.web.page import Empty, View
from dashboards.web.pages.trials import MAX_TRIALS, TRIAL
from lawn_tune.results import TrialRow
from lawn_tune.words import metric_name, metric_of


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
    known, means = view.snapshot.by_key, seed_means(view)
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
    """Returns the winners of the main pair that has any, as means over seeds, else of the first cell, else a trial."""
    comparison = view.snapshot.comparison
    groups = [(pair.baseline, pair.challenger) for pair in main_first(comparison)] + [
        (result,) for result in comparison.cells
    ]
    for group in groups:
        keys = [str(result.cell.name) for result in group if result.estimate]
        if len(keys) == len(group):
            return tuple(keys)
    return tuple(row.key for row in view.snapshot.trials[:1])


def metrics(view: View) -> list[str]:
    """Returns the metrics that the space's trials report, the one that selects first."""
    first = view.snapshot.cells[0].protocol.metric
    return view.snapshot.once("metrics", lambda: list(dict.fromkeys([first, *_reported(view.snapshot.trials)])))


def _reported(rows: Sequence[TrialRow]) -> list[str]:
    done = next((row for row in rows if row.summary), None)
    return [name.removeprefix("last/test/") for name in (done.summary if done else ()) if name.startswith("last/test/")]


Titled = tuple[tuple[str, str], ...]
"""Series and the title of its panel, one a panel."""

_FLATTENING: Titled = (
    ("flat_share", "Share of flat losses"),
    ("flat_grad_norm", "Gradient norm"),
    ("noise_trace", "Noise, trace"),
    ("noise_top", "Noise, top eigenvalue"),
    ("hessian_top", "Hessian, top eigenvalue"),
    ("escape", "Escape condition"),
)
"""Those of `trainables.training.flattening`."""


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
    """Returns the last value of each trial in the first panel, by its letter where there are several."""
    parts, several = [], len(info.panels[0]) > 1
    for series in info.panels[0]:
        known = [(epoch, v) for epoch, v in zip(series.epochs, series.values, strict=True) if v is not None]
        parts.append(f"{series.trial.letter if several else ''} {known[-1][1]:.4g}".strip())
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


def together(view: View) -> Drawing | Empty:
    """Draws test metric, median margin and training loss below each other, as the paper's Figure 1 does in one."""
    series, title = _metric_series(view, "test")
    panels = ((series, title), ("margin_p50", "Median margin (logits)"), ("train_loss", "Train loss"))
    return _drawn(view, panels, last_values, log=False, switches=True)


def flattening(view: View) -> Drawing | Empty:
    """Draws the measures of loss flattening that a launch with `--flattening` stores."""
    found = _drawn(view, _FLATTENING, last_values, log=True, switches=True)
    if isinstance(found, Empty) and selection_of(view).rows:
        return Empty("Loss flattening: not recorded for these trials.", "lawn-tune launch --flattening measures it.")
    return found


def train_loss(view: View) -> Drawing | Empty:
    """Draws the training loss."""
    return _drawn(view, (("train_loss", "Train loss"),), last_values, log=True)


def metric_of_split(split: str) -> Callable[[View], Drawing | Empty]:
    """Returns the function that draws the metric on a split."""

    def draw(view: View) -> Drawing | Empty:
        return _drawn(view, (_metric_series(view, split),), last_values, log=False)

    return draw


def _metric_series(view: View, split: str) -> tuple[str, str]:
    """Returns the series of the chosen metric on a split, and its title."""
    name = view.filters.one("metric", metrics(view)[0])
    name = name if name in metrics(view) else metrics(view)[0]
    unit = metric_of(name).unit
    return f"{split}/{name}", f"{split.capitalize()} {metric_name(name)}" + (f" ({unit})" if unit else "")


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
