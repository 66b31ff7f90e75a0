"""MovieLens: the split by time, negatives, candidates, HR - against brute force on small files."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.helpers.fabricated import write_rows
from tests.helpers.tasks import RANKING
from trainables.data import DataError
from trainables.tasks import Task, TrainOn, model_config
from trainables.workloads import negatives
from trainables.workloads.interactions import Interactions, leave_latest_out, read_interactions, tie_hash
from trainables.workloads.negatives import LISTED, NegativeSampler, candidates
from trainables.workloads.ranking import Ranking

CPU = torch.device("cpu")
Rows = list[tuple[int, int, int, int]]


def write(folder: Path, rows: Rows) -> Path:
    path = folder / "u.data"
    write_rows(path, rows)
    return path


def some_rows(seed: int = 0, users: int = 150, items: int = 140) -> Rows:
    """Users and items with gaps in their ids, many equal timestamps, and two users with fewer than three rows."""
    draw = random.Random(seed)
    rows = []
    for user in range(users):
        count = (2, 1)[user] if user < 2 else draw.randint(3, 30)
        for item in draw.sample(range(items), count):
            rows.append((3 * user + 5, 2 * item + 1, draw.randint(1, 5), draw.randint(0, 6)))
    return rows


def movielens(path: Path, train_on: TrainOn = "train") -> Ranking:
    return Ranking(replace(RANKING, train_on=train_on), leave_latest_out(read_interactions(path)), CPU)


def pairs(interactions: Interactions) -> set[tuple[int, int]]:
    return set(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def split_by_hand(rows: Rows) -> tuple[set[tuple[int, int]], set[tuple[int, int]], set[tuple[int, int]]]:
    users, items = (sorted({row[column] for row in rows}) for column in (0, 1))
    train, validation, test = set(), set(), set()
    for number, user in enumerate(users):
        mine = [row for row in rows if row[0] == user]
        mine.sort(key=lambda row: (row[3], int(tie_hash(np.array([row[0]]), np.array([row[1]]))[0])))
        ordered = [(number, items.index(row[1])) for row in mine]
        if len(ordered) >= 3:
            test.add(ordered.pop())
            validation.add(ordered.pop())
        train.update(ordered)
    return train, validation, test


def test_the_split_equals_one_made_by_hand(tmp_path: Path) -> None:
    rows = some_rows()
    splits = leave_latest_out(read_interactions(write(tmp_path, rows)))
    assert (pairs(splits.train), pairs(splits.validation), pairs(splits.test)) == split_by_hand(rows)


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    rows = some_rows()
    seen = []
    for attempt in range(3):
        workload = movielens(write(tmp_path, rows))
        epoch = workload.epoch(torch.Generator().manual_seed(1))
        seen.append((*epoch, *workload.probe_examples(), *asked(workload, "validation"), *asked(workload, "test")))
        random.Random(attempt).shuffle(rows)
    for other in seen[1:]:
        assert all(a.equal(b) for a, b in zip(seen[0], other, strict=True))


def test_the_latest_of_repeated_pairs_is_kept(tmp_path: Path) -> None:
    rows = [(1, 1, 5, 10), (1, 2, 5, 20), (1, 3, 5, 30), (1, 4, 5, 5), (1, 1, 5, 99)]
    splits = leave_latest_out(read_interactions(write(tmp_path, rows)))
    assert (pairs(splits.train), pairs(splits.validation), pairs(splits.test)) == ({(0, 3), (0, 1)}, {(0, 2)}, {(0, 0)})


def test_ties_favor_no_item() -> None:
    items = np.arange(1, 201)
    latest = [items[tie_hash(np.full(200, user), items).argmax()] for user in range(1, 501)]
    assert abs(np.mean(latest) - items.mean()) < 4 * items.std() / 500**0.5


def asked(workload: Ranking, split: str) -> tuple[Tensor, Tensor]:
    """The inputs that `evaluate` passes to a model: users and items, one row of candidates each."""
    users: list[Tensor] = []
    items: list[Tensor] = []

    def predict(user: Tensor, item: Tensor) -> Tensor:
        users.append(user)
        items.append(item)
        return torch.zeros(1, len(user))

    evaluation = workload.evaluate(predict, "test" if split == "test" else "validation")
    rows = evaluation.hits.shape[1]
    return torch.cat(users).view(rows, -1), torch.cat(items).view(rows, -1)


@pytest.mark.parametrize("train_on", ["train", "train+validation"])
def test_an_epoch_has_every_positive_once_and_no_positive_as_a_negative(tmp_path: Path, train_on: TrainOn) -> None:
    path = write(tmp_path, some_rows())
    train, validation, test = (pairs(part) for part in vars(leave_latest_out(read_interactions(path))).values())
    expected = train if train_on == "train" else train | validation
    users, items, labels = movielens(path, train_on).epoch(torch.Generator().manual_seed(3))
    drawn = list(zip(users.tolist(), items.tolist(), strict=True))
    positive = [pair for pair, label in zip(drawn, labels.tolist(), strict=True) if label == 1]
    negative = [pair for pair, label in zip(drawn, labels.tolist(), strict=True) if label == 0]
    assert sorted(positive) == sorted(expected)
    assert sorted(user for user, _ in negative) == sorted(4 * [user for user, _ in expected])
    assert not set(negative) & expected
    assert not set(positive) & test
    assert set(negative) & test  # their absence among the negatives would give them away


@pytest.mark.parametrize("split", ["validation", "test"])
def test_candidates_are_the_positive_and_99_unknown_items(tmp_path: Path, split: str) -> None:
    path = write(tmp_path, some_rows())
    everything = read_interactions(path)
    parts = vars(leave_latest_out(everything))
    users, items = asked(movielens(path), split)
    known = pairs(everything)
    assert items.shape[1] == 100
    assert set(zip(users[:, 0].tolist(), items[:, 0].tolist(), strict=True)) == pairs(parts[split])
    for user, row in zip(users.tolist(), items.tolist(), strict=True):
        assert len(set(user)) == 1
        assert len(set(row)) == 100
        assert not known & {(user[0], item) for item in row[1:]}


def test_perfect_constant_and_nan_predictors(tmp_path: Path) -> None:
    path = write(tmp_path, some_rows())
    for split in ("validation", "test"):
        truth = pairs(vars(leave_latest_out(read_interactions(path)))[split])

        def predict(users: Tensor, items: Tensor, truth: set[tuple[int, int]] = truth) -> Tensor:
            perfect = [float(pair in truth) for pair in zip(users.tolist(), items.tolist(), strict=True)]
            constant, nothing = torch.zeros(len(users)), torch.full((len(users),), torch.nan)
            return torch.stack([torch.tensor(perfect), constant, nothing])

        evaluation = movielens(path).evaluate(predict, "test" if split == "test" else "validation")
        assert evaluation.metrics["hr@10"].tolist() == [100, 0, 0]
        assert evaluation.metrics["ndcg@10"].tolist() == [100, 0, 0]
        assert evaluation.hits.float().mean(dim=1).tolist() == [1, 0, 0]
        assert evaluation.ece is None


def test_metrics_are_those_of_ranking_each_user_alone(tmp_path: Path) -> None:
    workload = movielens(write(tmp_path, some_rows()))
    users, items = asked(workload, "test")
    assert len(users) > 64  # more than one call
    evaluation = workload.evaluate(lambda u, i: torch.sin(7.0 * u + 13.0 * i).unsqueeze(0), "test")
    scores = torch.sin(7.0 * users + 13.0 * items)
    ranks = [(row[1:] >= row[0]).sum().item() for row in scores]
    assert evaluation.hits[0].tolist() == [rank < 10 for rank in ranks]
    assert evaluation.outcomes[0].tolist() == [min(rank, 10) for rank in ranks]
    assert evaluation.metrics["hr@10"].item() == pytest.approx(100 * np.mean([rank < 10 for rank in ranks]))
    gains = [1 / np.log2(rank + 2) if rank < 10 else 0 for rank in ranks]
    assert evaluation.metrics["ndcg@10"].item() == pytest.approx(100 * np.mean(gains))


@given(st.data())
def test_negatives_are_exactly_the_items_without_an_interaction(data: st.DataObject) -> None:
    user_count, item_count = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 7))
    own = [data.draw(st.sets(st.integers(0, item_count - 1), max_size=item_count - 1)) for _ in range(user_count)]
    have = [(user, item) for user, items in enumerate(own) for item in data.draw(st.permutations(sorted(items)))]
    users, items = torch.tensor(have, dtype=torch.long).view(-1, 2).T
    lists = {}
    for listed in (0, LISTED):
        with mock.patch.object(negatives, "LISTED", listed):
            sampler = NegativeSampler(Interactions(users, items, user_count, item_count), CPU)
        lists[listed] = sampler.draw(torch.arange(user_count), 200, torch.Generator().manual_seed(0)).tolist()
    assert lists[0] == lists[LISTED]
    assert [set(row) for row in lists[0]] == [set(range(item_count)) - items for items in own]


def test_negatives_are_uniform() -> None:
    have = Interactions(torch.tensor([0, 1, 1, 1]), torch.tensor([3, 0, 4, 9]), 2, 10)
    drawn = NegativeSampler(have, CPU).draw(torch.tensor([1]), 70_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn.flatten(), minlength=10)
    assert (counts > 0).tolist() == [item not in (0, 4, 9) for item in range(10)]
    assert (counts[counts > 0] - 10_000).abs().max() < 5 * (10_000 * 6 / 7) ** 0.5


def test_few_items_are_all_ranked(tmp_path: Path) -> None:
    rows = [(1, item, 1, item) for item in range(1, 9)] + [(2, item, 1, item) for item in (1, 2, 3, 9, 12)]
    everything = read_interactions(write(tmp_path, rows))
    splits = leave_latest_out(everything)
    found = candidates(splits.test, everything, seed=1)
    lacking = [{8, 9}, {3, 4, 5, 6, 7}]
    for row, valid, lacks in zip(found.items.tolist(), found.valid.tolist(), lacking, strict=True):
        assert {item for item, is_valid in zip(row[1:], valid[1:], strict=True) if is_valid} == lacks
        assert sum(valid) == 1 + len(lacks)
    workload = movielens(tmp_path / "u.data")
    best = workload.evaluate(lambda u, i: (i == 9).float().unsqueeze(0), "test")  # user 2's item, and not user 1's
    assert best.metrics["ndcg@10"].item() == pytest.approx(100 * (1 + 1 / np.log2(2 + 2)) / 2)


def test_a_user_with_every_item_is_reported(tmp_path: Path) -> None:
    rows = [(1, item, 1, item) for item in (1, 2, 3)] + [(2, item, 1, item) for item in (1, 2)]
    everything = read_interactions(write(tmp_path, rows))
    with pytest.raises(DataError, match="user number 0 has interacted with all 3 items"):
        candidates(leave_latest_out(everything).test, everything, seed=1)
    with pytest.raises(DataError, match="user number 0 has interacted with all 3 items"):
        NegativeSampler(everything, CPU)


def test_no_user_to_evaluate_is_an_error(tmp_path: Path) -> None:
    everything = read_interactions(write(tmp_path, [(1, 1, 1, 1), (1, 2, 1, 2), (2, 3, 1, 1)]))
    with pytest.raises(DataError, match="no user has three interactions"):
        leave_latest_out(everything)


@pytest.mark.parametrize("text", ["1\t2\t3\n", "1\t2\t3\tx\n", "a,b,c,d\n", "", "1\t2\t3\t4\n1\t2\n"])
def test_a_file_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "u.data"
    path.write_text(text)
    with pytest.raises(
        DataError, match=r"u\.data must contain rows of 4 whole numbers \(user, item, rating, timestamp\)"
    ):
        read_interactions(path)


def test_movielens_rejects_another_model(tmp_path: Path) -> None:
    task = Task(
        dataset="movielens-100k", model=model_config("small-vgg"), loss="bce", optimizer="adam", batch_size=64, epochs=1
    )
    workload = Ranking(task, leave_latest_out(read_interactions(write(tmp_path, some_rows()))), CPU)
    with pytest.raises(ValueError, match="model 'small-vgg' is for images"):
        workload.build_model()


def test_ratings_of_both_releases_are_read_alike(tmp_path: Path) -> None:
    rows = some_rows()
    tabs = read_interactions(write(tmp_path, rows))
    write_rows(tmp_path / "ratings.dat", rows, "::")
    colons = read_interactions(tmp_path / "ratings.dat", "::")
    assert (tabs.users.tolist(), tabs.items.tolist()) == (colons.users.tolist(), colons.items.tolist())
    assert (tabs.user_count, tabs.item_count) == (colons.user_count, colons.item_count)


@pytest.mark.parametrize(
    "content",
    [b"1\t2\t3\t4\n", b"1::2\t3::4\n", b"1:2:3:4\n", b"1::2::3\n", b"1::2::3::4\n1::2::", b"1::2::3::\xe9\n", b""],
    ids=["tabs", "one tab", "single colons", "three columns", "cut", "latin-1", "nothing"],
)
def test_ratings_with_other_separators_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"ratings\.dat must contain rows of 4 whole numbers \(.*\) separated by '::'"):
        read_interactions(path, "::")


def test_popularity_ranks_by_the_interactions_that_are_not_tested(tmp_path: Path) -> None:
    splits = leave_latest_out(read_interactions(write(tmp_path, some_rows())))
    known = pairs(splits.train) | pairs(splits.validation)
    count = [sum(item == other for _, other in known) for item in range(splits.train.item_count)]
    for mode in ("train", "train+validation"):
        workload = movielens(tmp_path / "u.data", mode)
        scored = workload.evaluate(lambda _, items: torch.tensor(count)[items].unsqueeze(0), "test")
        expected = {name: values.item() for name, values in scored.metrics.items()}
        assert workload.references() == {"itempop": pytest.approx(expected, abs=1e-4)}


def test_nothing_is_as_large_as_many_users_times_items() -> None:
    """A table of these counts would have 10^12 entries."""
    items = torch.arange(3)
    have = Interactions(torch.tensor([0, 5, 999_999]), items, 1_000_000, 1_000_000)
    drawn = NegativeSampler(have, CPU).draw(have.users, 50, torch.Generator().manual_seed(0))
    assert (drawn != items.unsqueeze(1)).all()
    found = candidates(have, have, seed=1)
    assert found.valid.all()
    assert (found.items[:, 1:] != items.unsqueeze(1)).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_an_epoch_there_from_the_seed_alone(tmp_path: Path) -> None:
    device = torch.device("cuda")
    splits = leave_latest_out(read_interactions(write(tmp_path, some_rows())))
    workloads = [Ranking(RANKING, splits, place) for place in (device, device, CPU)]
    first, second, ours = (workload.epoch(torch.Generator().manual_seed(3)) for workload in workloads)
    assert all(a.is_cuda and a.equal(b) for a, b in zip(first, second, strict=True))
    assert sorted(zip(*(part.tolist() for part in (first[0], first[2])), strict=True)) == sorted(
        zip(*(part.tolist() for part in (ours[0], ours[2])), strict=True)
    )
