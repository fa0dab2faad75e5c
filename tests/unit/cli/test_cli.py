"""The command: what is wrong with a configuration is one line on standard error, and exit 2."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import argon2
import pytest
import trustme

from services.cli import main
from tests.support.log_state import log_state_kept

Command = Callable[..., tuple[int, str, str]]

RELAY = "{address: 127.0.0.1, port: 2525, tls: none, auth: none, relay_networks: [127.0.0.0/8]}"
SERVICES = ("ingress", "router", "delivery")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("POSTROAD_")]:
        monkeypatch.delenv(name)
    with log_state_kept():
        yield


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["postroad", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "postroad.yaml"


def test_a_good_configuration_is_said_to_be_good(command: Command, file: Path) -> None:
    file.write_text(f"ingress: {{listeners: [{RELAY}]}}")

    assert command("check-config", "--config", file) == (0, "configuration ok\n", "")


def test_the_file_can_be_named_by_the_environment(
    command: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("hostnam: x")
    monkeypatch.setenv("POSTROAD_CONFIG", str(file))

    assert command("check-config") == (2, "", "postroad: hostnam: unknown key\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("broker: {urll: x}", "broker.urll: unknown key"),
        ("delivery: {max_age: soon}", "delivery.max_age: 'soon' is not a duration: "),
        ("ingress: {listeners: [{port: 0x}]}", "ingress.listeners.0.port: must be a whole number"),
        ("admin: {router_port: 9101}", "admin.router_port: 9101 is the port of admin.ingress_port"),
        ("hostname: [", "postroad.yaml, line 1: "),
        ("delivery: {tls_authority: /gone.pem}", "delivery.tls_authority: /gone.pem: No such file"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_exit_2(
    command: Command, file: Path, text: str, line: str
) -> None:
    file.write_text(text)

    code, out, err = command("check-config", "--config", file)

    assert (code, out) == (2, "")
    assert err.startswith("postroad: ")
    assert line in err
    assert err.count("\n") == 1


def test_a_missing_configuration_file_is_named(command: Command, tmp_path: Path) -> None:
    missing = tmp_path / "absent.yaml"

    expected = f"postroad: {missing}: No such file or directory\n"
    assert command("check-config", "--config", missing) == (2, "", expected)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_does_not_start_on_a_wrong_configuration(
    command: Command, file: Path, name: str
) -> None:
    file.write_text("hostnam: x")

    assert command(name, "--config", file) == (2, "", "postroad: hostnam: unknown key\n")


def test_a_lane_that_is_not_configured_is_named(command: Command, file: Path) -> None:
    file.write_text("lanes: [{name: google, match: {providers: [google]}}]")

    expected = "postroad: --lane: gogle is not one of google, default\n"
    arguments = ("delivery", "--config", file, "--lane", "google", "--lane", "gogle")
    assert command(*arguments) == (2, "", expected)


def test_tracing_without_its_extra_names_both(
    command: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("tracing: {endpoint: 'http://collector:4318/v1/traces'}")
    # As where it is not installed.
    for name in [*sys.modules]:
        if name == "shared.tracing.otel" or name.partition(".")[0] == "opentelemetry":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    why = "opentelemetry is not installed: pip install 'postroad[tracing]'"
    assert command("check-config", "--config", file) == (
        2, "", f"postroad: tracing.endpoint: {why}\n",
    )  # fmt: skip


def test_a_url_with_credentials_is_no_place_for_spans(command: Command, file: Path) -> None:
    file.write_text("tracing: {endpoint: 'http://user:secret@collector:4318/'}")

    code, out, err = command("check-config", "--config", file)

    assert (code, out) == (2, "")
    assert "tracing.endpoint: credentials come from OTEL_EXPORTER_OTLP_HEADERS" in err
    assert "secret" not in err


TLS = """
ingress:
  listeners: [{{port: 2525, tls: starttls, auth: none, relay_networks: [127.0.0.0/8]}}]
  tls: {{certificate: {certificate}, key: {key}}}
"""
CREDENTIALS = """
ingress:
  listeners: [{{port: 2525, tls: none, auth: required, auth_without_tls: true}}]
  credentials_file: {credentials}
"""


@pytest.mark.parametrize("absent", ["certificate", "key"])
def test_a_missing_certificate_or_key_is_named(
    command: Command, file: Path, tmp_path: Path, absent: str
) -> None:
    issued = trustme.CA().issue_cert("mta.example")
    paths = {"certificate": tmp_path / "tls.crt", "key": tmp_path / "tls.key"}
    issued.cert_chain_pems[0].write_to_path(str(paths["certificate"]))
    issued.private_key_pem.write_to_path(str(paths["key"]))
    file.write_text(TLS.format(**paths))
    assert command("check-config", "--config", file)[0] == 0

    paths[absent].unlink()
    code, out, err = command("check-config", "--config", file)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"postroad: ingress.tls.{absent}: {paths[absent]}: ")


def test_a_missing_credentials_file_is_named(command: Command, file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "credentials.yaml"
    file.write_text(CREDENTIALS.format(credentials=missing))

    code, out, err = command("check-config", "--config", file)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"postroad: ingress.credentials_file: {missing}: ")


def test_a_password_is_hashed_so_that_argon2_accepts_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("open sesame\n"))

    code, out, err = command("hash-password")

    assert (code, err) == (0, "")
    assert "open sesame" not in out
    assert argon2.PasswordHasher().verify(out.strip(), "open sesame")


def test_queues_of_the_embedded_broker_need_no_migration(command: Command, file: Path) -> None:
    file.write_text("broker: {url: 'embedded:///nowhere'}")

    for arguments in ([], ["--migrate"]):
        code, out, err = command("queues", "--config", file, *arguments)
        assert (code, err) == (0, "")
        assert "nothing to migrate" in out


def test_queues_of_a_broker_that_is_not_there_are_one_line(command: Command, file: Path) -> None:
    file.write_text("broker: {url: 'amqp://guest:secret@127.0.0.1:9//'}")

    code, out, err = command("queues", "--config", file)

    assert (code, err, out.count("\n")) == (1, "", 1)
    assert out.startswith("not finished, and nothing is lost: ")
    assert "secret" not in out


def test_the_size_of_a_load_is_computed(command: Command) -> None:
    code, out, err = command("size", "--per-hour", "1000000", "--kb", "4", "--peak", "3.6")

    assert (code, err) == (0, "")
    assert out.startswith("at the peak: 1,000 mails a second")
    assert "1 cluster(s) of 3 nodes" in out


def test_an_unknown_command_is_an_error_of_usage(command: Command) -> None:
    code, out, err = command("dance")

    assert (code, out) == (2, "")
    assert "dance" in err
