"""Identifiers."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from shared.messages.ids import job_id, mail_id

ENTROPY = st.binary(min_size=10, max_size=10)
TIMES = st.integers(0, 2**48 - 1)


@given(TIMES, TIMES, ENTROPY, ENTROPY)
def test_mail_ids_sort_by_time(first: int, second: int, one: bytes, other: bytes) -> None:
    if first < second:
        assert mail_id(first, one) < mail_id(second, other)


@given(TIMES, ENTROPY)
def test_a_mail_id_is_26_plain_characters(time: int, entropy: bytes) -> None:
    identifier = mail_id(time, entropy)
    assert len(identifier) == 26
    assert identifier.isascii()
    assert identifier.isalnum()


@given(TIMES, ENTROPY)
def test_a_mail_id_is_time_and_chance_in_base32hex(time: int, entropy: bytes) -> None:
    octets = time.to_bytes(6, "big") + entropy
    assert mail_id(time, entropy) == base64.b32hexencode(octets).decode().rstrip("=")


def test_job_ids_are_stable_and_differ_by_each_part() -> None:
    parts: list[tuple[str, str, int, tuple[str, ...]]] = [
        ("p", "d", 0, ()),
        ("q", "d", 0, ()),
        ("p", "e", 0, ()),
        ("p", "d", 1, ()),
        ("p", "d", 0, ("a@d",)),
        ("p", "d", 0, ("a@d", "b@d")),
    ]
    ids = [job_id(parent, to, chunk, *addresses) for parent, to, chunk, addresses in parts]
    assert len(set(ids)) == len(parts)
    assert ids[4] == job_id("p", "d", 0, "a@d")
