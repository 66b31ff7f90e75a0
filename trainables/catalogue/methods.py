"""Update rules, controls and the methods made of them, one row each.

A method is a rule with a control; LAWN and weight decay are the controls this project is about. To add one, see
CONTRIBUTING.md; its mathematics is in `trainables.optimizers`, its meaning in the paper's section 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainables.catalogue.losses import SMOOTHING
from trainables.catalogue.rows import FLOOD, LOGIT_FACTOR, Control, Hyperparameter, Method, Rule

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
LAMB_PLUS = Rule(
    name="lamb-plus",
    label="LAMB+",
    color="#a67c00",
    direction="trainables.optimizers.rules:adam_direction",
    state=("m", "v"),
    hyperparameters=(*_BETAS, _EPS),
    trust_ratio=True,
    trust_clip=True,
)

DECAY = Control(
    name="decay",
    label="decoupled weight decay",
    hook="trainables.optimizers.controls:Decay",
    side="weight decay",
    hyperparameters=(_WEIGHT_DECAY,),
)

MATRIX_DECAY = Control(
    name="matrix-decay",
    label="decoupled weight decay of matrices",
    hook="trainables.optimizers.controls:MatrixDecay",
    side="weight decay",
    hyperparameters=(_WEIGHT_DECAY,),
)

L2 = Control(
    name="l2",
    label="L2",
    hook="trainables.optimizers.controls:L2",
    side="weight decay",
    hyperparameters=(_WEIGHT_DECAY,),
)

_FREE_EPOCHS = Hyperparameter(name="free_epochs", label="free epochs")
LAWN = Control(name="lawn", label="LAWN", hook="trainables.optimizers.controls:LAWN", switch=_FREE_EPOCHS)
REPARAMETRIZED = Control(
    name="reparametrized",
    label="LAWN, reparametrized",
    hook="trainables.optimizers.controls:REPARAMETRIZED",
    switch=_FREE_EPOCHS,
)
BOUNDED_NORM = Control(name="bounded-norm", label="bounded norm", hook="trainables.optimizers.controls:LAWN")
HYPERBALL = Control(
    name="hyperball", label="Hyperball", hook="trainables.optimizers.controls:HYPERBALL", tensors="hidden"
)
CPR = Control(
    name="cpr",
    label="CPR",
    hook="trainables.optimizers.controls:Cpr",
    hyperparameters=(Hyperparameter(name="rate", label="multiplier rate", default=1.0),),
    switch=_FREE_EPOCHS,
)
ADAMP = Control(
    name="adamp",
    label="AdamP's projection",
    hook="trainables.optimizers.controls:AdamP",
    hyperparameters=(_WEIGHT_DECAY,),
)

_PARTS = {
    "fixed": ("fixed step", "LAWN_FIXED", "w ← c·n(w − η·c·n(P r)), r from P g"),
    "unprojected": ("unprojected", "BOUNDED_NORM", "w ← c·n(w − η·r)"),
    "unprojected-fixed": ("unprojected, fixed step", "HYPERBALL", "w ← c·n(w − η·c·n(r))"),
}
"""LAWN with the length of a step fixed, without its projections, and both: name → label, hook and step."""

ABLATION: tuple[tuple[Control, str, str], ...] = tuple(
    (
        Control(
            name=f"{whole.name}-{part}",
            label=f"{whole.label}, {label}",
            hook=f"trainables.optimizers.controls:{hook}",
            switch=whole.switch,
        ),
        formula,
        f"control={hook}",
    )
    for whole in (LAWN, BOUNDED_NORM)
    for part, (label, hook, formula) in _PARTS.items()
)
"""Controls with their step and their argument of `AdamLawn`; with LAWN and the bounded norm, all eight of
{free phase or not} x {projected or not} x {fixed step or not}."""

RULES: Mapping[str, Rule] = {row.name: row for row in (SGD, ADAM, LAMB, LAMB_PLUS)}
CONTROLS: Mapping[str, Control] = {
    row.name: row
    for row in (
        *(DECAY, MATRIX_DECAY, L2, LAWN, REPARAMETRIZED, BOUNDED_NORM, HYPERBALL, CPR, ADAMP),
        *(control for control, _, _ in ABLATION),
    )
}

_ABLATION_COLORS = ("#5b83b1", "#6b74d6", "#9a6fb0", "#b5733f", "#c7603a", "#a3705c")
_PAPER = "paper §4, baselines"
METHODS: Mapping[str, Method] = {
    row.name: row
    for row in (
        Method(
            name="sgd",
            label="SGD",
            rule=SGD,
            control=L2,
            formula="g ← g + λ·w; b ← μ·b + g; w ← w − η·b",
            source=_PAPER,
            choice="L2 in the gradient, as torch.optim.SGD; no dampening",
            face="torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)",
        ),
        Method(
            name="sgd-lawn",
            label="SGD-LAWN",
            rule=SGD,
            control=LAWN,
            baseline="sgd",
            formula="Algorithm 1 with b ← μ·b + P g in place of lines 5 to 8",
            source='paper §3, "any given gradient-based optimizer"',
            choice="the momentum is reset at the switch",
            face="SgdLawn(params, lr=lr, momentum=momentum, free_steps=free_steps)",
        ),
        Method(
            name="adam",
            label="Adam",
            rule=ADAM,
            control=DECAY,
            defaults={"eps": 1e-8},
            formula="w ← w − η·(r + λ·w)",
            source="Loshchilov and Hutter 2019; paper §4, baselines",
            choice="decoupled decay, times the learning rate, on every tensor",
            face="torch.optim.AdamW(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)",
        ),
        Method(
            name="adam-no-decay",
            label="Adam, no decay",
            rule=ADAM,
            defaults={"eps": 1e-8},
            baseline="adam",
            color="#5b6b7f",
            formula="w ← w − η·r",
            source="Kingma and Ba 2017; paper §4.6, unregularized Adam",
            face="torch.optim.Adam(params, lr=lr, betas=(beta1, beta2), eps=eps)",
        ),
        Method(
            name="adam-lawn",
            label="Adam-LAWN",
            rule=ADAM,
            control=LAWN,
            baseline="adam",
            formula="w ← c·n(w − η·P r), r from P g",
            source="paper, Algorithm 1",
            choice="moments and step count are reset at the switch",
            face="AdamLawn(params, lr=lr, betas=(beta1, beta2), eps=eps, free_steps=free_steps)",
        ),
        Method(
            name="adam-lawn-attenuated",
            label="Adam-LAWN, attenuated logits",
            rule=ADAM,
            control=LAWN,
            loss=(Hyperparameter(name=LOGIT_FACTOR, label="logit factor", default=0.2, positive=True),),
            baseline="adam",
            color="#5f8f3a",
            formula="Adam-LAWN on α·z in place of the logits z, from the switch on",
            source="paper §1, Figure 1, α = 0.2 after 115 epochs",
            choice="moments and step count are reset at the switch; α may be a grid value",
        ),
        Method(
            name="adam-lawn-reparametrized",
            label="Adam-LAWN, reparametrized",
            rule=ADAM,
            control=REPARAMETRIZED,
            baseline="adam",
            color="#4a7d8c",
            formula="v ← v − η·r, r from (c/|v|)·P g; w = c·n(v)",
            source="paper §3, the first of two implementations",
            choice="moments and step count are reset at the switch, where v = w",
            face="AdamLawn(params, lr=lr, betas=(beta1, beta2), eps=eps, free_steps=free_steps, "
            "control=REPARAMETRIZED)",
        ),
        Method(
            name="adam-l2",
            label="Adam, L2",
            rule=ADAM,
            control=L2,
            defaults={"eps": 1e-8},
            baseline="adam",
            color="#7d56c9",
            formula="g ← g + λ·w; w ← w − η·r",
            source="Kingma and Ba 2017 with L2 regularization",
            choice="on every tensor",
            face="torch.optim.Adam(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)",
        ),
        Method(
            name="adam-lsr",
            label="Adam, label smoothing",
            rule=ADAM,
            loss=(SMOOTHING,),
            defaults={"eps": 1e-8},
            baseline="adam",
            color="#bf4040",
            formula="Adam on labels 1 − ε for the target, ε/(C − 1) for each other class; 1 − ε and ε for binary ones",
            source="Szegedy et al. 2016; paper §2.3 and Table 2, ε = 0.05",
            choice="no weight decay; ε may be a grid value",
            face="torch.optim.Adam(params, lr=lr, betas=(beta1, beta2), eps=eps)",
        ),
        Method(
            name="adam-flooding",
            label="Adam, flooding",
            rule=ADAM,
            loss=(Hyperparameter(name=FLOOD, label="flood level"),),
            defaults={"eps": 1e-8},
            baseline="adam",
            color="#2d8a4e",
            formula="Adam on abs(L − b) + b, L the mean loss of the whole batch",
            source="Ishida et al. 2020; paper §4, announced but not in Table 2",
            choice="no weight decay; curves show L",
            face="torch.optim.Adam(params, lr=lr, betas=(beta1, beta2), eps=eps)",
        ),
        Method(
            name="adam-bwn",
            label="Adam, bounded norm",
            rule=ADAM,
            control=BOUNDED_NORM,
            baseline="adam",
            color="#a8591a",
            formula="w ← c·n(w − η·P r), r from P g; c is each tensor's initial norm",
            source="Hoffer et al. 2018; paper Table 2",
            choice="Algorithm 1 from the first step, without gains per channel",
            face="AdamLawn(params, lr=lr, betas=(beta1, beta2), eps=eps, free_steps=0)",
        ),
        Method(
            name="adam-hyperball",
            label="AdamH",
            rule=ADAM,
            control=HYPERBALL,
            baseline="adam",
            color="#c2478f",
            formula="w ← c·n(w − η·c·n(r)) for hidden matrices, Adam without decay for all other tensors",
            source="Wen et al., arXiv 2606.16899",
            choice="hidden: neither embeddings nor the last matrix; a direction of 0 moves nothing",
            face="AdamLawn([{'params': hidden}, {'params': others, 'constrained': False}], "
            "lr=lr, betas=(beta1, beta2), eps=eps, free_steps=0, control=HYPERBALL)",
        ),
        Method(
            name="adam-cpr",
            label="Adam-CPR",
            rule=ADAM,
            control=CPR,
            baseline="adam",
            color="#12868f",
            formula="w ← w − η·r; m ← max(0, m + (rate/size)·(|w|² − c²)); w ← w − 2·m·w",
            source="Franke et al., NeurIPS 2024, L2 with warm start",
            choice="the tensors are those of `constrain`, embeddings included; warm start after `free_epochs`",
            face="AdamLawn(params, lr=lr, betas=(beta1, beta2), eps=eps, free_steps=free_steps, control=Cpr(rate))",
        ),
        Method(
            name="adamp",
            label="AdamP",
            rule=ADAM,
            control=ADAMP,
            baseline="adam",
            color="#8a7a22",
            formula="w ← w − η·(P r + 0.1·λ·w) for matrices with |cos(g, w)| < 0.1/√size, else w ← w − η·(r + λ·w)",
            source="Heo et al., arXiv 2006.08217, Algorithm 2",
            choice="of the two views of a tensor, per channel and whole, the whole one",
        ),
        *(
            Method(
                name=f"adam-{control.name.replace('bounded-norm', 'bwn')}",
                label=f"Adam-{control.label}" if control.switch else f"Adam, {control.label}",
                rule=ADAM,
                control=control,
                baseline="adam",
                color=color,
                formula=formula,
                source="ablation of Algorithm 1",
                choice="moments and step count are reset at the switch" if control.switch else "c is the initial norm",
                face="AdamLawn(params, lr=lr, betas=(beta1, beta2), eps=eps, "
                f"free_steps={'free_steps' if control.switch else 0}, {argument})",
            )
            for (control, formula, argument), color in zip(ABLATION, _ABLATION_COLORS, strict=True)
        ),
        Method(
            name="lamb",
            label="LAMB",
            rule=LAMB,
            control=DECAY,
            formula="u = r + λ·w; w ← w − η·(|w|/|u|)·u",
            source="You et al. 2020",
            choice="bias correction; the ratio is on every tensor, not clipped, and 1 where a norm is 0",
            face="Lamb(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)",
        ),
        Method(
            name="lamb-lawn",
            label="LAMB-LAWN",
            rule=LAMB,
            control=LAWN,
            baseline="lamb",
            formula="u = P r, r from P g; w ← c·n(w − η·(|w|/|u|)·u)",
            source="paper §3 and §4",
            choice="the ratio is that of the projected direction",
            face="LambLawn(params, lr=lr, betas=(beta1, beta2), eps=eps, free_steps=free_steps)",
        ),
        Method(
            name="lamb-plus",
            label="LAMB+",
            rule=LAMB_PLUS,
            control=MATRIX_DECAY,
            formula="u = r + λ·w; w ← w − η·min(|w|/|u|, 1)·u for matrices; w ← w − η·r for tensors of one dimension",
            source="paper Table 1; its definition is not public",
            choice='our reading of "more stable": the ratio is at most 1, and only matrices are adapted and decayed',
            face="LambPlus(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)",
        ),
    )
}
"""Epsilon is 1e-6 except for Adam with decay, L2, smoothing or flooding (paper section 4); see docs/methods.md."""
