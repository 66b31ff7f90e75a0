"""The split files of NCF: the split by hand, candidates as given, and what is wrong with a broken file."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.fabricated import NcfFiles, ncf_files
from tests.helpers.tasks import RANKING
from trainables.data import DataError
from trainables.workloads import ncf_files as reader
from trainables.workloads.interactions import Interactions, tie_hash

CPU = torch.device("cpu")
Pairs = set[tuple[int, int]]


def pairs(part: Interactions) -> Pairs:
    found = list(zip(part.users.tolist(), part.items.tolist(), strict=True))
    assert len(set(found)) == len(found)
    return set(found)


def by_hand(files: NcfFiles) -> tuple[Pairs, Pairs, Pairs]:
    """Training, validation and test pairs, one user at a time."""
    train, validation, test = set(), set(), {(user, item) for user, item, *_ in files.test}
    for user, _ in test:
        rows = [(item, time) for other, item, _, time in files.train if other == user]
        mine = [(time, int(tie_hash(np.array([user]), np.array([item]))[0]), item) for item, time in rows]
        items = [(user, item) for *_, item in sorted(mine)]
        if len(items) > 1:
            validation.add(items.pop())
        train.update(items)
    return train, validation, test


@pytest.mark.parametrize("timed", [True, False])
def test_the_split_equals_one_made_by_hand_in_any_order_of_rows(timed: bool, tmp_path: Path) -> None:
    files = ncf_files(timed=timed)
    expected = by_hand(files)
    random.Random(5).shuffle(files.train)
    files.write(tmp_path / "ncf" / "set")
    splits, given = reader.read_splits(f"{tmp_path}/ncf/set")
    assert (pairs(splits.train), pairs(splits.validation), pairs(splits.test)) == expected
    assert splits.train.users.tolist() == sorted(splits.train.users.tolist())
    assert given.items.tolist() == [[pair[1], *row] for pair, row in zip(files.test, files.negatives, strict=True)]
    for row, valid in zip(given.items.tolist(), given.valid.tolist(), strict=True):
        assert valid == [item not in row[:place] for place, item in enumerate(row)]


def test_an_item_that_a_row_repeats_is_no_rival_of_itself(tmp_path: Path) -> None:
    files = ncf_files(timed=False)
    files.write(tmp_path / "ncf" / "pinterest-20")
    workload = reader.build(replace(RANKING, dataset="pinterest"), tmp_path, CPU)
    tested = torch.zeros(40, 130)
    for user, item, *_ in files.test:
        tested[user, item] = 1
    evaluation = workload.evaluate(lambda users, items: tested[users, items].unsqueeze(0), "test")
    assert evaluation.metrics["ndcg@10"].tolist() == [100]


def test_a_user_without_a_test_row_is_only_trained_on(tmp_path: Path) -> None:
    files = ncf_files(timed=True)
    del files.test[9], files.negatives[9]
    files.write(tmp_path / "set")
    splits, _ = reader.read_splits(f"{tmp_path}/set")
    mine = {(user, item) for user, item, *_ in files.train if user == 9}
    assert mine
    assert mine <= pairs(splits.train)


def write(files: NcfFiles, folder: Path) -> Path:
    files.write(folder / "set")
    return folder / "set"


def edited(part: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(stem: Path) -> None:
        path = stem.with_name(f"{stem.name}.{part}")
        path.write_bytes(edit(path.read_bytes()))

    return apply


def row(part: str, number: int, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        lines[number - 1] = edit(lines[number - 1])
        return b"".join(lines)

    return edited(part, change)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "training cut inside a row": (
        edited("train.rating", lambda c: c[: c.rindex(b"\t")]),
        r"train\.rating must contain rows",
    ),
    "training in UTF-16": (
        edited("train.rating", lambda c: c.decode().encode("utf-16")),
        r"train\.rating must contain rows",
    ),
    "a byte order mark": (edited("train.rating", lambda c: b"\xef\xbb\xbf" + c), r"train\.rating must contain rows"),
    "a negative training item": (
        row("train.rating", 4, lambda r: r.replace(b"\t", b"\t-", 1)),
        r"train\.rating: row 4 has a negative number",
    ),
    "a training item far beyond": (
        row("train.rating", 4, lambda r: r.replace(b"\t", b"\t99999", 1)),
        r"train\.rating: users and items must be numbered from 0",
    ),
    "nothing to train on": (
        edited("train.rating", lambda c: b""),
        r"train\.rating must contain rows .* got 0 columns and 0 rows",
    ),
    "no training file": (
        lambda stem: stem.with_name("set.train.rating").unlink(),
        r"train\.rating must contain rows .*No such file",
    ),
    "no test file": (
        lambda stem: stem.with_name("set.test.rating").unlink(),
        r"test\.rating must contain rows .*No such file",
    ),
    "no negatives": (
        lambda stem: stem.with_name("set.test.negative").unlink(),
        r"test\.negative cannot be read: .*No such file",
    ),
    "a test user that nobody trains on": (
        row("test.rating", 40, lambda r: b"4000" + r),
        r"test\.negative: row 40 is not of the pair",
    ),
    "a test row twice": (
        edited("test.rating", lambda c: c + c.splitlines(keepends=True)[0]),
        r"test\.negative must have one line for each of 41 test rows, has 40",
    ),
    "a test row less": (
        edited("test.rating", lambda c: b"".join(c.splitlines(keepends=True)[1:])),
        r"one line for each of 39 test rows, has 40",
    ),
    "negatives cut inside a line": (
        edited("test.negative", lambda c: c[: c.rindex(b"\t")]),
        r"test\.negative: row 40 has another number of negatives than line 1, 99",
    ),
    "negatives cut after a line": (
        edited("test.negative", lambda c: b"".join(c.splitlines(keepends=True)[:-1])),
        r"one line for each of 40 test rows, has 39",
    ),
    "one negative less": (
        row("test.negative", 7, lambda r: r[: r.rindex(b"\t")] + b"\n"),
        r"row 7 has another number of negatives",
    ),
    "negatives of another pair": (
        row("test.negative", 7, lambda r: r.replace(b"(6,", b"(5,")),
        r"row 7 is not of the pair in the same row",
    ),
    "an unknown negative": (
        row("test.negative", 7, lambda r: r.rstrip() + b"0000\n"),
        r"test\.negative: row 7 is not of users 0 to 39 and items 0 to 129",
    ),
    "a negative just beyond": (
        row("test.negative", 7, lambda r: r[: r.rindex(b"\t")] + b"\t130\n"),
        r"test\.negative: row 7 is not of users 0 to 39 and items 0 to 129",
    ),
    "letters among negatives": (
        row("test.negative", 7, lambda r: r.replace(b"\t", b"\tx", 1)),
        r"test\.negative: row 7 must be '\(user,item\)'",
    ),
    "an empty line among negatives": (
        row("test.negative", 7, lambda r: b"\n" + r),
        r"one line for each of 40 test rows, has 41",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_what_is_wrong(
    damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    stem = write(ncf_files(timed=True), tmp_path)
    damage(stem)
    with pytest.raises(DataError, match=message) as caught:
        reader.read_splits(str(stem))
    assert str(tmp_path) in str(caught.value)
    assert "Fetch it again" in str(caught.value)


def changed(change: Callable[[NcfFiles], object]) -> NcfFiles:
    files = ncf_files(timed=True)
    change(files)
    return files


def one_item_each(files: NcfFiles) -> None:
    """One training item for each user but the last, who is not tested and has all others."""
    files.train[:] = [[user, user, 1, 0] for user in range(39)] + [[39, item, 1, 0] for item in range(39, 130)]
    del files.test[39], files.negatives[39]


CONTRADICTIONS: dict[str, tuple[Callable[[NcfFiles], object], str]] = {
    "a test user beyond": (
        lambda files: files.test.__setitem__(39, [40, 1, 1, 0]),
        r"test\.rating: row 40 is not of users 0 to 39",
    ),
    "a user tested twice": (
        lambda files: files.test.__setitem__(39, [5, 1, 1, 0]),
        r"test\.rating: row 40 is the second of its user",
    ),
    "tested and trained on": (
        lambda files: files.train.append(files.test[5]),
        r"test\.rating: row 6 is in .*train\.rating as well",
    ),
    "nobody validates": (one_item_each, r"train\.rating: no tested user has two items"),
}


@pytest.mark.parametrize(("change", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_files_that_contradict_each_other_are_refused(
    change: Callable[[NcfFiles], object], message: str, tmp_path: Path
) -> None:
    files = ncf_files(timed=True)
    change(files)
    with pytest.raises(DataError, match=message):
        reader.read_splits(str(write(files, tmp_path)))
