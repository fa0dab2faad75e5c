"""`python -m deploy.chart [FOLDER]`: writes what the chart has from elsewhere (`make chart`).

Helm reads only what lies in the chart, so rules and dashboards are copied into it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.chart.readme import readme
from deploy.chart.schema import schema_text

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "postroad"
RULES = ROOT / "deploy" / "prometheus" / "postroad.rules.yaml"
BOARDS = ROOT / "deploy" / "grafana" / "dashboards"


def written() -> dict[str, str]:
    """Name in the chart and text of each file that is written."""
    values = (CHART / "values.yaml").read_text("utf-8")
    files = {
        "README.md": readme(values),
        "values.schema.json": schema_text(values),
        f"files/{RULES.name}": RULES.read_text("utf-8"),
    }
    for board in sorted(BOARDS.glob("*.json")):
        files[f"files/dashboards/{board.name}"] = board.read_text("utf-8")
    return files


def main(folder: Path) -> None:
    """Write everything to `folder`; a copy whose original is gone goes as well."""
    files = written()
    for path in [*folder.glob("files/*.*"), *folder.glob("files/dashboards/*")]:
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART)
