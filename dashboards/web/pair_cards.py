"""Cards that show one pair: its grids, curves and reliability; hidden unless one is selected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dashboards.web import trial_figures
from dashboards.web.cards import Drawing, FigureCard
from dashboards.web.comparison_part import pair_of
from dashboards.web.filters import Filters
from dashboards.web.page import Empty, View
from dashboards.web.pages.cell import grid
from lawn_tune.comparison.comparison import PairResult
from lawn_tune.words import method


def pair_cards() -> tuple[FigureCard, ...]:
    """Returns the cards, in reading order."""
    text = "The predictions of all seeds, pooled."
    return (
        _pair_card("grid-challenger", "Grid of the challenger", _grid_of("challenger"), "", 200),
        _pair_card("grid-baseline", "Grid of the baseline", _grid_of("baseline"), "", 200),
        _pair_card("pair-curves", "Test metric", _inside(trial_figures.metric_of_split("test")), _MEANS, 310),
        _pair_card("pair-reliability", "Reliability", _inside(trial_figures.reliability), text, 470),
    )


def _of_pair(draw: Callable[[View, PairResult], Drawing | Empty]) -> Callable[[View], Drawing | Empty]:
    """Returns the function of a card that is hidden unless one pair is selected."""

    def shown(view: View) -> Drawing | Empty:
        pair = pair_of(view)
        return Empty("Choose one pair to see this.") if pair is None else draw(view, pair)

    return shown


def _grid_of(side: str) -> Callable[[View], Drawing | Empty]:
    def draw(view: View, pair: PairResult) -> Drawing | Empty:
        name = (pair.challenger if side == "challenger" else pair.baseline).cell.name
        drawn = grid(replace(view, filters=Filters.of(cell=str(name))))
        if isinstance(drawn, Empty):
            return drawn
        return drawn._replace(summary=f"{method(name.optimizer)}, batch {name.batch_size:,}: {drawn.summary}")

    return _of_pair(draw)


def _inside(draw: Callable[[View], Drawing | Empty]) -> Callable[[View], Drawing | Empty]:
    """Returns a figure of the Dynamics page over the pair's winners, as means over their seeds."""

    def shown(view: View, pair: PairResult) -> Drawing | Empty:
        names = [str(result.cell.name) for result in (pair.challenger, pair.baseline)]
        return draw(replace(view, filters=Filters.of(trial=names)))

    return _of_pair(shown)


_MEANS = (
    "Means over the winners' seeds, A the challenger. Bands: lowest to highest. Diamond: the end of the free phase."
)


def _pair_card(name: str, title: str, draw: Callable[[View], Drawing | Empty], text: str, height: int) -> FigureCard:
    return FigureCard(name=f"compare-{name}", title=title, draw=draw, help=text, height=height, brief=True)
