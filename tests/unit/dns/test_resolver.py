"""The resolver against a real authoritative server."""

from __future__ import annotations

import asyncio

import dns.rcode
import pytest

from shared.dns.answers import (
    Addresses,
    DnsTrouble,
    MailExchangers,
    NoRecords,
    NoSuchDomain,
    NullMx,
)
from shared.dns.resolver import AnswerCache, DnspythonResolver
from shared.messages.model import MailExchanger
from tests.support.dns_authority import DnsAuthority, Zone, serving


def zone() -> Zone:
    return {
        ("ex.test.", "MX"): ["20 mx2.ex.test.", "10 mx1.ex.test."],
        ("null.test.", "MX"): ["0 ."],
        ("plain.test.", "A"): ["192.0.2.7"],
        ("bare.test.", "TXT"): ['"nothing here"'],
        ("broken.test.", "TXT"): ['"x"'],
        ("silent.test.", "TXT"): ['"x"'],
        ("mx1.ex.test.", "A"): ["192.0.2.1"],
        ("mx1.ex.test.", "AAAA"): ["2001:db8::1"],
        ("many.test.", "MX"): [f"10 mx{number}.many.test." for number in range(50)],
    }


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("ex.test", MailExchangers((MailExchanger(10, "mx1.ex.test"),
                                    MailExchanger(20, "mx2.ex.test")))),
        ("null.test", NullMx()),
        ("plain.test", MailExchangers((MailExchanger(0, "plain.test"),), implicit=True)),
        ("bare.test", NoRecords()),
        ("missing.test", NoSuchDomain()),
    ],
)  # fmt: skip
async def test_each_answer_of_the_dns_has_its_own_type(domain: str, expected: object) -> None:
    async with serving(DnsAuthority(zone())) as settings:
        assert await DnspythonResolver(settings).mail_exchangers(domain) == expected


async def test_trouble_is_never_taken_for_an_answer() -> None:
    authority = DnsAuthority(zone())
    authority.rcodes["broken.test."] = dns.rcode.SERVFAIL
    authority.silent.add("silent.test.")
    async with serving(authority) as settings:
        resolver = DnspythonResolver(settings)
        for domain in ("broken.test", "silent.test"):
            assert isinstance(await resolver.mail_exchangers(domain), DnsTrouble)


async def test_addresses_are_of_both_families() -> None:
    async with serving(DnsAuthority(zone())) as settings:
        answer = await DnspythonResolver(settings).addresses("mx1.ex.test")
    assert answer == Addresses(("192.0.2.1", "2001:db8::1"))


async def test_a_huge_mx_set_is_cut() -> None:
    async with serving(DnsAuthority(zone())) as settings:
        answer = await DnspythonResolver(settings).mail_exchangers("many.test")
    assert isinstance(answer, MailExchangers)
    assert len(answer.exchangers) == 20


async def test_equal_lookups_at_the_same_time_are_one_question() -> None:
    authority = DnsAuthority(zone())
    async with serving(authority) as settings:
        resolver = DnspythonResolver(settings)
        assert resolver.cached_mail_exchangers("ex.test") is None
        await asyncio.gather(*(resolver.mail_exchangers("ex.test") for _ in range(20)))
        assert resolver.cached_mail_exchangers("ex.test") is not None
    assert authority.queries == [("ex.test.", "MX")]


async def test_answers_are_asked_for_again_when_their_time_is_over() -> None:
    now = [0.0]
    authority = DnsAuthority(zone(), ttl=30)
    async with serving(authority) as settings:
        resolver = DnspythonResolver(settings, AnswerCache(lambda: now[0]))
        for moment in (0.0, 29.0, 31.0):
            now[0] = moment
            await resolver.mail_exchangers("ex.test")
    assert len(authority.queries) == 2


async def test_a_full_cache_forgets_what_was_not_used() -> None:
    cache = AnswerCache(lambda: 0.0, size=2)
    for name in ("a", "b"):
        cache.put("mx", name, NullMx(), 60)
    cache.get("mx", "a")
    cache.put("mx", "c", NullMx(), 60)
    assert [cache.get("mx", name) is not None for name in "abc"] == [True, False, True]
