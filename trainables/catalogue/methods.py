"""Update rules, controls and the methods made of them, one row each.

A method is a rule with a control; LAWN and weight decay are the controls this project is about. To add one, see
CONTRIBUTING.md; its mathematics is in `trainables.optimizers`, its meaning in the paper's section 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainables.catalogue.rows import Control, Hyperparameter, Method, Rule

_BETAS = (
    Hyperparameter(name="beta1", default=0.9, below_one=True),
    Hyperparameter(name="beta2", default=0.999, below_one=True),
)
_EPS = Hyperparameter(name="eps", default=1e-6, positive=True)
_WEIGHT_DECAY = Hyperparameter(name="weight_decay", label="weight decay")

SGD = Rule(
    name="sgd",
    label="SGD",
    color="#009e73",
    direction="trainables.optimizers.rules:sgd_direction",
    state=("momentum_buffer",),
    hyperparameters=(Hyperparameter(name="momentum", default=0.9, below_one=True),),
    kernel=0,
)
ADAM = Rule(
    name="adam",
    label="Adam",
    color="#3b82c4",
    direction="trainables.optimizers.rules:adam_direction",
    state=("m", "v"),
    hyperparameters=(*_BETAS, _EPS),
    kernel=1,
)
LAMB = Rule(
    name="lamb",
    label="LAMB",
    color="#d55e00",
    direction="trainables.optimizers.rules:adam_direction",
    state=("m", "v"),
    hyperparameters=(*_BETAS, _EPS),
    trust_ratio=True,
    kernel=2,
)

DECAY = Control(
    name="decay",
    label="decoupled weight decay",
    hook="trainables.optimizers.controls:Decay",
    side="weight decay",
    hyperparameters=(_WEIGHT_DECAY,),
)
"""Times the learning rate (AdamW); inside the trust ratio of LAMB (our choice of its variants)."""

L2 = Control(
    name="l2",
    label="L2",
    hook="trainables.optimizers.controls:L2",
    side="weight decay",
    hyperparameters=(_WEIGHT_DECAY,),
)
"""Added to the gradient (paper section 4, baselines)."""

LAWN = Control(
    name="lawn",
    label="LAWN",
    hook="trainables.optimizers.controls:LAWN",
    switch=Hyperparameter(name="free_epochs", label="free epochs"),
)
"""Paper Algorithm 1; no weight decay in either phase."""

RULES: Mapping[str, Rule] = {row.name: row for row in (SGD, ADAM, LAMB)}
CONTROLS: Mapping[str, Control] = {row.name: row for row in (DECAY, L2, LAWN)}

METHODS: Mapping[str, Method] = {
    row.name: row
    for row in (
        Method(name="sgd", label="SGD", rule=SGD, control=L2),
        Method(name="sgd-lawn", label="SGD-LAWN", rule=SGD, control=LAWN, baseline="sgd"),
        Method(name="adam", label="Adam", rule=ADAM, control=DECAY, defaults={"eps": 1e-8}),
        Method(name="adam-lawn", label="Adam-LAWN", rule=ADAM, control=LAWN, baseline="adam"),
        Method(name="lamb", label="LAMB", rule=LAMB, control=DECAY),
        Method(name="lamb-lawn", label="LAMB-LAWN", rule=LAMB, control=LAWN, baseline="lamb"),
    )
}
"""Epsilon is 1e-6 except for Adam (paper section 4). LAMB-LAWN's ratio is of the projected direction (our choice)."""
