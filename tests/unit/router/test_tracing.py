"""What is told of a message's way through the router, and what its jobs carry on."""

from __future__ import annotations

import msgspec
import pytest

from shared.broker.topology import ACCEPTED, DUE, PARKED
from shared.dns.answers import MxAnswer
from shared.messages.codec import decode
from shared.messages.model import AcceptedMail
from tests.support.spans import KeptSpans
from tests.unit.router.rig import Rig, job_in, large, mail

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def spans(rig: Rig) -> KeptSpans:
    """The router of the rig is traced."""
    kept = KeptSpans("router")
    await rig.router.drain()
    await rig.start(tracer=kept.tracer)
    return kept


def traced(message: AcceptedMail, traceparent: str = PARENT) -> AcceptedMail:
    return msgspec.structs.replace(message, traceparent=traceparent)


async def test_the_jobs_of_a_mail_are_caused_by_its_routing(rig: Rig, spans: KeptSpans) -> None:
    routed = await rig.route(traced(mail("a@static.test", "b@mx.test")), 2)

    (span,) = await spans.all()
    assert (span.name, span.error) == ("route", "")
    assert (span.trace_id, span.parent_id) == (PARENT[3:35], PARENT[36:52])
    assert {job_in(message).traceparent for message in routed} == {span.traceparent}
    told = span.attributes
    assert (told["messaging.destination.name"], told["postroad.jobs"]) == (ACCEPTED, 2)
    assert (told["postroad.mail_id"], told["postroad.recipients"]) == ("MAIL", 2)


async def test_a_job_that_comes_again_keeps_its_cause(rig: Rig, spans: KeptSpans) -> None:
    (first,) = await rig.route(traced(mail("a@static.test")))
    job = msgspec.structs.replace(job_in(first), attempt=1)
    (again,) = await rig.route(job)

    route, second = await spans.all()
    assert job_in(again).traceparent == job.traceparent == route.traceparent
    assert second.parent_id == route.span_id
    assert second.attributes["messaging.destination.name"] == DUE
    assert second.attributes["postroad.attempt"] == 1


class SlowDns:
    """A name service that takes three seconds by the rig's clock."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._resolver = rig.resolver
        self.addresses = rig.resolver.addresses
        self.cached_mail_exchangers = rig.resolver.cached_mail_exchangers

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        self._rig.now += 3
        return await self._resolver.mail_exchangers(domain)


async def test_the_time_of_the_dns_is_told(rig: Rig) -> None:
    spans = KeptSpans("router")
    rig.resolver = SlowDns(rig)
    await rig.router.drain()
    await rig.start(tracer=spans.tracer)
    await rig.route(traced(mail("a@mx.test")))

    (span,) = await spans.all()
    assert span.attributes["postroad.dns_seconds"] == 3.0
    assert (span.began, span.ended) == (1000.0, 1003.0)


async def test_what_cannot_be_routed_is_told_by_its_kind(rig: Rig, spans: KeptSpans) -> None:
    (dsn,) = await rig.route(traced(mail("a@null.test")))
    await rig.route(traced(mail("a@null.test", reverse_path="")))
    await rig.route(traced(mail("a@down.test")))
    await rig.route(traced(large("a@null.test", blob="GONE")))
    await rig.router.drain()

    told = [(span.error, span.attributes) for span in await spans.all()]
    of_mail = [(error, one) for error, one in told if one["postroad.mail_id"] == "MAIL"]
    assert [error for error, _ in of_mail] == [
        "notifications", "parked", "postponed", "content_missing",
    ]  # fmt: skip
    assert [one.get("postroad.parked") for _, one in of_mail] == [None, 1, None, 1]
    notification = decode(dsn.body)
    assert isinstance(notification, AcceptedMail)
    assert notification.traceparent[:36] == PARENT[:36]
    assert notification.traceparent != PARENT


@pytest.mark.parametrize("traceparent", ["", PARENT[:-1] + "0", "nonsense"])
async def test_mail_that_is_not_traced_is_not_traced_here(
    rig: Rig, spans: KeptSpans, traceparent: str
) -> None:
    (message,) = await rig.route(traced(mail("a@static.test"), traceparent))

    assert job_in(message).traceparent == traceparent
    assert await spans.all() == []


async def test_a_router_that_is_not_traced_passes_the_trace_on(rig: Rig) -> None:
    (message,) = await rig.route(traced(mail("a@static.test")))
    (parked,) = await rig.route(traced(mail("a@null.test", reverse_path="")))

    assert job_in(message).traceparent == PARENT
    assert (parked.queue, job_in(parked).traceparent) == (PARKED, PARENT)
