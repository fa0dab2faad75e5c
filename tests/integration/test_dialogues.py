"""Each file of `tests/dialogues`, against a real ingress socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dialogue import Runner, read_script
from tests.support.ingress import OPEN, ingress_settings, running_ingress, write_users
from tests.support.tls_site import make_site

FILES = sorted((Path(__file__).parents[1] / "dialogues").glob("*.smtp"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_the_dialogue_goes_as_written(path: Path, tmp_path: Path) -> None:
    script = read_script(path)
    listener, keys = {**OPEN, **script.listener}, dict(script.settings)
    if script.users:
        keys["credentials_file"] = str(write_users(tmp_path, script.users))
        listener = {**listener, "auth": "required", "auth_without_tls": True}
    tls = None
    if listener["tls"] != "none":
        site = make_site(tmp_path)
        keys["tls"], tls = site.files, site.client
    settings = ingress_settings(tmp_path, listener, **keys)
    async with running_ingress(tmp_path, settings) as ingress:
        await Runner(ingress, tls).run(script.steps)


def test_there_are_dialogues() -> None:
    assert FILES
