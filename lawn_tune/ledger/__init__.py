"""The ledger: cells, packs, trials, curves and leases in one database, next to the Optuna studies that show them."""

from lawn_tune.ledger.database import Unreachable
from lawn_tune.ledger.leases import Lease, LeaseLost
from lawn_tune.ledger.ledger import Ledger, open_ledger
from lawn_tune.ledger.owners import Owner
from lawn_tune.ledger.packs import PackRow
from lawn_tune.ledger.patience import Patience
from lawn_tune.ledger.rows import pack_id

__all__ = ["Lease", "LeaseLost", "Ledger", "Owner", "PackRow", "Patience", "Unreachable", "open_ledger", "pack_id"]
