"""A ledger of each database with one registered cell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lawn_tune.cells import Cell
from lawn_tune.ledger import Ledger, open_ledger
from tests.helpers.ledger_contract import make_cell


@pytest.fixture
def cell() -> Cell:
    return make_cell()


@pytest.fixture
def ledger(ledger_url: str, cell: Cell) -> Iterator[Ledger]:
    with open_ledger(ledger_url) as ledger:
        ledger.register([cell])
        yield ledger
