"""What `docs/performance.md` says of a GPU, from the results of `benchmarks/gpu.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.gpu_goals import short
from benchmarks.markdown import ratio_text, table

COMMAND = "`python -m benchmarks gpu --minutes 8` measures a GPU on any machine with torch and a CUDA device"
SETTING = """Examples are drawn at random on the device, and no data set is read. Alternatives ran interleaved, from an
idle device to an idle device; a time is a median, and a ratio is followed by its 95 % bootstrap interval. The goals
were set for an H100 before any measurement."""
REACHED = {True: "yes", False: "no", None: "unknown"}


def section(content: Mapping[str, Any] | None) -> str:
    """Says on which GPU the benchmark ran, when and at which commit, and what it found; or that it never ran.

    Args:
        content: of `gpu.json`; None where there is no such file.
    """
    if content is None:
        return f"{COMMAND}. It never ran: this page has none of its results."
    results = content["results"]
    goals = [
        (name, goal["bar"], "not measured" if goal["measured"] is None else short(goal["measured"]), reached(goal))
        for name, goal in results["goals"].items()
    ]
    parts = [f"{COMMAND}. {_where(content)}\n{SETTING}", table(("what", "goal", "measured", "reached"), goals)]
    for name, (title, describe) in PARTS.items():
        found = results.get(name, {"not measured": "not part of this run"})
        text = f"Not measured: {found['not measured']}." if "not measured" in found else describe(found)
        parts.append(f"### {title}\n\n{text}")
    return "\n\n".join(parts)


def reached(goal: Mapping[str, Any]) -> str:
    """Returns whether a goal was reached, in a word."""
    return REACHED[goal["reached"]]


def _where(content: Mapping[str, Any]) -> str:
    device, commit = content["results"]["device"], content.get("commit")
    memory = f" with {device['memory'] / 2**30:.0f} GiB" if "memory" in device else ""
    cuda = f"CUDA {device['cuda']} and " if "cuda" in device else ""
    at = f", at commit `{commit}`" if commit else ""
    own = {True: " LAWN's own GPU kernels were in use.", False: " LAWN's own GPU kernels could not be used."}
    return (
        f"It ran on one {device['name']}{memory}, with {cuda}torch {content['machine']['libraries']['torch']}, "
        f"on {content['date']}{at}.{own.get(device.get('own kernels'), '')}"
    )


def _optimizer_step(found: Mapping[str, Any]) -> str:
    millions, copied = found["parameters"] / 1e6, found["bytes_per_second_of_a_copy"] / 1e12
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["share_of_bandwidth"].items())
    text = f"""One step on {millions:.0f} million parameters, those of [the step on a CPU](#the-optimizer-step).
A copy within the GPU's memory moves {copied:.2f} TB/s. AdamW needs 7 reads and writes per weight and a constrained step
12; with these they reach the following shares of that bandwidth: {shares}.
*Launches* counts the kernels and copies that the CPU puts on the GPU in a step; a graph is one, whatever it holds."""
    return f"{text}\n\n{_compared(found, 'step', found['launches'])}"


def _large_batches(found: Mapping[str, Any]) -> str:
    (ratios,) = (value for name, value in found.items() if name.startswith("speed_up"))
    rows = [
        (name, f"{rate / 1e6:.0f}", ratio_text(ratios[name]) if name in ratios else "1")
        for name, rate in found["examples_per_second"].items()
    ]
    text = "Training one NCF with 64 factors and the tables of MovieLens-1M at batch 1,048,576, by precision:"
    return f"{text}\n\n{table(('precision', 'million examples/s', 'relative to the first'), rows)}"


def _packs(found: Mapping[str, Any]) -> str:
    cases = {name: case for name, case in found.items() if isinstance(case, Mapping)}
    rows: list[tuple[str, ...]] = []
    for name, case in cases.items():
        rates, ratios = case["examples_per_second"], case["speed_up_over K=1"]
        rows.append((f"{name}: million examples/s", *(f"{rate / 1e6:.2f}" for rate in rates.values())))
        rows.append(("relative to K = 1", *(ratio_text(ratios[k]) if k in ratios else "1" for k in rates)))
    heads = [name.replace("=", " = ") for name in next(iter(cases.values()))["examples_per_second"]]
    text = "Training steps of K stacked NCF models by constrained Adam-LAWN; the examples of all K count:"
    return f"{text}\n\n{table(('model, tables as of, batch', *heads), rows)}"


def _graphs(found: Mapping[str, Any]) -> str:
    rows = [
        (
            name.replace("=", " = "),
            *(f"{1e6 * case['seconds'][way]['median']:,.0f}" for way in ("graphs", "launches")),
            ratio_text(case["ratio_to launches"]["graphs"]),
            *(_count(case["launches"][way]) for way in ("graphs", "launches")),
            "yes" if case["same bits"] else "no",
        )
        for name, case in found.items()
    ]
    heads = ("method, pack", "graphs, µs", "launch by launch, µs", "graphs / launch by launch")
    text = """Steps of NCF with 64 factors and the tables of MovieLens-1M at batch 256, as CUDA graphs and launch by
launch; *same bits* says whether the weights are equal after 20 steps:"""
    return f"{text}\n\n{table((*heads, 'launches with graphs', 'launches without', 'same bits'), rows)}"


def _table4(found: Mapping[str, Any]) -> str:
    kinds = " and ".join(f"{hours:.2f} h of {kind}" for kind, hours in found["of_kind"].items())
    trials, packs = found["trials"], found["packs"]
    text = f"""The {trials} trials of `table4_movielens_100k`, in the {packs} packs that a launch on one GPU chooses,
take {found["gpu_hours"]:.2f} GPU hours at the measured times of a step and of an evaluation: {kinds}.
Drawing the examples, ranking the scores and starting workers are left out. Hours by method and batch size:"""
    cells = {tuple(name.split(" batch ")): hours for name, hours in found["of_cell"].items()}
    batches = list(dict.fromkeys(batch for _, batch in cells))
    rows = [
        (method, *(f"{cells[method, batch]:.3f}" for batch in batches))
        for method in dict.fromkeys(method for method, _ in cells)
    ]
    return f"{text}\n\n{table(('method', *(f'{int(batch):,}' for batch in batches)), rows)}"


def _vgg(found: Mapping[str, Any]) -> str:
    epochs = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in found["seconds_per_epoch"].items())
    text = f"""Training VGG-19 with constrained Adam-LAWN in a pack of one, and in loops of plain PyTorch with fused
AdamW, on images of CIFAR's shape in batches of 128. How one of the loops was compiled: {found["compiled loop"]}.
An epoch of 50,000 images takes: {epochs}. A step:"""
    return f"{text}\n\n{_compared(found, 'step of')}"


def _compared(found: Mapping[str, Any], what: str, launches: Mapping[str, int | None] | None = None) -> str:
    """One row per alternative: time, and ratio to the one that all are compared with."""
    ((key, ratios),) = ((key, value) for key, value in found.items() if key.startswith("ratio_to "))
    rows = [
        (
            name,
            f"{1e6 * times['median']:,.0f}",
            ratio_text(ratios[name]) if name in ratios else "1",
            *([] if launches is None else [_count(launches[name])]),
        )
        for name, times in found["seconds"].items()
    ]
    heads = (what, "µs", f"relative to {key.removeprefix('ratio_to ')}", *([] if launches is None else ["launches"]))
    return table(heads, rows)


def _count(number: int | None) -> str:
    return "unknown" if number is None else str(number)


PARTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "optimizer_step": ("The optimizer step on a GPU", _optimizer_step),
    "ncf_large_batch": ("Large batches on a GPU", _large_batches),
    "packs": ("Packs on a GPU", _packs),
    "graphs": ("Steps as CUDA graphs", _graphs),
    "table4": ("Table 4 on a GPU", _table4),
    "vgg19": ("VGG-19 on a GPU", _vgg),
}
"""Part of the results → title, and what says it."""
