"""The broker's URL, user and password may come from files; no error tells what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from kombu.utils.url import parse_url

from shared.settings.load import ConfigError, load_settings
from shared.settings.public import public_settings

SECRET = "hunter2"


def config(folder: Path, broker: str, **files: str) -> Path:
    """A configuration whose `broker` may name `files` of the same folder as FOLDER/name."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    path = folder / "postroad.yaml"
    path.write_text(f"broker: {{{broker.replace('FOLDER', str(folder))}}}\n", encoding="utf-8")
    return path


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert SECRET not in str(caught.value)
    return str(caught.value).replace(str(path.parent), "FOLDER")


def test_the_whole_url_comes_from_a_file(tmp_path: Path) -> None:
    url = f"amqps://mail:{SECRET}@rabbit.example:5671/mail"
    settings = load_settings(config(tmp_path, "url_file: FOLDER/url", url=f"{url}\n"))

    assert settings.broker.url == url
    assert SECRET not in str(public_settings(settings))


def test_user_and_password_from_files_may_have_any_character(tmp_path: Path) -> None:
    broker = "url: 'amqp://rabbit.example:5672/mail', username_file: FOLDER/user, "
    password = "p@ss:/w#rd?%20[é"
    settings = load_settings(
        config(tmp_path, f"{broker} password_file: FOLDER/word", user="ma/il\n", word=password)
    )

    found = parse_url(settings.broker.url)  # what opens the connection reads it so
    assert (found["userid"], found["password"]) == ("ma/il", password)
    assert (found["hostname"], found["port"], found["virtual_host"]) == (
        "rabbit.example",
        5672,
        "mail",
    )


def test_they_replace_the_user_of_a_url_file(tmp_path: Path) -> None:
    broker = "url_file: FOLDER/url, username_file: FOLDER/user, password_file: FOLDER/word"
    files = {"url": "amqp://guest:guest@h//", "user": "mail", "word": SECRET}

    assert (
        load_settings(config(tmp_path, broker, **files)).broker.url == f"amqp://mail:{SECRET}@h//"
    )


@pytest.mark.parametrize(
    ("broker", "line"),
    [
        ("url_file: FOLDER/none", "broker.url_file: FOLDER/none: No such file or directory"),
        ("url_file: FOLDER/empty", "broker.url_file: FOLDER/empty: must be one line"),
        ("url_file: FOLDER/two", "broker.url_file: FOLDER/two: must be one line"),
        (
            "url_file: FOLDER/wrong",
            "broker.url_file: FOLDER/wrong: the scheme must be amqp, amqps or embedded",
        ),
        ("url: 'amqp://h', url_file: FOLDER/two", "broker: url and url_file exclude each other"),
        ("username_file: FOLDER/two", "broker: username_file and password_file go together"),
        ("ca_file: FOLDER/none", "broker.ca_file: FOLDER/none: No such file or directory"),
        ("ca_file: FOLDER/two", "broker.ca_file: FOLDER/two: not a certificate in PEM form"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_that_names_it(
    tmp_path: Path, broker: str, line: str
) -> None:
    files = {"empty": " \n", "two": f"amqp://h\n{SECRET}\n", "wrong": f"http://u:{SECRET}@h"}

    assert error_of(config(tmp_path, broker, **files)) == line


def test_an_authority_is_looked_at_before_it_is_needed(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca")

    assert load_settings(config(tmp_path, "ca_file: FOLDER/ca")).broker.ca_file == tmp_path / "ca"
