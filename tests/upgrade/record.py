"""Records what a version puts into queues, for later versions to prove that they read it.

    python -m tests.upgrade.record NAME     writes golden/NAME.json from the code that is imported

To record an older version, put its tree before this one in PYTHONPATH.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shared.messages import model
from shared.messages.codec import encode
from tests.upgrade.samples import fields_of, samples

GOLDEN = Path(__file__).parent / "golden"


def main(name: str) -> None:
    fields = fields_of(model)
    if any(hasattr(model, mark) for mark in ("DEMANDING", "BINARY")):
        fields["Limits"] = ["demanding"]
    messages = {key: encode(value).hex() for key, value in samples(model, fields).items()}
    text = json.dumps({"fields": fields, "messages": messages}, indent=1)
    (GOLDEN / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
