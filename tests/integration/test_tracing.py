"""One trace from submission to the reply of the next hop, through three real processes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from services.demo.receiver import Receiver
from services.demo.script import Greylist, Script
from tests.support.http import request
from tests.support.pipeline import SERVICES, Pipeline, eventually, free_port
from tests.support.smtp_client import SmtpClient
from tests.support.spans import Collector, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENDER = "sender@sender.test"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


def content(trace_id: str) -> bytes:
    header = f"From: <{SENDER}>\r\nTraceparent: 00-{trace_id}-{SPAN}-01\r\nSubject: test\r\n"
    return header.encode() + b"\r\nHello.\r\n"


class World:
    """Three services, two of whose clients' listeners differ in trust, receivers, a collector."""

    def __init__(self, folder: Path, endpoint: str, receivers: dict[str, Receiver]) -> None:
        self.trusted, self.other = free_port(), free_port()
        listeners = [
            {"address": "127.0.0.1", "port": port, "tls": "none", "auth": "none",
             "relay_networks": ["127.0.0.0/8"], "tenant": tenant}
            for port, tenant in ((self.trusted, "shop"), (self.other, "other"))
        ]  # fmt: skip
        tracing = {"endpoint": endpoint, "ratio": 1, "trusted_tenants": ["shop"]}
        routes = {domain: receiver.port for domain, receiver in receivers.items()}
        settings = {"ingress": {"listeners": listeners}, "tracing": tracing}
        self.pipeline = Pipeline(folder, f"embedded://{folder}/queues", routes, settings)
        self.receivers = receivers

    async def send(self, port: int, recipient: str, text: bytes) -> None:
        async with SmtpClient(port) as client:
            assert (await client.send(SENDER, [recipient], text)).code == 250


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("world")
    async with Receiver() as one, Receiver() as sender:
        receivers = {"one.test": one, "sender.test": sender}
        world = World(folder, collector.endpoint, receivers)
        async with world.pipeline:
            yield world


def of_trace(spans: Sequence[Seen], trace_id: str) -> list[Seen]:
    return [span for span in spans if span.trace_id == trace_id]


def names(spans: Sequence[Seen]) -> list[str]:
    return [span.name for span in spans]


async def trace(collector: Collector, trace_id: str, count: int) -> list[Seen]:
    spans = await collector.wait_for(lambda all_: len(of_trace(all_, trace_id)) >= count)
    return of_trace(spans, trace_id)


async def test_a_mail_that_is_deferred_once_is_one_trace_with_a_span_for_each_stage_and_attempt(
    world: World, collector: Collector
) -> None:
    world.receivers["one.test"].script = Script(greylist=Greylist())
    await world.send(world.trusted, "a@one.test", content(TRACE))

    spans = await trace(collector, TRACE, 5)
    accept, route, deferred, again, delivered = spans
    assert names(spans) == ["accept", "route", "attempt", "route", "attempt"]
    assert [span.service.removeprefix("postroad-") for span in spans] == [
        "ingress", "router", "delivery", "router", "delivery",
    ]  # fmt: skip
    assert (accept.parent_id, route.parent_id) == (SPAN, accept.span_id)
    assert {span.parent_id for span in (deferred, again, delivered)} == {route.span_id}
    assert all(span.began <= span.ended for span in spans)
    assert deferred.ended <= again.began
    assert [span.error for span in spans] == ["", "", "deferred", "", ""]
    assert accept.attributes["messaging.destination.name"] == "postroad.accepted"
    assert accept.attributes["postroad.reply.code"] == 250
    assert accept.attributes["postroad.receive_seconds"] > 0
    assert (route.attributes["postroad.jobs"], route.attributes["postroad.attempt"]) == (1, 0)
    assert again.attributes["postroad.attempt"] == 1
    for number, span, code, outcome in (
        (1, deferred, 451, "deferred"),
        (2, delivered, 250, "delivered"),
    ):
        told = span.attributes
        assert (told["server.address"], told["network.protocol.name"]) == ("127.0.0.1", "smtp")
        assert told["server.port"] == world.receivers["one.test"].port
        assert (told["postroad.attempt"], told["postroad.outcome"]) == (number, outcome)
        assert told["postroad.reply.code"] == code
        assert told["messaging.destination.name"].startswith("postroad.lane.default.")
    assert deferred.attributes["postroad.reason"] == "policy"


async def test_what_leads_from_a_graph_or_a_log_to_the_trace(
    world: World, collector: Collector
) -> None:
    trace_id = "1" * 32
    world.receivers["one.test"].script = Script()
    await world.send(world.trusted, "b@one.test", content(trace_id))
    await trace(collector, trace_id, 3)

    for name, event in zip(SERVICES, ("accepted", "routed", "delivered"), strict=True):
        lines = world.pipeline.log_lines(name)
        assert [one["event"] for one in lines if one.get("trace_id") == trace_id] == [event]
    for name, metric in (("ingress", "postroad_publish"), ("delivery", "postroad_queue")):
        port = world.pipeline.admin_ports[name]
        _, headers, body = await request(port, "/metrics", accept=OPENMETRICS)
        assert headers["content-type"].startswith("application/openmetrics-text")
        found = {
            sample.exemplar.labels["trace_id"]
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.exemplar is not None and family.name.startswith(metric)
        }
        assert trace_id in found
    port = world.pipeline.admin_ports["router"]
    _, _, body = await request(port, "/metrics", accept=OPENMETRICS)
    assert list(text_string_to_metric_families(body.decode()))


async def test_a_notification_is_in_the_trace_of_what_failed(
    world: World, collector: Collector
) -> None:
    trace_id = "2" * 32
    world.receivers["one.test"].script = Script(refused=frozenset({"c@one.test"}))
    await world.send(world.trusted, "c@one.test", content(trace_id))

    accept, route, failed, again, told = await trace(collector, trace_id, 5)
    assert (failed.error, told.error) == ("failed", "")
    assert (failed.attributes["postroad.reason"], again.name) == ("address", "route")
    assert again.parent_id == route.span_id != accept.span_id
    assert told.parent_id == again.span_id
    assert told.attributes["server.port"] == world.receivers["sender.test"].port


async def test_others_may_not_name_the_trace_of_their_mail(
    world: World, collector: Collector
) -> None:
    trace_id = "3" * 32
    world.receivers["one.test"].script = Script()
    before = len(world.receivers["one.test"].messages)
    await world.send(world.other, "d@one.test", content(trace_id))

    def about_it(spans: Sequence[Seen]) -> list[Seen]:
        begun = {one.trace_id for one in spans if one.attributes.get("postroad.tenant") == "other"}
        return [span for span in spans if span.trace_id in begun]

    spans = about_it(await collector.wait_for(lambda all_: len(about_it(all_)) == 3))
    assert names(spans) == ["accept", "route", "attempt"]
    assert spans[0].parent_id == ""
    assert of_trace(collector.spans, trace_id) == []
    received = world.receivers["one.test"].messages[before]
    assert received.content.endswith(content(trace_id)), "relayed mail stays as it is"


async def test_no_span_holds_an_address_or_a_reply(collector: Collector, world: World) -> None:
    assert world.pipeline.running("delivery")
    assert len(collector.spans) >= 16
    assert [span for span in collector.spans if "@" in str(span.attributes)] == []


async def test_a_collector_that_refuses_costs_spans_and_no_mail(
    world: World, collector: Collector
) -> None:
    before, asked = len(world.receivers["one.test"].messages), collector.asked
    collector.status = 400
    try:
        await world.send(world.trusted, "e@one.test", content("4" * 32))
        await world.receivers["one.test"].wait_for(
            lambda: len(world.receivers["one.test"].messages) > before
        )

        async def dropped() -> bool:
            metrics = await world.pipeline.metrics("delivery")
            return metrics['postroad_spans_total{result="dropped"}'] > 0

        await eventually(dropped, "the span is counted")
        assert collector.asked > asked
    finally:
        collector.status = 200


async def test_services_end_in_time_and_mail_flows_while_the_collector_says_nothing(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        async with Receiver() as one:
            world = World(tmp_path, endpoint, {"one.test": one})
            async with world.pipeline:
                await world.send(world.trusted, "f@one.test", content(TRACE))
                await one.wait_for(lambda: len(one.messages) == 1)
                for name in SERVICES:
                    world.pipeline.terminate(name)
                async with asyncio.timeout(20):
                    for name in SERVICES:
                        await world.pipeline.wait_drained(name)
            kinds = [line["event"] for line in world.pipeline.log_lines("ingress")]
            assert kinds.count("the last spans were not taken") == 1
