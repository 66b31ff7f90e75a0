"""Values that need no training, such as ranking by popularity: workers measure them and store them with each trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lawn_tune.cells import Protocol
from lawn_tune.words import fixed, metric_name, metric_of
from trainables.catalogue.losses import REFERENCES

PREFIX = "references"
"""Name in a trial's provenance: references → name of the reference → metric → value on test."""


class Reference(NamedTuple):
    """One reference of a space.

    Args:
        label: printed name.
        summary: what it is.
        values: metric → its different values over the data sets of the space's trials.
    """

    label: str
    summary: str
    values: Mapping[str, tuple[float, ...]]

    def value(self, metric: str) -> float | None:
        """Returns its value of a metric, None where it has none or, over several data sets, several."""
        found = self.values.get(metric, ())
        return found[0] if len(found) == 1 else None

    @property
    def text(self) -> str:
        """What it is, with all its values."""
        shown = [
            f"{metric_name(metric)} {' or '.join(fixed(value, metric_of(metric).digits) for value in values)}"
            for metric, values in self.values.items()
        ]
        return f"{self.label}: {self.summary}; {', '.join(shown)}."


def references(provenance: Mapping[str, tuple[str, ...]], protocol: Protocol) -> tuple[Reference, ...]:
    """Returns the references that a comparison's provenance holds, the protocol's metric first in each."""
    found = []
    for row in REFERENCES.values():
        start = f"{PREFIX}.{row.name}."
        names = [name.removeprefix(start) for name in provenance if name.startswith(start)]
        values = {name: tuple(map(float, provenance[start + name])) for name in names}
        first = {name: values[name] for name in (protocol.metric,) if name in values}
        if values:
            found.append(Reference(row.label, row.summary, first | values))
    return tuple(found)
