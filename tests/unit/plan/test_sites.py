"""Which domains are one site, and that no stranger can get into another one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.plan.providers import provider_names
from shared.plan.sites import Site, Sites
from shared.settings.shaping import ProviderSettings

HOSTS = st.lists(
    st.from_regex(r"[a-z0-9~:,*\n][a-z0-9.~-]{0,12}", fullmatch=True), min_size=1, max_size=6
)


OFFICE = ("*.mail.protection.outlook.com", "microsoft")


@given(HOSTS, st.randoms(use_true_random=False))
def test_a_set_has_one_name_in_whatever_order_and_case_it_comes(
    hosts: list[str], chance: object
) -> None:
    mixed = [host.upper() for host in hosts] + hosts
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert Sites().of(mixed) == Sites().of(sorted(set(hosts)))


@given(HOSTS, HOSTS)
def test_two_sets_never_share_a_name(one: list[str], other: list[str]) -> None:
    assume(set(one) != set(other))
    sites = Sites()
    assert sites.of(one).name != sites.of(other).name


@given(HOSTS)
def test_no_set_of_strange_hosts_has_the_name_of_another_site(hosts: list[str]) -> None:
    name = Sites().of(hosts).name
    others = {"*.google.com", "10.1.2.3:25", "a.test:25,b.test:25", "[192.0.2.1]"}
    assert name not in others
    # Whoever calls a host like the site of others is not there.
    assert Sites().of([name]).name != name or set(hosts) == {name}


@pytest.mark.parametrize("hosts", [["10.1.2.3:25"], ["*.google.com.evil.test"], ["a.test~x"]])
def test_a_host_with_a_name_that_could_be_a_site_is_told_apart(hosts: list[str]) -> None:
    assert Sites().of(hosts).name.startswith(f"{hosts[0]}~")


def test_a_dot_within_a_label_makes_nobody_a_provider_s_host() -> None:
    assert Sites().of([r"evil\.google.com"]).provider == "other"


def test_nobody_can_find_a_second_set_for_a_digest() -> None:
    name = Sites().of(["mx1.victim.test", "mx2.victim.test"]).name
    assert len(name.partition("~")[2]) * 5 >= 128


def test_the_name_of_a_set_is_the_same_in_every_process() -> None:
    hosts = ["mx2.example.test", "mx1.example.test"]
    program = f"from shared.plan.sites import Sites; print(Sites().of({hosts!r}).name)"
    names = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert names == {Sites().of(hosts).name}


@pytest.mark.parametrize(
    ("hosts", "site"),
    [
        (["contoso-com.mail.protection.outlook.com"], OFFICE),
        (["fabrikam-de.mail.protection.outlook.com"], OFFICE),
        (["example-org.a-v1.mx.microsoft"], OFFICE),
        (["outlook-com.olc.protection.outlook.com"], ("*.olc.protection.outlook.com", "microsoft")),
        (["aspmx.l.google.com", "alt1.aspmx.l.google.com", "aspmx2.googlemail.com"],
         ("*.google.com", "google")),
        (["smtp.google.com"], ("*.google.com", "google")),
        (["gmail-smtp-in.l.google.com", "alt4.gmail-smtp-in.l.google.com"],
         ("*.google.com", "google")),
        (["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"], ("*.yahoodns.net", "yahoo")),
        (["mx01.mail.icloud.com", "mx02.mail.icloud.com"], ("*.mail.icloud.com", "apple")),
        (["mx1.example.test"], ("mx1.example.test", "other")),
        (["notgoogle.com"], ("notgoogle.com", "other")),
        (["google.com.example.test"], ("google.com.example.test", "other")),
    ],
)  # fmt: skip
def test_customers_of_a_provider_are_one_site(hosts: list[str], site: tuple[str, str]) -> None:
    assert Sites().of(hosts) == Site(*site)


@pytest.mark.parametrize(
    "hosts",
    [
        ["ec2-192-0-2-1.compute-1.amazonaws.com"],
        ["c-192-0-2-1.hsd1.ca.comcast.net"],
        ["mx0a-00000001.pphosted.com"],
    ],
)
def test_customers_with_hosts_of_their_own_at_a_provider_are_sites_of_their_own(
    hosts: list[str],
) -> None:
    site = Sites().of(hosts)
    assert site.name == hosts[0]
    assert site.provider != "other"


def test_a_backup_elsewhere_makes_it_a_site_that_is_nobody_s() -> None:
    site = Sites().of(["aspmx.l.google.com", "backup.example.test"])
    assert site.provider == "other"
    assert site.name.startswith("aspmx.l.google.com~")


def test_hosts_of_two_sites_of_one_provider_are_still_that_provider_s() -> None:
    site = Sites().of(["a.mail.protection.outlook.com", "mx1.hotmail.com"])
    assert site.provider == "microsoft"
    assert site.name.startswith("a.mail.protection.outlook.com~")


def test_configured_providers_come_before_the_built_in_ones() -> None:
    own = (
        ProviderSettings(name="ours", mx=("MX.Example.Test",)),
        ProviderSettings(name="filter", mx=("l.google.com",), one_site=False),
    )
    sites = Sites(own)
    assert sites.of(["b.mx.example.test"]) == Site("*.mx.example.test", "ours")
    assert sites.of(["aspmx.l.google.com"]) == Site("aspmx.l.google.com", "filter")
    assert sites.of(["smtp.google.com"]) == Site("*.google.com", "google")


def test_two_providers_never_share_a_site() -> None:
    sites = Sites([ProviderSettings(name="mine", mx=("google.com",))])
    assert sites.of(["a.google.com"]) == Site("*.google.com", "mine")
    assert sites.of(["a.googlemail.com"]) == Site("*.googlemail.com", "google")


@given(HOSTS)
def test_a_provider_is_always_one_of_those_that_are_known(hosts: list[str]) -> None:
    assert Sites().of([*hosts, "a.google.com"]).provider in provider_names()


def test_no_exchangers_are_no_site() -> None:
    with pytest.raises(ValueError, match="exchanger"):
        Sites().of([])
