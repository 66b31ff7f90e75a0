"""What exists: methods, losses, metrics, models and data sets, one row each. Imports no torch and no plug-in.

`catalogue()` holds the built-in rows. A search space or an installed package may bring more (`plugins`); a task that
uses them carries them along, so that workers and readers of a ledger know them without looking for the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from trainables.catalogue.datasets import DATASETS
from trainables.catalogue.losses import ECE_BINS, LOSSES, METRICS
from trainables.catalogue.methods import CONTROLS, METHODS, RULES
from trainables.catalogue.models import MODELS
from trainables.catalogue.plugins import CatalogueError, Rows, installed_files, plain, read_file, read_rows
from trainables.catalogue.rows import Control, Dataset, Loss, Method, Metric, Model, Rule

__all__ = [
    "ECE_BINS",
    "Catalogue",
    "CatalogueError",
    "carried",
    "catalogue",
    "installed",
    "rows_text",
    "shown_hyperparameter",
    "shown_method",
    "shown_metric",
]


@dataclass(frozen=True)
class Catalogue:
    """Rows by name."""

    rules: Mapping[str, Rule]
    controls: Mapping[str, Control]
    losses: Mapping[str, Loss]
    metrics: Mapping[str, Metric]
    models: Mapping[str, Model]
    datasets: Mapping[str, Dataset]
    methods: Mapping[str, Method]

    def with_rows(self, values: Mapping[str, Any], source: str) -> Catalogue:
        """Returns this catalogue and the rows of `values`, see `plugins`.

        Raises:
            CatalogueError: a row breaks the form, or has the name of another.
        """
        known: Rows = {field.name: dict(getattr(self, field.name)) for field in fields(self)}
        found = read_rows(values, source, known)
        return Catalogue(**{kind: known[kind] | found[kind] for kind in known})

    def models_of(self, dataset: Dataset) -> tuple[str, ...]:
        """Returns the models that fit a data set."""
        return tuple(name for name, row in self.models.items() if row.data == dataset.data)

    def losses_of(self, dataset: Dataset) -> tuple[str, ...]:
        """Returns the losses that fit a data set."""
        return tuple(name for name, row in self.losses.items() if row.fits(dataset))


BUILT_IN = Catalogue(RULES, CONTROLS, LOSSES, METRICS, MODELS, DATASETS, METHODS)


_shown: dict[str, dict[str, Any]] = {"methods": dict(METHODS), "metrics": dict(METRICS)}


def _labels_of(methods: Mapping[str, Method]) -> dict[str, str]:
    """Returns the labels of the hyperparameters of methods; of several with one name that of the last."""
    return {row.name: row.label or row.name for method in methods.values() for _, row in method.roles()}


_labels = _labels_of(METHODS)


@cache
def catalogue(rows: str = "") -> Catalogue:
    """Returns the built-in rows, and those that a task carries as JSON text."""
    if not rows:
        return BUILT_IN
    whole = BUILT_IN.with_rows(json.loads(rows), "rows of a task")
    for kind, named in _shown.items():
        named.update({name: row for name, row in getattr(whole, kind).items() if name not in named})
    for name, row in whole.metrics.items():
        if row.digits > _shown["metrics"][name].digits:
            _shown["metrics"][name] = row
    _labels.update({name: label for name, label in _labels_of(whole.methods).items() if name not in _labels})
    return whole


@cache
def installed() -> Catalogue:
    """Returns the built-in rows and those of installed packages, looked for once a process.

    Raises:
        CatalogueError: as `Catalogue.with_rows`, or a package's file cannot be read.
    """
    whole = BUILT_IN
    for path in installed_files():
        whole = whole.with_rows(read_file(path), str(path))
    return whole


def shown_method(name: str) -> Method | None:
    """Returns the row of a method for its label and color: built in, or carried by a task that this process has read.

    Only for what is shown; what is trained or compared asks its task, which is sure to mean the same row.
    """
    return _shown["methods"].get(name)


def shown_hyperparameter(name: str) -> str:
    """Returns the label of a hyperparameter, its name where no method that this process has read has one of it."""
    return _labels.get(name, name)


def shown_metric(name: str) -> Metric | None:
    """Returns the row of a metric for its label and unit, see `shown_method`; of one name that with most digits.

    What differs in one space is not printed as equal for the sake of another.
    """
    return _shown["metrics"].get(name)


def carried(whole: Catalogue, *, method: str, dataset: str, model: str, loss: str, metric: str) -> str:
    """Returns the rows that a task of these names has to carry, see `rows_text`: those not built in, "" for none.

    Args:
        whole: where the names are found.
    """
    used = whole.methods[method]
    wanted: dict[str, list[Any]] = {
        "rules": [used.rule],
        "controls": [used.control] if used.control else [],
        "losses": [whole.losses[loss]],
        "metrics": [whole.metrics[name] for name in {metric, *whole.datasets[dataset].metrics}],
        "models": [whole.models[model]],
        "datasets": [whole.datasets[dataset]],
        "methods": [used],
    }
    own = {
        kind: {row.name: row for row in rows if getattr(BUILT_IN, kind).get(row.name) != row}
        for kind, rows in wanted.items()
    }
    values = plain(own)
    return rows_text(values) if values else ""


def rows_text(values: Mapping[str, Any]) -> str:
    """Returns rows as the JSON text that a task carries: two tasks are equal only if theirs is the same."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
