"""Several ranks of a pack have, each, the bits of one process that runs the same micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.fabricated import published, write_data
from tests.helpers.micro_batches import Twice, build, steps
from tests.helpers.rank_processes import on_ranks
from tests.helpers.tasks import CPU, RANKING, pack, point, task
from trainables import ranks
from trainables.tasks import LANES, RANKS, PackConfig
from trainables.training import trial
from trainables.training.trial import PackRun, Records
from trainables.workloads.base import in_calls

Numbers = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def numbers(config: PackConfig, data_dir: Path = Path("nowhere"), **options: Any) -> Numbers:
    """All that a training measures, without the time and memory that it takes."""
    run = PackRun(config, data_dir=data_dir, device=CPU, **options)
    records = [record for event in run if isinstance(event, Records) for record in event.records]
    measured = [dict(record.series) for record in records]
    ends = [vars(end) | {"summary": _plain(end.summary)} for end in run.outcomes or ()]
    return measured, ends


def _plain(summary: Any) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name not in ("seconds", "peak_memory_bytes")}


MICRO: dict[str, Any] = {"micro_batch": 12, "epochs": 2}
"""Four micro-batches a step of 48, of an epoch's last step two."""

CONFIGS: dict[str, Callable[[], PackConfig]] = {
    "odd micro-batches": lambda: pack(task(micro_batch=7, epochs=2), [point("adam-lawn")] * 2, [3, 4]),
    "pack that forks": lambda: pack(task(**MICRO), [point("adam-lawn", free_epochs=e) for e in (0.5, 1.0, 9.0)]),
    "switch by margins": lambda: pack(task(**MICRO), [point("adam-lawn", free_epochs=-0.05)]),
    "one member diverges": lambda: pack(task("sgd", **MICRO), [point("sgd", peak_lr=x) for x in (0.05, 1e30)]),
    "flooding": lambda: pack(task("adam-flooding", **MICRO), [point("adam-flooding")]),
    "whole batches": lambda: pack(task(epochs=2), [point("adam-lawn")]),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The bits of a CPU depend on its threads, and ranks on a CPU have one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("count", "names"), [(2, ["odd micro-batches"]), pytest.param(4, list(CONFIGS), marks=pytest.mark.long)]
)
def test_ranks_are_one_process(count: int, names: list[str], tmp_path: Path) -> None:
    found = on_ranks(count, lambda: {name: numbers(CONFIGS[name]()) for name in names}, tmp_path)
    for name in names:
        alone = numbers(CONFIGS[name]())
        assert [by_name[name] == alone for by_name in found] == [True] * count, name


def test_ranks_ask_each_other_for_a_pause_once_in_a_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LOOK", 3)
    asked, agreed = [], ranks.agreed

    def counted(*own: Any, **options: Any) -> Any:
        asked.append(own)
        return agreed(*own, **options)

    monkeypatch.setattr(ranks, "agreed", counted)

    def times() -> int:
        numbers(CONFIGS["odd micro-batches"]())
        return len(asked)

    assert on_ranks(2, times, tmp_path) == [4, 4], "in each of 2 epochs of 4 steps, after 3 of them and at the end"


def squares(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x**2, y]).unsqueeze(2)


@pytest.mark.parametrize("examples", [3, 23, 24, 25])
def test_what_ranks_compute_together_is_in_order_on_each(examples: int, tmp_path: Path) -> None:
    x = torch.arange(float(examples))

    def together() -> tuple[Tensor, int]:
        calls: list[int] = []

        def counted(*call: Tensor) -> Tensor:
            calls.append(len(call[0]))
            return squares(*call)

        return in_calls(counted, [x, -x], 4), sum(calls)

    found = on_ranks(2, together, tmp_path)
    assert all(values.equal(squares(x, -x)) for values, _ in found)
    assert sum(computed for _, computed in found) == (examples if examples > 4 else 2 * examples)


def test_a_buffer_that_ranks_cannot_combine_is_named(tmp_path: Path) -> None:
    def refusal() -> str:
        with pytest.raises(ValueError, match="--gpus-per-trial 1") as caught:
            steps(build(Twice()), 1, 2)
        return str(caught.value)

    assert all("the buffer 'mean." in text for text in on_ranks(2, refusal, tmp_path))


@pytest.mark.parametrize("count", range(1, 20))
def test_each_number_of_ranks_adds_up_in_one_order(count: int) -> None:
    """By a table of who adds what, from the rule in words: lanes i and i + 4, then i and i + 2, then 0 and 1."""
    terms = [torch.randn(3, generator=torch.Generator().manual_seed(i)) for i in range(count)]
    lanes: dict[int, list[Tensor]] = {}
    for i, term in enumerate(terms):
        lanes[i % LANES] = [lanes[i % LANES][0] + term] if i >= LANES else [term]
    by_lane = [lanes.get(i, [torch.zeros(3)])[0] for i in range(LANES)]
    pairs = [by_lane[i] + by_lane[i + 4] for i in range(4)]
    expected = (pairs[0] + pairs[2]) + (pairs[1] + pairs[3])
    assert ranks.summed(lanes, [torch.zeros(3)])[0].equal(expected)
    torch.testing.assert_close(expected, torch.stack(terms).sum(0))


def test_interactions_in_micro_batches_train_as_whole_batches(tmp_path: Path) -> None:
    """Without BatchNorm only the order of sums differs: last places of fp32, below eps, so that Adam amplifies none."""
    write_data(tmp_path)
    what = replace(RANKING, optimizer="adam-lawn")
    points = [point("adam-lawn", free_epochs=0.5, eps=1e-3)]
    with published(tmp_path):
        whole, _ = numbers(pack(what, points), tmp_path)
        parts, _ = numbers(pack(replace(what, micro_batch=9), points), tmp_path)
    for name in ("train_loss", "grad_norm", "weight_norm", "margin_p50"):
        assert parts[0][name] == pytest.approx(whole[0][name], rel=1e-3, abs=1e-5), name


def test_a_step_of_one_micro_batch_is_computed_by_every_rank_and_others_are_shared(tmp_path: Path) -> None:
    for count in RANKS[1:3]:
        (folder := tmp_path / f"{count}").mkdir()
        alone, *shared = zip(*on_ranks(count, lambda: [ranks.shares(n, 4) for n in (3, 5, 30)], folder), strict=True)
        assert alone == (range(0, 3, 4),) * count
        for examples, parts in zip((5, 30), shared, strict=True):
            assert sorted(start for part in parts for start in part) == list(range(0, examples, 4))
