"""One cell: its winner, its grid, what each hyperparameter does, and every trial of it."""

from __future__ import annotations

from dataclasses import replace

from dash import Dash, Input, Output, html
from dash.development.base_component import Component

from dashboards.figures.base import capital, plain
from dashboards.figures.best_so_far import Spent, best_so_far_figure, best_so_far_info
from dashboards.figures.free_phase import free_phase_figure, free_phase_info
from dashboards.figures.heat_map import (
    Axes,
    HeatMapInfo,
    heat_map_figure,
    heat_map_info,
    is_map,
    place_text,
    usual_axes,
)
from dashboards.figures.parallel_coordinates import parallel_figure, parallel_info
from dashboards.figures.sensitivity import SensitivityInfo, sensitivity_figure, sensitivity_info, span
from dashboards.web import components
from dashboards.web.cards import Block, Drawing, FigureCard, clientside, graph_id, page
from dashboards.web.columns import Column
from dashboards.web.comparison_part import main_cell
from dashboards.web.page import Empty, Page, View
from dashboards.web.pages.trials import TrialTable, cell_of, href, opens, trial_columns, trial_rows
from dashboards.web.snapshot import Snapshots
from dashboards.web.table_card import Rows
from dashboards.widening import shortest_budget, suggested
from lawn_tune.cells import Cell
from lawn_tune.comparison.comparison import CellResult
from lawn_tune.comparison.flags import Flag
from lawn_tune.comparison.tables import value_text
from lawn_tune.planning.widening import widenings
from lawn_tune.words import count, duration, fixed, hyperparameter, method, metric_of, setting
from search_spaces.levels import text as level_text

USUAL = "usual"
AGAINST = (("points", "points"), ("time", "device time"))


def result_of(view: View) -> CellResult:
    """Returns what is known of the selected cell."""
    name = cell_of(view).name
    return next(result for result in view.snapshot.comparison.cells if result.cell.name == name)


def label(cell: Cell) -> str:
    """Returns a cell's display name."""
    return f"{method(cell.name.optimizer)}, batch {cell.name.batch_size:,}"


def _subject(view: View) -> str:
    return cell_of(view).name.short


def _controls(view: View) -> list[Component]:
    cells = [(str(cell.name), label(cell)) for cell in view.snapshot.cells]
    return [
        components.choice(view, "cell", "Cell", cells, str(main_cell(view.snapshot.cells).name)),
        components.choice(view, "against", "Best so far against", AGAINST, "points"),
        *_axis_controls(view),
    ]


def _axis_controls(view: View) -> list[Component]:
    """Returns the choice of the grid's axes, where there are more than two hyperparameters to choose from."""
    names = dict.fromkeys(name for cell in view.snapshot.cells for name in cell.grid.values)
    if len(names) < 3:
        return []
    options = [(USUAL, USUAL), *((name, capital(hyperparameter(name))) for name in names)]
    return [components.choice(view, axis, f"Grid, {axis} axis", options, USUAL) for axis in ("x", "y")]


# --- words -----------------------------------------------------------------------------------------------------------


def winner(view: View) -> list[Component]:
    """Returns the winner in numbers, and the cell's caveats."""
    result = result_of(view)
    won = result.winner
    digits, unit = metric_of(result.cell.protocol.metric).digits, metric_of(result.cell.protocol.metric).unit
    value = f"{fixed(won.value, digits)} {unit}".strip() if won else "–"
    confirmed = value_text(result).rpartition(" ")[0] if result.confirmed else "–"
    none = "every run diverged" if result.diverged and not result.missing else "no run yet"
    fresh = f"{unit}, mean ± SE of {count(result.confirmed.n, 'fresh seed')}" if result.confirmed else none
    done = sum(point.finished for point in result.points)
    return [
        components.tiles(
            components.tile("Best of the grid", value, f"{result.cell.protocol.selection}; optimistic (best of many)"),
            components.tile("Confirmed on test", confirmed, fresh.lstrip(", ")),
            components.tile("Points", f"{done:,} of {len(result.points):,}", _cost(result)),
        ),
        *([html.P(["Winner: ", _trials_link(view, won.keys, setting(won.hyperparameters))])] if won else []),
        *_caveats(result),
    ]  # fmt: skip


def _cost(result: CellResult) -> str:
    lost = sum(point.status == "diverged" for point in result.points)
    spent = f"{duration(result.seconds)} of device time{', with confirmation' if result.confirmed else ''}"
    return f"{count(lost, 'diverged point')}, {spent}" if lost else spent


def _trials_link(view: View, keys: tuple[str, ...], text: str) -> Component:
    return components.link(text, href(view, keys))


def _caveats(result: CellResult) -> list[Component]:
    notes = [note for note in result.notes if note.flag is not Flag.EDGE]
    if not notes:
        return []
    items = [html.Li([html.Strong(f"{note.flag.value}: "), note.text]) for note in notes]
    return [html.Ul(items, className="caveats", **components.aria(label="Caveats"))]


def edge(view: View) -> list[Component] | Empty:
    """Returns whether the winner is on the border of its grid, and what to add to the space's file."""
    result = result_of(view)
    if result.winner is None:
        return Empty("There is no winner yet: no point of the grid is complete.")
    comparison = view.snapshot.comparison
    found = widenings(result.cell, result.winner, shortest := shortest_budget(comparison))
    if not found:
        return Empty("The winner is inside its grid: a neighbor on every side was tried and is no better.")
    notes = [html.Li(note.text) for note in result.notes if note.flag is Flag.EDGE]
    notes += [html.Li(f"{widening.name} is not extended: {widening.why}") for widening in found if widening.why]
    if all(widening.add is None for widening in found):
        return [html.Ul(notes, className="caveats"), html.P("Nothing can be added to the space's file there.")]
    name = result.cell.name.optimizer
    return [
        html.Ul(notes, className="caveats"),
        html.P(f"To extend the search of {method(name)}, replace these lines in the file of space '{view.space}':"),
        components.snippet(suggested(comparison.cells, shortest, method=name)),
        html.P("Launch it again: only the new points are trained, and the winner is confirmed again if it changes."),
    ]


# --- figures ---------------------------------------------------------------------------------------------------------


def grid(view: View) -> Drawing | Empty:
    """Draws the cell's grid."""
    if not is_map(cell_of(view)):
        return Empty("These runs were imported, and are not all points of a grid.", "The next cards show each of them.")
    axes = axes_of(view)
    return view.snapshot.once(f"grid {cell_of(view).name} {axes}", lambda: _grid(view, axes))


def axes_of(view: View) -> Axes:
    """Returns the hyperparameters on the grid's axes: those that are chosen and exist, else the usual ones."""
    cell = cell_of(view)
    names, (x, y) = list(cell.grid.values), usual_axes(cell)
    x = next((name for name in view.filters["x"] if name in names), x)
    y = next((name for name in (*view.filters["y"], y, *names) if name in names and name != x), x)
    return x, y


def _grid(view: View, axes: Axes) -> Drawing:
    info = heat_map_info(view.snapshot.comparison, result_of(view), axes)
    figure = plain(heat_map_figure(info))
    del figure["layout"]["title"]
    figure["layout"]["margin"]["t"] = 26
    return Drawing(figure, _grid_words(info))


def _grid_words(info: HeatMapInfo) -> str:
    place = info.winner
    if place is None:
        return f"No point of {info.value} is complete."
    value = info.panels[place.panel].values[place.row][place.column]
    won = place_text(info, place.row, place.column)
    panel = info.panels[place.panel].label
    shown = fixed(value, info.digits) if value is not None else "unknown"
    return f"Best {info.value} {shown} {info.unit} at {', '.join(text for text in (won, panel) if text)}."


def sensitivity(view: View) -> Drawing | Empty:
    """Draws what each hyperparameter does alone."""
    result = result_of(view)
    if result.winner is None:
        return Empty("No point of this grid is complete, so no level can be compared with another.")
    return view.snapshot.once(f"sensitivity {result.cell.name}", lambda: _sensitivity(result))


def _sensitivity(result: CellResult) -> Drawing:
    info = sensitivity_info(result)
    return Drawing(plain(sensitivity_figure(info)), _sensitivity_words(info))


def _sensitivity_words(info: SensitivityInfo) -> str:
    parts = [f"{hyperparameter(axis.name)} {fixed(span(axis), info.digits)}" for axis in info.axes]
    shares = ", ".join(f"{hyperparameter(axis.name)} {100 * axis.share:.0f} %" for axis in info.axes)
    lost = sum(level.diverged for level in info.axes[0].levels)
    tail = f" {count(lost, 'point')} diverged." if lost else ""
    importance = f" Importance, the share of the complete points' variance that each explains alone: {shares}."
    unit = " (points)" if info.unit == "%" else f" ({info.unit})" if info.unit else ""
    return f"The best {info.value} differs between levels by{unit}: {', '.join(parts)}.{importance}{tail}"


def free_phase(view: View) -> Drawing | Empty:
    """Draws the best value at each length of the free phase."""
    result = result_of(view)
    info = free_phase_info(result, view.snapshot.rows_of(result.cell))
    if info is None:
        return Empty("This cell's grid varies no free phase.")
    levels = (*info.numbers, *info.rules)
    if not levels:
        return Empty("No point of this grid is complete.")
    parts = [f"{level_text(found.level)} {fixed(found.value, info.digits)}" for found in levels]
    return Drawing(plain(free_phase_figure(info)), f"Best {info.value} by level: {'; '.join(parts)}.")


def parallel(view: View) -> Drawing | Empty:
    """Draws every finished search trial as a line."""
    return view.snapshot.once(f"parallel {cell_of(view).name}", lambda: _parallel(view))


def _parallel(view: View) -> Drawing | Empty:
    cell = cell_of(view)
    info = parallel_info(cell, view.snapshot.rows_of(cell))
    if not info.values:
        return Empty("No search trial of this cell has finished.")
    lost = sum(value is None for value in info.values)
    words = f"{count(len(info.values), 'finished trial')}, {lost} diverged. Colors rank by {info.value}."
    if info.beyond:
        low, high = (f"{fixed(end, info.digits)}\u00a0{info.unit}".strip() for end in info.ends)
        side, edge = (f"below {low}", "bottom") if info.direction == "maximize" else (f"above {high}", "top")
        words += f" {count(info.beyond, 'value')} {side}, drawn at the {edge} edge of the last axis."
    return Drawing(plain(parallel_figure(info)), words)


def best_so_far(view: View) -> Drawing | Empty:
    """Draws how the best value came about."""
    result = result_of(view)
    info = best_so_far_info(result, view.snapshot.rows_of(result.cell))
    if not info.steps:
        return Empty("No point of this grid has finished.")
    against: Spent = "time" if view.filters.one("against") == "time" else "points"
    last = info.steps[-1]
    first = next((i for i, step in enumerate(info.steps, 1) if step.best == last.best), None)
    words = f"{len(info.steps):,} of {count(info.points, 'point')} in {duration(3600 * last.hours)} of device time"
    words += ", without confirmation." if result.confirmed else "."
    if last.best is not None:
        words += f" The best, {fixed(last.best, info.digits)} {info.unit}, came with point {first}."
    return Drawing(plain(best_so_far_figure(info, against)), words)


# --- trials ----------------------------------------------------------------------------------------------------------


def trial_table_columns(view: View) -> list[Column]:
    """Returns the columns of the cell's trials."""
    cell = cell_of(view)
    return view.snapshot.once(f"columns {cell.name}", lambda: trial_columns(cell, view.snapshot.rows_of(cell)))


def trials(view: View) -> Rows | Empty:
    """Returns every trial of the cell, of earlier grids and budgets too."""
    return trial_rows(view, cell_of(view)) or Empty("No trial of this cell has started.")


def _page() -> Page:
    cards = page(
        path="/cell",
        title="Cell",
        order=30,
        controls=_controls,
        cards=(
            Block(name="cell-winner", title="Winner", render=winner, early=True),
            Block(name="cell-edge", title="Edge of the grid", render=edge, early=True),
            FigureCard(
                name="cell-grid",
                title="Grid",
                draw=grid,
                subject=_subject,
                height=200,
                help="Mean over search seeds; stronger color is better. Frame: the winner, dashed on an edge. "
                "× diverged, ! failed, … running, · not trained. A click opens the point's trials.",
            ),
            FigureCard(
                name="cell-sensitivity",
                title="Each hyperparameter alone",
                draw=sensitivity,
                subject=_subject,
                help="All points at each level; the line joins the best, the bar is the median. Frame: the winner's "
                "level. Open triangles lie beyond the panel; n × diverged. Of many points, a sample is drawn.",
            ),
            FigureCard(
                name="cell-free",
                title="Effect of the free phase",
                draw=free_phase,
                subject=_subject,
                height=280,
                help="The best point at each number of free epochs; diamonds: rules, at the epoch of their switch. "
                "A click opens the point's trials.",
            ),
            FigureCard(
                name="cell-parallel",
                title="All hyperparameters together",
                draw=parallel,
                subject=_subject,
                help="One line per search trial. Drag a box over an axis to see the lines through it, more boxes to "
                "narrow them down, double-click to end. Click a legend entry to hide it.",
            ),
            FigureCard(
                name="cell-best",
                title="Best so far",
                draw=best_so_far,
                subject=_subject,
                help="Points in the order in which they finished; the line is the best until then, crosses diverged. "
                "Of many, a sample is drawn.",
            ),
            TrialTable(
                name="cell-trials",
                title="Trials",
                columns=trial_table_columns,
                rows=trials,
                help="Every trial of the cell. Click a heading to sort, its menu to filter, a trial to look inside it.",
            ),
        ),
    )

    def register(app: Dash, source: Snapshots) -> None:
        cards.register(app, source)
        opens(app, "cell-grid", "cell-sensitivity", "cell-free", "cell-best")
        clientside(
            app,
            "brush",
            Output("cell-parallel-title", "className"),
            Input(graph_id("cell-parallel"), "selectedData"),
            prevent_initial_call=True,
        )

    return replace(cards, register=register)


PAGE = _page()
