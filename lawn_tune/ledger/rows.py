"""Rows of the ledger as values: the one place where they are validated. A damaged row breaks itself alone, by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from math import inf
from typing import Any, cast, get_args, get_type_hints

import orjson

from lawn_tune.cells import PHASES, Cell, Packing, Protocol
from lawn_tune.errors import LedgerError
from lawn_tune.results import DAMAGED, REPAIR, Outcome, TrialRow
from trainables.examples import Outcomes, decode
from trainables.tasks import trial_key

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)
"""What reading a damaged row may raise."""

REPAIR_PACK = "Put back a copy of the ledger, or delete that row from lawn_packs; what it trained is kept."

_CHOICES = {"outcome": frozenset(get_args(Outcome)), "phase": frozenset(PHASES)}
_PROTOCOL = {name: get_args(get_type_hints(Protocol)[name]) for name in ("direction", "selection", "reported")}
_WHOLE = {"seed": 0, "epochs": 0, "total_epochs": 1, "attempts": 0}
"""Column → its lowest value."""

_NUMBER: Set[type] = frozenset({float, int})
_MEASURED = _NUMBER | {type(None)}
"""Training writes null for what it could not measure."""

_PLANNED = {"phase": "search", "seed": 0, "hyperparameters": '{"x": 0}', "total_epochs": 1}
_UNTRAINED = {"outcome": "running", "pack": "", "error": "", "epochs": 0, "attempts": 0, "summary": "{}"}
_UNTRAINED |= {"provenance": "{}"}
"""Columns of the other table that complete a row, as a reader joins them."""


def trial_row(values: dict[str, Any]) -> TrialRow:
    """Returns a trial; of a damaged row one that failed, without numbers, whose error names the trial and the fault."""
    try:
        return TrialRow(**_checked(values))
    except UNREADABLE as error:
        return _damaged(values, reason(error))


def cell(name: str, definition: str) -> Cell:
    """Returns a cell of the ledger.

    Raises:
        ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError: its definition is damaged, or
            of another version; see `UNREADABLE`.
    """
    found = Cell.from_dict(_object("definition", definition))
    if str(found.name) != name:
        raise ValueError(f"its definition is of cell '{found.name}'")
    known = found.task.catalogue
    _check_choice("optimizer", found.task.optimizer, known.methods)
    _check_choice("dataset", found.task.dataset, known.datasets)
    _check_choice("metric", found.protocol.metric, known.metrics)
    _check_protocol(found.protocol)
    _check_whole("an epoch count or batch size", found.task.epochs, found.task.batch_size)
    _check_whole("micro-batch", found.task.micro_batch)
    for levels in found.grid.values.values():
        _check_numbers("the grid", levels)
    trial_key(found.task, 0, found.grid.point(0))
    return found


def packing(definition: Any) -> Packing | None:
    """Returns the packing in a cell's definition; None if there is none, or a damaged one, so that a launch chooses."""
    try:
        return Packing.from_dict(json.loads(definition)["packing"])
    except UNREADABLE:
        return None


def outcome(key: str, value: str) -> Outcome:
    """Returns the outcome of a trial.

    Raises:
        LedgerError: it is unknown; its trial might have finished, so nobody may train it again.
    """
    if value not in _CHOICES["outcome"]:
        raise LedgerError(f"{DAMAGED}trial {key}: unknown outcome '{value}'", REPAIR)
    return cast(Outcome, value)


def keys_of(pack: str, text: Any) -> tuple[str, ...]:
    """Returns the keys of a pack, checked.

    Raises:
        LedgerError: they are damaged.
    """
    try:
        return pack_keys(pack, text)
    except (ValueError, TypeError) as error:
        raise LedgerError(f"{DAMAGED}pack {pack}: {error}", REPAIR_PACK) from None


def pack_id(keys: Sequence[str]) -> str:
    """Returns the identity of a pack: 12 hex digits of a hash of its keys in order."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]


def pack_keys(pack: str, text: Any) -> tuple[str, ...]:
    """Returns the keys of a pack.

    Raises:
        ValueError, TypeError: they are not JSON, or those of another pack.
    """
    try:
        keys = tuple(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ValueError(f"its keys are not JSON ({error})") from None
    if pack_id(keys) != pack:
        raise ValueError(f"its keys are those of pack {pack_id(keys)}")
    return keys


def hyperparameters(text: Any) -> dict[str, float] | None:
    """Returns the hyperparameters of a planned trial, None if they are damaged: its launch rewrites them."""
    try:
        return {name: float(value) for name, value in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return None


def examples(count: Any, data: Any) -> Outcomes:
    """Returns the outcome on each test example [E].

    Raises:
        ValueError: they are damaged.
    """
    if not (isinstance(data, bytes) and isinstance(count, int)):
        raise ValueError("its bytes and their count are not bytes and an integer")
    return decode(count, data)


def check_planned(values: dict[str, Any]) -> None:
    """Validates what is planned of a trial.

    Raises:
        ValueError, TypeError, AttributeError, RecursionError, OverflowError: it is damaged.
    """
    _checked(values | _UNTRAINED)


def check_trained(values: dict[str, Any]) -> None:
    """Validates what was stored of a trained trial; "waiting" is what a dead driver leaves, and never read.

    Raises:
        ValueError, TypeError, AttributeError, RecursionError, OverflowError: it is damaged.
    """
    state = "running" if values["outcome"] == "waiting" else values["outcome"]
    _checked(values | _PLANNED | {"outcome": state})


def _check_protocol(protocol: Protocol) -> None:
    for name, allowed in _PROTOCOL.items():
        _check_choice(name, getattr(protocol, name), allowed)
    _check_whole("a seed or epoch count", *protocol.search_seeds, *protocol.confirm_seeds, protocol.full_epochs)
    if not protocol.search_seeds:
        raise ValueError("there is no search seed")


def _check_choice(name: str, value: Any, allowed: Any) -> None:
    if value not in allowed:
        raise ValueError(f"unknown {name} '{value}'; known: {', '.join(sorted(allowed))}")


def _check_whole(name: str, *values: Any, lowest: float = -inf) -> None:
    for value in values:
        if type(value) is not int:
            raise TypeError(f"{name} must be an integer")
        if value < lowest:
            raise ValueError(f"{name} is too small")


def _check_numbers(name: str, values: Iterable[Any], kinds: Set[type] = _NUMBER) -> None:
    """Numbers of a table are finite: see `_object`."""
    if not kinds >= set(map(type, values)):
        raise TypeError(f"{name} holds something that is not a number")


def reason(error: BaseException) -> str:
    """Returns why a row cannot be read, on one line."""
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__} {text}".strip()


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    found = values | {
        "hyperparameters": _object("hyperparameters", values["hyperparameters"]),
        "summary": _object("summary", values["summary"]),
        "provenance": _provenance(values["provenance"]),
    }
    for name, allowed in _CHOICES.items():
        _check_choice(name, found[name], allowed)
    if not (isinstance(found["pack"], str) and isinstance(found["error"], str)):
        raise TypeError("pack and error must be text")
    for name, lowest in _WHOLE.items():
        _check_whole(name, found[name], lowest=lowest)
    _check_numbers("summary", found["summary"].values(), _MEASURED)
    _check_numbers("hyperparameters", found["hyperparameters"].values())
    if not found["hyperparameters"] or (found["outcome"] == "complete" and not found["summary"]):
        raise ValueError("hyperparameters or summary are empty")
    return found


@lru_cache(maxsize=64)
def _provenance(text: Any) -> Mapping[str, Any]:
    """Returns the provenance of a trial, one object for all rows of a pack, which repeat its text."""
    provenance = _object("provenance", text)
    if not isinstance(provenance.get("libraries", {}), dict):
        raise TypeError("provenance: libraries is not a table")
    if not all(isinstance(provenance.get(name, ""), str) for name in ("started", "ended")):
        raise TypeError("provenance: a time is not text")
    return provenance


def _object(name: str, text: Any) -> dict[str, Any]:
    """Returns a table; orjson takes neither NaN nor infinity, nor half a character."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise TypeError(f"{name} is not a table")
    return found


def _damaged(values: dict[str, Any], why: str) -> TrialRow:
    whole = {name: values[name] if type(values[name]) is int else lowest for name, lowest in _WHOLE.items()}
    return TrialRow(
        key=values["key"],
        cell=values["cell"],
        phase=values["phase"] if values["phase"] in _CHOICES["phase"] else "search",
        hyperparameters={},
        outcome="failed",
        summary={},
        pack=str(values["pack"]),
        error=f"{DAMAGED}trial {values['key']}: {why}",
        provenance={},
        **whole,
    )
