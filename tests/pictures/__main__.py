"""`python -m tests.pictures FOLDER`: a day of trouble, and one SVG of each board that shows it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.grafana.__main__ import FOLDER
from tests.pictures.draw import Drawn, draw
from tests.support.boards import panels, plain
from tests.support.busy_day import day
from tests.support.prometheus import Prometheus, scraping

PAUSE = 25.0
"""Seconds of usual mail after each thing that happens, so that it can be told from the next."""
BOARDS = ("overview", "acceptance", "delivery", "retries", "queues", "runtime")


async def main(folder: Path) -> None:
    """Some minutes of real mail, then the pictures."""
    with tempfile.TemporaryDirectory(prefix="postroad-pictures-") as work:
        place = Path(work)
        async with (
            day(place) as busy,
            scraping(place / "prometheus", busy.pipeline.admin_ports) as server,
        ):
            start, marks = time.time(), []
            async with busy.load(60):
                async for hour in busy.hours():
                    marks.append((time.time(), hour))
                    await asyncio.sleep(PAUSE)
            end = time.time()
            for name in BOARDS:
                board = json.loads((FOLDER / f"postroad-{name}.json").read_text("utf-8"))
                drawn = [await _ask(server, panel, start, end) for panel in panels(board)]
                shown = [one for one in drawn if one.series or one.panel["type"] == "table"]
                picture = draw(board["title"], shown, (start, end), marks)
                (folder / f"{name}.svg").write_text(picture, "utf-8")


async def _ask(server: Prometheus, panel: dict[str, Any], start: float, end: float) -> Drawn:
    series = []
    for target in panel["targets"]:
        expression = plain(target["expr"], "15s")
        for labels, samples in await server.between(expression, start, end, 2):
            series.append((_legend(target["legendFormat"], labels), samples))
    return Drawn(panel, series)


def _legend(form: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        form = form.replace(f"{{{{{label}}}}}", value)
    return labels.get("alertname", "") if form == "__auto" else form


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
