"""Which way each domain goes."""

from __future__ import annotations

import pytest

from services.router.routing import (
    NULL_MX,
    Postponed,
    Route,
    StaticRoutes,
    Undeliverable,
    domain_of,
    literal_route,
    way_by_dns,
)
from shared.dns.answers import DnsTrouble, MailExchangers, NoRecords, NoSuchDomain, NullMx
from shared.messages.model import MailExchanger
from shared.settings.model import RouteSettings


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
        ("postmaster", None),
        ("a@\u2063", None),
    ],
)
def test_the_domain_of_a_mailbox(address: str, domain: str | None) -> None:
    assert domain_of(address) == domain


def test_an_address_literal_is_its_own_exchanger_but_never_static() -> None:
    route = literal_route("[ipv6:::1]")
    assert route == Route("[ipv6:::1]", (MailExchanger(0, "::1"),), static=False)
    assert literal_route("example.com") is None


def test_answers_of_the_dns_become_ways() -> None:
    exchangers = (MailExchanger(10, "mx.test"),)
    assert way_by_dns("a.test", MailExchangers(exchangers)) == Route("a.test", exchangers)
    assert way_by_dns("a.test", NullMx()) == NULL_MX
    codes = [way_by_dns("a.test", answer) for answer in (NoSuchDomain(), NoRecords())]
    assert [way.reply.enhanced for way in codes if isinstance(way, Undeliverable)] == [
        "5.1.2",
        "5.4.4",
    ]


def test_trouble_of_the_dns_is_never_final() -> None:
    way = way_by_dns("a.test", DnsTrouble("LifetimeTimeout"))
    assert isinstance(way, Postponed)
    assert way.reply.transient
