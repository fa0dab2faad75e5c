"""Every expression of every board, asked of a real Prometheus while mail flows and things go wrong.

A panel whose answer is empty, or always 0, although what it shows has happened, is a fault. What
cannot happen here is listed with the reason, and must be listed rightly.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from deploy.grafana.__main__ import FOLDER
from shared.broker.connect import connect_broker
from shared.settings.model import Settings
from tests.support.boards import panels, plain
from tests.support.busy_day import day
from tests.support.exported import RABBITMQ
from tests.support.pipeline import eventually, free_port
from tests.support.prometheus import Prometheus, scraping
from tests.support.promtool import tool
from tests.support.rabbitmq import RabbitMqMissing, RabbitNode, skip_or_fail

EMPTY = {
    "rabbitmq_": "needs RabbitMQ: see the test of its exporter",
    "postroad_guaranteed_events_waiting": "no tenant has guaranteed events",
}
"""Parts of expressions that give no answer here."""
ZERO = {
    "postroad_ingress_overloaded": "no process was late or short of memory",
    'reason=~"ours|blocked|load"': "every client was served",
    "postroad_broker_blocked": "the broker had no trouble",
    "1 - postroad_broker_usable": "the broker had no trouble",
    "postroad_broker_reconnects_total": "the broker had no trouble",
    "postroad_publish_failures_total": "the broker had no trouble",
    "- sum by (lane) (clamp_max(": "every partition was served all the time",
    "postroad_credentials_reloads_total": "no user changed",
    "postroad_certificate_reloads_total": "the certificate did not change",
    "postroad_jwks_reloads_total": "there are no issuers of tokens",
    "postroad_dropped_log_lines_total": "the disk took every line",
    "postroad_ignored_heartbeats_total": "all workers are of one version",
    "postroad_spans_total": "nothing was traced",
    "postroad_events_total": "nobody follows",
    "postroad_dropped_events_total": "nobody follows",
}
"""Parts of expressions that are 0 all the time, or may be."""


async def answers(server: Prometheus, start: float) -> dict[str, tuple[bool, bool]]:
    """By expression: whether there was an answer, and whether it was ever above 0."""
    found = {}
    for file in FOLDER.glob("*.json"):
        for panel in panels(json.loads(file.read_text("utf-8"))):
            for expression in (target["expr"] for target in panel["targets"]):
                series = await server.between(plain(expression, "10s"), start, time.time() + 1, 1)
                above = any(value > 0 for _, samples in series for _, value in samples)
                found[expression] = (bool(series), above)
    return found


@pytest.mark.slow
async def test_every_panel_speaks_when_what_it_shows_happens(tmp_path: Path) -> None:
    tool("prometheus")
    async with (
        day(tmp_path) as busy,
        scraping(tmp_path / "prometheus", busy.pipeline.admin_ports) as server,
    ):
        start = time.time()
        async with busy.load(60):
            async for _ in busy.hours():
                pass

            async def scraped() -> bool:
                return bool(await server.now("rate(postroad_crowd_jobs_total[10s]) > 0"))

            await eventually(scraped, "what came last is scraped", 20)
        found = await answers(server, start)

    assert len(found) > 80
    empty = {text for text, (answered, _) in found.items() if not answered}
    zero = {text for text, (answered, above) in found.items() if answered and not above}
    assert {text for text in empty if not any(part in text for part in EMPTY)} == set()
    assert {text for text in zero if not any(part in text for part in (*ZERO, *EMPTY))} == set()
    listed = {part for part in (*EMPTY, *ZERO) if not any(part in text for text in found)}
    assert listed == set(), "the lists name expressions that there are"


@pytest.mark.slow
@pytest.mark.rabbitmq
async def test_the_exporter_of_rabbitmq_has_what_the_boards_show(tmp_path: Path) -> None:
    port = free_port()
    try:
        node = RabbitNode()
        (node.home / "enabled_plugins").write_text("[rabbitmq_prometheus].\n")
        with (node.home / "rabbitmq.conf").open("a") as conf:
            conf.write(f"prometheus.tcp.port = {port}\nprometheus.tcp.ip = 127.0.0.1\n")
        node.start()
    except RabbitMqMissing as missing:
        skip_or_fail(str(missing))
    try:
        settings = Settings.model_validate(
            {
                "hostname": "mta.test",
                "broker": {"url": node.url},
                "content_store": {"url": f"file://{tmp_path}"},
            }
        )
        broker = connect_broker(settings, "delivery")
        await broker.start()
        await broker.wait_usable(30)

        async def nothing_missing() -> bool:
            return await asyncio.to_thread(_missing, port) == []

        await eventually(nothing_missing, f"{_missing(port)} are exported", 30)
        await broker.close()
    finally:
        node.remove()


def _missing(port: int) -> list[str]:
    detailed = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count"
    text = "".join(_page(port, path) for path in ("/metrics", detailed))
    return [name for name in RABBITMQ if f"\n{name}{{" not in text and f"\n{name} " not in text]


def _page(port: int, path: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        body: bytes = answer.read()
        return body.decode()
