"""A real Prometheus on loopback, and the answers of its HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import yaml

from tests.support.exported import RULES
from tests.support.pipeline import eventually, free_port, http_get
from tests.support.promtool import tool

Series = tuple[Mapping[str, str], list[tuple[float, float]]]
"""Labels, and samples as (seconds since the epoch, value)."""


class Prometheus:
    """Asks the server on `port`."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ready(self) -> bool:
        """Whether it serves."""
        with contextlib.suppress(OSError):
            return (await http_get(self._port, "/-/ready"))[0] == 200
        return False

    async def between(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """The answer over that time, without samples that are no number."""
        asked = f"query={quote(expression)}&start={start:.3f}&end={end:.3f}&step={step}"
        result = await self._result(f"/api/v1/query_range?{asked}", expression)
        found = [(one["metric"], _numbers(one["values"])) for one in result]
        return [(labels, samples) for labels, samples in found if samples]

    async def now(self, expression: str) -> list[Series]:
        """The answer now."""
        result = await self._result(f"/api/v1/query?query={quote(expression)}", expression)
        found = [(one["metric"], _numbers([one["value"]])) for one in result]
        return [(labels, samples) for labels, samples in found if samples]

    async def _result(self, path: str, expression: str) -> list[dict[str, Any]]:
        try:
            body = await asyncio.to_thread(self._read, path)
        except HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return found

    def _read(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=30) as answer:
            text: bytes = answer.read()
            return text


def _numbers(values: list[list[Any]]) -> list[tuple[float, float]]:
    return [(at, float(text)) for at, text in values if math.isfinite(float(text))]


@contextlib.asynccontextmanager
async def scraping(folder: Path, targets: Mapping[str, int]) -> AsyncIterator[Prometheus]:
    """A server that asks these ports of loopback, by job, once a second, with our rules."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": f"postroad-{name}",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": "mail"}}
                ],
            }
            for name, port in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            tool("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(port)
        await eventually(server.ready, "Prometheus is ready", 30)
        wanted = len(targets)

        async def asked_everybody() -> bool:
            return len(await server.now("up")) == wanted

        await eventually(asked_everybody, "every target was asked once", 30)
        yield server
    finally:
        process.terminate()
        await process.wait()
