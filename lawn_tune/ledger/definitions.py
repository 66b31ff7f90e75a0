"""Our tables next to Optuna's: every name begins with `lawn_`, so the two never meet."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from lawn_tune.cells import Phase

PREFIX = "lawn_"
"""Of the names of our tables."""

VERSION_TABLE = "lawn_alembic_version"
"""Optuna keeps its own revision in alembic's default table, so ours must have another name."""

REVISION = "0001"
"""Newest revision of `migrations/versions`; a ledger that has it is opened without alembic."""

metadata = MetaData()

UNFINISHED = "copying"
"""Takes the place of the revision while a copy is written, so that no version of ours takes it for a ledger."""

version = Table(VERSION_TABLE, MetaData(), Column("version_num", Text, primary_key=True))
"""Alembic's own table, which it creates itself."""

cells = Table(
    "lawn_cells",
    metadata,
    Column("name", Text, primary_key=True),
    Column("space", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("definition", Text, nullable=False),
    Column("registered", Text, nullable=False),
    Index("lawn_cells_space", "space"),
)
"""Cells as last launched: `definition` is `Cell.to_dict` as JSON, with the sizes of packs that the first launch of that
plan chose, and the confirm seeds and levels of the first launch of that task; `position` is the order in the space."""

plan = Table(
    "lawn_plan",
    metadata,
    Column("cell", Text, ForeignKey("lawn_cells.name"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("phase", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("hyperparameters", Text, nullable=False),
    Column("total_epochs", Integer, nullable=False),
    Column("mirrored", Text, nullable=False),
    Index("lawn_plan_key", "key"),
)
"""Which trials belong to which cell. A key does not depend on its space, so two spaces may plan the same trial: it is
trained once, and shown in both. `mirrored` is the outcome that the cell's Optuna study holds, "" if none."""

UNPLANNED = 2**31 - 1
"""`position` of search trials that the last launch did not plan (another grid or budget); they come last."""

trials = Table(
    "lawn_trials",
    metadata,
    Column("key", Text, primary_key=True),
    Column("cell", Text, ForeignKey("lawn_cells.name"), nullable=False),
    Column("pack", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("provenance", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("ended", Text, nullable=False),
    Index("lawn_trials_cell_pack", "cell", "pack"),
)
"""Every trial that was ever started, once. `cell` and `pack` train or trained it; outcome "waiting" means that
its driver died, and is never shown."""

packs = Table(
    "lawn_packs",
    metadata,
    Column("cell", Text, ForeignKey("lawn_cells.name"), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("phase", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("keys", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
)
"""Packs as first planned, in that order: an interrupted launch trains the same ones again."""

progress = Table(
    "lawn_progress",
    metadata,
    Column("cell", Text, primary_key=True),
    Column("pack", Text, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    ForeignKeyConstraint(["cell", "pack"], ["lawn_packs.cell", "lawn_packs.id"]),
)
"""What an unfinished pack reported at once: `data` holds the series of all members from `epoch` on, [n x K] each. A row
counts until the next one's epoch; they become curves when the pack ends."""

curves = Table(
    "lawn_curves",
    metadata,
    Column("key", Text, ForeignKey("lawn_trials.key"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""The whole curve of a finished trial."""

examples = Table(
    "lawn_examples",
    metadata,
    Column("key", Text, ForeignKey("lawn_trials.key"), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
"""The outcome on each test example, see `trainables.examples`."""

leases = Table(
    "lawn_leases",
    metadata,
    Column("cell", Text, ForeignKey("lawn_cells.name"), primary_key=True),
    Column("token", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("expires", Float(53), nullable=False),
)
"""Which driver works on a cell; `expires` in seconds since 1970 by the database's clock."""


def study_names(cell: str) -> dict[Phase, str]:
    """Returns the Optuna studies of a cell: search and confirm apart, because their values are of different splits."""
    return {"search": cell, "confirm": f"{cell}/confirm"}
