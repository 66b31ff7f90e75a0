"""Laws of the curve codec: nothing is lost, nothing damaged is believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lawn_tune.ledger.curves import decode, encode, join, stack, thinned

Curve = dict[str, NDArray[np.float64]]

NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    length = draw(st.integers(0, 40))
    return draw(st.dictionaries(NAMES, arrays(np.float64, length, elements=NUMBERS), max_size=8))


@given(curves())
def test_decoding_gives_back_every_bit_and_the_order(curve: Curve) -> None:
    found = decode(encode(curve))
    assert list(found) == list(curve)
    for name, values in curve.items():
        assert found[name].dtype == np.float64
        assert found[name].tobytes() == values.tobytes()


@given(curves().filter(lambda curve: any(len(values) for values in curve.values())), st.data())
def test_a_cut_curve_is_refused(curve: Curve, data: st.DataObject) -> None:
    whole = encode(curve)
    cut = data.draw(st.integers(5, len(whole) - 1))
    with pytest.raises(ValueError, match="damaged curve"):
        decode(whole[:cut])


def test_a_newer_format_is_refused() -> None:
    whole = encode({"loss": [1.0]})
    with pytest.raises(ValueError, match="format 2"):
        decode(bytes([2]) + whole[1:])


@pytest.mark.parametrize("series", [{"a": [1.0], "b": [1.0, 2.0]}, {"a": [[1.0]]}, {"a": 1.0}])
def test_series_must_be_vectors_of_one_length(series: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="vectors of one length"):
        encode(series)


def test_values_that_were_float32_take_little_more_than_half() -> None:
    values = np.random.default_rng(0).random(300).astype(np.float32).astype(np.float64)
    assert len(encode({"loss": values})) < 0.6 * values.nbytes


@given(st.lists(st.sets(st.sampled_from("abc")), max_size=6), st.integers(1, 4))
def test_stacking_fills_what_was_not_measured_with_nan(measured: list[set[str]], members: int) -> None:
    records = {
        epoch: {name: [None if name == "c" else i + 10.0 * epoch for i in range(members)] for name in names}
        for epoch, names in enumerate(measured, start=1)
        if names
    }
    stacked = stack(records, members)
    assert set(stacked) == set().union(*measured)
    for name, values in stacked.items():
        assert values.shape == (max(records), members)
        for epoch in range(1, max(records) + 1):
            expected = records.get(epoch, {}).get(name, [None] * members)
            np.testing.assert_array_equal(values[epoch - 1], np.array(expected, np.float64))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), max_size=6), st.integers(1, 3))
def test_what_was_reported_last_holds_from_its_first_epoch_on(reports: list[tuple[int, int]], members: int) -> None:
    epochs: dict[int, float] = {}
    stored: list[tuple[int, Curve]] = []
    for number, (first, count) in enumerate(reports, start=1):
        epochs = {epoch: value for epoch, value in epochs.items() if epoch < first}
        epochs |= dict.fromkeys(range(first, first + count), float(number))
        stored = [part for part in stored if part[0] < first]  # as the ledger does
        stored.append((first, {"loss": np.full((count, members), float(number))}))
    joined = join(stored, members)
    assert set(joined) == ({"loss"} if reports else set())
    for values in joined.values():
        assert values.shape == (max(epochs), members)
        expected = [epochs.get(epoch, np.nan) for epoch in range(1, max(epochs) + 1)]
        np.testing.assert_array_equal(values, np.repeat(np.array(expected)[:, None], members, axis=1))


@given(arrays(np.float64, st.integers(0, 400), elements=NUMBERS))
def test_thinning_keeps_at_most_20_measured_values_first_and_last_included(values: NDArray[np.float64]) -> None:
    kept = thinned(values)
    measured = [i + 1 for i in range(len(values)) if not np.isnan(values[i])]
    assert len(kept) == min(20, len(measured))
    assert set(kept) <= set(measured)
    assert all(value == values[epoch - 1] for epoch, value in kept.items())
    if measured:
        assert (min(kept), max(kept)) == (measured[0], measured[-1])
