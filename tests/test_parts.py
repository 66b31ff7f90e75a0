"""Parts of the long tests: together they are all of them, and none of them leaves out what is run always."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.parts import ALWAYS, chosen

FILES = st.sets(
    st.sampled_from([f"tests/{folder}/test_{i}.py" for folder in ("cluster", "a", "ledger") for i in range(9)])
)


@given(FILES, st.data(), st.integers(1, 5))
def test_parts_hold_every_file_and_are_of_equal_size(files: set[str], data: st.DataObject, count: int) -> None:
    alone = data.draw(st.sets(st.sampled_from(sorted(files)))) if files else set()
    parts = [chosen(files, alone, f"{i}/{count}") for i in range(1, count + 1)]
    always = {file for file in files if file.startswith(ALWAYS)}
    assert set().union(*parts) == files
    for file in files:
        assert sum(file in part for part in parts) == (count if file in always else 1)
    for group in (files - always, alone - always):
        sizes = [len(part & group) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_other_forms_are_refused(part: str) -> None:
    with pytest.raises(ValueError, match="--part must be I/N"):
        chosen([], [], part)
