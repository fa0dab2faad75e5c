"""Which hosts are tried, and that a stranger's zone never leads into private networks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.candidates import (
    MOST_CANDIDATES,
    MOST_HOSTS,
    Found,
    candidates,
    in_order,
    is_public,
    unclear,
)
from shared.dns.answers import Addresses, DnsTrouble, NoRecords, NoSuchDomain
from shared.messages.model import MailExchanger
from shared.messages.outcome import Deferred, Failed

MX = MailExchanger(10, "mx.test")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.5",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%1",
        "fc00::1",
        "fdff::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:5",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "not an address",
    ],
)
def test_what_is_not_public_is_refused_in_every_disguise(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_no_way_to_carry_a_private_address_inside_another_is_public(inner: object) -> None:
    number = int(inner)  # type: ignore[call-overload]
    high, low = number >> 16, number & 0xFFFF
    for form in (f"::ffff:{inner}", f"64:ff9b::{high:x}:{low:x}", f"2002:{high:x}:{low:x}::1"):
        assert not is_public(form)


def test_private_addresses_of_a_host_are_left_out_and_public_ones_kept() -> None:
    answer = Addresses(("10.0.0.1", "8.8.8.8", "::1"))

    found = candidates([(MX, answer)], port=25, private=False)

    assert isinstance(found, tuple)
    assert [place.address for place in found] == ["8.8.8.8"]


def test_configured_hosts_may_be_private() -> None:
    found = candidates([(MX, Addresses(("10.0.0.1",)))], port=25, private=True)

    assert isinstance(found, tuple)
    assert [(place.address, place.port) for place in found] == [("10.0.0.1", 25)]


def test_hosts_that_are_all_private_fail() -> None:
    outcome = candidates([(MX, Addresses(("127.0.0.1",)))], port=25, private=False)

    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced == "5.4.4"


@pytest.mark.parametrize("answer", [NoRecords(), NoSuchDomain()])
def test_hosts_without_any_address_fail(answer: NoRecords | NoSuchDomain) -> None:
    outcome = candidates([(MX, answer)], port=25, private=False)

    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced == "5.4.4"


def test_trouble_with_one_host_defers_although_another_has_no_address() -> None:
    found: Found = [(MX, NoRecords()), (MX, DnsTrouble("SERVFAIL"))]

    outcome = candidates(found, port=25, private=False)

    assert isinstance(outcome, Deferred)
    assert outcome.reason == "dns"
    assert [one.reason for _, one in unclear(found) if isinstance(one, Deferred)] == ["dns"]


def test_lower_preferences_come_first_and_equal_ones_in_any_order() -> None:
    exchangers = [MailExchanger(20, "c"), MailExchanger(10, "a"), MailExchanger(10, "b")]

    orders = {
        tuple(x.host for x in in_order(exchangers, random.Random(seed))) for seed in range(20)
    }

    assert orders == {("a", "b", "c"), ("b", "a", "c")}


def test_a_zone_of_a_thousand_hosts_is_tried_within_bounds() -> None:
    exchangers = [MailExchanger(n, f"mx{n}.test") for n in range(1000)]

    best = in_order(exchangers, random.Random(1))
    many = Addresses(tuple(f"8.8.{n}.8" for n in range(200)))
    found = candidates([(one, many) for one in best], port=25, private=False)

    assert [one.preference for one in best] == list(range(MOST_HOSTS))
    assert len(found) == MOST_CANDIDATES  # type: ignore[arg-type]
