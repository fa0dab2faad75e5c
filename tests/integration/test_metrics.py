"""The metrics of three real services: what an operator sees of mail that waits, and of them."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from importlib.metadata import version

import pytest
import pytest_asyncio

from services.demo.script import Script
from shared.broker.interface import Outgoing
from shared.broker.topology import PARKED, retry_queue
from shared.catalogue import CATALOGUE
from shared.smtp.replies import Reply
from tests.support.pipeline import SERVICES, eventually
from tests.support.promtool import tool
from tests.support.rig import Rig, running_rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDERS = [{"name": "acme", "mx": ["mx.acme.test"]}]
BULK = b"From: <sender@sender.test>\r\nX-Postroad-Class: bulk\r\nSubject: test\r\n\r\nHello.\r\n"
HOUR_MS = 3_600_000
A_LOOK = 25.0
"""Seconds within which the depths of queues are asked for, each 15 s, on a busy machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    settings = {
        "delivery": {"retry_schedule": ["1h"]},
        "providers": PROVIDERS,
        "metrics": {"domains": ["one.test"]},
        "lanes": [{"name": "default", "partitions": 1}],
    }
    broker = f"embedded://{tmp_path_factory.mktemp('broker')}"
    async with running_rig(tmp_path_factory.mktemp("rig"), broker, settings) as rig:
        yield rig


@pytest.mark.parametrize("name", SERVICES)
async def test_promtool_finds_no_fault_and_every_metric_of_the_service_is_there(
    rig: Rig, name: str
) -> None:
    status, page = await rig.pipeline.get(name, "/metrics")
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        check=False,
        input=page,
        capture_output=True,
        text=True,
        timeout=60,
    )
    exposed = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE postroad")}

    assert status == 200
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    assert exposed == {one.name for one in CATALOGUE if name in one.services}


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_tells_what_it_is_and_how_its_process_does(rig: Rig, name: str) -> None:
    metrics = await rig.pipeline.metrics(name)

    assert metrics[f'postroad_build_info{{service="{name}",version="{version("postroad")}"}}'] == 1
    assert metrics["process_resident_memory_bytes"] > 1_000_000
    assert metrics["process_open_fds"] > 3
    assert metrics["process_cpu_seconds_total"] > 0
    assert metrics["process_start_time_seconds"] > 1_700_000_000
    assert metrics["postroad_broker_usable"] == 1
    assert metrics["postroad_broker_blocked"] == 0

    async def lag_is_looked_at() -> bool:
        return (await rig.pipeline.metrics(name))["postroad_loop_lag_seconds_count"] > 0

    await eventually(lag_is_looked_at, "a look at the loop")


async def test_what_never_happened_stands_at_zero_for_what_is_configured(rig: Rig) -> None:
    metrics = await rig.pipeline.metrics("delivery")
    router = await rig.pipeline.metrics("router")

    for key in (
        'postroad_delivery_attempts_total{outcome="unknown",provider="acme"}',
        'postroad_delivery_attempts_total{outcome="unknown",provider="google"}',
        'postroad_failures_total{provider="acme",reason="expired"}',
        'postroad_retries_total{reason="tls",step="1h"}',
        'postroad_domain_attempts_total{domain="one.test",outcome="failed"}',
        'postroad_throttled_seconds_total{provider="acme"}',
        'postroad_paused_sites{provider="acme"}',
    ):
        assert key in metrics
        assert metrics[key] == 0
    assert router['postroad_failures_total{provider="acme",reason="address"}'] == 0
    assert not any(key.startswith("postroad_domain_attempts") for key in router)


async def test_contents_are_weighed_where_they_come_in_and_where_they_go_out(rig: Rig) -> None:
    await rig.renew()
    before = {name: await rig.pipeline.metrics(name) for name in ("ingress", "delivery")}
    await rig.insist([rig.address()], BULK)
    await rig.wait_accounted()
    (mail,) = rig.received("one.test")
    after = {name: await rig.pipeline.metrics(name) for name in ("ingress", "delivery")}

    def rose(name: str, key: str) -> float:
        return after[name][f"postroad_{key}"] - before[name][f"postroad_{key}"]

    assert rose("ingress", "ingress_bytes_total") == len(mail.content)
    assert rose("delivery", 'delivery_bytes_total{provider="other"}') == len(mail.content)
    assert rose("delivery", 'domain_attempts_total{domain="one.test",outcome="delivered"}') == 1
    assert rose("delivery", 'queue_seconds_count{class="bulk",outcome="delivered"}') == 1


async def test_mail_that_waits_is_seen_where_it_waits(rig: Rig) -> None:
    await rig.renew()
    address = rig.address()
    rig.script(Script(recipients={address: Reply(450, "4.2.0", "Full")}))
    await rig.insist([address])

    async def on_the_ladder() -> bool:
        return (await rig.broker.depths())[retry_queue(HOUR_MS)] == 1

    await eventually(on_the_ladder, "the job is deferred")
    rig.pipeline.terminate("router")
    await rig.pipeline.wait_drained("router")
    await rig.insist([rig.address()])
    await rig.broker.publish(Outgoing(PARKED, b"x", "parked"))

    async def seen() -> bool:
        ingress = await rig.pipeline.metrics("ingress")
        delivery = await rig.pipeline.metrics("delivery")
        return (
            ingress["postroad_accepted_waiting"] == delivery["postroad_accepted_waiting"] == 1
            and ingress["postroad_parked_waiting"] == delivery["postroad_parked_waiting"] == 1
            and delivery['postroad_waiting_jobs{step="1h"}'] == 1
        )

    await eventually(seen, "one accepted, one parked, one on the ladder", A_LOOK)
    delivery = await rig.pipeline.metrics("delivery")
    for kind in ("transactional", "bulk"):
        for which in ("first", "again"):
            key = f'postroad_queued_jobs{{class="{kind}",kind="{which}",lane="default"}}'
            assert key in delivery
            assert delivery[key] == 0
        assert delivery[f'postroad_oldest_message_seconds{{class="{kind}",lane="default"}}'] == 0
    await rig.renew()
    await rig.parked(1)
