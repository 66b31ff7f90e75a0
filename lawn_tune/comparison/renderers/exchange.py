"""A comparison as JSON for other programs; the schema has a name."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from lawn_tune import __version__
from lawn_tune.comparison.comparison import CellResult, Comparison, Overall, PairResult, Verdict
from lawn_tune.comparison.differences import Difference
from lawn_tune.comparison.next_steps import next_steps
from lawn_tune.comparison.verdicts import headline, overall_sentence, sentence, sides

SCHEMA = "lawn-tune/comparison/2"


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """Returns the comparison as plain JSON values; the schema's name changes when a field changes its meaning."""
    return {
        "schema": SCHEMA,
        "lawn_tune": __version__,
        "space": comparison.space,
        "about": list(comparison.about),
        "headline": headline(comparison),
        "protocol": asdict(comparison.protocol)
        | {name: list(getattr(comparison.protocol, name)) for name in ("search_seeds", "confirm_seeds")},
        "cells": [_cell_dict(result) for result in comparison.cells],
        "overall": _overall_dict(comparison.overall) if comparison.overall else None,
        "pairs": [_pair_dict(pair, comparison.storage) for pair in comparison.pairs],
        "references": {
            found.label: {name: list(values) for name, values in found.values.items()}
            for found in comparison.references
        },
        "provenance": {name: list(values) for name, values in comparison.provenance.items()},
    }


def _cell_dict(result: CellResult) -> dict[str, Any]:
    estimate, won = result.estimate, result.winner
    statuses = [point.status for point in result.points]
    return {
        "cell": str(result.cell.name),
        "task": result.cell.task.to_dict(),
        "grid": {name: list(levels) for name, levels in result.cell.grid.values.items()},
        "points": {
            status: statuses.count(status) for status in ("complete", "diverged", "failed", "running", "missing")
        },
        "winner": {
            "hyperparameters": dict(won.hyperparameters),
            "value": won.value,
            "edges": list(won.edges),
            "share_of_resamples": result.stability.share if result.stability else None,
        }
        if won
        else None,
        "estimate": {
            "phase": estimate.phase,
            "value": estimate.series,
            "mean": estimate.mean,
            "standard_error": estimate.error,
            "n": estimate.n,
            "seeds": list(estimate.values),
            "values": list(estimate.values.values()),
        }
        if estimate
        else None,
        "published": result.published,
        "seconds": result.seconds,
        "notes": [{"flag": note.flag.value, "text": note.text} for note in result.notes],
    }


def _overall_dict(overall: Overall) -> dict[str, Any]:
    challenger, baseline = sides(overall.pairs)
    return {
        "challenger": challenger,
        "baseline": baseline,
        "pairs": len(overall.pairs),
        "measured": len(overall.measured),
        "verdicts": {verdict.value: overall.verdicts[verdict] for verdict in Verdict},
        "difference": _difference_dict(overall.difference),
        "verdict": overall.verdict.value,
        "trend_per_doubling": _difference_dict(overall.trend),
        "sentence": overall_sentence(overall),
    }


def _pair_dict(pair: PairResult, storage: str) -> dict[str, Any]:
    return {
        "baseline": str(pair.baseline.cell.name),
        "challenger": str(pair.challenger.cell.name),
        "difference": _difference_dict(pair.difference, telling=pair.telling is not None),
        "verdict": pair.verdict.value,
        "interim": pair.interim,
        "seeds_added": pair.seeds_added,
        "conditional_on_winners": pair.conditional,
        "sentence": sentence(pair),
        "to_decide": [step.on(storage)._asdict() for step in next_steps(pair)],
        "notes": [{"flag": note.flag.value, "text": note.text} for note in pair.notes],
    }


def _difference_dict(difference: Difference | None, *, telling: bool = True) -> dict[str, Any] | None:
    """Returns a difference as plain values; `telling`: see `PairResult`."""
    if difference is None:
        return None
    return {
        "mean": difference.mean,
        "n": difference.n,
        "seeds": list(difference.seeds),
        "examples": difference.examples,
        "interval": [difference.interval.low, difference.interval.high] if difference.interval else None,
        "pairs": difference.family,
        "margin": difference.margin,
        "detectable": difference.detectable if telling else None,
        "seeds_needed": difference.seeds_needed if telling else None,
    }


def json_text(comparison: Comparison) -> str:
    """Returns `to_dict` as indented JSON without NaN."""
    return json.dumps(to_dict(comparison), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
