"""From recipients to jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.router.routing import MALFORMED, NO_SUCH_DOMAIN, Postponed, Route, Way
from services.router.splitting import Split, first_job, split
from shared.messages.model import (
    DEMANDING,
    SECRET,
    AcceptedMail,
    Content,
    DeliveryJob,
    MailExchanger,
    Recipient,
)
from shared.smtp.replies import Reply

WAYS: dict[str, Way] = {
    "a.test": Route("hub", (MailExchanger(0, "hub", 25),), static=True),
    "b.test": Route("hub", (MailExchanger(0, "hub", 25),), static=True),
    "c.test": Route("c.test", (MailExchanger(10, "mx.c.test"),)),
    "gone.test": NO_SUCH_DOMAIN,
    "down.test": Postponed("down.test", Reply(451, "4.4.3", "DNS trouble")),
}


def mail(*addresses: str, reverse_path: str = "me@s.test") -> AcceptedMail:
    recipients = tuple(map(Recipient, addresses))
    return AcceptedMail("MAIL", 1.0, reverse_path, recipients, Content(3, memoryview(b"abc")))


def divided(parent: DeliveryJob, ways: Mapping[str, Way] = WAYS) -> Split:
    domains = [recipient.address.rpartition("@")[2] for recipient in parent.recipients]
    return split(parent, [ways.get(domain, MALFORMED) for domain in domains])


def test_domains_that_share_a_route_share_a_job() -> None:
    parts = divided(first_job(mail("1@a.test", "2@c.test", "3@b.test")), WAYS)
    found = {job.destination: [r.address for r in job.recipients] for job in parts.jobs}
    assert found == {"hub": ["1@a.test", "3@b.test"], "c.test": ["2@c.test"]}


def test_a_destination_with_many_recipients_is_cut_into_chunks() -> None:
    parts = divided(first_job(mail(*(f"{n}@a.test" for n in range(250)))), WAYS)
    assert [len(job.recipients) for job in parts.jobs] == [100, 100, 50]
    assert len({job.id for job in parts.jobs}) == 3


def test_a_redelivered_mail_gives_the_same_jobs() -> None:
    again = [divided(first_job(mail("1@a.test", "2@c.test")), WAYS) for _ in range(2)]
    assert again[0] == again[1]


def test_a_job_that_comes_back_whole_keeps_its_id_and_takes_its_new_way() -> None:
    job = divided(first_job(mail("1@c.test", "2@c.test")), WAYS).jobs[0]
    moved: dict[str, Way] = {"c.test": Route("new", (MailExchanger(5, "new"),))}
    (back,) = divided(job, moved).jobs
    assert (back.id, back.destination, back.share) == (job.id, "new", 1)


def test_recipients_without_a_way_fail_alone() -> None:
    parts = divided(first_job(mail("1@a.test", "2@gone.test", "3@", "4")), WAYS)
    assert [job.destination for job in parts.jobs] == ["hub"]
    assert [recipient.address for recipient, _ in parts.failures] == ["2@gone.test", "3@", "4"]


def test_a_schema_goes_with_every_part() -> None:
    binary = msgspec.structs.replace(mail("1@a.test", "2@c.test"), binary=True, schema=DEMANDING)
    assert {job.schema for job in divided(first_job(binary)).jobs} == {DEMANDING}
    assert {job.binary for job in divided(first_job(binary)).jobs} == {True}


def test_mail_that_requires_tls_knows_whether_its_exchangers_are_authentic() -> None:
    ways = WAYS | {"d.test": Route("d.test", (MailExchanger(10, "mx.d.test"),), authentic=True)}
    plain = mail("1@c.test", "2@d.test")
    secret = msgspec.structs.replace(plain, require_tls=True, schema=SECRET)
    jobs = divided(first_job(secret), ways).jobs
    assert [(job.destination, job.authentic) for job in jobs] == [
        ("c.test", False),
        ("d.test", True),
    ]
    assert {(job.require_tls, job.schema) for job in jobs} == {(True, SECRET)}
    # It may have another way when it comes again; other mail does not carry it.
    assert [job.authentic for job in divided(jobs[1], WAYS | {"d.test": WAYS["c.test"]}).jobs] == [
        False
    ]
    assert not any(job.authentic for job in divided(first_job(plain), ways).jobs)


def test_a_static_host_that_is_also_a_domain_of_the_mail_shares_no_id_with_it() -> None:
    ways = WAYS | {"hub": Route("hub", (MailExchanger(10, "mx.hub"),))}
    jobs = divided(first_job(mail("1@a.test", "2@hub")), ways).jobs
    assert [job.destination for job in jobs] == ["hub", "hub"]
    assert len({job.id for job in jobs}) == 2


def test_what_fails_of_the_null_reverse_path_keeps_its_share_of_the_blob() -> None:
    parts = divided(first_job(mail("1@a.test", "2@gone.test", "3@", reverse_path="")), WAYS)
    assert parts.parked is not None
    assert [r.address for r in parts.parked.recipients] == ["2@gone.test", "3@"]
    assert [parts.parked.share, *(job.share for job in parts.jobs)] == [2, 2]
    assert parts.parked.id not in {"MAIL", parts.jobs[0].id}
    assert not parts.needs_content


def test_a_retried_job_that_is_split_again_divides_its_share() -> None:
    job = divided(first_job(mail("1@a.test", "2@b.test", "3@c.test")), WAYS).jobs[0]
    ways = WAYS | {"b.test": Route("b.test", (MailExchanger(5, "mx.b"),))}
    jobs = divided(job, ways).jobs
    assert [again.share for again in jobs] == [4, 4]
    assert job.id not in {again.id for again in jobs}


@given(
    st.lists(
        st.sampled_from(["a.test", "b.test", "c.test", "gone.test", "down.test"]),
        min_size=1,
        max_size=60,
    ),
    st.integers(1, 7),
    st.sampled_from(["", "me@s.test"]),
)
def test_nobody_is_lost_and_the_shares_of_the_blob_add_up(
    domains: list[str], size: int, reverse_path: str
) -> None:
    addresses = [f"{number}@{domain}" for number, domain in enumerate(domains)]
    ways = {
        domain: replace(way, most=size) if isinstance(way, Route) else way
        for domain, way in WAYS.items()
    }
    parts = divided(first_job(mail(*addresses, reverse_path=reverse_path)), ways)
    jobs = parts.jobs + [job for job, _ in parts.postponed]
    reached = [recipient.address for job in jobs for recipient in job.recipients]
    failed = [recipient.address for recipient, _ in parts.failures]
    assert sorted(reached + failed) == sorted(addresses)
    holders = jobs + ([parts.parked] if parts.parked else [])
    assert len({job.id for job in holders}) == len(holders)
    assert not holders or sum(job.blob_share for job in holders) == Fraction(1)
