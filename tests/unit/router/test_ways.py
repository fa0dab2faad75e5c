"""To which site each way leads, and how many recipients its jobs may have."""

from __future__ import annotations

from typing import Any

import pytest

from services.router.routing import LOOP, Postponed, Route
from services.router.ways import Ways
from shared.dns.answers import DnsTrouble, MailExchangers
from shared.messages.model import MailExchanger
from shared.plan.lanes import LanePlan
from shared.plan.limits import LimitTable
from shared.settings.model import Settings

GOOGLE = MailExchangers((MailExchanger(1, "smtp.google.com"),))
SETTINGS: dict[str, Any] = {
    "hostname": "mta.test",
    "router": {
        "routes": [
            {
                "domains": ["inside.test", "named.test"],
                "hosts": ["Relay.Inside.test", "10.0.0.1:26"],
            },
            {"domains": ["six.test"], "hosts": ["[2001:db8::1]:26"]},
            {"domains": ["to-google.test"], "hosts": ["smtp-relay.google.com:587"]},
        ],
        "own_names": ["MTA2.test"],
    },
    "lanes": [{"name": "vip", "match": {"domains": ["Named.test", "bücher.test", "mx.test"]}}],
    "limits": {
        "default": {"recipients_per_transaction": 7},
        "overrides": [
            {"match": {"providers": ["google"]}, "recipients_per_transaction": 50},
            {"match": {"domains": ["slow.test"]}, "recipients_per_transaction": 1},
        ],
    },
}  # fmt: skip


def ways(**changes: Any) -> Ways:
    settings = Settings.model_validate(SETTINGS | changes)
    return Ways(settings, LanePlan(settings.lanes, LimitTable(settings.limits)))


def place(way: object) -> tuple[str, str, int]:
    assert isinstance(way, Route)
    return way.site, way.provider, way.most


def answer(*hosts: str) -> MailExchangers:
    return MailExchangers(tuple(MailExchanger(10, host) for host in hosts))


def test_domains_with_the_same_exchangers_are_one_site() -> None:
    one = ways()
    sites = {place(one.by_dns(name, answer("b.mx.test", "a.mx.test"))) for name in "xyz"}
    ((site, provider, most),) = sites
    assert site.startswith("a.mx.test~")
    assert (provider, most) == ("other", 7)


def test_customers_of_a_provider_are_one_site_under_its_limits() -> None:
    assert place(ways().by_dns("customer.test", GOOGLE)) == ("*.google.com", "google", 50)


def test_a_site_is_that_of_the_exchangers_that_are_left_to_us() -> None:
    found = MailExchangers(
        (
            MailExchanger(5, "better.test"),
            MailExchanger(10, "mta2.test"),
            MailExchanger(10, "x.test"),
        )
    )
    assert place(ways().by_dns("a.test", found)) == ("better.test", "other", 7)
    assert ways().by_dns("a.test", answer("mta2.test")) is LOOP


def test_a_static_route_is_a_site_by_its_hosts_and_ports() -> None:
    one = ways()
    assert place(one.without_dns("inside.test")) == ("relay.inside.test:25,10.0.0.1:26", "other", 7)
    assert place(one.without_dns("six.test")) == ("[2001:db8::1]:26", "other", 7)
    assert place(one.without_dns("to-google.test")) == ("smtp-relay.google.com:587", "google", 50)


def test_no_zone_can_put_its_mail_into_the_site_of_a_static_route() -> None:
    one = ways()
    static = place(one.without_dns("inside.test"))[0]
    for hosts in (["relay.inside.test"], ["relay.inside.test:25"], static.split(","), [static]):
        assert place(one.by_dns("stranger.test", answer(*hosts)))[0] != static


@pytest.mark.parametrize(
    ("literal", "site"),
    [("[192.0.2.1]", "[192.0.2.1]"), ("[ipv6:2001:db8:0::1]", "[2001:db8::1]")],
)
def test_an_address_literal_is_a_site_however_it_is_written(literal: str, site: str) -> None:
    assert place(ways().without_dns(literal)) == (site, "other", 7)


def test_a_domain_that_a_lane_or_a_limit_names_is_a_site_of_its_own() -> None:
    one = ways()
    assert place(one.by_dns("slow.test", GOOGLE)) == ("slow.test", "google", 1)
    assert place(one.by_dns("xn--bcher-kva.test", GOOGLE))[0] == "xn--bcher-kva.test"
    named, inside = one.without_dns("named.test"), one.without_dns("inside.test")
    assert named is not None
    assert inside is not None
    assert (named.site, named.destination) == ("named.test", inside.destination)
    assert named.key != inside.key


def test_a_host_that_is_called_like_a_named_domain_is_not_taken_for_it() -> None:
    one = ways()
    assert place(one.by_dns("stranger.test", answer("mx.test")))[0] != "mx.test"
    assert place(one.by_dns("mx.test", answer("mx.test")))[0] == "mx.test"


def test_what_was_worked_out_is_forgotten_with_the_answer() -> None:
    one = ways()
    first = one.by_dns("a.test", answer("one.test"))
    moved = one.by_dns("a.test", answer("two.test"))
    assert (place(first)[0], place(moved)[0]) == ("one.test", "two.test")
    trouble = one.by_dns("a.test", DnsTrouble("SERVFAIL"))
    assert isinstance(trouble, Postponed)


def test_a_way_is_worked_out_once_for_an_answer() -> None:
    one = ways()
    assert one.by_dns("a.test", GOOGLE) is one.by_dns("a.test", GOOGLE)
    assert one.without_dns("inside.test") is one.without_dns("inside.test")
    assert one.without_dns("b.test") is None
