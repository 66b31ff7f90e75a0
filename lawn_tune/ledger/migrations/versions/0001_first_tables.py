"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes every table; columns are written out, as later changes of `definitions` must not change this revision."""
    op.create_table(
        "lawn_cells",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("space", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("registered", sa.Text, nullable=False),
    )
    op.create_index("lawn_cells_space", "lawn_cells", ["space"])
    op.create_table(
        "lawn_plan",
        sa.Column("cell", sa.Text, sa.ForeignKey("lawn_cells.name"), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("hyperparameters", sa.Text, nullable=False),
        sa.Column("total_epochs", sa.Integer, nullable=False),
        sa.Column("mirrored", sa.Text, nullable=False),
    )
    op.create_index("lawn_plan_key", "lawn_plan", ["key"])
    op.create_table(
        "lawn_trials",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("cell", sa.Text, sa.ForeignKey("lawn_cells.name"), nullable=False),
        sa.Column("pack", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("provenance", sa.Text, nullable=False),
        sa.Column("started", sa.Text, nullable=False),
        sa.Column("ended", sa.Text, nullable=False),
    )
    op.create_index("lawn_trials_cell_pack", "lawn_trials", ["cell", "pack"])
    op.create_table(
        "lawn_packs",
        sa.Column("cell", sa.Text, sa.ForeignKey("lawn_cells.name"), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("keys", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_table(
        "lawn_progress",
        sa.Column("cell", sa.Text, primary_key=True),
        sa.Column("pack", sa.Text, primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["cell", "pack"], ["lawn_packs.cell", "lawn_packs.id"]),
    )
    for table in ("lawn_curves", "lawn_examples"):
        count = [sa.Column("count", sa.Integer, nullable=False)] if table == "lawn_examples" else []
        op.create_table(
            table,
            sa.Column("key", sa.Text, sa.ForeignKey("lawn_trials.key"), primary_key=True),
            *count,
            sa.Column("data", sa.LargeBinary, nullable=False),
        )
    op.create_table(
        "lawn_leases",
        sa.Column("cell", sa.Text, sa.ForeignKey("lawn_cells.name"), primary_key=True),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.Text, nullable=False),
        sa.Column("boot", sa.Text, nullable=False),
        sa.Column("expires", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    """Refuses: a ledger is never taken back, because that would drop results."""
    raise NotImplementedError("a ledger is not downgraded; restore a copy of the database instead")
