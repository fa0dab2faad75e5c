"""Each file of `tests/dialogues`, against a real ingress socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dialogue import Runner, read_script
from tests.support.ingress import OPEN, ingress_settings, running_ingress

FILES = sorted((Path(__file__).parents[1] / "dialogues").glob("*.smtp"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_the_dialogue_goes_as_written(path: Path, tmp_path: Path) -> None:
    script = read_script(path)
    settings = ingress_settings(tmp_path, {**OPEN, **script.listener}, **script.settings)
    async with running_ingress(tmp_path, settings) as ingress:
        await Runner(ingress).run(script.steps)


def test_there_are_dialogues() -> None:
    assert FILES
