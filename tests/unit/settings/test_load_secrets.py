"""Settings from a folder of files, as containers get their secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.settings.changes import changes
from shared.settings.load import ConfigError, load_settings
from shared.settings.model import Settings
from shared.settings.public import public_settings

URL = "amqp://postroad:hunter2@broker//"
KEYS = {"s3_access_key_id": "AKIA", "s3_secret_access_key": "hunter2"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.upper().startswith("POSTROAD_")]:
        monkeypatch.delenv(name)
    found = tmp_path / "secrets"
    found.mkdir()
    monkeypatch.setenv("POSTROAD_SECRETS_DIR", str(found))
    return found


def error() -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(None)
    line = str(caught.value)
    assert "\n" not in line
    assert "hunter2" not in line
    return line


def test_a_file_stands_for_the_variable_of_its_name(folder: Path) -> None:
    (folder / "POSTROAD_BROKER__URL").write_text(f"{URL}\n")
    (folder / "postroad_content_store__inline_max_bytes").write_text("7")
    (folder / "POSTROAD_DELIVERY__RETRY_SCHEDULE").write_text("[1m, 2m]\n")

    found = load_settings(None)

    assert found.broker.url == URL
    assert found.content_store.inline_max_bytes == 7
    assert found.delivery.retry_schedule == (60_000, 120_000)


def test_it_comes_before_the_configuration_file_and_after_the_variable(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "postroad.yaml"
    config.write_text("hostname: from-file.example\nbroker: {heartbeat: 9s}")
    (folder / "POSTROAD_HOSTNAME").write_text("from-secret.example")
    (folder / "POSTROAD_BROKER__URL").write_text(URL)

    found = load_settings(config)
    assert (found.hostname, found.broker.url) == ("from-secret.example", URL)
    assert found.broker.heartbeat == 9_000

    monkeypatch.setenv("POSTROAD_HOSTNAME", "from-variable.example")
    assert load_settings(config).hostname == "from-variable.example"


def test_what_kubernetes_mounts_is_read(folder: Path) -> None:
    (folder / "..2026_11").mkdir()
    (folder / "..2026_11" / "POSTROAD_BROKER__URL").write_text(URL)
    (folder / "..data").symlink_to("..2026_11")
    (folder / "POSTROAD_BROKER__URL").symlink_to("..data/POSTROAD_BROKER__URL")
    (folder / "kubernetes.io").mkdir()
    (folder / "something-else").write_text("x")

    assert load_settings(None).broker.url == URL


def test_what_is_wrong_is_one_line_that_names_the_file(folder: Path) -> None:
    (folder / "POSTROAD_BROKER__URL").write_text("http://postroad:hunter2@broker")

    assert error().startswith("broker.url (POSTROAD_BROKER__URL): ")


def test_a_file_of_a_section_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "POSTROAD_BROKR__URL").write_text(URL)

    assert error() == "POSTROAD_BROKR__URL: unknown key"


def test_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    folder.rmdir()

    assert error() == f"POSTROAD_SECRETS_DIR: {folder}: No such file or directory"


def test_a_file_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "POSTROAD_BROKER__URL").write_bytes(b"\xff\xfehunter2")

    assert error() == "POSTROAD_SECRETS_DIR: a file is not UTF-8 text"


def test_keys_of_the_store_come_together() -> None:
    for alone, value in KEYS.items():
        with pytest.raises(ValueError, match="give both of s3_access_key_id and"):
            Settings.model_validate({"content_store": {alone: value}})

    Settings.model_validate({"content_store": KEYS})


def test_the_key_of_the_store_is_never_shown() -> None:
    settings = Settings.model_validate({"content_store": KEYS})
    other = Settings.model_validate({"content_store": KEYS | {"s3_secret_access_key": "swordfish"}})

    assert "hunter2" not in f"{settings!r}{public_settings(settings)}"
    assert public_settings(settings)["content_store"]["s3_access_key_id"] == "AKIA"
    assert "hunter2" not in str(changes(Settings(), settings))
    # That it has changed is told, without a word of it.
    assert changes(other, settings) == {
        "content_store.s3_secret_access_key": "********** -> **********"
    }
