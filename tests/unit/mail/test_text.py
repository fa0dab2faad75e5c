"""Long lines are found wherever they are, and folded without losing an octet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.text import LONGEST_LINE, folded, has_long_line

LINES = st.lists(st.integers(0, 3000).map(lambda count: b"x" * count), max_size=6)


@given(LINES, st.booleans())
def test_a_line_is_long_by_its_length(lines: list[bytes], ends: bool) -> None:
    content = b"\r\n".join(lines) + b"\r\n" * ends
    assert has_long_line(content) is any(len(line) > LONGEST_LINE for line in lines)


@given(LINES)
def test_what_is_folded_has_no_long_line_and_every_octet(lines: list[bytes]) -> None:
    content = b"\r\n".join(lines)
    found = folded(content)
    assert not has_long_line(found)
    assert found.replace(b"\r\n ", b"") == content
    assert (found == content) is not has_long_line(content)


@pytest.mark.parametrize("count", [LONGEST_LINE, LONGEST_LINE + 1])
def test_the_limit_is_that_of_the_standard(count: int) -> None:
    assert has_long_line(b"a\r\n" + b"x" * count + b"\r\n") is (count > 998)
