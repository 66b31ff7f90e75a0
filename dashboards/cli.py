"""`lawn-tune report` and `lawn-tune dashboard`, which this package adds to the command line by entry points."""

from __future__ import annotations

import logging
import os
import shlex
import threading
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dashboards import report as page
from dashboards.report.static_site import doubled, entry, file_name, missing, page_path, render_index
from lawn_tune.cli.compare import as_given, comparison_of
from lawn_tune.cli.ledger import bars, counts
from lawn_tune.cli.options import Storage, parsed
from lawn_tune.cli.printing import writing
from lawn_tune.cli.source import elsewhere, launched, option, reading, reading_space, refuse_bundle
from lawn_tune.errors import LedgerError, UsageError
from lawn_tune.ledger import Ledger
from lawn_tune.ledger.bundle import write_bundle
from lawn_tune.settings import DASHBOARD_TOKEN, kinds, resolve
from lawn_tune.storage import masked
from lawn_tune.words import count

SHORTEST_TOKEN = 16
"""Characters of a token that cannot be guessed, if they are random."""


def report(
    space: Annotated[
        str | None,
        typer.Argument(metavar="SPACE", help="Name of a space, its TOML file, or a bundle; --site can do without."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write.  [lawn-report-SPACE.FORMAT]")
    ] = None,
    storage: Storage = None,
    format: Annotated[page.Format, typer.Option("--format", help="A page, or its contents as text or data.")] = "html",
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="With --format md: draw its figures there as SVG.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="Write the space's rows of the ledger there instead."),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option("--site", metavar="DIR", help="Write a folder for any static host: a list, and a page a space."),
    ] = None,
) -> None:
    """Write one self-contained HTML page: verdicts, tables, figures, caveats, protocol. It loads nothing.

    With --format md or json the same contents for a text or another program, without figures unless --figures is given.
    With --bundle everything in the ledger about the space; 'compare', 'report' and 'ledger import' read that file.

    \b
    Examples:
      lawn-tune report quickstart
      lawn-tune report movielens_100k --output movielens.html
      lawn-tune report movielens_100k --format md --figures figures
      lawn-tune report movielens_100k --bundle movielens_100k.bundle
      lawn-tune report movielens_100k.bundle
      lawn-tune report --site public
    """
    if sum(given is not None for given in (bundle, site, output)) > 1:
        raise UsageError("--output, --bundle and --site exclude each other", "Give one of them.")
    if figures is not None and (format != "md" or bundle or site):
        raise UsageError("--figures are those of a report in Markdown", "Add --format md, or leave out --figures.")
    if site is not None:
        return _write_site(space, site, storage)
    if space is None:
        raise UsageError("report: no SPACE was given", "Name one, or write all of them: lawn-tune report --site DIR.")
    if bundle is not None:
        return _write_bundle(space, bundle, storage)
    with reading_space(space, storage) as (ledger, name):
        comparison = as_given(comparison_of(ledger, name, storage), space, storage)
        path = output or default_path(comparison.space, format)
        drawn: dict[Path, str] = {}
        if figures is None:
            text = page.report(ledger, comparison, elsewhere(storage), format)
        else:
            folder = Path(os.path.relpath(figures, path.parent)).as_posix()
            text, named = page.illustrated(ledger, comparison, folder, elsewhere(storage))
            drawn = {figures / name: figure for name, figure in named.items()}
    for place, figure in drawn.items():
        _put(place, figure, "--figures")
    with writing(path):
        page.save(text, path)
    typer.echo(f"wrote {path} ({size(len(text.encode()))}){f' and {len(drawn)} figures' if drawn else ''}")


def dashboard(
    storage: Storage = None,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", metavar="PORT", parser=parsed(kinds.whole(0, 65535)), help="Port; 0 takes a free one."),
    ] = 8050,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Name by which browsers reach it; may be repeated."),
    ] = None,
    base_path: Annotated[
        str, typer.Option("--base-path", metavar="PATH", help="Path at which browsers find it behind a proxy.")
    ] = "/",
    trusted_proxy: Annotated[
        str | None,
        typer.Option("--trusted-proxy", metavar="ADDRESS", help="Proxy whose X-Forwarded-For and -Proto are believed."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help=f"File with the viewers' token; else {DASHBOARD_TOKEN}."),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Serve the results as a local web page that follows running studies. It is read-only. Ctrl-C stops it.

    An address other than loopback requires a token of at least 16 characters, in a file or a variable; viewers enter it
    once. Traffic is not encrypted: put a TLS proxy in front, or use a tunnel: ssh -L 8050:127.0.0.1:8050 HOST.
    docs/dashboard.md has the configuration of nginx, Caddy and SSH.

    \b
    Examples:
      lawn-tune dashboard
      lawn-tune dashboard --storage postgresql://reader@db/lawn --port 0 --open
      lawn-tune dashboard --host 0.0.0.0 --allow-host box.lan --token-file token
    """
    from dashboards.web import address_options
    from dashboards.web.app import create_app  # slow to load, and `report` does without
    from dashboards.web.hosts import is_loopback
    from dashboards.web.security import Access
    from dashboards.web.serve import address, guarded, listen, serve, server
    from dashboards.web.snapshot import Snapshots

    names, proxy = address_options.allowed_hosts(allow_host or (), host), address_options.trusted_proxy(trusted_proxy)
    path = address_options.base_path(base_path)
    token = read_token(token_file)
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host}: others can reach this address, so the dashboard requires a token",
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe())' > token.txt; "
            f"then --token-file token.txt, or set {DASHBOARD_TOKEN}.",
        )
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    shown = masked(resolve({"storage": storage}).storage)
    with reading(storage) as ledger, listen(host, port) as listening:
        source = Snapshots(
            ledger,
            lambda: drivers(ledger),
            storage=option(storage),
            shown=shown,
            base_path=path,
        )
        guard = guarded(create_app(source), Access(hosts=names, token=token))
        page_url = address(listening) + f"{path}/".lstrip("/")

        def started() -> None:
            typer.echo(f"ledger     {shown}")
            typer.echo(f"dashboard  {page_url}  (Ctrl-C stops it)")
            threading.Thread(target=source.warm, daemon=True).start()
            if open_browser:
                webbrowser.open(page_url)

        serve(server(guard, listening, proxy), started)


def _write_site(space: str | None, folder: Path, storage: str | None) -> None:
    """Writes one page after the other, then the list of them: it never leads to a page that is not there."""
    if space is not None:
        refuse_bundle(space, ", and --site reads a ledger", f"Write its page: lawn-tune report {shlex.quote(space)}.")
    entries = []
    with reading(storage) as ledger:
        names = ledger.spaces() if space is None else (launched(ledger, space, storage),)
        for name, other in doubled(names):
            raise UsageError(f"--site: spaces '{name}' and '{other}' have one file name", "Give one SPACE a folder.")
        for name in names:
            try:
                comparison = replace(comparison_of(ledger, name, storage), storage=option(storage))
            except (LedgerError, UsageError) as error:
                entries.append(missing(name, error.message))
                continue
            _put(folder / page_path(name), page.report(ledger, comparison, elsewhere(storage)))
            entries.append(entry(comparison))
    _put(folder / "index.html", render_index(entries))
    typer.echo(f"wrote {folder / 'index.html'} and {count(sum(bool(found.page) for found in entries), 'report')}")


def _put(path: Path, text: str, option: str = "--site") -> None:
    with writing(path, option, "folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        page.save(text, path)


def _write_bundle(space: str, path: Path, storage: str | None) -> None:
    refuse_bundle(space, " already", f"Copy it: {shlex.join(('cp', space, str(path)))}")
    with reading(storage) as ledger:
        name = launched(ledger, space, storage)
    with bars() as progress:
        done = write_bundle(resolve({"storage": storage}).storage, name, path, progress)
    typer.echo(f"wrote {path} ({size(path.stat().st_size)}): {counts(done.rows)}")
    typer.echo(f"sha256 {done.digest}")


def size(n: int) -> str:
    """Returns a file's size in kB or MB."""
    return f"{n / 1e6:.1f} MB" if n >= 1e5 else f"{n / 1e3:.0f} kB"


def drivers(ledger: Ledger) -> dict[str, tuple[str, bool]]:
    """Returns cell → (host:pid, alive) of the drivers that hold cells."""
    return {str(cell): (lease.owner, lease.active) for cell, lease in ledger.leases().items()}


def read_token(file: Path | None) -> str | None:
    """Returns the viewers' token, from the file or the variable; None where there is neither.

    Raises:
        UsageError: the file cannot be read, or the token is shorter than 16 characters.
    """
    where = f"--token-file {file}" if file else DASHBOARD_TOKEN
    try:
        token = file.read_text(encoding="utf-8").strip() if file else os.environ.get(DASHBOARD_TOKEN, "").strip()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{where}: cannot be read: {getattr(error, 'strerror', error)}", "Give another file."
        ) from None
    if not token and file is None:
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii():
        raise UsageError(
            f"{where}: a token needs at least {SHORTEST_TOKEN} characters, all ASCII; this one has {len(token)}",
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe())'.",
        )
    return token


def default_path(space: str, format: page.Format = "html") -> Path:
    """Returns the report's name in the working directory."""
    return Path(f"lawn-report-{file_name(space)}.{format}")
