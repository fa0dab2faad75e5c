from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.heartbeats import (
    SCHEMA,
    Heartbeat,
    Loss,
    decode,
    encode,
    with_remains,
)
from services.delivery.holding import Partition, Trace

LARGEST_DATAGRAM = 200_000

numbers = st.integers(0, 255)
names = st.text(max_size=12)
traces = st.builds(Trace, names, numbers, names, numbers, st.lists(numbers, max_size=13).map(tuple))
heartbeats = st.builds(
    Heartbeat,
    worker=names,
    sequence=st.integers(0, 2**40),
    period_ms=st.integers(1, 3_600_000),
    lanes=st.dictionaries(names, numbers),
    claims=st.dictionaries(names, st.lists(numbers).map(tuple)),
    remains=st.lists(traces).map(tuple),
    losses=st.lists(st.builds(Loss, names, numbers, numbers)).map(tuple),
    joining=st.booleans(),
    leaving=st.booleans(),
    hello=st.booleans(),
    schema=st.just(SCHEMA),
)


@given(heartbeats)
def test_what_is_said_is_what_is_heard(heartbeat: Heartbeat) -> None:
    assert decode(encode(heartbeat)) == heartbeat


@given(st.binary())
def test_any_octets_give_a_heartbeat_or_nothing(body: bytes) -> None:
    decode(body)


@given(heartbeats, st.data())
def test_a_damaged_heartbeat_is_one_or_nothing(heartbeat: Heartbeat, data: st.DataObject) -> None:
    body = bytearray(encode(heartbeat))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    decode(bytes(body))


def test_one_of_a_newer_schema_is_ignored() -> None:
    newer = Heartbeat("w", 1, 1000, {}, schema=SCHEMA + 1)

    assert decode(encode(newer)) is None


def test_a_field_of_a_later_version_does_no_harm() -> None:
    heartbeat = Heartbeat("w", 1, 1000, {"bulk": 8})
    body = msgspec.msgpack.encode({**msgspec.msgpack.decode(encode(heartbeat)), "mood": "good"})

    assert decode(body) == heartbeat


def test_another_kind_of_announcement_is_ignored() -> None:
    assert decode(msgspec.msgpack.encode({"type": "weather", "worker": "w"})) is None


def test_claims_are_partitions() -> None:
    heartbeat = Heartbeat("w", 1, 1000, {}, claims={"a": (0, 3), "b": (1,)})

    assert heartbeat.partitions == [Partition("a", 0), Partition("a", 3), Partition("b", 1)]


def test_remains_beyond_one_datagram_are_cut_and_their_partitions_count_as_lost() -> None:
    quiet = [
        Trace("bulk", number % 7, f"site-{number}.example", opened=(65_536,) * 13)
        for number in range(5_000)
    ]
    busy = [Trace("otp", number, "busy.example", connections=3) for number in range(10)]
    heartbeat = Heartbeat("w", 1, 1000, {}, losses=(Loss("bulk", 99, 5),))

    full = with_remains(heartbeat, [*quiet, *busy])

    assert len(encode(full)) < LARGEST_DATAGRAM
    assert set(busy) < set(full.remains) < {*quiet, *busy}
    lost = {(loss.lane, loss.number) for loss in full.losses}
    untold = {(trace.lane, trace.number) for trace in set(quiet) - set(full.remains)}
    assert lost == untold | {("bulk", 99)}


def test_remains_that_fit_are_all_told() -> None:
    remains = (Trace("bulk", 1, "a.example", 2), Trace("bulk", 1, "b.example", 1))

    full = with_remains(Heartbeat("w", 1, 1000, {}), remains)

    assert full.remains == remains
    assert full.losses == ()
