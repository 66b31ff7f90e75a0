"""C receives only tensors that it supports: each wrong one is rejected by name, and nothing is changed.

A mistake here ends the process, so the calls are made in processes of their own: this file is their script as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.optimizers import fused, rules
from trainables.optimizers.layers import Layer, layers_of

ROOT = Path(__file__).parents[2]
ROWS = 2
LAYERS = layers_of([("a", torch.Size((40, 50))), ("bias", torch.Size((7,))), ("b", torch.Size((90, 1000)))])
"""The last layer is large: in bf16 its scratch would have half of the room."""


@dataclass(frozen=True)
class Call:
    """The arguments of a valid step."""

    w: Tensor
    gradients: tuple[Tensor, ...]
    state: dict[str, Tensor]
    radii: Tensor | None
    lr: Any = 0.01
    t: Any = 1
    eps: Any = 1e-3
    layers: tuple[Layer, ...] = LAYERS

    def make(self) -> Tensor:
        """Makes the step."""
        hyper = {"beta1": 0.9, "beta2": 0.999, "eps": self.eps}
        return fused.step(
            "adam", self.w, self.gradients, self.state,
            lr=self.lr, t=self.t, hyper=hyper, layers=self.layers, radii=self.radii,
        )  # fmt: skip

    @property
    def changed(self) -> list[Tensor]:
        return [self.w, *self.state.values()]


def good_call() -> Call:
    size, generator = LAYERS[-1].stop, torch.Generator("cpu").manual_seed(0)
    real: Any = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
    w, g = (torch.randn(ROWS, size, **real) for _ in range(2))
    state = {name: torch.rand(ROWS, size, **real) for name in ("m", "v")}
    return Call(w, tuple(g[:, x.start : x.stop].contiguous() for x in LAYERS), state, rules.radii_of(w, LAYERS))


# --- wrong arguments --------------------------------------------------------------------------------------------------


class Subclass(Tensor):
    """A tensor that may store its numbers anywhere."""


def without_memory(x: Tensor) -> Tensor:
    x = x.clone()
    x.untyped_storage().resize_(0)
    return x


def with_half_of_its_memory(x: Tensor) -> Tensor:
    x = x.clone()
    x.untyped_storage().resize_(x.untyped_storage().nbytes() // 2)
    return x


def unaligned(x: Tensor) -> Tensor:
    return torch.frombuffer(bytearray(1 + 4 * x.numel()), dtype=torch.float32, offset=1).view(x.shape)


def strided(x: Tensor) -> Tensor:
    return torch.stack([x, x], dim=-1)[..., 0]


HARMS: dict[str, Callable[[Tensor], Any]] = {
    "float64": lambda x: x.double(),
    "bfloat16": lambda x: x.bfloat16(),
    "int32": lambda x: x.int(),
    "complex": lambda x: x.to(torch.complex64),
    "one element short": lambda x: x.flatten()[1:],
    "one element more": lambda x: torch.cat([x.flatten(), x.flatten()[:1]]),
    "one row": lambda x: x[:1].clone(),
    "empty": lambda x: x[:0],
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "a subclass": lambda x: x.as_subclass(Subclass),
    "a list": lambda x: x.tolist(),
    "None": lambda x: None,
    "zeros without memory": lambda x: torch._efficientzerotensor(x.shape, dtype=torch.float32, device="cpu"),
    "freed memory": without_memory,
    "half of its memory": with_half_of_its_memory,
    "unaligned": unaligned,
    "functional": lambda x: torch._to_functional_tensor(x),
    "strided": strided,
    "negated lazily": lambda x: torch.complex(x, x).conj().imag,
}
ARGUMENTS = {
    "w": lambda call, harm: replace(call, w=harm(call.w)),
    "slot 'm'": lambda call, harm: replace(call, state=call.state | {"m": harm(call.state["m"])}),
    "slot 'v'": lambda call, harm: replace(call, state=call.state | {"v": harm(call.state["v"])}),
    "gradient 0": lambda call, harm: replace(call, gradients=(harm(call.gradients[0]), *call.gradients[1:])),
    "gradient 2": lambda call, harm: replace(call, gradients=(*call.gradients[:2], harm(call.gradients[2]))),
    "radii": lambda call, harm: replace(call, radii=harm(call.radii)),
}
TAKEN: dict[tuple[str, str], Callable[[Tensor], Any]] = {
    **{(argument, "strided"): lambda x: x for argument in ("gradient 0", "gradient 2", "radii")},
    **{(argument, "negated lazily"): lambda x: -x for argument in ("gradient 0", "gradient 2", "radii")},
    **{("radii", harm): HARMS[harm] for harm in ("float64", "bfloat16", "None")},
}
"""No harm, and what it means: strides are free, radii are converted from any floating dtype, None holds nothing."""

NUMBERS: dict[str, Any] = {
    "three of two rows": torch.ones(3, 1),
    "none": torch.ones(0),
    "meta": torch.ones(2, 1, device="meta"),
    "complex": torch.ones(2, 1, dtype=torch.complex64),
    "a subclass": torch.ones(2, 1).as_subclass(Subclass),
}


def harmed_calls() -> Iterator[tuple[str, Callable[[], Call]]]:
    """Every fault of every argument; created late, as some leave a process with little memory."""
    for argument, change in ARGUMENTS.items():
        for harm, apply in HARMS.items():
            if (argument, harm) not in TAKEN:
                yield f"{argument}: {harm}", lambda change=change, apply=apply: change(good_call(), apply)  # type: ignore[misc]
    for name in ("lr", "t", "eps"):
        for harm, value in NUMBERS.items():
            yield f"{name}: {harm}", lambda name=name, value=value: replace(good_call(), **{name: value})  # type: ignore[misc]
    for harm, layers in wrong_layers().items():
        yield f"layers: {harm}", lambda layers=layers: replace(good_call(), layers=layers)  # type: ignore[misc]
    yield "gradients: missing", lambda: replace(good_call(), gradients=good_call().gradients[:2])
    yield "state: missing", lambda: replace(good_call(), state={"m": good_call().state["m"]})


def wrong_layers() -> dict[str, tuple[Layer, ...]]:
    a, bias, b = LAYERS
    return {
        "gap": (a, replace(bias, start=a.stop + 1), b),
        "overlap": (a, replace(bias, start=a.stop - 1), b),
        "not from 0": (replace(a, start=1), bias, b),
        "swapped": (bias, a, b),
        "negative": (a, replace(bias, stop=a.stop - 10), replace(b, start=a.stop - 10)),
        "too long": (a, bias, replace(b, stop=b.stop + 1)),
        "too short": (a, bias, replace(b, stop=b.stop - 1)),
        "none": (),
    }


def refusals() -> dict[str, str]:
    """Makes every faulty call; returns the error of each."""
    found = {}
    for name, build in harmed_calls():
        print(name, file=sys.stderr, flush=True)  # the last one is the one that crashed
        call = build()
        sound = not name.startswith(("w:", "slot"))
        before = [x.clone() for x in call.changed] if sound else []
        try:
            call.make()
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
        else:
            found[name] = "taken"
        if not all(torch.equal(x, y) for x, y in zip(before, call.changed, strict=False)):
            found[name] = "changed"
    return found


# --- surroundings -----------------------------------------------------------------------------------------------------


def end() -> list[str]:
    """Makes three steps; returns a digest of the result."""
    call = good_call()
    for t in (1, 2, 3):
        squares = replace(call, t=t).make()
        assert squares.dtype == torch.float64
    call.make()  # with radii; and without:
    replace(call, radii=None).make()
    assert squares.device.type == "cpu"
    return [str(x.double().sum().item()) for x in (*call.changed, squares)]


def surroundings() -> dict[str, list[str]]:
    """The same steps under each default that changes new tensors."""
    found = {}
    for name, enter in {
        "nothing": lambda stack: None,
        "default dtype bfloat16": lambda stack: torch.set_default_dtype(torch.bfloat16),
        "default dtype float16": lambda stack: torch.set_default_dtype(torch.float16),
        "default dtype float64": lambda stack: torch.set_default_dtype(torch.float64),
        "default device meta": lambda stack: torch.set_default_device("meta"),
        "device context": lambda stack: stack.enter_context(torch.device("meta")),
        "inference mode": lambda stack: stack.enter_context(torch.inference_mode()),
        "autocast": lambda stack: stack.enter_context(torch.autocast("cpu", torch.bfloat16)),
    }.items():
        print(name, file=sys.stderr, flush=True)
        fused._buffers.__dict__.clear()  # as in a new thread: what is kept was made under other defaults
        with ExitStack() as stack:
            enter(stack)  # type: ignore[no-untyped-call]
            found[name] = end()
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    return found


# --- tensors without memory of their own ------------------------------------------------------------------------------


def answer(call: Call) -> str:
    """Returns whether tensors are usable, and the error of a step with them."""
    try:
        call.make()
    except ValueError as error:
        return f"{fused.usable(*call.changed)} {error}"
    return f"{fused.usable(*call.changed)} taken"


def elsewhere() -> dict[str, str]:
    """Tensors that are fake, traced, mapped or distributed."""
    from torch._subclasses import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode

    found, call = {}, good_call()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        found["real under FakeTensorMode"] = answer(call)
        fakes = replace(call, w=mode.from_tensor(call.w), state={k: mode.from_tensor(x) for k, x in call.state.items()})
        found["fake"] = answer(fakes)
    found["fake, left over"] = answer(fakes)
    with TorchDispatchMode():  # type: ignore[no-untyped-call]
        found["dispatch mode"] = answer(call)

    def inside(name: str) -> Callable[[Tensor], Tensor]:
        def ask(x: Tensor) -> Tensor:
            found[name] = answer(replace(call, w=x))
            found[f"{name}, real"] = answer(call)
            return x.sum()

        return ask

    torch.vmap(inside("vmap"))(torch.stack([call.w, call.w]))
    torch.func.grad(inside("grad"))(call.w)
    torch.func.functionalize(inside("functionalize"))(call.w)
    return found | distributed(call)


def distributed(call: Call) -> dict[str, str]:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, distribute_tensor

    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            "gloo", store=torch._C._distributed_c10d.FileStore(f"{folder}/store", 1), rank=0, world_size=1
        )
        mesh = init_device_mesh("cpu", (1,))
        shared = distribute_tensor(call.w, mesh, [Replicate()])
        found = {"DTensor": answer(replace(call, w=shared))}
        parameter: Any = torch.nn.Parameter(shared)
        found["DTensor parameter"] = answer(replace(call, w=parameter))
        found["DTensor gradient"] = answer(replace(call, gradients=(*call.gradients[:2], shared[:, LAYERS[2].start :])))
        dist.destroy_process_group()
    return found


# --- the laws ---------------------------------------------------------------------------------------------------------


def asked(what: str) -> Any:
    """Runs one part of this file as a script; a crash fails the test and names the last call."""
    status, answer, last = _run(what)
    assert status == 0, f"exit status {status}, after: {last}"
    return json.loads(answer.splitlines()[-1])


@cache
def _run(what: str) -> tuple[int, str, str]:
    command = ["timeout", "100", sys.executable, "-X", "faulthandler", "-W", "ignore", __file__, what]
    strict = {"OMP_NUM_THREADS": "1", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | strict)
    return done.returncode, done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize("name", [name for name, _ in harmed_calls()])
def test_a_wrong_argument_is_rejected_by_name_and_nothing_changes(name: str) -> None:
    text = asked("refusals")[name]
    assert text.startswith("ValueError: "), text
    argument, _, harm = name.partition(": ")
    named = "slot 'm'" if argument == "w" and harm in ("one row", "empty") else argument  # R is that of w
    assert named in text.partition(" must ")[0]
    assert ", got " in text or ", missing " in text
    assert (", strides [" in text) == (harm in ("strided", "negated lazily")), text


@pytest.mark.parametrize(("argument", "harm"), sorted(TAKEN))
def test_what_is_converted_leads_to_the_same_bits(argument: str, harm: str) -> None:
    def meant(x: Tensor) -> Tensor:
        value = TAKEN[argument, harm](x)
        return torch.zeros_like(x) if value is None else value.float()

    call, other = ARGUMENTS[argument](good_call(), meant), ARGUMENTS[argument](good_call(), HARMS[harm])
    call.make()
    other.make()
    assert all(torch.equal(x, y) for x, y in zip(call.changed, other.changed, strict=True))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64, torch.bfloat16])
def test_numbers_may_be_tensors_of_any_real_dtype(kind: torch.dtype) -> None:
    plain, other = replace(good_call(), lr=2.0, t=3), good_call()
    plain.make()
    replace(other, lr=torch.full((ROWS, 1), 2, dtype=kind), t=torch.full((ROWS, 1), 3, dtype=kind)).make()
    assert all(torch.equal(x, y) for x, y in zip(plain.changed, other.changed, strict=True))


def test_defaults_of_torch_change_no_bit() -> None:
    found = asked("surroundings")
    assert len(found) == 8
    assert all(end == found["nothing"] for end in found.values()), found


def test_tensors_without_memory_of_their_own_are_neither_usable_nor_taken() -> None:
    found = asked("elsewhere")
    assert len(found) == 13
    for name, text in found.items():
        usable, _, reason = text.partition(" ")
        assert "taken" not in reason, name
        assert usable == ("True" if name == "DTensor gradient" else "False"), name


def test_a_rule_without_a_kernel_is_an_ordinary_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", {**rules.RULES, "new": rules.RULES["adam"]})
    call = good_call()
    assert "new" not in fused.CODES
    with pytest.raises(ValueError, match=r"rule must be one with a kernel \(sgd, adam, lamb\), got 'new'"):
        fused.step(
            "new", call.w, call.gradients, call.state,
            lr=0.1, t=1, hyper={"beta1": 0.9, "beta2": 0.9, "eps": 1e-6}, layers=LAYERS,
        )  # fmt: skip


if __name__ == "__main__":
    fused.build_kernels()
    print(json.dumps({"refusals": refusals, "surroundings": surroundings, "elsewhere": elsewhere}[sys.argv[1]]()))
