"""Rows of the ledger as values; one that is damaged breaks itself alone, and says so in words."""

from __future__ import annotations

import json
from typing import Any, NoReturn, get_args

from lawn_tune.cells import Cell
from lawn_tune.results import DAMAGED, Outcome, TrialRow
from trainables.config import METRICS, OPTIMIZERS, trial_key

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading a damaged row may raise."""

_OUTCOMES = frozenset(get_args(Outcome))
_WHOLE = ("seed", "epochs", "total_epochs", "attempts")


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"a number is {constant}")


_DECODER = json.JSONDecoder(parse_constant=_refused)
"""Training writes null for what it could not measure, never NaN or infinity."""


def trial_row(values: dict[str, Any]) -> TrialRow:
    """Returns a trial; of a damaged row one that failed, without numbers, whose error names the trial and the fault."""
    try:
        return TrialRow(**_checked(values))
    except UNREADABLE as error:
        return _damaged(values, reason(error))


def cell(name: str, definition: str) -> Cell:
    """Returns a cell of the ledger.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: its definition is damaged, or of another version.
    """
    found = Cell.from_dict(_object("definition", definition))
    if str(found.name) != name:
        raise ValueError(f"its definition is of cell '{found.name}'")
    if found.task.optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer '{found.task.optimizer}'; known: {', '.join(OPTIMIZERS)}")
    if found.protocol.metric not in METRICS:
        raise ValueError(f"unknown metric '{found.protocol.metric}'; known: {', '.join(METRICS)}")
    if not isinstance(found.task.epochs, int) or not isinstance(found.task.batch_size, int):
        raise TypeError("epochs and batch size must be whole numbers")
    trial_key(found.task, 0, found.grid.point(0))
    return found


def reason(error: BaseException) -> str:
    """Returns why a row cannot be read, on one line."""
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__} {text}".strip()


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    found = dict(values)
    for name in ("hyperparameters", "summary", "provenance"):
        found[name] = _object(name, values[name])
    if not set(map(type, found["summary"].values())) <= {float, int, type(None)}:
        raise TypeError("summary holds something that is no number")
    if not set(map(type, found["hyperparameters"].values())) <= {float, int}:
        raise TypeError("hyperparameters hold something that is no number")
    if found["outcome"] not in _OUTCOMES:
        raise ValueError(f"unknown outcome '{found['outcome']}'")
    if not all(type(found[name]) is int for name in _WHOLE):
        raise TypeError(f"{', '.join(_WHOLE)} must be whole numbers")
    return found


def _object(name: str, text: Any) -> dict[str, Any]:
    try:
        found = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON ({error})") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not isinstance(found, dict):
        raise TypeError(f"{name} is no table")
    return found


def _damaged(values: dict[str, Any], why: str) -> TrialRow:
    whole = {name: values[name] if type(values[name]) is int else 0 for name in _WHOLE}
    return TrialRow(
        key=values["key"],
        cell=values["cell"],
        phase=values["phase"],
        hyperparameters={},
        outcome="failed",
        summary={},
        pack=str(values["pack"]),
        error=f"{DAMAGED}trial {values['key']}: {why}",
        provenance={},
        **whole,
    )
