"""Checking and fetching data sets, with a local server that also truncates, corrupts and rejects downloads."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lawn_tune.cli import launch
from lawn_tune.cli.data import app
from lawn_tune.errors import DataError as ServiceError
from lawn_tune.errors import UsageError
from lawn_tune.executors.slots import Slots
from lawn_tune.settings import resolve
from tests.helpers.memory_source import make_cell
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.rows import DataFile, Dataset
from trainables.data import DataError, MissingDataError, check, fetch, fetch_once, missing_data, require

RATINGS = b"2\t1\t5\t20\n1\t1\t4\t10\n1\t2\t3\t11\n"
IMAGES = b"\0\0\x08\x01" + bytes(range(200)) * 400


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tarred(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, held in (("README", b"not wanted"), (member, content)):
            info = tarfile.TarInfo(name)
            info.size = len(held)
            archive.addfile(info, io.BytesIO(held))
    return buffer.getvalue()


def zipped(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("README", "not wanted")
        archive.writestr(member, content)
    return buffer.getvalue()


@dataclass
class Site:
    """A server with archives by name; those in `cut` end half-way."""

    address: str
    archives: dict[str, bytes]
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            here.asked.append(name)
            if name not in here.archives:
                self.send_error(404)
                return
            body = here.archives[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if name in here.cut else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Site(
        f"http://127.0.0.1:{server.server_address[1]}",
        {
            "set.zip": zipped("set/u.data", RATINGS),
            "set.tar.gz": tarred("set/u.data", RATINGS),
            "images.gz": gzip.compress(IMAGES),
            "labels.gz": gzip.compress(b"labels"),
        },
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield here
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def sources(site: Site) -> dict[str, Dataset]:
    ordered = sha256(b"".join(sorted(RATINGS.splitlines(keepends=True))))
    images_md5 = "md5:" + hashlib.md5(site.archives["images.gz"]).hexdigest()
    files = {
        "zip": (DataFile(path="set/u.data", url=f"{site.address}/set.zip", sha256=ordered, any_order=True),),
        "tar": (DataFile(path="set/u.data", url=f"{site.address}/set.tar.gz", sha256=ordered, any_order=True),),
        "gz": (
            DataFile(
                path="raw/images", url=f"{site.address}/images.gz", sha256=sha256(IMAGES), archive_hash=images_md5
            ),
            DataFile(path="raw/labels", url=f"{site.address}/labels.gz", sha256=sha256(b"labels")),
        ),
    }
    plain = DATASETS["digits"]
    return {name: replace(plain, name=name, files=those, package="") for name, those in files.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_data_set_has_a_file_twice() -> None:
    for row in DATASETS.values():
        assert len({file.path for file in row.files}) == len(row.files)


@pytest.mark.parametrize("name", ["zip", "tar", "gz"])
def test_fetch_brings_the_files_and_nothing_else(name: str, tmp_path: Path, sources: dict[str, Dataset]) -> None:
    assert check(name, tmp_path / "new", sources).state == "missing"
    assert fetch(name, tmp_path / "new", known=sources).state == "ready"
    expected = {"raw/images": IMAGES, "raw/labels": b"labels"} if name == "gz" else {"set/u.data": RATINGS}
    assert contents(tmp_path / "new") == expected
    require(name, tmp_path / "new", sources)


def test_ready_files_are_not_fetched_again(tmp_path: Path, site: Site, sources: dict[str, Dataset]) -> None:
    fetch("gz", tmp_path, known=sources)
    fetch("gz", tmp_path, known=sources)
    (tmp_path / "raw" / "labels").unlink()
    fetch("gz", tmp_path, known=sources)
    assert site.asked == ["images.gz", "labels.gz", "labels.gz"]


def test_of_several_threads_one_fetches_a_data_set(tmp_path: Path, site: Site, sources: dict[str, Dataset]) -> None:
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda _: fetch_once("zip", tmp_path, sources), range(4)))
    assert sorted(fetched) == [False, False, False, True]
    assert site.asked == ["set.zip"]
    assert check("zip", tmp_path, sources).state == "ready"


def test_a_damaged_file_is_broken_and_fetch_replaces_it(tmp_path: Path, sources: dict[str, Dataset]) -> None:
    fetch("zip", tmp_path, known=sources)
    (tmp_path / "set" / "u.data").write_bytes(RATINGS[:-1] + b"0\n")
    assert check("zip", tmp_path, sources).state == "broken"
    with pytest.raises(DataError, match=r"'zip' is damaged .*u\.data.* Fetch it again: `lawn-tune data fetch zip"):
        require("zip", tmp_path, sources)
    assert fetch("zip", tmp_path, known=sources).state == "ready"


def test_only_the_order_of_ratings_may_differ(tmp_path: Path, sources: dict[str, Dataset]) -> None:
    path = tmp_path / "set" / "u.data"
    path.parent.mkdir()
    lines = RATINGS.splitlines(keepends=True)
    states = {}
    for name, text in {"turned": lines[::-1], "short": lines[1:], "twice": [*lines, lines[0]]}.items():
        path.write_bytes(b"".join(text))
        states[name] = check("zip", tmp_path, sources).state
    assert states == {"turned": "ready", "short": "broken", "twice": "broken"}


@pytest.mark.parametrize("before", [{}, {"raw/images": b"old"}], ids=["nothing before", "damaged before"])
@pytest.mark.parametrize("fault", ["broken off", "another content", "no archive", "not there", "wrong md5"])
def test_a_failed_download_changes_nothing_and_its_error_has_instructions(
    fault: str, before: dict[str, bytes], tmp_path: Path, site: Site, sources: dict[str, Dataset]
) -> None:
    # The second file fails, after the first was downloaded.
    if fault == "broken off":
        site.cut.add("labels.gz")
    elif fault == "another content":
        site.archives["labels.gz"] = gzip.compress(b"Labels")
    elif fault == "no archive":
        site.archives["labels.gz"] = b"<html>Log in first</html>"
    elif fault == "not there":
        del site.archives["labels.gz"]
    else:
        site.archives["images.gz"] = gzip.compress(IMAGES, 1)
    for path, content in before.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    with pytest.raises(DataError, match="'gz' could not be fetched") as caught:
        fetch("gz", tmp_path, known=sources)
    assert contents(tmp_path) == before
    for needed in (f"{site.address}/labels.gz", str(tmp_path / "raw/labels"), f"data check gz --data-dir {tmp_path}"):
        assert needed in str(caught.value)


@pytest.mark.parametrize("fault", ["broken off", "other member", "truncated", "no archive"])
@pytest.mark.parametrize(("name", "archive", "pack"), [("zip", "set.zip", zipped), ("tar", "set.tar.gz", tarred)])
def test_a_failed_archive_changes_nothing(
    name: str,
    archive: str,
    pack: Callable[[str, bytes], bytes],
    fault: str,
    tmp_path: Path,
    site: Site,
    sources: dict[str, Dataset],
) -> None:
    if fault == "broken off":
        site.cut.add(archive)
    elif fault == "other member":
        site.archives[archive] = pack("elsewhere/u.data", RATINGS)
    elif fault == "truncated":
        site.archives[archive] = site.archives[archive][:-40]
    else:
        site.archives[archive] = b"<html>Log in first</html>"
    with pytest.raises(DataError, match=f"'{name}' could not be fetched"):
        fetch(name, tmp_path, known=sources)
    assert contents(tmp_path) == {}


def test_a_file_may_be_known_by_another_checksum_and_need_no_unpacking(tmp_path: Path, site: Site) -> None:
    # All are of b"hello\n", as md5sum, sha1sum and git hash-object print them.
    for checksum in (
        "md5:b1946ac92492d2347c6235b4d2611184",
        "sha1:f572d396fae9206628714fb2ce00f72e94f2258f",
        "git:ce013625030ba8dba906f756967f9e9ca394464a",
    ):
        file = DataFile(path="plain/hello", url=f"{site.address}/hello", checksum=checksum)
        known = {"plain": replace(DATASETS["digits"], name="plain", files=(file,), package="")}
        site.archives["hello"] = b"Hello\n"
        with pytest.raises(DataError, match="differs from the published content"):
            fetch("plain", tmp_path, known=known)
        site.archives["hello"] = b"hello\n"
        assert fetch("plain", tmp_path, known=known).state == "ready"
        (tmp_path / "plain" / "hello").write_bytes(b"hello")
        assert check("plain", tmp_path, known).state == "broken"


def test_an_unreachable_server_and_a_folder_that_cannot_be_made(tmp_path: Path, sources: dict[str, Dataset]) -> None:
    (file,) = sources["zip"].files
    gone = {"zip": replace(sources["zip"], files=(replace(file, url="http://127.0.0.1:9/set.zip"),))}
    with pytest.raises(DataError, match="could not be fetched"):
        fetch("zip", tmp_path, known=gone)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be fetched"):
        fetch("zip", tmp_path / "file", known=sources)


def test_a_bar_counts_every_byte(tmp_path: Path, site: Site, sources: dict[str, Dataset]) -> None:
    class Bar:
        total, seen, closed = 0, 0, False

        def update(self, count: int) -> None:
            self.seen += count

        def reset(self) -> None:
            self.seen = 0

        def close(self) -> None:
            self.closed = True

    bars: dict[str, Bar] = {}
    fetch("gz", tmp_path, lambda name: bars.setdefault(name, Bar()), sources)
    sizes = {name: len(site.archives[name]) for name in ("images.gz", "labels.gz")}
    assert {name: (bar.total, bar.seen, bar.closed) for name, bar in bars.items()} == {
        name: (size, size, True) for name, size in sizes.items()
    }


@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS[name].files])
def test_missing_data_names_command_place_and_address(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        require(name, tmp_path)
    assert str(caught.value) == str(missing_data(name, tmp_path))
    for needed in (f"`lawn-tune data fetch {name} --data-dir {tmp_path}`", DATASETS[name].files[0].url):
        assert needed in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_first_missing_file_is_expected_or_one_that_appeared_meanwhile(
    tmp_path: Path, sources: dict[str, Dataset]
) -> None:
    for name, file, gone in (("gz", "raw/labels", True), ("gz", "raw/images", False), ("zip", "set/u.data", False)):
        fetch(name, tmp_path, known=sources)
        if gone:
            (tmp_path / file).unlink()
        assert f"(expected {tmp_path / file}). Fetch it: `" in str(missing_data(name, tmp_path, sources))


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("ml-100k/u.data.gz", "unpack it as"),
        ("ml-100k.zip", "unpack it as"),
        ("ML-100K/U.DATA", "move it to"),
        ("ml-100k/ml-100k/u.data", "move it to"),
        ("u.data", "move it to"),
    ],
)
def test_a_file_that_may_be_the_missing_one_is_named(place: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(RATINGS)
    with pytest.raises(MissingDataError) as caught:
        require("movielens-100k", tmp_path)
    assert f"There is {tmp_path / place}: {advice} {tmp_path / 'ml-100k/u.data'}." in str(caught.value)


def test_a_folder_that_cannot_exist_is_one_without_data() -> None:
    for folder in ("x" * 300, "y/" * 3_000):
        with pytest.raises(MissingDataError, match="is not in "):
            require("movielens-100k", Path(folder))


def test_a_data_set_is_known_by_the_digests_of_its_files() -> None:
    digests = [row.digest for row in DATASETS.values() if row.digest]
    assert len(set(digests)) == len(digests)
    assert DATASETS["movielens-100k"].digest == DATASETS["movielens-100k"].files[0].sha256
    first, *rest = DATASETS["fashion-mnist"].files
    changed = replace(DATASETS["fashion-mnist"], files=(replace(first, sha256=sha256(b"")), *rest))
    assert changed.digest not in digests
    assert all(len(digest) == 64 for digest in digests)
    assert all(row.digest for row in DATASETS.values() if row.files)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    sources = {"packaged": replace(DATASETS["digits"], package="no_such_package")}
    assert check("packaged", tmp_path, sources).state == "missing"
    with pytest.raises(MissingDataError, match=r"part of no_such_package; pip install 'lawn-tune\[train\]'"):
        require("packaged", tmp_path, sources)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    for ask in (check, require, missing_data, fetch):
        with pytest.raises(DataError, match=r"data set must be one of synthetic, .*, got 'cifar'"):
            ask("cifar", tmp_path)


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, sources: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a command line whose MovieLens comes from the server."""
    for name in ("LAWN_TUNE_DATA_DIR", "LAWN_TUNE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cast(dict[str, Dataset], DATASETS), "movielens-100k", sources["zip"])
    return tmp_path / "data"


def test_list_fetch_and_check(served: Path) -> None:
    run = CliRunner()
    states = {row["name"]: row["state"] for row in json.loads(run.invoke(app, ["list", "--json"]).stdout)["datasets"]}
    missing = {name for name in DATASETS if not DATASETS[name].bundled}
    assert states == {name: "missing" if name in missing else "ready" for name in DATASETS}
    before = run.invoke(app, ["check", "movielens-100k", "--json"])
    assert isinstance(before.exception, ServiceError)
    assert json.loads(before.stdout)["datasets"][0]["state"] == "missing"
    assert run.invoke(app, ["fetch", "movielens-100k"]).exit_code == 0
    assert contents(served) == {"set/u.data": RATINGS}
    assert run.invoke(app, ["check", "movielens-100k"]).exit_code == 0
    every = run.invoke(app, ["check", "--all", "--json"])
    assert isinstance(every.exception, ServiceError)
    assert len(json.loads(every.stdout)["datasets"]) == len(DATASETS)


def test_the_folder_comes_from_flag_or_variable(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner()
    monkeypatch.setenv("LAWN_TUNE_DATA_DIR", str(tmp_path / "by variable"))
    run.invoke(app, ["fetch", "movielens-100k"])
    run.invoke(app, ["fetch", "movielens-100k", "--data-dir", str(tmp_path / "by flag")])
    assert set(contents(tmp_path)) == {"by variable/set/u.data", "by flag/set/u.data"}


def test_a_fetch_that_fails_is_a_data_error_with_the_manual_download(served: Path, site: Site) -> None:
    site.archives.clear()
    result = CliRunner().invoke(app, ["fetch", "movielens-100k"])
    assert isinstance(result.exception, ServiceError)
    assert f"{site.address}/set.zip" in str(result.exception)
    assert contents(served) == {}


@pytest.mark.parametrize("words", [["check"], ["check", "digits", "--all"], ["check", "cifar"], ["fetch", "cifar"]])
def test_misuse_names_the_data_sets(words: list[str], served: Path) -> None:
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UsageError)
    assert all(name in str(result.exception.hint) for name in DATASETS)


def test_an_unusual_split_is_said_in_the_list_and_by_a_launch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = CliRunner().invoke(app, ["list"]).stdout
    assert all(row.splits in text for row in DATASETS.values())
    unusual = [row for row in DATASETS.values() if row.splits]
    assert unusual
    monkeypatch.setattr(launch, "run_launch", lambda *_, **__: None)
    cell = make_cell()
    cells = [replace(cell, task=replace(cell.task, dataset=name)) for name in DATASETS]
    launch._launch(cells, resolve({"fetch_data": True}), Console(stderr=True), Slots(count=1, cpus=1, gpus=0.0))
    shown = capsys.readouterr().err
    assert [name for name in DATASETS if f"data set '{name}': " in shown] == [row.name for row in unusual]


def test_missing_files_are_counted_and_named(tmp_path: Path) -> None:
    one, several = (check(name, tmp_path).detail for name in ("movielens-100k", "cifar-100"))
    assert one == f"missing file {tmp_path}/ml-100k/u.data"
    assert several == f"missing files {tmp_path}/cifar-100-binary/train.bin, {tmp_path}/cifar-100-binary/test.bin"


def test_help_has_examples() -> None:
    for words, example in ((["--help"], "fetch"), (["fetch", "--help"], "lawn-tune data fetch movielens-100k")):
        assert example in CliRunner().invoke(app, words).stdout
