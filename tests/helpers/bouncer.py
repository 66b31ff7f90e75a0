"""A real pgbouncer before the tests' PostgreSQL server: transaction pooling over few connections."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def bouncer(server: str, folder: Path, pool: int = 3) -> Iterator[str]:
    """Yields the URL of the server's database through pgbouncer.

    Args:
        server: URL of the server.
        folder: for its configuration and log, which any user may enter.
        pool: connections to the server that all clients share.
    """
    assert PGBOUNCER is not None
    with psycopg.connect(server) as connection:
        at = connection.info
        place = f"host={at.host} port={at.port} dbname={at.dbname} user={at.user}"
        owner = Path(at.host).owner()  # who may use the server's socket
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"""[databases]
pooled = {place}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
server_connect_timeout = 1
server_login_retry = 0.1
query_wait_timeout = 60
"""
    )
    command = [PGBOUNCER, *(("-u", owner) if os.getuid() == 0 else ()), str(config)]
    with open(folder / "pgbouncer.log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            url = f"postgresql://anyone@127.0.0.1:{port}/pooled"
            _wait(url, process)
            yield url
        finally:
            process.kill()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("pgbouncer did not start; see pgbouncer.log")
