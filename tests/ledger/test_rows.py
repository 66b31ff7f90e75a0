"""A damaged row is found whichever of its values is damaged, and named with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lawn_tune.ledger import rows
from tests.helpers.ledger_contract import make_cell

SOUND: dict[str, Any] = {
    "key": "0123456789abcdef",
    "cell": "demo/adam/bs64",
    "phase": "search",
    "seed": 0,
    "hyperparameters": '{"peak_lr": 0.1}',
    "outcome": "complete",
    "epochs": 5,
    "total_epochs": 5,
    "summary": '{"seconds": 1.0}',
    "pack": "0123456789ab",
    "attempts": 1,
    "error": "",
    "provenance": '{"started": "2026-01-01", "libraries": {}}',
}


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("phase", "later", "unknown phase 'later'"),
        ("outcome", "waiting", "unknown outcome 'waiting'"),
        ("pack", b"0123456789ab", "pack and error must be text"),
        ("error", 3, "pack and error must be text"),
        ("seed", "0", "must be an integer"),
        ("epochs", -1, "too small"),
        ("total_epochs", 0, "too small"),
        ("attempts", None, "must be an integer"),
        ("summary", "[]", "summary is not a table"),
        ("summary", "{}", "are empty"),
        ("summary", '{"seconds": "1"}', "summary holds something that is not a number"),
        ("summary", '{"seconds": NaN}', "summary is not JSON"),
        ("hyperparameters", '{"peak_lr": 1e999}', "number is infinity"),
        ("hyperparameters", "{}", "are empty"),
        ("provenance", '{"libraries": []}', "libraries is not a table"),
        ("provenance", '{"started": 3}', "a time is not text"),
        ("provenance", '{"ended": null}', "a time is not text"),
    ],
)
def test_a_damaged_value_makes_a_failed_trial_that_says_why(column: str, value: object, why: str) -> None:
    assert rows.trial_row(SOUND).outcome == "complete"
    found = rows.trial_row(SOUND | {column: value})
    assert found.outcome == "failed"
    assert found.summary == {}
    assert f"trial {SOUND['key']}: " in found.error
    assert why in found.error


def test_trials_of_a_pack_share_one_provenance() -> None:
    one, other = (rows.trial_row(SOUND | {"key": key}) for key in ("0" * 16, "1" * 16))
    assert one.provenance is other.provenance


@pytest.mark.parametrize(
    ("part", "name", "value", "why"),
    [
        ("protocol", "metric", "beauty", "unknown metric"),
        ("protocol", "direction", "upward", "unknown direction"),
        ("protocol", "full_epochs", "5", "must be an integer"),
        ("protocol", "search_seeds", [0.5], "must be an integer"),
        ("protocol", "search_seeds", [], "there is no search seed"),
        ("protocol", "confirm_seeds", [True], "must be an integer"),
        ("task", "epochs", 5.0, "must be an integer"),
        ("task", "micro_batch", 8.0, "must be an integer"),
        ("task", "optimizer", "magic", "unknown optimizer"),
    ],
)
def test_a_damaged_definition_is_refused_with_the_reason(part: str, name: str, value: object, why: str) -> None:
    cell = make_cell()
    sound = cell.to_dict()
    assert rows.cell(str(cell.name), json.dumps(sound)) == cell
    with pytest.raises(rows.UNREADABLE, match=why):
        rows.cell(str(cell.name), json.dumps(sound | {part: sound[part] | {name: value}}))
