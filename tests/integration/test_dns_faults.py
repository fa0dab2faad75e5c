"""What the DNS may say, from the router to the receiver (attacks 20 to 23, faults 20 to 22).

Router and delivery run on one embedded broker, with an authoritative server of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from services.demo.receiver import Receiver, Script, Stage
from services.demo.script import Received
from shared.smtp.replies import Reply
from tests.support.dns_authority import DnsAuthority, Zone
from tests.support.dns_world import retried, retries, world
from tests.support.pipeline import eventually

CLOSING = Reply(421, "4.3.2", "Closing")
HOLE = "127.0.0.2"
MANY = 1000


def zone() -> Zone:
    return {
        ("good.test.", "MX"): ["10 mx.good.test."],
        ("mx.good.test.", "A"): ["127.0.0.1"],
        ("plain.test.", "A"): ["127.0.0.1"],
        ("alias.test.", "CNAME"): ["good.test."],
        ("named.test.", "MX"): ["10 mail.named.test."],
        ("mail.named.test.", "CNAME"): ["mx.good.test."],
        ("null.test.", "MX"): ["0 ."],
        ("bare.test.", "TXT"): ['"no mail here"'],
        ("homeless.test.", "MX"): ["10 gone.homeless.test."],
        ("dangling.test.", "MX"): ["10 mail.dangling.test."],
        ("mail.dangling.test.", "CNAME"): ["gone.test."],
        ("self.test.", "MX"): ["10 mta.test.", "20 mx.good.test."],
        ("second.test.", "MX"): ["10 mta2.test.", "20 mx.good.test."],
        ("selves.test.", "MX"): ["10 mta2.test.", "10 mta.test.", "10 mx.good.test."],
        ("backup.test.", "MX"): ["5 mx.good.test.", "10 mta2.test.", "20 nowhere.test."],
        ("down.test.", "MX"): ["10 mx.down.test."],
        ("mx.down.test.", "A"): ["127.0.0.1"],
    }


def statuses(mails: list[Received]) -> dict[str, str]:
    """Status by recipient, over some notifications."""
    found: dict[str, str] = {}
    for mail in mails:
        fields = [line.partition(b": ") for line in mail.content.splitlines()]
        values = [
            value.decode() for key, _, value in fields if key in {b"Final-Recipient", b"Status"}
        ]
        found |= dict(zip(values[::2], values[1::2], strict=True))
    return {recipient.removeprefix("rfc822; "): status for recipient, status in found.items()}


@pytest.mark.parametrize(
    "domain", ["good.test", "plain.test", "alias.test", "named.test", "backup.test"]
)
async def test_mail_goes_where_the_dns_says(tmp_path: Path, domain: str) -> None:
    async with (
        world(tmp_path, DnsAuthority(zone())) as w,
        Receiver(port=w.port) as receiver,
    ):
        await w.send(f"a@{domain}")
        (mail,) = await receiver.wait_for(1)
    assert mail.recipients == (f"a@{domain}",)
    assert w.home.messages == []


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("missing.test", "5.1.2"),
        ("null.test", "5.1.10"),
        ("bare.test", "5.4.4"),
        ("homeless.test", "5.4.4"),
        ("dangling.test", "5.4.4"),
        ("self.test", "5.4.6"),
        ("second.test", "5.4.6"),
        ("selves.test", "5.4.6"),
    ],
)
async def test_what_can_never_be_delivered_is_reported_after_one_attempt(
    tmp_path: Path, domain: str, status: str
) -> None:
    before = retries()
    async with (
        world(tmp_path, DnsAuthority(zone())) as w,
        Receiver(port=w.port) as receiver,
    ):
        await w.send(f"a@{domain}")
        mails = await w.home.wait_for(1)
        assert statuses(list(mails)) == {f"a@{domain}": status}
    assert (receiver.connections, retries()) == (0, before)


def servfail(authority: DnsAuthority) -> None:
    authority.rcodes["down.test."] = dns.rcode.SERVFAIL


def silence(authority: DnsAuthority) -> None:
    authority.silent.add("down.test.")


def cut(authority: DnsAuthority) -> None:
    authority.truncated.add("down.test.")


def refused(authority: DnsAuthority) -> None:
    authority.rcodes["down.test."] = dns.rcode.REFUSED


def loop(authority: DnsAuthority) -> None:
    del authority.zone["down.test.", "MX"]
    authority.zone["down.test.", "CNAME"] = ["pool.test."]
    authority.zone["pool.test.", "CNAME"] = ["down.test."]


def servfail_of_the_host(authority: DnsAuthority) -> None:
    authority.rcodes["mx.down.test."] = dns.rcode.SERVFAIL


def silence_of_the_host(authority: DnsAuthority) -> None:
    authority.silent.add("mx.down.test.")


def loop_of_the_host(authority: DnsAuthority) -> None:
    del authority.zone["mx.down.test.", "A"]
    authority.zone["mx.down.test.", "CNAME"] = ["mx.down.test."]


@pytest.mark.parametrize(
    "trouble",
    [
        servfail,
        silence,
        cut,
        refused,
        loop,
        servfail_of_the_host,
        silence_of_the_host,
        loop_of_the_host,
    ],
)
async def test_trouble_of_the_dns_defers_until_it_is_over_and_is_never_reported(
    tmp_path: Path, trouble: Callable[[DnsAuthority], None]
) -> None:
    authority = DnsAuthority(zone())
    trouble(authority)
    async with world(tmp_path, authority) as w, Receiver(port=w.port) as receiver:
        before = retries()
        await w.send("a@down.test", "b@good.test")
        (mail,) = await receiver.wait_for(1)
        assert mail.recipients == ("b@good.test",)
        await retried(3, before)
        assert w.home.messages == []
        authority.rcodes.clear()
        authority.silent.clear()
        authority.truncated.clear()
        authority.zone.clear()
        authority.zone |= zone()
        later = (await receiver.wait_for(2))[1]
    assert later.recipients == ("a@down.test",)
    assert w.home.messages == []


async def test_trouble_that_outlives_the_mail_is_reported(tmp_path: Path) -> None:
    authority = DnsAuthority(zone())
    silence(authority)
    async with world(tmp_path, authority, max_age="1s") as w:
        before = retries()
        await w.send("a@down.test")
        mails = await w.home.wait_for(1)
        assert statuses(list(mails)) == {"a@down.test": "4.4.7"}
    assert retries() >= before + 1


def thousand(host: str) -> Zone:
    hosts = [f"mx{number}.many.test." for number in range(MANY)]
    records = {("many.test.", "MX"): [f"10 {name}" for name in hosts]}
    return zone() | records | {(name, "A"): [host] for name in hosts}


async def test_of_a_thousand_hosts_that_fail_a_few_are_tried(tmp_path: Path) -> None:
    authority = DnsAuthority(thousand(HOLE))
    async with (
        world(tmp_path, authority, tcp=True) as w,
        Receiver(Script(replies={Stage.BANNER: CLOSING}), host=HOLE, port=w.port) as hole,
    ):
        before = retries()
        await w.send("a@many.test")
        await retried(1, before)
        authority.rcodes["many.test."] = dns.rcode.SERVFAIL
        assert 1 <= hole.connections <= 20
        assert w.home.messages == []


async def test_a_thousand_hosts_that_never_answer_hold_up_nobody_else(tmp_path: Path) -> None:
    async with (
        world(tmp_path, DnsAuthority(thousand(HOLE)), tcp=True) as w,
        Receiver(Script(delays={Stage.BANNER: 3600.0}), host=HOLE, port=w.port) as hole,
        Receiver(port=w.port) as receiver,
    ):
        for number in range(30):
            await w.send(f"{number}@many.test")
        await hole.wait_for(lambda: hole.open_connections > 0)
        await w.send("a@good.test")
        (mail,) = await receiver.wait_for(1)
        assert mail.recipients == ("a@good.test",)
        assert hole.connections <= 20


FORBIDDEN = {
    "loop4.test": ("A", "127.0.0.1"),
    "loop6.test": ("AAAA", "::1"),
    "any4.test": ("A", "0.0.0.0"),
    "any6.test": ("AAAA", "::"),
    "mapped.test": ("AAAA", "::ffff:127.0.0.1"),
    "nat64.test": ("AAAA", "64:ff9b::7f00:1"),
    "sixtofour.test": ("AAAA", "2002:7f00:1::1"),
    "ten.test": ("A", "10.0.0.5"),
    "metadata.test": ("A", "169.254.169.254"),
    "shared.test": ("A", "100.64.0.1"),
    "local.test": ("AAAA", "fc00::1"),
    "link.test": ("AAAA", "fe80::1"),
    "many4.test": ("A", "224.0.0.1"),
}
LITERALS = ("[127.0.0.1]", "[IPv6:::1]", "[IPv6:::ffff:127.0.0.1]", "[169.254.169.254]")


async def test_no_zone_and_no_literal_leads_into_a_private_network(tmp_path: Path) -> None:
    authority = DnsAuthority(zone())
    for domain, (kind, address) in FORBIDDEN.items():
        authority.zone[f"{domain}.", "MX"] = [f"10 mx.{domain}."]
        authority.zone[f"mx.{domain}.", kind] = [address]
        authority.zone[f"direct.{domain}.", kind] = [address]
    connected: list[object] = []
    async with world(tmp_path, authority, private=False) as w:
        sinkhole = await asyncio.start_server(lambda *it: connected.append(it), None, w.port)
        domains = [*FORBIDDEN, *(f"direct.{domain}" for domain in FORBIDDEN), *LITERALS]
        await w.send(*(f"a@{domain}" for domain in domains), f"a@good.test:{w.port}")

        async def all_told() -> bool:
            return len(statuses(list(w.home.messages))) == len(domains) + 1

        await eventually(all_told, "every recipient is reported", 30)
        found = statuses(list(w.home.messages))
        sinkhole.close()
    wrong = {"a@good.test:" + str(w.port): "5.1.3"}
    assert found == {f"a@{domain}": "5.4.4" for domain in domains} | wrong
    assert connected == []


class Rebinding(DnsAuthority):
    """Answers with a public address first, and with ours ever after."""

    def _answer(self, data: bytes) -> dns.message.Message | None:
        answer = super()._answer(data)
        if self.queries[-1] == ("mx.evil.test.", "AAAA"):
            self.zone["mx.evil.test.", "AAAA"] = ["::1", "::ffff:127.0.0.1"]
            self.zone["mx.evil.test.", "A"] = ["127.0.0.1"]
        return answer


async def test_a_host_that_moves_into_a_private_network_is_not_followed(tmp_path: Path) -> None:
    # 6to4: public by its form, and nobody routes it any more.
    evil = {("evil.test.", "MX"): ["10 mx.evil.test."],
            ("mx.evil.test.", "AAAA"): ["2002:808:808::1"]}  # fmt: skip
    authority = Rebinding(zone() | evil, ttl=0)
    connected: list[object] = []
    async with world(tmp_path, authority, private=False) as w:
        sinkhole = await asyncio.start_server(lambda *it: connected.append(it), None, w.port)
        before = retries()
        await w.send("a@evil.test")
        await retried(1, before)
        # One answer for one attempt, though its time to live was over at once.
        asked = w.asked("mx.evil.test.", "AAAA")
        async with asyncio.timeout(60):
            mails = await w.home.wait_for(1)
        assert statuses(list(mails)) == {"a@evil.test": "5.4.4"}
        assert (asked, w.asked("mx.evil.test.", "AAAA")) == (1, 2)
        sinkhole.close()
    assert connected == []
