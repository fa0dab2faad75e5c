"""What delivery counts, with real connections: by provider, reason, class and domain."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.demo.receiver import Script, Stage
from shared.broker.interface import Outgoing
from shared.broker.topology import DUE, lane_queue
from shared.messages.codec import encode
from shared.messages.model import MailExchanger, MessageClass
from shared.smtp.replies import Reply
from tests.integration.test_delivery import NEVER, TEXT, rig
from tests.support.pipeline import eventually
from tests.support.raw_peer import Conversation, RawPeer

MINUTE = 60.0
OLD = 500.0
"""Seconds since a mail was accepted: longer than any test takes."""


def value(name: str, **labels: str) -> float | None:
    labels = {label.rstrip("_"): text for label, text in labels.items()}
    return REGISTRY.get_sample_value(f"postroad_{name}", labels)


class Growth:
    """By how much samples have grown since it was made."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
        }

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """What has grown, by the values of its labels in the order of their names."""
        grown = {}
        for (sample, labels), now in self._now().items():
            less = self._before.get((sample, labels), 0.0)
            if sample == f"postroad_{name}" and now != less:
                grown[tuple(text for _, text in sorted(labels))] = now - less
        return grown


@pytest.mark.parametrize(
    ("script", "keys", "reason"),
    [
        (Script(recipients={"r@": Reply(451, "4.3.0", "Later")}), {}, "other"),
        (Script(recipients={"r@": Reply(450, "4.2.0", "Full")}), {}, "mailbox"),
        (Script(recipients={"r@": Reply(451, "4.7.1", "Greylisted")}), {}, "policy"),
        (Script(drop_at=frozenset({Stage.BANNER})), {}, "connect"),
        (Script(drop_at=frozenset({Stage.RCPT})), {}, "connect"),
        (Script(drop_at=frozenset({Stage.DOT})), {}, "uncertain"),
        (Script(delays={Stage.BANNER: MINUTE}), {"timeouts": {"greeting": "80ms"}}, "timeout"),
        (Script(delays={Stage.EHLO: MINUTE}), {"timeouts": {"ehlo": "80ms"}}, "timeout"),
        (Script(delays={Stage.RCPT: MINUTE}), {"timeouts": {"rcpt": "80ms"}}, "timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_retry_is_counted_with_its_step_and_what_went_wrong(
    tmp_path: Path, script: Script, keys: dict[str, Any], reason: str
) -> None:
    async with rig(tmp_path, script, **keys) as r:
        growth = Growth()
        (retry,) = await r.successors(r.job())
        assert retry.queue == DUE
        await r.service.drain()
        assert growth.of("retries_total") == {(reason, "1s"): 1}


async def test_nobody_who_listens_is_told_as_connect(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with rig(tmp_path) as r:
            growth = Growth()
            exchangers = (MailExchanger(10, "mx.b.test", closed.getsockname()[1]),)
            await r.successors(r.job(exchangers=exchangers))
            await r.service.drain()
            assert growth.of("retries_total") == {("connect", "1s"): 1}


@pytest.mark.parametrize(
    ("limits", "reason"), [({}, "tls"), ({"connections_per_minute": 1}, "limit")]
)
async def test_a_handshake_that_fails_and_clear_text_that_fails_too(
    tmp_path: Path, limits: dict[str, Any], reason: str
) -> None:
    connections = 0

    async def refuse(peer: Conversation) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            return  # closed without a greeting
        await peer.greet(b"STARTTLS")
        await peer.until(b"STARTTLS")
        await peer.say(b"220 go\r\nnot TLS\r\n")
        await peer.gone()

    async with RawPeer(refuse) as peer, rig(tmp_path, **limits) as r:
        growth = Growth()
        await r.successors(r.job(exchangers=(MailExchanger(10, "mx.b.test", peer.port),)))
        await r.service.drain()
        assert growth.of("retries_total") == {(reason, "1s"): 1}


async def test_recipients_are_counted_by_provider_and_strange_providers_as_other(
    tmp_path: Path,
) -> None:
    script = Script(recipients={"no@": NEVER, "later@": Reply(450, "4.2.0", "Full")})
    async with rig(tmp_path, script) as r:
        growth = Growth()
        addresses = ("r@b.test", "no@b.test", "later@b.test")
        await r.successors(r.job(*addresses, provider="google"), 2)
        await r.give(r.job("r@b.test", "t@b.test", provider="of a plan that is gone"))
        await r.receiver.wait_for(2)
        await r.service.drain()
        assert growth.of("delivery_attempts_total") == {
            ("delivered", "google"): 1,
            ("failed", "google"): 1,
            ("deferred", "google"): 1,
            ("delivered", "other"): 2,
        }
        assert growth.of("failures_total") == {("google", "policy"): 1}
        size = len(TEXT)
        assert growth.of("delivery_bytes_total") == {("google",): size, ("other",): size}


async def test_an_attempt_in_which_nothing_is_delivered_delivers_no_octets(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(recipients={"r@": NEVER})) as r:
        growth = Growth()
        await r.successors(r.job())
        await r.service.drain()
        assert growth.of("delivery_bytes_total") == {}


async def test_only_domains_that_are_named_are_counted_however_they_are_written(
    tmp_path: Path,
) -> None:
    domains = ("Named.Test", "bücher.test")
    async with rig(tmp_path, Script(recipients={"no@": NEVER}), domains=domains) as r:
        growth = Growth()
        job = r.job("r@named.TEST", "no@named.test", "r@bücher.test", "r@b.test", smtputf8=True)
        await r.successors(job)
        await r.give(r.job("r@named.test", "r@else.test"))
        await r.receiver.wait_for(2)
        await r.service.drain()
        assert growth.of("domain_attempts_total") == {
            ("named.test", "delivered"): 2,
            ("named.test", "failed"): 1,
            ("xn--bcher-kva.test", "delivered"): 1,
        }


@pytest.mark.parametrize("kind", list(MessageClass))
@pytest.mark.parametrize(
    ("script", "keys", "outcome"),
    [
        (Script(), {}, "delivered"),
        (Script(recipients={"no@": NEVER}), {}, "failed"),
        (Script(recipients={"no@": Reply(450, "4.2.0", "Full")}), {"max_age": "1s"}, "expired"),
        (Script(drop_at=frozenset({Stage.DOT})), {"uncertain": "hold"}, "parked"),
        (Script(drop_at=frozenset({Stage.DOT})), {"uncertain": "sent"}, "delivered"),
    ],
    ids=["delivered", "failed", "expired", "held", "sent"],
)
async def test_ages_at_the_end_are_told_by_class_and_outcome(
    tmp_path: Path, kind: MessageClass, script: Script, keys: dict[str, Any], outcome: str
) -> None:
    async with rig(tmp_path, script, **keys) as r:
        growth = Growth()
        accepted = time.time() - OLD
        job = r.job("no@b.test", message_class=kind, accepted_at=accepted, attempt=1)
        queue = lane_queue("default", 0, kind.value, again=True)
        await r.broker.publish(Outgoing(queue, encode(job), job.id))

        async def counted() -> bool:
            return bool(growth.of("queue_seconds_count"))

        await eventually(counted, "the recipient has its outcome")
        assert growth.of("queue_seconds_count") == {(kind.value, outcome): 1}
        assert OLD <= growth.of("queue_seconds_sum")[kind.value, outcome] < 2 * OLD


def until(condition: Callable[[], bool]) -> Awaitable[None]:
    async def holds() -> bool:
        return condition()

    return eventually(holds, "the gauge follows within seconds")


def oldest(kind: str) -> float:
    return value("oldest_message_seconds", lane="default", class_=kind) or 0.0


async def test_the_age_of_what_a_silent_host_holds_up_is_seen_and_goes_with_it(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, Script(delays={Stage.DOT: 2.5})) as r:
        assert value("oldest_message_seconds", lane="default", class_="bulk") == 0
        await r.give(r.job(accepted_at=time.time() - OLD))
        await r.give(r.job(accepted_at=time.time() - OLD / 2))
        await until(lambda: oldest("transactional") >= OLD)
        assert oldest("bulk") == 0
        await r.receiver.wait_for(2)
        await until(lambda: oldest("transactional") == 0)


async def test_a_job_whose_retry_the_broker_does_not_confirm_is_still_seen(tmp_path: Path) -> None:
    script = Script(recipients={"r@": Reply(450, "4.2.0", "Full")}, delays={Stage.EHLO: 0.2})
    async with rig(tmp_path, script) as r:
        await r.give(r.job(accepted_at=time.time() - OLD))
        await r.receiver.wait_for(lambda: r.receiver.connections == 1)
        r.broker.stall()
        await r.receiver.wait_for(lambda: b"RCPT" in r.receiver.raw[0])
        await until(lambda: oldest("transactional") >= OLD)
        r.broker.resume()
        await until(lambda: oldest("transactional") == 0)


async def test_a_site_whose_hosts_do_not_answer_is_paused_and_the_others_are_not(
    tmp_path: Path,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with rig(tmp_path) as r:
            assert value("paused_sites", provider="google") == 0
            exchangers = (MailExchanger(10, "mx.b.test", closed.getsockname()[1]),)
            await r.give(r.job(exchangers=exchangers, site="*.google.com", provider="google"))
            await r.give(r.job(exchangers=exchangers, site="b.strange", provider="strange"))
            await r.give(r.job())
            await until(lambda: value("paused_sites", provider="google") == 1)
            await until(lambda: value("paused_sites", provider="other") == 1)
            assert value("paused_sites", provider="yahoo") == 0


async def test_a_worker_tells_how_many_are_useful_until_it_leaves(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        assert value("useful_workers", lane="default") == 0
        await r.service.drain()
        assert value("useful_workers", lane="default") is None
