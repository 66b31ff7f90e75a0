"""The split files that accompany NCF: training pairs, test pairs and the test's negatives, as published."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data import DataError
from trainables.tasks import Task
from trainables.workloads.integer_tables import AGAIN, read_table
from trainables.workloads.interactions import Ids, Interactions, Splits, latest_pairs
from trainables.workloads.negatives import Candidates
from trainables.workloads.ranking import Ranking

NEGATIVES_LINE = re.compile(rb"\((\d{1,9}),(\d{1,9})\)((?:\t\d{1,9})+)")
"""A test pair and the items that it is ranked among: "(0,25)", then one number after each tab."""


TRAIN, TEST, NEGATIVE = ".train.rating", ".test.rating", ".test.negative"


def build(task: Task, data_dir: Path, device: torch.device) -> Ranking:
    """Returns the workload of split files; see `read_splits`.

    Args:
        task: what is trained; the first file of its data set's row is the training file, the others lie next to it.
        data_dir: folder of the data sets.
        device: where the data will be.

    Raises:
        DataError: the files cannot be used; the message gives the reason.
    """
    stem = str(data_dir / task.dataset_row.files[0].path).removesuffix(TRAIN)
    splits, given = read_splits(stem)
    try:
        return Ranking(task, splits, device, {"test": given})
    except DataError as error:
        raise DataError(f"{stem}.*: {error}.") from error


def read_splits(stem: str) -> tuple[Splits, Candidates]:
    """Reads the three files whose paths begin with `stem` and end with `TRAIN`, `TEST` and `NEGATIVE`.

    Users and items are numbered from 0 by the files; the highest numbers in the training file say how many there are.
    Of a repeated training pair the latest is kept. A user without a test row is only trained on. The latest training
    item of each other user validates, if it is not the only one; where the files carry no time, all times are equal,
    so it is a fixed random one.

    Returns:
        The splits, and the candidates of the test as given. An item that a row repeats counts once: the test item of
        156 rows of MovieLens-1M is among its own negatives.

    Raises:
        DataError: a file does not have its form, or the files contradict each other.
    """
    files = [Path(stem + part) for part in (TRAIN, TEST, NEGATIVE)]
    users, items, times = _read_pairs(files[0])
    counts = int(users.max()) + 1, int(items.max()) + 1
    pairs = np.stack(_read_pairs(files[1])[:2])
    negatives = _read_negatives(files[2], pairs)
    known = np.stack(latest_pairs(users, items, times))
    _demand_consistent(files, counts, known, pairs, negatives)
    train, test = (
        Interactions(torch.from_numpy(users), torch.from_numpy(items), *counts) for users, items in (known, pairs)
    )
    validates = _validating(train, test)
    if not validates.any():
        raise DataError(f"{files[0]}: no tested user has two items, so that one could validate. {AGAIN}")
    splits = Splits(train=train.where(~validates), validation=train.where(validates), test=test)
    return splits, _candidates(test, torch.from_numpy(negatives))


def _read_pairs(path: Path) -> tuple[Ids, Ids, Ids]:
    """Returns users, items and times, which are all 0 where the file has none."""
    table = read_table(path, "user, item, rating and optionally a timestamp", (3, 4))
    _demand(path, table >= 0, "has a negative number")
    times = table[:, 3] if table.shape[1] == 4 else np.zeros(len(table), dtype=np.int64)
    return table[:, 0], table[:, 1], times


def _read_negatives(path: Path, pairs: Ids) -> Ids:
    """Returns the negatives [E, N] of the test pairs [2, E], which the lines repeat in the same order."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. {AGAIN}") from error
    if len(lines) != pairs.shape[1]:
        raise DataError(f"{path} must have one line for each of {pairs.shape[1]} test rows, has {len(lines)}. {AGAIN}")
    found = [NEGATIVES_LINE.fullmatch(line) for line in lines]
    _demand(path, np.array([match is not None for match in found]), "must be '(user,item)' and items, each after a tab")
    matches = [match for match in found if match is not None]
    own = np.array([(int(match[1]), int(match[2])) for match in matches]).T
    _demand(path, (own == pairs).T, "is not of the pair in the same row of the test file")
    width = np.array([match[3].count(b"\t") for match in matches])
    _demand(path, width == width[0], f"has another number of negatives than line 1, {width[0]}")
    text = b"".join(match[3] for match in matches).decode()
    return np.fromstring(text, dtype=np.int64, sep="\t").reshape(len(lines), width[0])


def _demand_consistent(files: list[Path], counts: tuple[int, int], known: Ids, pairs: Ids, negatives: Ids) -> None:
    """Checks that the files speak of the same users and items, for pairs [2, P] of training and [2, E] of test."""
    if max(counts) > known.shape[1]:
        raise DataError(f"{files[0]}: users and items must be numbered from 0, got up to {max(counts) - 1}. {AGAIN}")
    named = f"is not of users 0 to {counts[0] - 1} and items 0 to {counts[1] - 1}, those of {files[0]}"
    _demand(files[1], np.array(counts) > pairs.T, named)
    _demand(files[2], negatives < counts[1], named)
    _demand(files[1], _first_of_each(pairs[0]), "is the second of its user")
    trained, tested = (np.ravel_multi_index(tuple(part), counts) for part in (known, pairs))
    _demand(files[1], ~np.isin(tested, trained), f"is in {files[0]} as well")


def _demand(path: Path, good: NDArray[np.bool_], reason: str) -> None:
    """Raises an error that names the first row of which something is not good, [rows, ...]."""
    if not good.all():
        raise DataError(f"{path}: row {int(np.argwhere(~good)[0][0]) + 1} {reason}. {AGAIN}")


def _first_of_each(users: Ids) -> NDArray[np.bool_]:
    """Says of each row whether its user is in none before it, [E]."""
    first = np.zeros(len(users), dtype=np.bool_)
    first[np.unique(users, return_index=True)[1]] = True
    return first


def _validating(train: Interactions, test: Interactions) -> Tensor:
    """Says of each training pair whether it is the last of several of a tested user, bool [P]."""
    count = torch.bincount(train.users, minlength=train.user_count)
    tested = torch.zeros(train.user_count, dtype=torch.bool)
    tested[test.users] = True
    last = count.cumsum(0)[train.users] - 1 == torch.arange(len(train))
    return last & (tested & (count >= 2))[train.users]


def _candidates(test: Interactions, negatives: Tensor) -> Candidates:
    """Returns the positive and its negatives as given; an item that is in its row before is not valid."""
    items = torch.cat([test.items.unsqueeze(1), negatives], dim=1)
    by_item, order = items.sort(dim=1, stable=True)
    repeats = torch.zeros(items.shape, dtype=torch.bool)
    repeats[:, 1:] = by_item[:, 1:] == by_item[:, :-1]
    return Candidates(test.users, items, ~torch.zeros_like(repeats).scatter(1, order, repeats))
