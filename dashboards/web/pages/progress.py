"""How far every cell of a space is, what runs, what failed, and what to type next."""

from __future__ import annotations

import math
import shlex

from dash import html
from dash.development.base_component import Component

from dashboards.figures.base import plain
from dashboards.figures.timeline import timeline_figure, timeline_info
from dashboards.web import components
from dashboards.web.cards import Block, Drawing, FigureCard, page
from dashboards.web.components import Content
from dashboards.web.page import Empty, View
from dashboards.web.space_progress import CellProgress, RunningPack, SpaceProgress, Trouble, space_progress
from lawn_tune.words import count, duration, metric_name, metric_of


def progress_of(view: View) -> SpaceProgress:
    """Returns the progress of the space that is selected; computed once for all cards and viewers."""
    snapshot = view.snapshot
    rows = {str(cell.name): snapshot.rows_of(cell) for cell in snapshot.cells}
    held = str(sorted(view.source.drivers().items()))
    return snapshot.once(
        f"progress {held}", lambda: space_progress(view.space, snapshot.comparison.cells, rows, view.source.alive)
    )


# --- now -------------------------------------------------------------------------------------------------------------


def now(view: View) -> list[Component]:
    """Returns the space's numbers in one row, and its bar."""
    found = progress_of(view)
    of = f"of {found.planned:,}; {percent(found.share)} of epochs"
    return [
        components.tiles(
            components.tile("Trials with a result", f"{found.done:,}", of),
            components.tile("Training now", f"{_training(found):,}", _workers(found)),
            components.tile("Left", *_left(found)),
            components.tile("Device time", duration(found.seconds), "spent so far"),
            components.tile("Diverged", f"{found.diverged:,}", "a result, not retried"),
            components.tile("Failed", f"{found.failed:,}", "retried by a launch", "bad" if found.failed else ""),
        ),
        bar(found),
    ]


def bar(found: SpaceProgress) -> Component:
    """Returns the bar of a whole space."""
    return components.progress(f"{percent(found.share)} of the epochs are trained", found.share, bad=found.lost)


def _training(found: SpaceProgress) -> int:
    return sum(pack.trials for pack in found.running if pack.alive)


def _workers(found: SpaceProgress) -> str:
    if found.workers:
        return f"trials, in {count(found.workers, 'pack')}"
    return "no launch is running" if found.done < found.planned else "all is trained"


def state_text(found: SpaceProgress) -> str:
    """Returns in a few words whether a launch runs and what is left: "stopped, 4 min of device time missing"."""
    left, why = _left(found)
    return "all is trained" if left == "nothing" else f"{left} left" if found.workers else f"{left}, {why}"


def _left(found: SpaceProgress) -> tuple[str, str]:
    """Returns the time left and what it rests on."""
    if found.done >= found.planned:
        return "nothing", "every trial has a result"
    if found.eta is not None and found.left is not None:
        return f"≈ {duration(found.eta)}", f"{duration(found.left)} of device time"
    if found.left is not None:
        return "stopped", f"{duration(found.left)} of device time missing"
    return "unknown", "until a trial has finished"


def percent(share: float) -> str:
    """Returns a share in percent, cut and not rounded: "99.9 %" until all is done."""
    return f"{math.floor(1000 * share + 1e-9) / 10:g} %"


# --- cells -----------------------------------------------------------------------------------------------------------

_CELL_HEADER = ("Method", "Batch", "Progress", "Trials", "Diverged", "Failed", "Best", "Time", "Left")


def cells(view: View) -> list[Component]:
    """Returns one line per cell."""
    found = progress_of(view)
    metrics = view.snapshot.comparison.distinct(lambda cell: cell.protocol.metric)
    unit = " or ".join(dict.fromkeys(f"{metric_name(name)}, {metric_of(name).unit}".strip(", ") for name in metrics))
    header = [f"Best ({unit})" if name == "Best" else name for name in _CELL_HEADER]
    rows = [_cell_row(view, cell) for cell in found.cells]
    return [components.table(header, rows, f"Cells of {view.space}", numbers=(1, 3, 4, 5, 6, 7, 8))]


def _cell_row(view: View, cell: CellProgress) -> list[Content]:
    counts, to = cell.counts, view.href("/cell", cell=cell.cell)
    name = html.A(
        components.method_name(cell.optimizer),
        href=to,
        **components.data(nav=to),
        **components.aria(label=f"{cell.cell}: open the cell"),
    )
    edge = html.Span("edge", className="mark", title=f"on the edge of the grid: {', '.join(cell.edges)}")
    return [
        name,
        f"{cell.batch_size:,}",
        components.progress(f"{percent(cell.share)} trained", cell.share, bad=cell.lost),
        f"{counts.done:,} of {counts.planned:,}",
        _unless_zero(counts.diverged),
        _unless_zero(counts.failed, "bad"),
        html.Span([edge, " ", cell.value] if cell.edges else cell.value),
        duration(cell.seconds) if cell.seconds else "–",
        "–" if not cell.left else duration(cell.left),
    ]


def _unless_zero(n: int, tone: str = "") -> Content:
    return html.Span(f"{n:,}" if n else "–", className=(tone if n else "faint") or None)


# --- what runs, what failed ------------------------------------------------------------------------------------------


def running(view: View) -> list[Component] | Empty:
    """Returns one line per pack that trains."""
    found = progress_of(view)
    live = [pack for pack in found.running if pack.alive]
    broken = len(found.running) - len(live)
    left = f"{count(broken, 'pack')} of an ended launch will be resumed by the next one." if broken else ""
    if not live:
        if found.done >= found.planned:
            return Empty("Nothing is running: every trial of this space has a result.")
        todo = f"{left} A launch trains only what is missing, and may be stopped at any time.".strip()
        return Empty("Nothing is running.", todo, view.launch)
    lines = [_running_row(view, pack) for pack in live]
    header = ("Cell", "Phase", "Trials", "Epoch", "Driver")
    shown = components.table(header, lines, "Packs that train now", numbers=(2,))
    return [shown, *([html.P(left, className="help")] if left else [])]


def _running_row(view: View, pack: RunningPack) -> list[Content]:
    driver = view.drivers.get(pack.cell)
    again = f", attempt {pack.attempt}" if pack.attempt > 1 else ""
    epoch = f"{pack.epoch:,} of {pack.epochs:,}"
    share = pack.epoch / pack.epochs if pack.epochs else 0.0
    return [
        html.Span([components.method_name(pack.optimizer), f" {pack.batch_size:,}"]),
        f"{pack.phase}{again}",
        f"{pack.trials:,}",
        html.Div([components.progress(f"epoch {epoch}", 0.0, running=share), html.Span(epoch)], className="epoch"),
        driver.owner if driver else "unknown",
    ]


def failures(view: View) -> list[Component] | Empty:
    """Returns one line per kind of failure."""
    found = progress_of(view)
    if not found.troubles:
        return Empty("No trial has failed.")
    lines = [_trouble_row(trouble) for trouble in found.troubles[:20]]
    return [components.table(("Error", "Trials", "Cells"), lines, "Failures", numbers=(1,))]


def _trouble_row(trouble: Trouble) -> list[Content]:
    first, *rest = trouble.error.splitlines()
    shown: Content = first if len(first) <= 160 else f"{first[:160]}…"
    if rest or len(first) > 160:
        shown = html.Details([html.Summary(shown), html.Pre(trouble.error[:4_000])])
    listed = ", ".join(cell.partition("/")[2] for cell in trouble.cells[:4])
    more = f" and {len(trouble.cells) - 4} more" if len(trouble.cells) > 4 else ""
    return [shown, f"{trouble.trials:,}", f"{listed}{more}"]


# --- devices ---------------------------------------------------------------------------------------------------------


def timeline(view: View) -> Drawing | Empty:
    """Draws which pack was trained when on which device."""
    return view.snapshot.once("timeline", lambda: _timeline(view))


def _timeline(view: View) -> Drawing | Empty:
    info = timeline_info(view.snapshot.cells, view.snapshot.trials)
    if not info.lanes:
        return Empty("No pack has finished yet.")
    busy = "; ".join(f"{device} {percent(share)}" for device, share in info.busy.items())
    hidden = f" The first {count(info.hidden, 'pack')} are not drawn." if info.hidden else ""
    return Drawing(
        plain(timeline_figure(info)),
        f"Share of the time in use, from the first start on a device to the last end: {busy}.{hidden}",
    )


# --- next steps ----------------------------------------------------------------------------------------------------


def commands(view: View) -> list[Component]:
    """Returns what to type in a terminal."""
    name = shlex.quote(view.space)
    url, found = view.source.shown, progress_of(view)
    known: list[tuple[str, str]] = [
        ("Train what is missing", view.launch if found.done < found.planned else ""),
        ("The paper's tables", view.command(f"compare {name}")),
        ("One HTML file to send", view.command(f"report {name}")),
        ("Every trial as CSV", view.command(f"export {name} --format csv")),
    ]
    if url:
        known.append(("Individual trials, in Optuna Dashboard", f"optuna-dashboard {shlex.quote(url)}"))
    terms = [html.Div([html.Dt(what), html.Dd(components.command(text))]) for what, text in known if text]
    return [html.Dl(terms, className="steps")]


CELLS = (
    "Bars show trained epochs; hatched are those of diverged trials. “Edge”: the winner is on the border of its grid."
)

TIMELINE = (
    "Each bar is a pack, from its last start to its end; LAWN's bars are wider. Packs that ran at the same time are in "
    "separate rows. Point at one for its memory, and how busy it kept the device."
)

PAGE = page(
    path="/progress",
    title="Progress",
    order=60,
    cards=(
        Block(name="progress-now", title="Progress", render=now, wide=True, early=True),
        Block(name="progress-running", title="Running now", render=running, early=True),
        Block(name="progress-commands", title="In a terminal", render=commands, early=True),
        Block(name="progress-failures", title="Failures", render=failures, wide=True, brief=True, early=True),
        FigureCard(
            name="progress-timeline", title="Jobs on devices", draw=timeline, help=TIMELINE, height=150, wide=True
        ),
        Block(name="progress-cells", title="Cells", help=CELLS, render=cells, wide=True),
    ),
)
