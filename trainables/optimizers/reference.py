"""Algorithm 1 and the free phase before it, transcribed line by line: the slow reference for the fast rules.

Shares no code with `rules`. Parameters are a dictionary of named tensors in their own shapes; so are gradients and each
slot of the state. Weights and state are changed in place, as in the pseudo-code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

Named = dict[str, Tensor]

SLOTS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("m", "v"),
    "lamb": ("m", "v"),
    "lamb-plus": ("m", "v"),
}


def fresh_state(base: str, w: Named) -> dict[str, Named]:
    """Returns all moments at zero, as before the first step and again right after the switch."""
    return {slot: {name: torch.zeros_like(w[name]) for name in w} for slot in SLOTS[base]}


def read_radii(w: Named, constrained: Sequence[str]) -> dict[str, float]:
    """Returns c of each constrained tensor (eq. 1); a tensor whose norm is zero has none and stays free."""
    radii = {}
    for name in constrained:
        norm = math.sqrt(float((w[name] ** 2).sum()))
        if norm > 0:
            radii[name] = norm
    return radii


def free_step(
    base: str, w: Named, g: Named, state: dict[str, Named], eta: float, t: int, hyper: Mapping[str, float]
) -> None:
    """Makes one unconstrained step of the base optimizer, with weight decay if `hyper` has it."""
    decay = hyper.get("weight_decay", 0.0)
    for name in w:
        if base == "sgd":
            g_t = g[name] + decay * w[name]  # L2: the gradient of (decay/2)·|w|²
            r = _momentum(name, g_t, state, hyper)
            w[name] -= eta * r
        if base == "adam":
            r = _adam(name, g[name], state, t, hyper)
            w[name] -= eta * decay * w[name] + eta * r  # decoupled, times the learning rate
        if base == "lamb":
            u = _adam(name, g[name], state, t, hyper) + decay * w[name]
            w[name] -= eta * _trust_ratio(w[name], u) * u
        if base == "lamb-plus":
            r = _adam(name, g[name], state, t, hyper)
            u = r + decay * w[name] if w[name].dim() >= 2 else r
            w[name] -= eta * _clipped_trust_ratio(w[name], u) * u


def constrained_step(
    base: str,
    w: Named,
    g: Named,
    state: dict[str, Named],
    eta: float,
    t: int,
    hyper: Mapping[str, float],
    radii: Mapping[str, float],
) -> None:
    """Makes one pass of Algorithm 1's loop over the tensors; those without a radius take a free step of the base."""
    for name in w:
        held = name in radii
        # 2: draw a batch; 3: g_t = ComputeGrad(w_{t-1}, S_t) -- both done by the caller
        g_p = _projected(g[name], w[name]) if held else g[name]  # 4
        r = _momentum(name, g_p, state, hyper) if base == "sgd" else _adam(name, g_p, state, t, hyper)  # 5-8
        r_hat = _projected(r, w[name]) if held else r  # 9
        if base == "lamb":
            r_hat = _trust_ratio(w[name], r_hat) * r_hat  # between 9 and 10: LAMB-LAWN's ratio, our choice
        if base == "lamb-plus":
            r_hat = _clipped_trust_ratio(w[name], r_hat) * r_hat
        w[name] -= eta * r_hat  # 10
        if held:
            w[name] *= radii[name] / math.sqrt(float((w[name] ** 2).sum()))  # 11


def train(
    base: str,
    w: Named,
    gradient: Callable[[Named], Named],
    etas: Sequence[float],
    hyper: Mapping[str, float],
    constrained: Sequence[str] = (),
    free_steps: int | None = None,
) -> Iterator[tuple[Named, dict[str, Named]]]:
    """Trains through both phases, yielding weights and state after every step; the next step changes them in place.

    Args:
        base: "sgd", "adam", "lamb" or "lamb-plus".
        w: initial weights, changed in place.
        gradient: maps the weights to the gradient at them.
        etas: the learning rate of each step; their number is the number of steps.
        hyper: momentum, or beta1, beta2 and eps; weight_decay for the free phase of a base optimizer.
        constrained: names of the tensors LAWN holds.
        free_steps: steps before the switch; None for never.
    """
    state, radii, t = fresh_state(base, w), None, 0
    for done, eta in enumerate(etas):
        if done == free_steps:
            state, radii, t = fresh_state(base, w), read_radii(w, constrained), 0  # the loop of Algorithm 1 begins at 1
        t += 1
        if radii is None:
            free_step(base, w, gradient(w), state, eta, t, hyper)
        else:
            constrained_step(base, w, gradient(w), state, eta, t, hyper, radii)
        yield w, state


# --- LAWN's relatives: in place of Algorithm 1's loop over the tensors, after a free phase ----------------------------


def relative_step(
    control: str,
    base: str,
    w: Named,
    g: Named,
    state: dict[str, Named],
    eta: float,
    t: int,
    hyper: Mapping[str, float],
    radii: Mapping[str, float],
    multipliers: dict[str, float],
) -> None:
    """Makes one step of a relative, named as in the tests of controls; without a radius it is free."""
    for name in w:
        if name not in radii:
            free_step(base, {name: w[name]}, {name: g[name]}, state, eta, t, hyper)
            continue
        g_p = _projected(g[name], w[name]) if control == "lawn-fixed" else g[name]
        if control == "reparametrized":  # w is v until the end of the step
            w[name] *= 1 + multipliers.get(name, 0.0)
            g_p = radii[name] / _norm(w[name]) * _projected(g[name], w[name])
        r = _momentum(name, g_p, state, hyper) if base == "sgd" else _adam(name, g_p, state, t, hyper)
        size, c = w[name].numel(), radii[name]
        if control == "lawn-fixed":
            r = _projected(r, w[name])
        if control == "adamp":
            cosine = float((w[name] * g[name]).sum() / (_norm(w[name]) * _norm(g[name])))
            if abs(cosine) < 0.1 / math.sqrt(size):
                r = _projected(r, w[name])
        if base == "lamb":
            r = _trust_ratio(w[name], r) * r
        if control in ("hyperball", "lawn-fixed"):
            r = c * r / _norm(r)
        w[name] -= eta * r
        if control == "reparametrized":
            multipliers[name] = _norm(w[name]) / c - 1
        if control in ("bounded-norm", "hyperball", "lawn-fixed", "reparametrized"):
            w[name] *= c / _norm(w[name])
        if control == "cpr":
            multipliers[name] = max(0.0, multipliers.get(name, 0.0) + (_norm(w[name]) ** 2 - c**2) / size)
            w[name] -= 2 * multipliers[name] * w[name]


def _norm(x: Tensor) -> float:
    return math.sqrt(float((x * x).sum()))


def _projected(d: Tensor, w: Tensor) -> Tensor:
    """Eq. (3)."""
    return d - (w * d).sum() / (w * w).sum() * w


def _adam(name: str, g_p: Tensor, state: dict[str, Named], t: int, hyper: Mapping[str, float]) -> Tensor:
    beta1, beta2 = hyper["beta1"], hyper["beta2"]
    m, v = state["m"], state["v"]
    m[name] = beta1 * m[name] + (1 - beta1) * g_p  # 5
    v[name] = beta2 * v[name] + (1 - beta2) * g_p**2  # 6
    m_hat = m[name] / (1 - beta1**t)  # 7
    v_hat = v[name] / (1 - beta2**t)  # 7
    return m_hat / (v_hat.sqrt() + hyper["eps"])  # 8


def _momentum(name: str, g_p: Tensor, state: dict[str, Named], hyper: Mapping[str, float]) -> Tensor:
    buffer = state["momentum_buffer"]
    buffer[name] = hyper["momentum"] * buffer[name] + g_p  # in place of 5-8
    return buffer[name]


def _trust_ratio(w: Tensor, u: Tensor) -> float:
    """LAMB: |w|/|u|, and 1 where either is zero; always on, without clipping."""
    w_norm, u_norm = math.sqrt(float((w * w).sum())), math.sqrt(float((u * u).sum()))
    return w_norm / u_norm if w_norm > 0 and u_norm > 0 else 1.0


def _clipped_trust_ratio(w: Tensor, u: Tensor) -> float:
    """LAMB+: at most 1, and 1 for a tensor of one dimension."""
    return min(1.0, _trust_ratio(w, u)) if w.dim() >= 2 else 1.0
