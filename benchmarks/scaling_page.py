"""Writes `docs/scaling.md`, with its figures, from the committed results: `python -m benchmarks.scaling_page`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from benchmarks.page import machine_text

RESULTS = Path(__file__).parent / "results" / "scaling.json"
PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
TEXT = Path(__file__).with_name("scaling.md.in")
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
PARTS = ("report", "begin", "end")
Results = Mapping[str, Any]


def main() -> None:
    """Writes the page and draws its figures."""
    from benchmarks import plots  # imports matplotlib, which the page does not need

    PAGE.write_text(page())
    plots.scaling(json.loads(RESULTS.read_text())["results"])


def page() -> str:
    """Returns the page for the committed results."""
    content = json.loads(RESULTS.read_text())
    results = content["results"]
    parts = {
        "machine": f"{machine_text(content['machine'])}; {content['date']}",
        "plan": plan(results),
        "schedules": schedules(results),
        "costs": costs(results),
        "shares": shares(results),
        "dense": dense(results),
        **facts(results),
    }
    text = TEXT.read_text()
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def plan(results: Results) -> str:
    """One row per dataset: what the study trains, and its assumed GPU hours."""
    found = results["plan"]
    rows = [
        (name, *(f"{one[key]:,}" for key in ("cells", "trials", "packs")), f"{one['gpu_hours']:,.0f}")
        for name, one in found.items()
    ]
    sums = {key: sum(one[key] for one in found.values()) for key in ("cells", "trials", "packs", "gpu_hours")}
    rows.append(("all", *(f"{sums[key]:,}" for key in ("cells", "trials", "packs")), f"{sums['gpu_hours']:,.0f}"))
    return table(("dataset", "cells", "trials", "packs", "GPU hours"), rows)


PACKS: Mapping[int | str | None, str] = {None: "", 1: ", packs of 1", "chosen": ", packs chosen for the GPUs"}
"""Sizes of packs in the tables."""


def schedules(results: Results) -> str:
    """One row per plan and pack size: hours and idle share by number of GPUs."""
    lines: dict[tuple[str, int | str | None], dict[int, Mapping[str, float]]] = {}
    for one in results["schedules"]:
        lines.setdefault((one["plan"], one["pack_size"]), {})[one["workers"]] = one
    counts = list(next(iter(lines.values())))
    rows = [
        (
            plan + PACKS[size],
            f"{min(one['longest_chain_hours'] for one in by.values()):.1f}",
            *(f"{by[count]['makespan_hours']:.1f} ({100 * by[count]['idle_share']:.0f} %)" for count in counts),
        )
        for (plan, size), by in lines.items()
    ]
    return table(("hours (GPUs idle)", "longest chain", *(f"{count:,} GPUs" for count in counts)), rows)


def costs(results: Results) -> str:
    """One row per database and case: CPU milliseconds of the driver per report, job start and job end."""
    rows = [
        (
            f"{DATABASES[one['database']]}, {name}",
            f"{one['counts']['epochs'] / one['counts']['report']:.1f}",
            *(f"{one['cpu_ms'][part]:.1f}" if part in one["cpu_ms"] else "" for part in PARTS),
        )
        for name, drives in (("long epochs", results["steady"]), ("short epochs", _middle(results)))
        for one in drives
    ]
    return table(("CPU ms of the driver", "epochs per report", "report", "job start", "job end"), rows)


def _middle(results: Results) -> list[Mapping[str, Any]]:
    count = results["whole"]["workers"]
    return [one for one in results["dense"] if one["workers"] == count]


def cpu_seconds(results: Results, database: str, workers: int, kinds: Sequence[str]) -> float:
    """Returns the driver's CPU seconds for a plan: its reports, packs and trials times their measured costs.

    A report of a dataset with short epochs costs more, as it has many epochs; the end of a pack is counted per trial.
    """
    (steady,) = (one for one in results["steady"] if one["database"] == database)
    (short,) = (one for one in _middle(results) if one["database"] == database)
    end = short["cpu_ms"]["end"] * short["counts"]["end"] / short["trials"]
    total = 0.0
    for kind in kinds:
        one = results["plan"][kind]
        report = (short if kind in SHORT else steady)["cpu_ms"]["report"]
        total += one["reports"][str(workers)] * report + one["packs"] * short["cpu_ms"]["begin"] + one["trials"] * end
    return total / 1e3


SHORT = ("movielens-100k", "movielens-1m", "pinterest")


def shares(results: Results) -> str:
    """One row per plan and database: CPU of the driver divided by the makespan."""
    rows = []
    for plan, kinds in (("whole paper", tuple(results["plan"])), ("without ImageNet", tuple(results["plan"])[:-1])):
        spans = {
            one["workers"]: 3600 * one["makespan_hours"]
            for one in results["schedules"]
            if one["plan"] == plan and one["pack_size"] is None
        }
        for database in DATABASES:
            rows.append(
                (
                    f"{plan}, {DATABASES[database]}",
                    *(f"{100 * cpu_seconds(results, database, n, kinds) / span:.2f} %" for n, span in spans.items()),
                )
            )
    return table(("driver's CPU / makespan", *(f"{count:,} GPUs" for count in spans)), rows)


def dense(results: Results) -> str:
    """One row per database and number of GPUs: rates of the busiest part, and the driver's share of a core."""
    rows = [
        (
            f"{DATABASES[one['database']]}, {one['workers']:,} GPUs",
            f"{one['simulated_seconds']:.0f}",
            f"{one['report_seconds']:.1f}",
            f"{one['reports_a_second']:.0f}",
            f"{one['jobs_a_second']:.1f}",
            f"{one['counts'].get('end', 0) / one['simulated_seconds']:.1f}",
            f"{100 * one['cpu_share']:.0f} %",
            f"{one['cpu_ms']['report'] * one['reports_a_second'] / 10:.0f} %",
        )
        for one in (*results["dense"], *results["unlimited"])
    ]
    heads = ("from the start", "s", "s between reports", "reports / s", "started / s", "ended / s")
    return table((*heads, "CPU, share of one core", "for reports"), rows)


def facts(results: Results) -> dict[str, str]:
    """Returns the single numbers in the text."""
    assumed, whole = results["assumptions"], results["whole"]
    found = {(one["plan"], one["pack_size"], one["workers"]): one for one in results["schedules"]}
    steady = {one["database"]: one for one in results["steady"]}
    count = whole["workers"]
    dense = {one["database"]: one for one in results["dense"] if one["workers"] == count}
    return {
        **{f"dense_{name}": f"{100 * one['cpu_share']:.0f}" for name, one in dense.items()},
        "tflops": f"{assumed['sustained_flops'] / 1e12:.1f}",
        "packs_of_1": f"{found['without ImageNet', 1, count]['makespan_hours']:.1f}",
        "packs_chosen": f"{found['without ImageNet', 'chosen', count]['makespan_hours']:.1f}",
        "chosen_64": f"{found['without ImageNet', 'chosen', 64]['makespan_hours']:.1f}",
        "planned_64": f"{found['without ImageNet', None, 64]['makespan_hours']:.1f}",
        "packs_planned": f"{found['without ImageNet', None, count]['makespan_hours']:.1f}",
        "whole_trials": f"{whole['trials']:,}",
        "whole_jobs": f"{whole['counts']['begin']:,}",
        "whole_failures": f"{whole['counts'].get('failure', 0):,}",
        "whole_hours": f"{whole['simulated_seconds'] / 3600:.1f}",
        "whole_planned": f"{found['whole paper', None, count]['makespan_hours']:.1f}",
        "whole_cpu": f"{whole['cpu_seconds']:.0f}",
        "whole_end": f"{whole['cpu_ms']['end']:.0f}",
        "ends_a_second": f"{1e3 / whole['cpu_ms']['end']:.0f}",
        **{f"reports_{name}": f"{1e3 / one['cpu_ms']['report']:,.0f}" for name, one in steady.items()},
    }


if __name__ == "__main__":
    main()
