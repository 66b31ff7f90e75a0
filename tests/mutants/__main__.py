"""`make mutants`: breaks a sample of the product, one small change at a time, and counts what the tests notice.

A runner of our own around `ast`, as neither library fits. mutmut 3 leaves decorated functions alone (every property,
`step` under `torch.no_grad()`) and all module-level code, replaces functions by trampolines, which `torch.vmap` and
signatures see, and knows no deletion of a statement, which is what the switch of LAWN has to be safe from. cosmic-ray
mutates files in place and runs one whole test command for each change. Neither takes a stratified sample. What a
library does well is used: coverage.py says which tests run a line.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.mutants.areas import AREAS, Area, areas_under, others
from tests.mutants.equivalents import Equivalents
from tests.mutants.mutations import Mutation, mutations_of
from tests.mutants.report import Report
from tests.mutants.sample import sample
from tests.mutants.trials import BUDGET, SURVIVORS_BUDGET
from tests.mutants.workshop import Workshop

ROOT = Path(__file__).parents[2]
ENOUGH = 0.95


def main() -> int:
    """Runs a sample and returns 0 if enough of it was noticed, 1 if not, 2 if it could not be tried."""
    arguments = _arguments()
    equivalents = Equivalents.read(Path(__file__).with_name("equivalent.toml"))
    try:
        areas = areas_under(arguments.area)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for entry in equivalents.stale(
        {f: mutations_of(f, (ROOT / f).read_bytes()) for a in areas for f in a.sources(ROOT)}
    ):
        print("no longer in the code, remove it from equivalent.toml:", *entry, sep="\n  ")
    drawn = sample(ROOT, areas, arguments.n, arguments.seed, arguments.only)
    os.environ["MUTANTS_ROOT"] = str(ROOT)
    in_full = {file for area in AREAS for file in area.test_files(ROOT)}
    with tempfile.TemporaryDirectory(prefix="lawn-tune-mutants-") as folder:
        workshop = Workshop(ROOT, Path(folder), ROOT / "build/mutants", arguments.jobs, in_full)
        report = Report(arguments.seed, Path(arguments.json))
        for area in areas:
            mutations = [mutation for mutation in drawn[area.name] if not equivalents.lists(mutation)]
            report.begin(area.name, equivalent=len(drawn[area.name]) - len(mutations))
            own = area.test_files(ROOT)
            _try(workshop, report, area, mutations, [*own, *report.noticed_by(mutations, {*others(ROOT, area)})])
        for area in areas:
            _try(workshop, report, area, report.survivors(area.name), area.test_files(ROOT), SURVIVORS_BUDGET)
            _try(workshop, report, area, report.survivors(area.name), others(ROOT, area))
    report.finish()
    return 0 if report.noticed_share >= ENOUGH else 1


def _try(
    workshop: Workshop,
    report: Report,
    area: Area,
    mutations: list[Mutation],
    tests: list[str],
    budget: float = BUDGET,
) -> None:
    """Tries mutants of an area against some tests; a file that fails on sound code cannot serve."""
    if not mutations:
        return
    runs = workshop.observe(tests)
    for file, run in runs.items():
        if run.failed:
            print(f"left out, as it fails without a mutant: {file}\n{run.failed}", file=sys.stderr)
    sound = {file: run for file, run in runs.items() if not run.failed}
    for outcome in workshop.try_all(mutations, sound, report.last, budget):
        report.add(area.name, outcome)
    print(f"{area.name}: {len(report.survivors(area.name))} of {len(mutations)} survive", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=300, help="mutants in the sample, shared by the areas by their size")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another sample")
    parser.add_argument("--area", default="", help="start of an area's name; all areas by default")
    parser.add_argument("--only", default="", help="only mutants of this file")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--json", default=str(ROOT / "build/mutants/mutants.json"), help="where the result is written")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
