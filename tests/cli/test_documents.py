"""Every JSON document has exactly the fields that docs/automation.md lists, and a schema that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import dashboards.cli
import lawn_tune.cli.source
import lawn_tune.cli.status
import lawn_tune.ledger.check
import lawn_tune.ledger.copying
import lawn_tune.ledger.importing
from lawn_tune.cli.checks import Check
from lawn_tune.cli.doctor import command as doctor
from lawn_tune.cli.main import app
from lawn_tune.cli.notifying import Notices
from lawn_tune.ledger import Lease, open_ledger
from lawn_tune.ledger.check import Damage
from tests.helpers.memory_ledger import QUICKSTART, MemoryLedger
from tests.helpers.memory_source import demo_source

PAGE = (Path(__file__).parents[2] / "docs/automation.md").read_text().partition("## Documents")[2]
LISTED: dict[str, list[str]] = {
    name: [path for cells in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for path in re.findall("`(.*?)`", cells)]
    for name, text in re.findall(r"^### `(.*?)`\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
"""Schema → the paths of its fields, as the page has them."""


@pytest.fixture(autouse=True)
def _sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands read, in memory and in a new folder."""
    monkeypatch.chdir(tmp_path)
    leased = MemoryLedger(QUICKSTART)
    leased.held[QUICKSTART[0].name] = Lease(owner="node:1", expires="2026-11-24T06:00:00+00:00", active=True)
    compared = demo_source(epochs=20)
    compared.planned = [replace(cell, about=("A study",)) for cell in compared.planned]
    compared.rows[0] = replace(compared.rows[0], provenance={"python": "3", "libraries": {"a": "1"}, "device": "cpu"})

    def reading(source: Any) -> Callable[..., Any]:
        @contextmanager
        def read(*_: Any) -> Iterator[Any]:
            yield source

        return read

    monkeypatch.setattr(lawn_tune.cli.status, "reading", reading(leased))
    for module in (lawn_tune.cli.source, dashboards.cli):
        monkeypatch.setattr(module, "reading", reading(compared))
    monkeypatch.setattr(doctor, "PARTS", (lambda _: [Check("python", "ok", "3")],))
    damage = Damage(space="s", cell="c", row="r", why="w", repair="p")
    monkeypatch.setattr(lawn_tune.ledger.check, "check", lambda _: (7, [damage]))
    done = SimpleNamespace(source="a", target="b", rows={"lawn_trials": 1}, studies=1, digest="0", space="s")
    monkeypatch.setattr(lawn_tune.ledger.copying, "copy_ledger", lambda *_: done)
    imported = SimpleNamespace(bundle=done, target="b", added={"lawn_trials": 1})
    monkeypatch.setattr(lawn_tune.ledger.importing, "import_bundle", lambda *_: imported)
    open_ledger("sqlite:///lawn-tune.db").close()
    Path("runs.csv").write_text("method,validation,lr\nadam,90,0.1\n")


def notice() -> str:
    with Notices(("tee", "notice"), ["a"], "sqlite:///x", print) as notices:
        notices.diverged(QUICKSTART[0], "search", 2, 3)
    return Path("notice").read_text().splitlines()[0]


def printed(*arguments: str) -> Callable[[], str]:
    return lambda: CliRunner().invoke(app, arguments).stdout


def reported() -> str:
    result = CliRunner().invoke(app, ["report", "movielens_100k", "--format", "json", "--output", "report.json"])
    assert result.exit_code == 0, result.output
    return Path("report.json").read_text()


WRITERS: dict[str, Callable[[], str]] = {
    "lawn-tune/notice/1": notice,
    "lawn-tune/status/2": printed("status", "--json"),
    "lawn-tune/plan/1": printed("plan", "quickstart", "--json", "--workers", "2", "--detect", "0.5"),
    "lawn-tune/comparison/2": printed("compare", "movielens_100k", "--format", "json"),
    "lawn-tune/times/2": printed("compare", "movielens_100k", "--times", "--format", "json"),
    "lawn-tune/report/3": reported,
    "lawn-tune/doctor/1": printed("doctor", "--json"),
    "lawn-tune/data/1": printed("data", "list", "--json"),
    "lawn-tune/check/1": printed("ledger", "check", "--json"),
    "lawn-tune/copy/1": printed("ledger", "copy", "sqlite:///a.db", "sqlite:///b.db", "--json"),
    "lawn-tune/import/1": printed("ledger", "import", "x.bundle", "--json"),
    "lawn-tune/runs/1": printed("import", "runs.csv", "--json"),
    "lawn-tune/upgrade/1": printed("ledger", "upgrade", "--json"),
    "export --format json": printed("export", "movielens_100k", "--format", "json"),
}


def test_every_document_is_listed_and_every_listed_one_is_written() -> None:
    assert list(WRITERS) == list(LISTED)
    source = "".join(path.read_text() for path in Path(lawn_tune.cli.__file__).parents[1].rglob("*.py"))
    names = {*re.findall(r'print_json\(\s*"([\w/]+)"', source), *re.findall(r'= "lawn-tune/([\w/]+)"', source)}
    assert {f"lawn-tune/{name}" for name in names} <= set(LISTED)


def paths(value: Any, at: str = "") -> Iterator[str]:
    """The path of every value; groups that are empty have their own."""
    inner = list(value.items()) if isinstance(value, dict) else [("[]", each) for each in value or ()]
    for name, each in inner:
        path = f"{at}[]" if name == "[]" else f"{at}.{name}".removeprefix(".")
        yield from paths(each, path) if isinstance(each, dict | list) and each else [path]


@pytest.mark.parametrize("name", WRITERS)
def test_a_document_has_the_fields_that_the_page_lists(name: str) -> None:
    document = json.loads(WRITERS[name]())
    if isinstance(document, dict):
        assert document.pop("schema") == name
    found = set(paths(document))
    rules = {path: re.compile(re.escape(path).replace(r"\*", ".+")) for path in LISTED[name]}
    empty = {path for path in found if any(listed.startswith((f"{path}.", f"{path}[]")) for listed in rules)}
    unlisted = {path for path in found - empty if not any(rule.fullmatch(path) for rule in rules.values())}
    assert not unlisted
    missing = {path for path, rule in rules.items() if not any(map(rule.fullmatch, found))}
    assert not {path for path in missing if re.sub(r"\.\*$|\[\]\.\w+$", "", path) not in empty}
