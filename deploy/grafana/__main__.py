"""`python -m deploy.grafana [FOLDER]`: writes one JSON file a board; `make dashboards` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.grafana.boards import BOARDS
from deploy.grafana.render import to_json

FOLDER = Path(__file__).parent / "dashboards"


def main(folder: Path) -> None:
    """Write every board to `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (folder / f"{board.uid}.json").write_text(to_json(board, BOARDS), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
