"""The resolver against a real authoritative server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dns.answers import (
    Addresses,
    DnsTrouble,
    MailExchangers,
    NoRecords,
    NoSuchDomain,
    NullMx,
)
from shared.dns.resolver import AnswerCache, DnspythonResolver, lifetime, ordered
from shared.messages.model import MailExchanger
from shared.settings.load import ConfigError
from shared.settings.model import DnsSettings
from tests.support.dns_authority import DnsAuthority, Zone, serving


def zone() -> Zone:
    return {
        ("ex.test.", "MX"): ["20 mx2.ex.test.", "10 mx1.ex.test."],
        ("null.test.", "MX"): ["0 ."],
        ("muddled.test.", "MX"): ["0 .", "10 mx.muddled.test."],
        ("plain.test.", "A"): ["192.0.2.7"],
        ("bare.test.", "TXT"): ['"nothing here"'],
        ("broken.test.", "TXT"): ['"x"'],
        ("silent.test.", "TXT"): ['"x"'],
        ("mx1.ex.test.", "A"): ["192.0.2.1"],
        ("mx1.ex.test.", "AAAA"): ["2001:db8::1"],
        ("many.test.", "MX"): [f"10 mx{number}.many.test." for number in range(1000)],
        ("alias.test.", "CNAME"): ["again.test."],
        ("again.test.", "CNAME"): ["ex.test."],
        ("loop.test.", "CNAME"): ["pool.test."],
        ("pool.test.", "CNAME"): ["loop.test."],
        ("alias-of-plain.test.", "CNAME"): ["plain.test."],
        ("nowhere.test.", "CNAME"): ["gone.test."],
    }


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("ex.test", MailExchangers((MailExchanger(10, "mx1.ex.test"),
                                    MailExchanger(20, "mx2.ex.test")))),
        ("null.test", NullMx()),
        ("muddled.test", MailExchangers((MailExchanger(10, "mx.muddled.test"),))),
        ("plain.test", MailExchangers((MailExchanger(0, "plain.test"),), implicit=True,
                                      authentic=True)),
        ("bare.test", NoRecords()),
        ("missing.test", NoSuchDomain()),
        ("alias.test", MailExchangers((MailExchanger(10, "mx1.ex.test"),
                                       MailExchanger(20, "mx2.ex.test")))),
        ("alias-of-plain.test", MailExchangers((MailExchanger(0, "alias-of-plain.test"),),
                                               implicit=True, authentic=True)),
        ("nowhere.test", NoSuchDomain()),
    ],
)  # fmt: skip
async def test_each_answer_of_the_dns_has_its_own_type(domain: str, expected: object) -> None:
    async with serving(DnsAuthority(zone())) as settings:
        assert await DnspythonResolver(settings).mail_exchangers(domain) == expected


@pytest.mark.parametrize(
    ("trusts", "says", "believed"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
async def test_only_a_server_that_is_trusted_can_say_that_dnssec_has_validated_exchangers(
    trusts: bool, says: bool, believed: bool
) -> None:
    authority = DnsAuthority(zone())
    authority.validated = {"ex.test."} if says else set()
    async with serving(authority) as settings:
        trusting = settings.model_copy(update={"trust_ad": trusts})
        answer = await DnspythonResolver(trusting).mail_exchangers("ex.test")
    assert isinstance(answer, MailExchangers)
    assert answer.authentic == believed
    assert authority.ad_asked == {trusts}


async def test_trouble_is_never_taken_for_an_answer() -> None:
    authority = DnsAuthority(zone())
    authority.rcodes["broken.test."] = dns.rcode.SERVFAIL
    authority.silent.add("silent.test.")
    async with serving(authority) as settings:
        resolver = DnspythonResolver(settings)
        for domain in ("broken.test", "silent.test", "loop.test"):
            assert isinstance(await resolver.mail_exchangers(domain), DnsTrouble)
            assert isinstance(await resolver.addresses(domain), DnsTrouble)


async def test_addresses_are_of_both_families() -> None:
    async with serving(DnsAuthority(zone())) as settings:
        answer = await DnspythonResolver(settings).addresses("mx1.ex.test")
    assert answer == Addresses(("192.0.2.1", "2001:db8::1"))


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((), sorted(f"mx{number}.many.test" for number in range(1000))[:20]),
        # Our own name must be seen, or mail would loop (RFC 5321, 5.1).
        (("mx999.many.test",),
         [*sorted(f"mx{number}.many.test" for number in range(1000))[:20], "mx999.many.test"]),
    ],
)  # fmt: skip
async def test_a_huge_mx_set_is_cut_always_in_the_same_way(
    kept: tuple[str, ...], expected: list[str]
) -> None:
    async with serving(DnsAuthority(zone()), tcp=True, timeout="20s") as settings:
        answer = await DnspythonResolver(settings, kept=kept).mail_exchangers("many.test")
    assert isinstance(answer, MailExchangers)
    assert [exchanger.host for exchanger in answer.exchangers] == expected


async def test_equal_lookups_at_the_same_time_are_one_question() -> None:
    authority = DnsAuthority(zone())
    async with serving(authority) as settings:
        resolver = DnspythonResolver(settings)
        assert resolver.cached_mail_exchangers("ex.test") is None
        await asyncio.gather(*(resolver.mail_exchangers("ex.test") for _ in range(20)))
        assert resolver.cached_mail_exchangers("ex.test") is not None
        await asyncio.gather(*(resolver.addresses("mx1.ex.test") for _ in range(20)))
    assert sorted(authority.queries) == [
        ("ex.test.", "MX"),
        ("mx1.ex.test.", "A"),
        ("mx1.ex.test.", "AAAA"),
    ]


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


@given(st.permutations(range(30)))
def test_the_same_records_in_any_order_are_the_same_exchangers(order: list[int]) -> None:
    records = [f"{10 + number // 10} mx{number}.test." for number in order]
    rrset = dns.rrset.from_text("a.test.", 60, "IN", "MX", *records)
    names = (
        sorted(f"mx{number}.test" for number in range(10)),
        sorted(f"mx{number}.test" for number in range(10, 20)),
    )
    expected = [(10, name) for name in names[0]] + [(11, name) for name in names[1]]
    assert [(each.preference, each.host) for each in ordered(rrset)] == expected


async def test_an_answer_too_long_for_udp_is_fetched_over_tcp() -> None:
    authority = DnsAuthority(zone())
    authority.truncated.add("ex.test.")
    async with serving(authority, tcp=True) as settings:
        answer = await DnspythonResolver(settings).mail_exchangers("ex.test")
    assert isinstance(answer, MailExchangers)
    assert len(authority.queries) == 2


async def test_a_cut_answer_without_tcp_is_trouble() -> None:
    authority = DnsAuthority(zone())
    authority.truncated.add("ex.test.")
    async with serving(authority) as settings:
        answer = await DnspythonResolver(settings).mail_exchangers("ex.test")
    assert isinstance(answer, DnsTrouble)


async def test_two_servers_on_one_host_are_both_asked() -> None:
    broken = DnsAuthority(zone())
    broken.rcodes["ex.test."] = dns.rcode.SERVFAIL
    async with serving(broken) as first, serving(DnsAuthority(zone())) as second:
        both = DnsSettings(nameservers=(*first.nameservers, *second.nameservers))
        answer = await DnspythonResolver(both).mail_exchangers("ex.test")
    assert isinstance(answer, MailExchangers)
    assert broken.queries


async def test_half_an_answer_about_addresses_is_used_but_not_kept() -> None:
    now = [0.0]
    authority = DnsAuthority(zone(), ttl=300)
    authority.unheard.add(("mx1.ex.test.", "AAAA"))
    async with serving(authority) as settings:
        resolver = DnspythonResolver(settings, AnswerCache(lambda: now[0]))
        assert await resolver.addresses("mx1.ex.test") == Addresses(("192.0.2.1",))
        authority.unheard.clear()
        now[0] = 6.0
        answer = await resolver.addresses("mx1.ex.test")
    assert answer == Addresses(("192.0.2.1", "2001:db8::1"))


@pytest.mark.parametrize(
    ("domain", "kept"), [("missing.test", 60.0), ("bare.test", 60.0), ("broken.test", 5.0)]
)
async def test_no_is_kept_for_a_minute_and_trouble_for_seconds(domain: str, kept: float) -> None:
    now = [0.0]
    authority = DnsAuthority(zone())
    authority.rcodes["broken.test."] = dns.rcode.SERVFAIL
    async with serving(authority) as settings:
        resolver = DnspythonResolver(settings, AnswerCache(lambda: now[0]))
        await resolver.mail_exchangers(domain)
        now[0] = kept
        assert resolver.cached_mail_exchangers(domain) is not None
        now[0] = kept + 0.1
        assert resolver.cached_mail_exchangers(domain) is None


@pytest.mark.parametrize(("ttl", "kept"), [(0, 5.0), (100, 100.0), (86_400, 3600.0)])
def test_the_time_to_live_is_taken_within_reason(ttl: float, kept: float) -> None:
    assert lifetime(NullMx(), ttl) == kept


async def test_who_gives_up_waiting_takes_the_answer_from_nobody_else() -> None:
    async with serving(DnsAuthority(zone())) as settings:
        resolver = DnspythonResolver(settings)
        impatient = asyncio.ensure_future(resolver.mail_exchangers("ex.test"))
        patient = asyncio.ensure_future(resolver.mail_exchangers("ex.test"))
        await asyncio.sleep(0)
        impatient.cancel()
        assert isinstance(await patient, MailExchangers)


async def test_a_mail_to_very_many_domains_does_not_use_up_the_sockets() -> None:
    async with serving(DnsAuthority(zone())) as settings:
        resolver = DnspythonResolver(settings, room=10)
        domains = [f"{number}.missing.test" for number in range(300)]
        before = most = open_files()
        answers = asyncio.gather(*map(resolver.mail_exchangers, domains))
        while not answers.done():
            await asyncio.sleep(0)
            most = max(most, open_files())
        assert set(await answers) == {NoSuchDomain()}
    assert most - before < 100


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_system_without_a_server_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dns\.nameservers"):
        DnspythonResolver(DnsSettings(), system=str(tmp_path / "none"))
