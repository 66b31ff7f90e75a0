"""The ledger: cells, packs, trials, curves and leases in one database, beside the Optuna studies that show them."""

from lawn_tune.ledger.leases import Lease
from lawn_tune.ledger.ledger import Ledger, open_ledger
from lawn_tune.ledger.owners import Owner
from lawn_tune.ledger.packs import PackRow, pack_id

__all__ = ["Lease", "Ledger", "Owner", "PackRow", "open_ledger", "pack_id"]
