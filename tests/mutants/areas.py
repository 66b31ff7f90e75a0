"""Which tests answer for which code: the one table of mutation testing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Area:
    """A part of the product and the tests that must notice what breaks in it.

    Args:
        name: a folder or a file of the product, relative to the root.
        tests: folders and files of tests; those that start drivers or clusters are left to `make test`.
    """

    name: str
    tests: tuple[str, ...]

    def sources(self, root: Path) -> list[str]:
        """Returns the Python files of the area, relative to the root, sorted."""
        return _python_files(root, self.name, "*.py")

    def test_files(self, root: Path) -> list[str]:
        """Returns the test files of the area, relative to the root, in the order of the table."""
        return [file for place in self.tests for file in _python_files(root, place, "test_*.py")]


AREAS = (
    Area(
        "trainables/optimizers",
        (
            "tests/optimizers",
            "tests/contracts/test_optimizers.py",
            "tests/contracts/test_pack_members.py",
            "tests/contracts/torch_conventions",
            "tests/training",
        ),
    ),
    Area(
        "trainables/training",
        (
            "tests/training",
            "tests/contracts/test_pack_members.py",
            "tests/contracts/test_workloads.py",
            "tests/functions/test_own_classes.py",
        ),
    ),
    Area("trainables/workloads", ("tests/workloads", "tests/contracts/test_workloads.py")),
    Area("trainables/functions", ("tests/functions",)),
    Area("trainables/data.py", ("tests/test_data.py", "tests/workloads")),
    Area(
        "lawn_tune/planning",
        (
            "tests/planning",
            "tests/spaces",
            "tests/cli/test_counts.py",
            "tests/cli/test_importing.py",
            "tests/comparison",
            "tests/launching/test_limits.py",
        ),
    ),
    Area("lawn_tune/launching", ("tests/launching", "tests/functions/test_changed_code.py")),
    Area("lawn_tune/comparison", ("tests/comparison", "tests/spaces/test_published.py")),
    Area(
        "lawn_tune/ledger",
        ("tests/ledger", "tests/contracts/ledger", "tests/launching/test_smoke.py", "tests/cli/test_importing.py"),
    ),
)

OTHERS = (
    "tests/benchmarks",
    "tests/cli",
    "tests/comparison",
    "tests/contracts",
    "tests/dashboards",
    "tests/functions",
    "tests/launching",
    "tests/ledger",
    "tests/optimizers",
    "tests/planning",
    "tests/plugins",
    "tests/spaces",
    "tests/training",
    "tests/workloads",
    "tests/test_architecture.py",
    "tests/test_compose.py",
    "tests/test_data.py",
    "tests/test_docs.py",
)
"""Tests that may notice what those of the mutant's own area did not; what starts Ray or a browser is left to
`make test`."""

IN_OTHER_PROCESSES: Mapping[str, tuple[str, ...]] = {
    "trainables/functions/child.py": ("tests/functions/test_broken_functions.py",),
    "trainables/functions/host.py": ("tests/functions/test_broken_functions.py",),
    "trainables/functions/trial.py": ("tests/functions/test_functions.py", "tests/functions/test_broken_functions.py"),
    "trainables/optimizers/fused.py": ("tests/optimizers/test_kernels_arguments.py",),
    "trainables/optimizers/gpu.py": ("tests/optimizers/test_gpu.py",),
    "trainables/optimizers/gpu_kernels.py": ("tests/optimizers/test_gpu.py",),
    "trainables/optimizers/group_step.py": ("tests/optimizers/test_gpu.py",),
    "trainables/optimizers/native.py": ("tests/optimizers/test_kernels_building.py",),
    "trainables/optimizers/shards.py": ("tests/optimizers/test_distributed.py",),
    "trainables/training/group.py": ("tests/training/test_group.py", "tests/training/test_ranks.py"),
    "trainables/training/rank.py": (
        "tests/training/test_group_messages.py",
        "tests/training/test_group.py",
        "tests/training/test_ranks.py",
    ),
}
"""Code → the test files that run it in processes of their own, where nobody sees which lines."""

_STARTS_MORE = re.compile(r"pytest\.mark\.ray|tests\.helpers\.browser|playwright")


def others(root: Path, area: Area) -> list[str]:
    """Returns the test files outside of an area, relative to the root."""
    own = {*area.test_files(root)}
    files = (file for place in OTHERS for file in _python_files(root, place, "test_*.py"))
    return [file for file in files if file not in own and not _STARTS_MORE.search((root / file).read_text())]


def areas_under(prefix: str) -> list[Area]:
    """Returns the areas whose name starts with `prefix`; all of them for an empty one.

    Raises:
        ValueError: there is none.
    """
    chosen = [area for area in AREAS if area.name.startswith(prefix.rstrip("/"))]
    if not chosen:
        raise ValueError(f"AREA must be the start of one of {', '.join(area.name for area in AREAS)}, got '{prefix}'")
    return chosen


def _python_files(root: Path, place: str, pattern: str) -> list[str]:
    path = root / place
    files = [path] if path.is_file() else sorted(path.rglob(pattern))
    return [str(file.relative_to(root)) for file in files]
