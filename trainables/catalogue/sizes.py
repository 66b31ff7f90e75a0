"""What training takes: memory and work by the size of a model, time by the speed of a machine. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """How large one model is.

    Args:
        weights: number of its weights.
        floats: numbers that all its layers put out for one example.
        work: multiplications that one example takes on its way through all its layers; 0 where unknown.
        largest: numbers that the largest of its layers puts out, as a deep model keeps few at once while it is
            evaluated; 0 for `floats`.
        evaluated: examples in one call while it is evaluated.
        kept: copies of `floats` that a training step holds at its height, for a row alone and for several at once.
    """

    weights: int
    floats: int
    work: int = 0
    largest: int = 0
    evaluated: int = 256
    kept: tuple[int, int] = (7, 10)


@dataclass(frozen=True)
class Speed:
    """Training time of a pack on one worker.

    seconds = examples of all trials x (`per_example` + work x `per_work`)
            + steps of all trials x (`per_step` + weights x `per_weight`) + steps of the pack x `per_call`

    with the work and the weights of the model's `Footprint`, and `per_work` + `per_stacked` in a pack of several.

    Args:
        per_example: seconds for one example of one trial, whatever the model: its draw, its share of the measurements.
        per_step: seconds that one trial's step takes whatever the batch and the model.
        per_call: seconds that a pack's step takes whatever its trials: the calls of its operations. It is what stacking
            saves.
        per_work: seconds for one multiplication of the model: forward, backward and its share of the measurements.
        per_weight: seconds that one step takes for one weight: its gradient and its update.
        per_stacked: seconds that one multiplication takes longer in a pack of several: a core computes stacked products
            less well than separate ones.
    """

    per_example: float
    per_step: float
    per_call: float = 0.0
    per_work: float = 0.0
    per_weight: float = 0.0
    per_stacked: float = 0.0

    def of(self, model: Footprint | None) -> Speed:
        """Returns the speed of one model, whatever is known of its size, as that of a model of one multiplication."""
        work, weights = (model.work, model.weights) if model else (0, 0)
        example, step = self.per_example + work * self.per_work, self.per_step + weights * self.per_weight
        return Speed(example, step, self.per_call, per_stacked=work * self.per_stacked)
