"""Settings: which source wins, what is refused, and that no password is ever shown."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from lawn_tune.errors import UsageError
from lawn_tune.settings import FILE, SETTINGS, Settings, check_work_dir, resolve
from lawn_tune.settings.page import page
from lawn_tune.storage import StorageUrl, masked

EXAMPLES: dict[str, tuple[list[str], list[Any]]] = {
    "storage": (
        ["sqlite:///a.db", "sqlite:///b.db", "postgresql://u@h/d"],
        ["sqlite:///a.db", "sqlite:///b.db", "postgresql://u@h/d"],
    ),
    "data_dir": (["a", "b/c", "/d"], [Path("a"), Path("b/c"), Path("/d")]),
    "work_dir": (["a", "b/c", "/d"], [Path("a"), Path("b/c"), Path("/d")]),
    "checkpoints": (["/a", "file:///b", "s3://bucket/c?region=x"], ["/a", "file:///b", "s3://bucket/c?region=x"]),
    "checkpoint_seconds": (["0", "0.5", "300"], [0.0, 0.5, 300.0]),
    "checkpoint_steps": (["0", "1", "500"], [0, 1, 500]),
    "fetch_data": (["1", "no", "true"], [True, False, True]),
    "flattening": (["1", "no", "true"], [True, False, True]),
    "extend": (["1", "no", "true"], [True, False, True]),
    "workers": (["1", "2", "3"], [1, 2, 3]),
    "gpus": (["0", "1", "2"], [0, 1, 2]),
    "gpus_per_trial": (["1", "2", "8"], [1, 2, 8]),
    "executor": (["inline", "ray", "auto"], ["inline", "ray", "auto"]),
    "ray_address": (["auto", "head:6379", "[::1]:1"], ["auto", "head:6379", "[::1]:1"]),
    "progress_timeout": (["0", "0.5", "300"], [0.0, 0.5, 300.0]),
    "pack_size": (["1", "2", "3"], [1, 2, 3]),
    "retries": (["0", "1", "2"], [0, 1, 2]),
    "max_device_hours": (["1", "0.5", "48"], [1.0, 0.5, 48.0]),
    "deadline": (["8h", "1h30m", "18:30"], [timedelta(hours=8), timedelta(hours=1.5), time(18, 30)]),
    "notify": (["a", "b -c", "sh -c 'd e'"], [("a",), ("b", "-c"), ("sh", "-c", "d e")]),
}
"""Setting → three texts, and the values they stand for."""

BAD = {
    "storage": ["", "lawn-tune.db", "/tmp/x.db"],
    "data_dir": [""],
    "work_dir": [""],
    "checkpoints": ["", "http://host/x", "s3://key@bucket/x"],
    "checkpoint_seconds": ["-1", "soon", ""],
    "checkpoint_steps": ["-1", "0.5", "many", ""],
    "fetch_data": ["maybe", ""],
    "flattening": ["maybe", ""],
    "extend": ["maybe", ""],
    "workers": ["0", "-1", "two", "1.5", "", "1000000", "٣"],
    "gpus": ["-1", "all", ""],
    "gpus_per_trial": ["0", "3", "-2", "two", ""],
    "executor": ["Ray", "slurm", ""],
    "ray_address": ["head", "two words", ""],
    "progress_timeout": ["-1", "soon", ""],
    "pack_size": ["0", "-1", "two", ""],
    "retries": ["-1", "many", ""],
    "max_device_hours": ["0", "-1", "8h", "inf", ""],
    "deadline": [
        *("8", "h", "8h later", "tomorrow", "2026-13-01", "", "25:61", "18:30:00.5"),
        *("999999d", "3651d", "999999d" * 2_000, "0001-01-01", "9999-12-31T23:59", "9999-12-31T23:59-12:00"),
    ],
    "notify": ["", " "],
}


def test_the_table_the_value_and_the_examples_have_the_same_names() -> None:
    names = [setting.name for setting in SETTINGS]
    assert names == [field.name for field in fields(Settings)] == list(EXAMPLES) == list(BAD)
    assert all(setting.help.endswith(".") for setting in SETTINGS)


def test_the_page_on_settings_is_what_their_declarations_make_of_it() -> None:
    assert (Path(__file__).parents[2] / "docs/settings.md").read_text() == page()


def test_defaults(tmp_path: Path) -> None:
    found = resolve(environ={}, directory=tmp_path)
    assert found == Settings(**{setting.name: setting.default for setting in SETTINGS})
    assert found.storage == "sqlite:///lawn-tune.db"
    assert (found.data_dir, found.work_dir) == (Path("data"), Path(".lawn-tune"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path, name: str) -> None:
    (filed, varied, flagged), values = EXAMPLES[name]
    environ = {f"LAWN_TUNE_{name.upper()}": varied}
    (tmp_path / FILE).write_text(f'{name} = "{filed}"\n')
    assert getattr(resolve({name: None}, environ={}, directory=tmp_path), name) == values[0]
    assert getattr(resolve({name: None}, environ=environ, directory=tmp_path), name) == values[1]
    assert getattr(resolve({name: flagged}, environ=environ, directory=tmp_path), name) == values[2]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_bad_values_name_their_place_and_the_rule(tmp_path: Path, name: str, text: str) -> None:
    variable = f"LAWN_TUNE_{name.upper()}"
    (tmp_path / FILE).write_text(f'{name} = "{text}"\n')
    flag = f"--{name.replace('_', '-')}"
    for flags, environ, place in (
        ({}, {}, f"{tmp_path / FILE}: {name}: must be "),
        ({}, {variable: text}, f"{variable}: must be "),
        ({name: text}, {}, f"{flag}: must be "),
    ):
        if environ and not text:
            continue  # an empty variable counts as not set; the next test proves it
        with pytest.raises(UsageError) as caught:
            resolve(flags, environ=environ, directory=tmp_path)
        assert caught.value.message.startswith(place)
        assert f"got '{text[:100]}" in caught.value.message
        assert caught.value.hint


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    environ = {setting.variable: "" for setting in SETTINGS}
    assert resolve(environ=environ, directory=tmp_path) == resolve(environ={}, directory=tmp_path)


def test_numbers_may_be_numbers_in_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("workers = 3\ngpus = 0\n")
    found = resolve(environ={}, directory=tmp_path)
    assert (found.workers, found.gpus) == (3, 0)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("worker = 3", [f"{FILE}: worker: unknown key", "workers", "got 3", "Did you mean 'workers'?"]),
        ("workers = true", [f"{FILE}: workers: must be a text or a number", "got True"]),
        ("workers = 1.5", [f"{FILE}: workers: must be a whole number", "got 1.5"]),
        ("[storage]\nurl = 'x'", [f"{FILE}: storage: must be a text or a number", "got a table"]),
        ("workers = =", [f"{FILE}: is not valid TOML", "line 1", "Or remove the file."]),
        (f"workers = {'[' * 100_000}", [f"{FILE}: is not usable: nested too deeply"]),
        (f"x{'.x' * 2_000} = 1", [f"{FILE}: is not usable: nested too deeply"]),
        ("workers = 1979-05-27", [f"{FILE}: workers: must be a whole number", "got '1979-05-27'"]),
        ("deadline = 1979-05-27", [f"{FILE}: deadline: must be a time of the years 2000", "got '1979-05-27'"]),
        ("executor = '25:61'", [f"{FILE}: executor: must be one of", "got '25:61'"]),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError) as caught:
        resolve(environ={}, directory=tmp_path)
    whole = f"{caught.value.message} {caught.value.hint}"
    assert [part for part in parts if part not in whole] == []


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xef\xbb\xbfworkers = 3\r\n")
    assert resolve(environ={}, directory=tmp_path).workers == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18:30:00", time(18, 30)),
        ("2026-12-24", datetime(2026, 12, 24)),
        ("2026-12-24T18:30:00", datetime(2026, 12, 24, 18, 30)),
        ("2026-12-24 18:30:00Z", datetime(2026, 12, 24, 18, 30, tzinfo=UTC)),
    ],
)
def test_a_deadline_may_be_a_date_or_time_of_toml(text: str, value: object, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(f"deadline = {text}\n")
    assert resolve(environ={}, directory=tmp_path).deadline == value


@pytest.mark.parametrize(("name", "meant"), [("STORGE", "STORAGE"), ("WORKER", "WORKERS"), ("DEBUGG", "DEBUG")])
def test_a_misspelt_variable_is_refused(tmp_path: Path, name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(environ={f"LAWN_TUNE_{name}": "s3cr3t"}, directory=tmp_path)
    assert caught.value.message.startswith(f"LAWN_TUNE_{name}: unknown variable; the variables are LAWN_TUNE_STORAGE")
    assert f"Did you mean 'LAWN_TUNE_{meant}'?" in str(caught.value.hint)
    assert "s3cr3t" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize("name", ["DEBUG", "KERNELS", "DASHBOARD_TOKEN"])
def test_variables_that_are_not_settings_are_known(name: str, tmp_path: Path) -> None:
    assert resolve(environ={f"LAWN_TUNE_{name}": "1"}, directory=tmp_path) == resolve(environ={}, directory=tmp_path)


def test_a_work_dir_is_made_and_left_empty(tmp_path: Path) -> None:
    settings = replace(resolve(environ={}, directory=tmp_path), work_dir=tmp_path / "a" / "b")
    check_work_dir(settings)
    check_work_dir(settings)
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/foo"])
def test_a_work_dir_that_takes_no_files_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    settings = replace(resolve(environ={}, directory=tmp_path), work_dir=tmp_path / place)
    with pytest.raises(UsageError, match=f"{place}' cannot hold checkpoints: ") as caught:
        check_work_dir(settings)
    assert "--work-dir" in str(caught.value.hint)


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@host/db",
        f"postgresql://me:{SECRET}@{SECRET}@host/db",
        f"postgresql://:{SECRET}@host/db",
        f"postgresql://me:{SECRET}/{SECRET}@host/db",
        f"postgresql://me:{SECRET}?{SECRET}#{SECRET}@host/db",
        f"postgresql://host/db?user=me&password={SECRET}",
        f"postgresql://host/db?PASSWORD={SECRET}&sslmode=require",
        f"postgresql://host/db?sslpassword={SECRET}",
        f"me:{SECRET}@host/db",
    ],
)
def test_no_password_is_shown(tmp_path: Path, url: str) -> None:
    assert SECRET not in masked(url)
    assert "host/db" in masked(url)
    for flags, text in (
        ({"workers": url}, ""),
        ({}, f'executor = "{url}"'),
        ({}, f'nothing = "{url}"'),
        ({}, f'storage = ["{url}"]'),
        ({}, f'storage = "{url}"'),
        ({"storage": url}, ""),
    ):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UsageError) as caught:
            resolve(flags, environ={}, directory=tmp_path)
        assert SECRET not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize("place", ["flag", "variable", "file"])
def test_a_url_with_a_password_is_refused_wherever_it_is_given(tmp_path: Path, place: str) -> None:
    url = f"postgresql://me:{SECRET}@host/db"
    (tmp_path / FILE).write_text(f'storage = "{url}"' if place == "file" else "")
    flags = {"storage": url} if place == "flag" else {}
    environ = {"LAWN_TUNE_STORAGE": url} if place == "variable" else {}
    with pytest.raises(UsageError, match="a password in a storage URL is refused") as caught:
        resolve(flags, environ=environ, directory=tmp_path)
    assert SECRET not in str(caught.value)
    assert {"flag": "--storage", "variable": "LAWN_TUNE_STORAGE", "file": FILE}[place] in str(caught.value)
    assert all(way in str(caught.value.hint) for way in ("PGPASSWORD", "~/.pgpass", "?service="))


@pytest.mark.parametrize(
    "url", ["sqlite:///lawn-tune.db", "postgresql://me@host/db", "postgresql://host:5432/db?sslmode=require"]
)
def test_a_url_without_password_is_shown_whole(url: str) -> None:
    assert masked(url) == url


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///lawn-tune.db", Path.cwd() / "lawn-tune.db"),
        ("sqlite:////abs/x.db", Path("/abs/x.db")),
        ("sqlite+pysqlite:////x/y.db", Path("/x/y.db")),
        ("sqlite:///~/x.db", Path.home() / "x.db"),
        ("postgresql://me@host/db", None),
    ],
)
def test_the_file_of_an_sqlite_url(url: str, file: Path | None) -> None:
    assert StorageUrl.parse(url).file == file
