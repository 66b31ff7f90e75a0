"""The proxies of docs/dashboard.md: each block of the page in its own server, on free ports of this machine."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import typer

from dashboards import cli

PAGE = Path(__file__).parents[2] / "docs" / "dashboard.md"
NAME = "lawn.example.org"
DASHBOARD = "127.0.0.1:8050"
"""Where the page says that the dashboard is."""

PATIENCE = 30.0


def blocks(language: str) -> list[str]:
    """The blocks of the page in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def dashboard_options(number: int) -> dict[str, Any]:
    """The options of the page's nth `lawn-tune dashboard`, as the command reads them."""
    lines = [block.strip() for block in blocks("sh") if block.startswith("lawn-tune dashboard")]
    words = shlex.split(lines[number])
    app = typer.Typer()
    app.command()(cli.dashboard)
    return dict(typer.main.get_command(app).make_context("dashboard", words[2:]).params)


def program(name: str, package: str) -> str:
    """The path of a server's program; the test is skipped where it is not installed."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """The text with other ports and files; what is replaced must be there, so that the page is what is tested."""
    for before, after in changes.items():
        assert before in text, f"{before!r} is not in {text!r}"
        text = text.replace(before, after)
    return text


@contextmanager
def running(
    command: Sequence[str], ready: Callable[[], bool], log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Runs a server until the context ends; it begins when the server is ready."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(variables or {})})
        try:
            deadline = time.monotonic() + PATIENCE
            while not ready():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


def answers(port: int, tls: bool = False) -> Callable[[], bool]:
    """Whether a server accepts connections, and has its certificate."""

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port)) as plain:
                if tls:
                    _context().wrap_socket(plain, server_hostname=NAME).close()
        except OSError:
            return False
        return True

    return ready


# --- the three ways --------------------------------------------------------------------------------------------------


@contextmanager
def nginx(block: str, folder: Path) -> Iterator[int]:
    """Runs nginx with a server block, or with a `location` in the page's server block; yields its port."""
    command, port = program("nginx", "nginx-light"), free_port()
    if block.startswith("location"):
        block = re.sub(r"    location / \{.*?\n    \}\n", lambda _: block, server_block(), flags=re.DOTALL)
    certificate, key = certificates(folder)
    files = {"/etc/ssl/certs/lawn.pem": str(certificate), "/etc/ssl/private/lawn.key": str(key)}
    block = replaced(block, files | {"listen 443 ssl": f"listen 127.0.0.1:{port} ssl"})
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in NGINX_TEMPORARY)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\n{block}}}\n"
    )
    with running([command, "-c", str(config), "-e", "stderr"], answers(port, tls=True), folder / "log"):
        yield port


NGINX_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def server_block() -> str:
    """The page's server block, aimed nowhere in particular."""
    [block, *_] = blocks("nginx")
    return block


@contextmanager
def caddy(block: str, folder: Path) -> Iterator[int]:
    """Runs Caddy with a site block, with a certificate of its own making; yields its port."""
    command, port = program("caddy", "caddy"), free_port()
    local = "{\nadmin off\nlocal_certs\nskip_install_trust\nauto_https disable_redirects\n}\n"
    config = folder / "Caddyfile"
    config.write_text(local + replaced(block, {f"{NAME} {{": f"https://{NAME}:{port} {{\nbind 127.0.0.1"}))
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    run = [command, "run", "--adapter", "caddyfile", "--config", str(config)]
    with running(run, answers(port, tls=True), folder / "log", home):
        yield port


@contextmanager
def ssh(block: str, dashboard: str, folder: Path) -> Iterator[int]:
    """Runs a server of SSH, and the page's command as its client; yields the port at which the tunnel begins."""
    server, client = program("sshd", "openssh-server"), program("ssh", "openssh-client")
    make = program("ssh-keygen", "openssh-client")
    port, tunnel = free_port(), free_port()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for key in ("host", "user"):
        subprocess.run([make, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    (folder / "ssh_config").write_text(
        f"Host HOST\nHostName 127.0.0.1\nPort {port}\nUser {getpass.getuser()}\nIdentityFile {folder}/user\n"
        f"IdentitiesOnly yes\nBatchMode yes\nUserKnownHostsFile {folder}/known\nStrictHostKeyChecking accept-new\n"
        "ExitOnForwardFailure yes\n"
    )
    words = shlex.split(replaced(block, {f"8050:{DASHBOARD}": f"{tunnel}:{dashboard}"}))
    assert words[0] == "ssh"
    command = [client, "-F", str(folder / "ssh_config"), *words[1:]]
    with (
        running([server, "-D", "-e", "-f", str(folder / "sshd_config")], answers(port), folder / "sshd.log"),
        running(command, answers(tunnel), folder / "ssh.log"),
    ):
        yield tunnel


@cache
def certificates(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    certificate, key = folder / "lawn.pem", folder / "lawn.key"
    openssl = program("openssl", "openssl")
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-days", "2"]
    make = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *subject]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


# --- a client --------------------------------------------------------------------------------------------------------


class Client:
    """A browser without pages: it knows the address at which the dashboard is, and keeps the cookie.

    Args:
        origin: "https://lawn.example.org:8443"; every name is this machine.
    """

    def __init__(self, origin: str) -> None:
        self.origin, self.cookie = origin, ""
        self._scheme, _, self._host = origin.partition("://")
        self._name, _, self._port = self._host.partition(":")

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, HTTPResponse, bytes]:
        """Sends a request as a page of the dashboard does, and returns status, answer and its body."""
        with socket.create_connection(("127.0.0.1", int(self._port)), timeout=PATIENCE) as plain:
            connection = HTTPConnection(self._name)
            connection.sock = _context().wrap_socket(plain, server_hostname=self._name) if self.secure else plain
            sent = {"Host": self._host, "Accept": "text/html", "Connection": "close"} | headers
            sent |= {"Origin": self.origin} if method == "POST" else {}
            sent |= {"Cookie": self.cookie} if self.cookie else {}
            connection.request(method, path, body or None, {k.replace("_", "-"): v for k, v in sent.items()})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
        return answer.status, answer, content

    @property
    def secure(self) -> bool:
        return self._scheme == "https"


@cache
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
