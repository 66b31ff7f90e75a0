"""The paper's whole study as cells, and the time of its packs on a GPU: computed from assumptions, not measured.

Tables 1 to 5 of the paper: five optimizers on six datasets at their batch sizes and epochs; label smoothing and
Hoffer's method (Table 2); focal loss at three strengths (Table 5). The paper's grids are not public: every grid has
24 points here, those of `lawn-tune plan paper` have 32. Three seeds confirm each winner, like the paper's three runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import ceil

from benchmarks.tabulated import Timed
from lawn_tune.cells import Cell, CellName, Phase, Protocol, default_baselines
from lawn_tune.executors.base import Failed, Finished, Job, Progress
from search_spaces.space import Grid
from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.methods import METHODS
from trainables.outcomes import SERIES, EpochRecord, TrialOutcome
from trainables.tasks import Task, Trial, model_config

# --- assumptions about the GPU ---------------------------------------------------------------------------------------

PEAK_FLOPS = 15.7e12
"""float32 peak of the paper's GPU, an NVIDIA V100, FLOP/s (data sheet)."""
SUSTAINED = 0.4 * PEAK_FLOPS
"""Sustained by training, FLOP/s: 6.3e12. Assumed."""
BANDWIDTH = 540e9
"""60 % of its memory bandwidth of 900 GB/s, bytes/s. The share is assumed."""
STATE_PASSES = 12
"""Reads and writes of each weight in one constrained optimizer step (docs/performance.md)."""
START_SECONDS = 2.0
"""From a free worker to the first step of its next job. Assumed."""
MEMORY_SECONDS = 20.0
"""From a pack's start until it runs out of memory. Assumed."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A dataset of the paper with its network. Counts are facts; `dispatch` and `largest_pack` are assumed.

    Args:
        examples: of one epoch of the whole training set; for recommenders four negatives per positive.
        tested: predictions of one evaluation.
        outcomes: test examples with a stored hit or miss.
        forward: multiply-adds of one example's forward pass. A training step takes 3 x 2 FLOP each: forward, and twice
            as much backward.
        weights: parameters.
        dispatch: minimum seconds for the kernel launches of one step, for any pack size.
        largest_pack: trials that fit the GPU's memory at once.
        budgets: batch size → epochs.
    """

    name: str
    metric: str
    examples: int
    tested: int
    outcomes: int
    forward: float
    weights: float
    dispatch: float
    budgets: dict[int, int]
    largest_pack: int = 16

    def epoch_seconds(self, batch_size: int, members: int, phase: Phase) -> float:
        """Returns the time of one epoch of a pack on one GPU.

        steps x dispatch + K x (examples x 6 MAC / FLOP/s + steps x weights x 4 bytes x passes / bandwidth
        + evaluations x 2 MAC / FLOP/s): packing saves kernel launches, but no arithmetic.
        """
        examples = self.examples * (0.9 if phase == "search" and self.metric == "accuracy" else 1.0)
        steps = ceil(examples / batch_size)
        evaluations = self.tested * (2 if phase == "search" else 1)
        arithmetic = (6 * examples + 2 * evaluations) * self.forward / SUSTAINED
        update = steps * self.weights * 4 * STATE_PASSES / BANDWIDTH
        return steps * self.dispatch + members * (arithmetic + update)


def _ncf(name: str, budgets: dict[int, int]) -> Kind:
    """NCF with 64 factors: embeddings of 128, a tower 256-128-64-1; 100 candidates per user."""
    row, tower = DATASETS[name], 256 * 128 + 128 * 64 + 64
    users, items = row.shape["users"], row.shape["items"]
    return Kind(
        name=name,
        metric="hr@10",
        examples=row.full_examples,
        tested=100 * users,
        outcomes=users,
        forward=tower,
        weights=128 * (users + items) + tower,
        dispatch=2e-3,
        budgets=budgets,
    )


def _cifar(name: str) -> Kind:
    """VGG-19 on 32 x 32 images: 0.4e9 multiply-adds and 20 million weights."""
    budgets = {256: 300, 4096: 300, 10_000: 300}
    return Kind(
        name=name,
        metric="accuracy",
        examples=50_000,
        tested=10_000,
        outcomes=10_000,
        forward=0.4e9,
        weights=20.04e6,
        dispatch=10e-3,
        budgets=budgets,
    )


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _ncf("movielens-100k", {1_000: 300, 10_000: 300, 100_000: 500, 400_000: 500}),
        _ncf("movielens-1m", {1_000: 300, 10_000: 300, 100_000: 500, 1_000_000: 500}),
        _ncf("pinterest", {1_000: 300, 10_000: 300, 100_000: 500, 1_000_000: 500}),
        _cifar("cifar-10"),
        _cifar("cifar-100"),
        Kind(
            name="imagenet",
            metric="accuracy",
            examples=1_281_167,
            tested=50_000,
            outcomes=50_000,
            forward=4.1e9,
            weights=25.6e6,
            dispatch=20e-3,
            budgets={256: 90, 16_384: 90},
            largest_pack=1,
        ),
    )
}

PAPER_OPTIMIZERS = ("sgd", "adam", "adam-lawn", "lamb", "lamb-lawn")
TWO_SIZES = {"movielens-1m": (100_000, 1_000_000), "cifar-10": (4_096, 10_000), "cifar-100": (4_096, 10_000)}
"""Batch sizes of Table 5; Table 2 has 10k and 100k for MovieLens-1M."""
TABLE_2 = TWO_SIZES | {"movielens-1m": (10_000, 100_000)}
RATES, WARMUPS, THIRDS = (0.003, 0.01, 0.03, 0.1), (3.0, 30.0), (1.0, 7.0, 50.0)
"""Levels of a grid; only how many there are matters here."""


@cache
def cells(kinds: tuple[str, ...] = tuple(KINDS), epochs: int | None = None) -> tuple[Cell, ...]:
    """Returns the study's cells, data set by data set.

    Args:
        kinds: names of data sets, in the order to train them.
        epochs: upper bound of every cell's epochs, for tests.
    """
    return tuple(cell for name in kinds for cell in _cells(KINDS[name], epochs))


def _cells(kind: Kind, cap: int | None) -> Iterator[Cell]:
    for optimizer in PAPER_OPTIMIZERS:
        for size in kind.budgets:
            yield _cell(kind, kind.name, optimizer, size, "bce" if kind.metric == "hr@10" else "cross-entropy", cap)
    for size in TABLE_2.get(kind.name, ()):
        yield _cell(kind, f"{kind.name}-smoothed", "adam", size, "smoothed", cap)
        yield _cell(kind, f"{kind.name}-hoffer", "adam-lawn", size, "hoffer", cap)
    for gamma in ("0.5", "2", "5"):
        for optimizer in ("adam", "adam-lawn"):
            for size in TWO_SIZES.get(kind.name, ()):
                yield _cell(kind, f"{kind.name}-focal-{gamma}", optimizer, size, f"focal-{gamma}", cap)


def _cell(kind: Kind, space: str, optimizer: str, batch_size: int, loss: str, cap: int | None) -> Cell:
    epochs = min(kind.budgets[batch_size], cap or kind.budgets[batch_size])
    # Another model stands for ResNet and VGG-19, whose rows allow no packs, so that packs are tried; `Kind` has costs.
    model = model_config("ncf") if kind.metric == "hr@10" else model_config("small-vgg")
    third = METHODS[optimizer].switch or "weight_decay"
    return Cell(
        name=CellName(space, optimizer, batch_size),
        task=Task(
            dataset=kind.name,
            model=model,
            loss=loss,
            optimizer=optimizer,
            batch_size=batch_size,
            epochs=epochs,
        ),
        grid=Grid({"peak_lr": RATES, "warmup_epochs": WARMUPS, third: THIRDS}),
        protocol=Protocol(
            metric=kind.metric,
            direction="maximize",
            selection="validation",
            reported="last",
            search_seeds=(0,),
            confirm_seeds=(101, 102, 103),
            full_epochs=epochs,
        ),
        baselines=default_baselines(METHODS[optimizer]),
    )


# --- what a job reports ----------------------------------------------------------------------------------------------


def pack_seconds(task: Task, members: int) -> float:
    """Returns the seconds of a worker for a job with this number of members, its start included."""
    phase: Phase = "search" if task.train_on == "train" else "confirm"
    return START_SECONDS + task.epochs * KINDS[task.dataset].epoch_seconds(task.batch_size, members, phase)


def reports(task: Task, members: int, every: float) -> list[int]:
    """Returns the epochs after which a job reports, at most once in `every` seconds, and the last one."""
    epoch = (pack_seconds(task, members) - START_SECONDS) / task.epochs
    stride = max(1, ceil(min(every / epoch, task.epochs) - 1e-9))
    return [*range(stride, task.epochs, stride), task.epochs]


@dataclass(frozen=True)
class PaperTable:
    """The table of the simulated executor: synthetic numbers of the form of real ones, at assumed times.

    Args:
        every: minimum seconds between two reports of a worker.
    """

    every: float

    def __call__(self, job: Job) -> Iterator[Timed]:
        """See `benchmarks.tabulated.Table`."""
        task, members = job.config.task, job.config.members
        if len(members) > KINDS[task.dataset].largest_pack:
            yield MEMORY_SECONDS, Failed(job, "memory", "assumed to be too large for the GPU")
            return
        whole = pack_seconds(task, len(members))
        values = [score(member) for member in members]
        for first, last in pairwise([0, *reports(task, len(members), self.every)]):
            records = [_record(task, epoch, values) for epoch in range(first + 1, last + 1)]
            yield START_SECONDS + (whole - START_SECONDS) * last / task.epochs, Progress(job, records)
        yield whole, Finished(job, [_outcome(task, member, whole / len(members)) for member in members], PROVENANCE)


PROVENANCE = {"device": "none: simulated", "host": "none", "threads": 1, "libraries": {}}


def score(member: Trial) -> float:
    """A made-up metric from 60 to 70 that depends on the trial alone."""
    return 60.0 + int(member.key, 16) % 10_000 / 1000


def _names(task: Task) -> Iterator[str]:
    yield from SERIES
    for split in ("validation", "test"):
        yield f"{split}/{KINDS[task.dataset].metric}"


def _record(task: Task, epoch: int, values: list[float]) -> EpochRecord:
    done = epoch / task.epochs
    series: dict[str, list[float | None]] = {name: [value * done for value in values] for name in _names(task)}
    return EpochRecord(epoch=epoch, series=series)


def _outcome(task: Task, member: Trial, seconds: float) -> TrialOutcome:
    kind, value = KINDS[task.dataset], score(member)
    summary: dict[str, float | None] = {f"last/{name}": value for name in _names(task)}
    summary |= {f"best/{split}/{kind.metric}": value for split in ("validation", "test")}
    summary |= {"seconds": seconds, "peak_memory_bytes": 1e9, "ece": None}
    return TrialOutcome(
        key=member.key,
        outcome="complete",
        epochs=task.epochs,
        summary=summary,
        examples=bytes(ceil(kind.outcomes / 8)),
        example_count=kind.outcomes,
    )
