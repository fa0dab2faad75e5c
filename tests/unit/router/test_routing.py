"""Which way each domain goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.routing import (
    LOOP,
    NULL_MX,
    Postponed,
    Route,
    StaticRoutes,
    Undeliverable,
    domain_of,
    given_up,
    literal_route,
    way_by_dns,
)
from shared.dns.answers import DnsTrouble, MailExchangers, NoRecords, NoSuchDomain, NullMx
from shared.messages.model import MailExchanger
from shared.settings.model import RouteSettings

OWN = frozenset({"mta.test", "mta2.test"})


def routes() -> StaticRoutes:
    return StaticRoutes(
        (
            RouteSettings(domains=("Example.COM", "b.test"), hosts=("10.1.2.3:2525", "backup")),
            RouteSettings(domains=("b.test",), hosts=("never",)),
            RouteSettings(domains=("*",), hosts=("[2001:db8::1]:26",)),
        )
    )


def test_the_first_route_that_names_a_domain_wins() -> None:
    found = routes().find("b.test")
    assert found == routes().find("example.com")
    assert found is not None
    assert found.static
    assert found.exchangers == (
        MailExchanger(0, "10.1.2.3", 2525),
        MailExchanger(1, "backup", 0),
    )


def test_every_other_domain_takes_the_route_of_the_star() -> None:
    found = routes().find("other.test")
    assert found is not None
    assert found.exchangers == (MailExchanger(0, "2001:db8::1", 26),)
    assert StaticRoutes(()).find("other.test") is None


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@Example.COM", "example.com"),
        ('"a@b"@c.test', "c.test"),
        ("a@bücher.example", "xn--bcher-kva.example"),
        ("a@[192.0.2.1]", "[192.0.2.1]"),
        ("a@[IPv6:::1]", "[ipv6:::1]"),
        ("a@[nonsense]", None),
        ("a@[192.0.2.1", None),
        ("a@[2001:db8::1]", None),
        ("a@[IPv6:192.0.2.1]", None),
        ("a@[IPv6:fe80::1%eth0]", None),
        ("a@192.0.2.1]", None),
        ("a@mail_1.test", "mail_1.test"),
        ("a@t:25", None),
        ("a@two..dots", None),
        ("a@final.dot.", None),
        ("a@-hyphen.test", None),
        (f"a@{'x' * 64}.test", None),
        (f"a@{'x.' * 127}test", None),
        ("a@", None),
        ("postmaster", None),
        ("a@\u2063", None),
    ],
)
def test_the_domain_of_a_mailbox(address: str, domain: str | None) -> None:
    assert domain_of(address) == domain


def test_an_address_literal_is_its_own_exchanger_but_never_static() -> None:
    route = literal_route("[ipv6:::1]")
    assert route == Route("[ipv6:::1]", (MailExchanger(0, "::1"),), authentic=True, site="[::1]")
    assert literal_route("example.com") is None


def test_answers_of_the_dns_become_ways() -> None:
    exchangers = (MailExchanger(10, "mx.test"),)
    assert way_by_dns("a.test", MailExchangers(exchangers), OWN) == Route("a.test", exchangers)
    validated = way_by_dns("a.test", MailExchangers(exchangers, authentic=True), OWN)
    assert validated == Route("a.test", exchangers, authentic=True)
    assert way_by_dns("a.test", NullMx(), OWN) == NULL_MX
    codes = [way_by_dns("a.test", answer, OWN) for answer in (NoSuchDomain(), NoRecords())]
    assert [way.reply.enhanced for way in codes if isinstance(way, Undeliverable)] == [
        "5.1.2",
        "5.4.4",
    ]


def test_trouble_of_the_dns_is_never_final() -> None:
    way = way_by_dns("a.test", DnsTrouble("LifetimeTimeout"), OWN)
    assert isinstance(way, Postponed)
    assert way.reply.transient


def test_a_relay_never_hands_mail_to_an_exchanger_no_better_than_itself() -> None:
    better, equal = MailExchanger(5, "better.test"), MailExchanger(10, "equal.test")
    own, worse = MailExchanger(10, "mta.test"), MailExchanger(20, "worse.test")
    way = way_by_dns("a.test", MailExchangers((better, equal, own, worse)), OWN)
    assert way == Route("a.test", (better,))


def test_mail_for_a_domain_whose_best_exchanger_is_this_host_would_loop() -> None:
    exchangers = (MailExchanger(10, "mta.test"), MailExchanger(20, "backup.test"))
    assert way_by_dns("a.test", MailExchangers(exchangers), OWN) is LOOP


def test_only_what_would_be_asked_again_is_given_up() -> None:
    postponed = way_by_dns("a.test", DnsTrouble("LifetimeTimeout"), OWN)
    way = given_up(postponed)
    assert isinstance(way, Undeliverable)
    assert (way.reply.enhanced, way.reason) == ("4.4.7", "expired")
    assert "LifetimeTimeout" in way.reply.text
    assert given_up(NULL_MX) is NULL_MX


@given(st.text(max_size=80))
def test_any_mailbox_has_a_domain_that_dns_can_be_asked_for_or_none(address: str) -> None:
    for text in (address, f"a@{address}"):
        domain = domain_of(text)
        assert domain is None or (domain.isascii() and domain == domain.lower() and domain)
