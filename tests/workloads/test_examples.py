"""Laws of outcomes on single examples: their bytes bring them back, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.examples import PLACES, decode, encode, gains, hits


@given(st.lists(st.booleans(), max_size=40))
def test_hits_come_back_from_one_bit_each(found: list[bool]) -> None:
    outcomes = np.array(found, np.bool_)
    data = encode(outcomes)
    assert data == np.packbits(outcomes).tobytes()
    back = decode(len(found), data)
    assert (str(back.dtype), back.tolist()) == ("bool", found)
    assert gains(back).tolist() == hits(back).tolist() == found


@given(st.lists(st.integers(0, PLACES), min_size=1, max_size=40))
def test_places_come_back_behind_the_bits_of_their_hits(found: list[int]) -> None:
    places = np.array(found, np.uint8)
    data = encode(places)
    assert data.startswith(np.packbits(places < PLACES).tobytes()), "which a reader of hits alone takes"
    back = decode(len(found), data)
    assert (str(back.dtype), back.tolist()) == ("uint8", found)
    assert gains(back) == pytest.approx([1 / np.log2(place + 2) if place < 10 else 0 for place in found])


@given(st.lists(st.integers(0, PLACES), min_size=1, max_size=40), st.data())
def test_bytes_that_are_cut_or_say_two_things_are_damaged(found: list[int], data: st.DataObject) -> None:
    whole = encode(np.array(found, np.uint8))
    flipped = bytes([whole[0] ^ 0x80, *whole[1:]])
    lengths = set(range(len(whole))) - {(len(found) + 7) // 8}
    for damaged in (flipped, whole + b"\0", whole[: data.draw(st.sampled_from(sorted(lengths)))]):
        with pytest.raises(ValueError, match="its "):
            decode(len(found), damaged)
