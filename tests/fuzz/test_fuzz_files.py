"""Files of users, broken in every way: each is read, or refused by an error that names the file and says what to do."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import search_spaces
from lawn_tune.cells import Cell
from lawn_tune.planning.plan import plan_all
from search_spaces.loader import load_space
from search_spaces.published import load_tables
from search_spaces.space import SpaceError
from tests.helpers.fabricated import ncf_files
from tests.helpers.tasks import IMAGES, RANKING
from trainables.data import DataError, check
from trainables.workloads import fashion_mnist, movielens
from trainables.workloads import ncf_files as split_files

HERE = Path(search_spaces.__file__).parent
SPACES = sorted(path.read_text() for path in HERE.glob("*.toml"))
TABLES = (HERE / "paper" / "tables.toml").read_text()

LITERALS = (
    *("0", "-1", "-0.0", "1e999", "nan", "-inf", "1" + "0" * 400, "2147483648", "9223372036854775808", "true", "0x10"),
    *('""', '" "', '"\\u0000"', '"ü💡"', '"../x"', '"adam"', '"sgd-lawn"', '"a\\nb"', "'" + "x" * 5_000 + "'"),
    *("[]", "{}", "{a = 1}", "[{}]", "[[1]]", "[1, [2]]", "[nan]", "[true]", '["1"]', "[1, 1.0]", "[1e308, 1e-308]"),
    *("1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "[1e-400]", "[5e-324]", "[" * 300 + "]" * 300, "[1", ""),
)
LINES = (
    *("[optimizers.adam.x]", "[model]", "[a.b.c]", "[[budgets]]", "[[seeds]]", "[optimizers]", "[[optimizers]]"),
    *("x.y.z = 1", '"" = 1', '"\\u0000" = 1', '[""]', '[optimizers."a b"]', "\0", "= 1", "a", "[", '"""'),
)
TOKENS = (
    *(b"", b"-1", b"0", b"1e3", b"9223372036854775807", b"9223372036854775808", b"nan", b"\xff", b"\0", b"#", b"1.5"),
    *(b" 7 ", b"\r", b"\t", b"1\t2", b"x", b"\n\n", "٣".encode(), b"1_000", b'"1"', b"+5", b"\xef\xbb\xbf1", b"#1"),
)


def mutated(text: str, draw: random.Random) -> str:
    """A TOML file with one to three mistakes of the kinds that people make, and some that nobody makes."""
    lines = text.split("\n")
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
        _mistakes(lines, i, j, draw)[draw.randrange(6)]()
        lines = lines or [""]
    return "\n".join(lines)


def _mistakes(lines: list[str], i: int, j: int, draw: random.Random) -> tuple[Callable[[], None], ...]:
    def value() -> None:
        keys = [k for k, line in enumerate(lines) if "=" in line and not line.startswith("#")]
        for k in keys and [draw.choice(keys)]:
            lines[k] = f"{lines[k].partition('=')[0]}= {draw.choice(LITERALS)}"

    def letter() -> None:
        at = draw.randrange(len(lines[i]) + 1)
        lines[i] = lines[i][:at] + chr(draw.choice((0, 1, 9, 34, 39, 46, 91, 92, 93, 123, 0xFFFE))) + lines[i][at + 1 :]

    def swap() -> None:
        lines[i], lines[j] = lines[j], lines[i]

    def cut() -> None:
        del lines[i + 1 :]

    return value, value, letter, swap, lambda: lines.insert(i, draw.choice((lines[j], *LINES))), cut


def refuses(action: Callable[[], object], path: Path, *errors: type[Exception]) -> bool:
    """Does it; True if it was refused by an error that names the file and ends in a sentence."""
    try:
        action()
    except errors as error:
        told = str(error)
        assert str(path) in told
        assert told.rstrip("`").endswith(".") or "`lawn-tune data fetch" in told
        assert len(told) < 1_500
        return True
    return False


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# --- TOML -------------------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(text=st.sampled_from(SPACES), draw=st.randoms(use_true_random=False))
def test_a_space_is_planned_or_refused(text: str, draw: random.Random, folder: Path) -> None:
    path = folder / "space.toml"
    path.write_text(mutated(text, draw), encoding="utf-8")

    def plan() -> None:
        for cell in plan_all([load_space(path)]):
            assert Cell.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell
            assert cell.grid.size == len(cell.search_trials) / len(cell.protocol.search_seeds) or cell.grid.size > 200

    refuses(plan, path, SpaceError)


@settings(max_examples=100)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_what_is_no_space_is_refused(content: bytes, folder: Path) -> None:
    path = folder / "other.toml"
    path.write_bytes(content)
    assert refuses(lambda: load_space(path), path, SpaceError)


@settings(max_examples=60)
@given(draw=st.randoms(use_true_random=False))
def test_the_papers_tables_are_read_or_refused(draw: random.Random, folder: Path) -> None:
    path = folder / "tables.toml"
    path.write_text(mutated(TABLES, draw), encoding="utf-8")
    refuses(lambda: load_tables(path), path, SpaceError)


# --- data -------------------------------------------------------------------------------------------------------------

RATINGS = [(user, item, 1 + item % 5, 7 * item % 11) for user in range(1, 31) for item in range(user, 120, 7)]


def broken(draw: random.Random) -> bytes:
    """Rows of user, item, rating and time, some of them wrong."""
    rows = ["\t".join(map(str, row)).encode() for row in RATINGS[: draw.choice((0, 1, 2, 3, 60, len(RATINGS)))]]
    for _ in range(draw.choice((1, 1, 2, 5)) if rows else 0):
        i, kind = draw.randrange(len(rows)), draw.randrange(4)
        cells = rows[i].split(b"\t")
        cells[draw.randrange(len(cells))] = draw.choice(TOKENS)
        instead = (b"\t".join(cells), rows[i].replace(b"\t", draw.choice((b",", b" ", b"::", b"\t\t"))))
        rows[i] = (*instead, draw.choice(TOKENS), draw.choice(rows))[kind]
    return draw.choice((b"\n", b"\n", b"\r\n")).join(rows)


@settings(max_examples=150)
@given(draw=st.randoms(use_true_random=False))
def test_interactions_are_read_or_refused(draw: random.Random, folder: Path) -> None:
    path = folder / "ml-100k" / "u.data"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(broken(draw))
    cpu = torch.device("cpu")
    refuses(lambda: movielens.build(RANKING, folder, cpu).epoch(torch.Generator()), path, DataError)
    assert check("movielens-100k", folder).state == "broken"


@settings(max_examples=80)
@given(draw=st.randoms(use_true_random=False))
def test_split_files_are_read_or_refused(draw: random.Random, folder: Path) -> None:
    ncf_files(timed=True, users=8, items=30, negatives=5).write(folder / "ncf" / "pinterest-20")
    path = draw.choice(sorted((folder / "ncf").iterdir()))
    lines = path.read_bytes().splitlines()
    for _ in range(draw.choice((1, 1, 2))):
        i, cells = draw.randrange(len(lines)), draw.choice(lines).split(b"\t")
        cells[draw.randrange(len(cells))] = draw.choice(TOKENS)
        lines[i] = draw.choice((b"\t".join(cells), lines[i][: draw.randrange(20)], draw.choice(lines)))
    path.write_bytes(b"\n".join(lines[: draw.choice((len(lines), draw.randrange(len(lines) + 1)))]))
    task = replace(RANKING, dataset="pinterest")
    # The file with the fault is named, or the one that it contradicts.
    stem = folder / "ncf" / "pinterest-20"
    refuses(lambda: split_files.build(task, folder, torch.device("cpu")).epoch(torch.Generator()), stem, DataError)


def test_rows_behind_a_number_sign_are_not_left_out(folder: Path) -> None:
    path = folder / "ml-100k" / "u.data"
    path.parent.mkdir(exist_ok=True)
    path.write_text("1\t2\t3\t4\n#1\t3\t3\t4\n1\t4\t3\t4\n1\t5\t3\t4\n")
    assert refuses(lambda: movielens.build(RANKING, folder, torch.device("cpu")), path, DataError)


def image_files() -> dict[str, bytes]:
    """The four files of a data set with 40 and 20 images, in the IDX format."""
    found = {}
    for stem, count in (("train", 40), ("t10k", 20)):
        head = bytes((0, 0, 8))
        sizes = [n.to_bytes(4, "big") for n in (count, 28, 28)]
        found[f"{stem}-images-idx3-ubyte"] = head + b"\3" + b"".join(sizes) + bytes(count * 28 * 28)
        found[f"{stem}-labels-idx1-ubyte"] = head + b"\1" + sizes[0] + bytes(i % 10 for i in range(count))
    return found


@settings(max_examples=80)
@given(draw=st.randoms(use_true_random=False))
def test_images_are_read_or_refused(draw: random.Random, folder: Path) -> None:
    raw, files = folder / "FashionMNIST" / "raw", image_files()
    raw.mkdir(parents=True, exist_ok=True)
    name = draw.choice(sorted(files))
    content = bytearray(files[name])
    for _ in range(draw.choice((1, 2))):
        content[draw.randrange(24)] = draw.choice((0, 1, 2, 3, 4, 8, 9, 10, 127, 128, 255))
    cut = draw.choice((None, None, 0, 3, 4, 7, 8, 15, 16, 17, -1))
    for file, whole in (files | {name: bytes(content[:cut])}).items():
        (raw / file).write_bytes(whole)
    refuses(lambda: fashion_mnist.build(IMAGES, folder, torch.device("cpu")), raw, DataError)
