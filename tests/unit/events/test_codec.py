"""Events as lines, and their routing keys."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.codec import (
    EventError,
    decode_event,
    encode_event,
    lines_of,
    matches,
    pattern,
    routing_key,
    word,
)
from shared.events.model import KINDS, MOST_RECIPIENTS, SCHEMA, MailEvent, event_id, shares

EVENT = MailEvent(
    schema=SCHEMA,
    event="accepted",
    id="1",
    at=1000.5,
    mail_id="M",
    tenant="shop",
    class_="bulk",
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def events() -> st.SearchStrategy[MailEvent]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "schema": st.just(SCHEMA),
        "event": st.sampled_from(sorted(KINDS)),
        "recipients": st.lists(TEXT, max_size=3).map(tuple),
        "outcomes": st.dictionaries(TEXT, st.integers(0, 1000), max_size=3),
    }
    texts = ("id", "mail_id", "tenant", "class_", "job_id", "reverse_path", "reply", "reason")
    return st.builds(
        MailEvent,
        **dict.fromkeys(texts, TEXT),
        **fields,
        at=st.floats(0, 1e10),
        octets=st.integers(0, 1 << 40),
    )


@given(events())
def test_an_event_comes_back_as_it_was_from_one_line_of_plain_characters(event: MailEvent) -> None:
    line = encode_event(event)
    assert decode_event(line) == event
    assert line.decode().isprintable()
    assert lines_of(line + b"\n" + line) == [line, line]


@given(st.binary(max_size=200))
def test_octets_are_an_event_or_one_error(octets: bytes) -> None:
    with contextlib.suppress(EventError):
        decode_event(octets)


def test_text_that_is_no_unicode_does_not_keep_an_event_from_being_told() -> None:
    line = encode_event(msgspec.structs.replace(EVENT, reply="\udc80"))
    assert json.loads(line)["mail_id"] == "M"


def test_what_equals_its_default_is_left_out_but_never_the_schema() -> None:
    assert json.loads(encode_event(EVENT)) == {
        "schema": 1, "event": "accepted", "id": "1", "at": 1000.5, "mail_id": "M",
        "tenant": "shop", "class": "bulk",
    }  # fmt: skip


def test_a_reader_leaves_out_what_it_does_not_know_and_refuses_a_newer_schema() -> None:
    written = json.loads(encode_event(EVENT))
    assert decode_event(json.dumps(written | {"colour": "red"}).encode()) == EVENT
    with pytest.raises(EventError, match="schema 2 is newer"):
        decode_event(json.dumps(written | {"schema": 2}).encode())


@given(TEXT.filter(bool), TEXT.filter(bool))
def test_a_tenant_is_one_word_of_a_key_whatever_its_name(tenant: str, other: str) -> None:
    key = routing_key("delivered", tenant, "bulk", "google")
    assert key.count(".") == 3
    assert len(key.encode()) <= 255
    assert "*" not in key
    assert "#" not in key
    assert matches(pattern("delivered", tenant), key) is True
    assert matches(pattern("delivered", other), key) is (word(other) == word(tenant))


@pytest.mark.parametrize(
    ("wanted", "key", "matched"),
    [
        ("#", "a.b.c.d", True),
        ("a.#", "a.b.c.d", True),
        ("a.#", "a", True),
        ("*.b.#", "a.b.c.d", True),
        ("*.b.#", "a.c.b.d", False),
        ("a.*", "a.b.c", False),
        ("a.b", "a.b", True),
        ("a.b.#", "a", False),
    ],
)
def test_patterns_match_as_on_a_topic_exchange(wanted: str, key: str, matched: bool) -> None:
    assert matches(wanted, key) is matched


def test_tenants_that_look_alike_have_keys_that_do_not() -> None:
    names = ["a.b", "a_b", "a-b", "a%2Eb", "a b", "A.B", ""]
    assert len({word(name) for name in names}) == len(names)


def test_many_recipients_are_told_of_in_several_events() -> None:
    addresses = tuple(f"{number}@a.test" for number in range(2 * MOST_RECIPIENTS + 1))
    portions = shares(addresses)
    assert [len(portion) for portion in portions] == [MOST_RECIPIENTS, MOST_RECIPIENTS, 1]
    assert sum(portions, ()) == addresses
    assert shares(()) == [()]
    assert len({event_id("a", 1, "routed", part) for part in range(3)}) == 3
