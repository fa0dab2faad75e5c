"""The configuration of running services: new limits without a restart, and nothing worse."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.broker.connect import connect_broker
from shared.broker.interface import Broker
from shared.broker.topology import LANE_PREFIX
from shared.settings.load import load_settings
from tests.support.pipeline import Pipeline, eventually
from tests.support.smtp_client import SmtpClient

RECIPIENTS = ["a@one.test", "b@one.test", "c@one.test"]
TEXT = b"Subject: x\r\n\r\nbody\r\n"
SERVICES = ("ingress", "router")


def rewrite(pipeline: Pipeline, changes: Mapping[str, Any]) -> None:
    """Replace the configuration in one step."""
    values = yaml.safe_load(pipeline.config.read_text()) | changes
    new = pipeline.config.with_suffix(".new")
    new.write_text(yaml.safe_dump(values))
    new.replace(pipeline.config)


async def logged(pipeline: Pipeline, name: str, event: str) -> dict[str, Any]:
    """The newest line of this event, once there is one."""

    def found() -> list[dict[str, Any]]:
        return [line for line in pipeline.log_lines(name) if line["event"] == event]

    async def told() -> bool:
        return bool(found())

    await eventually(told, f"{name} logs {event}", 20)
    return found()[-1]


async def jobs_of_one_mail(pipeline: Pipeline, broker: Broker) -> int:
    async def queued() -> int:
        depths = await broker.depths()
        return sum(n for queue, n in depths.items() if queue.startswith(LANE_PREFIX))

    before = await queued()
    async with SmtpClient(pipeline.smtp_port) as client:
        assert (await client.send("s@s.test", RECIPIENTS, TEXT)).code == 250

    async def routed() -> bool:
        metrics = await pipeline.metrics("router")
        return await queued() > before and not metrics["postroad_in_flight_jobs"]

    await eventually(routed, "the mail is routed", 20)
    return await queued() - before


async def test_new_limits_hold_without_a_restart(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, f"embedded://{tmp_path}/queues", {"one.test": 9})
    broker = connect_broker(load_settings(pipeline.config), "test")
    try:
        await pipeline.start(SERVICES)
        await broker.start()
        await broker.wait_usable(20)
        assert await jobs_of_one_mail(pipeline, broker) == 1
        rewrite(pipeline, {"limits": {"default": {"recipients_per_transaction": 2}}})
        for name in SERVICES:
            await logged(pipeline, name, "limits changed")
        assert await jobs_of_one_mail(pipeline, broker) == 2

        rewrite(pipeline, {"limits": {"default": {"recipients_per_transaction": 0}}})
        for name in SERVICES:
            os.kill(pipeline.pid(name), signal.SIGHUP)
            line = await logged(pipeline, name, "configuration not taken up")
            assert line["error"].startswith("limits.default.recipients_per_transaction: ")
        assert await jobs_of_one_mail(pipeline, broker) == 2

        rewrite(pipeline, {"limits": {}, "hostname": "other.example.net"})
        line = await logged(pipeline, "router", "configuration needs a restart")
        assert list(line["keys"]) == ["hostname"]
        assert line["keys"]["hostname"].endswith(" -> other.example.net")
        ingress = yaml.safe_load(pipeline.config.read_text())["ingress"]
        rewrite(pipeline, {"ingress": {**ingress, "max_connections": 1}})
        taken = await logged(pipeline, "ingress", "configuration taken up")
        assert taken["keys"]["ingress.max_connections"].endswith(" -> 1")
        async with SmtpClient(pipeline.smtp_port):
            reader, writer = await asyncio.open_connection("127.0.0.1", pipeline.smtp_port)
            assert (await reader.read()).startswith(b"421 4.3.2 ")
            writer.close()
        for name in SERVICES:
            pipeline.terminate(name)
            await pipeline.wait_drained(name)
    finally:
        await pipeline.abort()
        await broker.close()
