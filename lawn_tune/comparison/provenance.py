"""What the trials of a space ran with: versions, devices, hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lawn_tune.results import COMMIT, UTILIZATION, TrialRow

OF_ONE_RUN = ("start", "end", "finish", "created", "updated", "node", "resumed", "output", UTILIZATION)
"""How names of provenance begin that differ for every trial."""


def provenance(trials: Iterable[TrialRow]) -> dict[str, tuple[str, ...]]:
    """Returns name ("device", "libraries.torch", …) → distinct values over all trials, in alphabetical order."""
    # The trials of a pack share theirs; one that failed or still runs has none.
    distinct = {id(row.provenance): row.provenance for row in trials if row.provenance}
    found = {pair for provenance in distinct.values() for pair in _flat(provenance)}
    values: dict[str, list[str]] = {}
    for name, value in sorted(found):
        values.setdefault(name, []).append(value)
    if COMMIT in values and not all(provenance.get(COMMIT) for provenance in distinct.values()):
        values[COMMIT].append("not recorded for some")
    return {name: tuple(listed) for name, listed in values.items()}


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yields dotted names and texts of nested values, without what is of one run alone: times, cluster node, resume."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None and not name.startswith(OF_ONE_RUN):
            yield f"{prefix}{name}", str(value)
