"""Methods, hyperparameters and numbers as people read them; tables, verdicts and figures share these words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from search_spaces.levels import text as level_text
from trainables.catalogue import shown_hyperparameter, shown_method, shown_metric
from trainables.catalogue.rows import Metric


def method(name: str) -> str:
    """Returns a method's name as printed, "Adam-LAWN"; one that no task brought is printed as it is."""
    row = shown_method(name)
    return row.label if row else name


def metric_name(metric: str) -> str:
    """Returns a metric's name as printed."""
    return metric_of(metric).label


def metric_of(name: str) -> Metric:
    """Returns direction, unit and digits of a metric; a name this version does not know is printed without unit."""
    return shown_metric(name) or Metric(name=name, label=name, direction="maximize")


def difference_unit(metric: str) -> str:
    """Returns the unit of a difference of two values: "points" of percentages, "" for a metric without unit."""
    unit = metric_of(metric).unit
    return "points" if unit == "%" else unit


def difference_text(size: str, metric: str) -> str:
    """Returns a printed difference with its unit: "0.52 points"."""
    return f"{size} {difference_unit(metric)}".strip()


def hyperparameter(name: str) -> str:
    """Returns a hyperparameter's name for an axis."""
    return shown_hyperparameter(name)


def setting(values: Mapping[str, float]) -> str:
    """Returns a point as text: "peak_lr 0.01, warmup_epochs 5"."""
    return ", ".join(f"{name} {level_text(value)}" for name, value in values.items())


def setting_lists(levels: Mapping[str, Iterable[float]]) -> str:
    """Returns lists of levels as text: "peak_lr 0.1, 0.3; weight_decay 3"."""
    return "; ".join(f"{name} {', '.join(map(level_text, some))}" for name, some in levels.items())


def fixed(value: float, digits: int) -> str:
    """Returns a number with `digits` decimals, with a true minus sign and no negative zero."""
    return f"{_no_negative_zero(value, digits):.{digits}f}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """Returns a difference with its sign; zero has none."""
    rounded = _no_negative_zero(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def count(n: int, noun: str) -> str:
    """Returns "1 seed", "3 seeds", "10,000 seeds"."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def every(n: int, noun: str) -> str:
    """Returns "both pairs" or "all 3 pairs", for n >= 2."""
    return f"both {noun}s" if n == 2 else f"all {count(n, noun)}"


def listing(texts: Sequence[str]) -> str:
    """Returns texts as "a, b and c"."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


def one_line(text: str) -> str:
    """Returns a text of several lines as one: lines become sentences where they have no punctuation of their own."""
    joined = ""
    for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
        ended = not joined or joined[-1] in ".,:;!?"
        joined += f"{'' if ended else '.' if line[0].isupper() else ';' if line[0] == '-' else ''} {line}"
    return joined.strip()


def duration(seconds: float) -> str:
    """Returns a time for people: "42 s", "13 min", "2.6 h"."""
    if 0 < seconds < 0.5:
        return "<1 s"
    if round(seconds) < 120:
        return f"{seconds:.0f} s"
    if round(seconds / 60) < 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 99.95 * 3600 else f"{seconds / 3600:,.0f} h"


def _no_negative_zero(value: float, digits: int) -> float:
    return round(value, digits) + 0.0
