"""Run by alembic for every command: works on the connection that the ledger hands over, and on our tables only."""

from __future__ import annotations

from typing import Any

from alembic import context

from lawn_tune.ledger.definitions import PREFIX, VERSION_TABLE, metadata


def ours(name: str | None, kind: str, _: Any) -> bool:
    """Hides Optuna's tables from autogenerate, which would drop them."""
    return kind != "table" or (name is not None and name.startswith(PREFIX))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=ours,
    render_as_batch=True,
)
context.run_migrations()
