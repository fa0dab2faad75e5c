"""What is wrong with a configuration is one line that names it, and never shows a password."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.settings.load import ConfigError, load_settings

EXAMPLE = Path(__file__).parents[3] / "deploy" / "postroad.yaml"
SECRET = "hunter2"
DURATION_FORM = "write 500ms, 30s, 5m, 2h or 3d"
S3_FORM = "write s3://bucket/prefix; credentials come from the environment"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("POSTROAD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "postroad.yaml"


def error_of(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    line = str(caught.value)
    assert "\n" not in line
    assert SECRET not in line
    return line


def test_without_a_file_every_key_has_its_default() -> None:
    settings = load_settings(None)

    assert settings.delivery.retry_schedule[0] == 60_000
    assert settings.ingress.listeners[0].port == 2525


def test_the_example_configuration_is_read_as_written() -> None:
    settings = load_settings(EXAMPLE)

    assert settings.hostname == "mta.example.net"
    assert [listener.port for listener in settings.ingress.listeners] == [587, 465, 2525]
    assert settings.router.routes[0].hosts == ("10.1.2.3:25",)
    assert settings.delivery.max_age == 72 * 3600 * 1000
    assert [lane.name for lane in settings.lanes] == ["google", "otp", "default"]
    assert settings.limits.overrides[1].messages_per_second == 2


def test_an_empty_file_is_the_defaults(file: Path) -> None:
    file.write_text("# nothing yet\n")

    assert load_settings(file).admin.ingress_port == 9101


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hostnam: a.b", "hostnam: unknown key"),
        ("_env_file: x", "_env_file: unknown key"),
        ("1: x", "1: unknown key"),
        ("broker: {urll: x}", "broker.urll: unknown key"),
        ("delivery: {timeouts: {mial: 1m}}", "delivery.timeouts.mial: unknown key"),
        (
            "delivery: {uncertain_by_tenant: {bank: maybe}}",
            "delivery.uncertain_by_tenant.bank: Input should be 'retry', 'sent' or 'hold'",
        ),
        ("ingress: {listeners: [{prot: 25}]}", "ingress.listeners.0.port: is required"),
        ("hostname: 3", "hostname: must be text"),
        ("hostname: mta_1.example", "hostname: 'mta_1.example' is not a host name"),
        ("hostname: ''", "hostname: '' is not a host name"),
        ("broker: amqp://localhost", "broker: must be a mapping"),
        ("broker: {url: 'http://h'}", "broker.url: the scheme must be amqp, amqps or embedded"),
        ("broker: {url: 'amqp://'}", "broker.url: the host is missing"),
        (
            f"broker: {{url: 'amqp://user:{SECRET}'}}",
            "broker.url: the port must be a number from 1 to 65535",
        ),
        (f"broker: {{url: 'amqp://u:{SECRET}@[::1'}}", "broker.url: not a URL"),
        ("broker: {url: 'embedded://var/x'}", "broker.url: write embedded:///absolute/path"),
        ("broker: {url: 'embedded:///'}", "broker.url: write embedded:///absolute/path"),
        ("broker: {heartbeat: 15}", f"broker.heartbeat: 15 is not a duration: {DURATION_FORM}"),
        ("broker: {heartbeat: 0s}", "broker.heartbeat: '0s' is not between 1ms and 49d"),
        ("content_store: {url: /var}", "content_store.url: the scheme must be file or s3"),
        ("content_store: {url: 's3://'}", f"content_store.url: {S3_FORM}"),
        (
            f"content_store: {{url: 's3://key:{SECRET}@bucket'}}",
            f"content_store.url: {S3_FORM}",
        ),
        (
            "content_store: {s3_endpoint: 'ftp://h'}",
            "content_store.s3_endpoint: the scheme must be http or https",
        ),
        (
            "content_store: {inline_max_bytes: much}",
            "content_store.inline_max_bytes: must be a whole number",
        ),
        (
            "content_store: {inline_max_bytes: 9000000}",
            "content_store.inline_max_bytes: Input should be less than or equal to 8388608",
        ),
        ("ingress: {listeners: []}", "ingress.listeners: must not be empty"),
        ("ingress: {listeners: 25}", "ingress.listeners: must be a list"),
        (
            "ingress: {listeners: [{port: 70000}]}",
            "ingress.listeners.0.port: Input should be less than or equal to 65535",
        ),
        (
            "ingress: {listeners: [{port: smtp}]}",
            "ingress.listeners.0.port: must be a whole number",
        ),
        (
            "ingress: {listeners: [{port: 25, tls: ssl}]}",
            "ingress.listeners.0.tls: Input should be 'none', 'starttls' or 'implicit'",
        ),
        (
            "ingress: {listeners: [{port: 25, address: here}]}",
            "ingress.listeners.0.address: 'here' is not an IP address",
        ),
        (
            "ingress: {listeners: [{port: 25, relay_networks: [10.0.0.1/8]}]}",
            "ingress.listeners.0.relay_networks.0: 10.0.0.1/8 has host bits set",
        ),
        (
            "ingress: {listeners: [{port: 25, tls: none}]}",
            "ingress.listeners.0: auth needs tls: starttls or implicit (or auth_without_tls: true)",
        ),
        (
            "ingress: {listeners: [{port: 25, auth: none}]}",
            "ingress.listeners.0: nobody may send here: give relay_networks or auth",
        ),
        (
            "ingress: {listeners: [{port: 25, auth: optional}]}",
            "ingress: listeners.0.tls is starttls: give ingress.tls",
        ),
        (
            "ingress: {listeners: [{port: 25}], tls: {certificate: /a, key: /b}}",
            "ingress: listeners.0.auth is required: give ingress.credentials_file",
        ),
        (
            "dns: {nameservers: ['127.0.0.1:b']}",
            "dns.nameservers.0: '127.0.0.1:b' is not host:port",
        ),
        (
            "dns: {nameservers: [dns.example]}",
            "dns.nameservers.0: 'dns.example' is not an IP address",
        ),
        (
            "router: {routes: [{domains: [], hosts: [h]}]}",
            "router.routes.0.domains: must not be empty",
        ),
        (
            "router: {routes: [{domains: ['a b'], hosts: [h]}]}",
            "router.routes.0.domains.0: 'a b' is not a domain",
        ),
        (
            "router: {routes: [{domains: [a], hosts: ['h:0']}]}",
            "router.routes.0.hosts.0: 'h:0' is not host:port",
        ),
        ("delivery: {retry_schedule: []}", "delivery.retry_schedule: must not be empty"),
        (
            "delivery: {retry_schedule: [1m, soon]}",
            f"delivery.retry_schedule.1: 'soon' is not a duration: {DURATION_FORM}",
        ),
        (
            "delivery: {allow_private_addresses: perhaps}",
            "delivery.allow_private_addresses: must be true or false",
        ),
        (
            "admin: {router_port: -1}",
            "admin.router_port: Input should be greater than or equal to 0",
        ),
        ("logging: {format: xml}", "logging.format: Input should be 'auto', 'json' or 'console'"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(file: Path, text: str, line: str) -> None:
    assert error_of(file, text) == line


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "admin: {ingress_port: 7, router_port: 7}",
            "admin.router_port: 7 is the port of admin.ingress_port already",
        ),
        (
            "ingress: {listeners: [{address: 0.0.0.0, port: 9103, tls: none, auth: none,"
            " relay_networks: [10.0.0.0/8]}]}",
            "admin.delivery_port: 9103 is the port of ingress.listeners.0.port already",
        ),
    ],
)
def test_a_port_that_two_keys_name_is_one_line_that_names_both(
    file: Path, text: str, lines: str
) -> None:
    assert error_of(file, text) == lines


def test_one_port_on_two_addresses_and_port_zero_are_no_clash(file: Path) -> None:
    listener = "{{address: '{}', port: {}, tls: none, auth: none, relay_networks: [10.0.0.0/8]}}"
    listeners = [listener.format("127.0.0.1", 25), listener.format("127.0.0.2", 25)]
    listeners += [listener.format("::", 25), listener.format("127.0.0.1", 0)]
    file.write_text(f"ingress: {{listeners: [{', '.join(listeners)}]}}\nadmin: {{router_port: 0}}")

    assert len(load_settings(file).ingress.listeners) == 4


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hostname: a.b\nbroker: {}\nhostname: c.d", ", line 3: the key 'hostname' is given twice"),
        ("broker:\n  url: a\n  url: b", ", line 3: the key 'url' is given twice"),
        (f"broker: {{url: 'amqp://u:{SECRET}@h\n a: b", ", line 2: found unexpected end of stream"),
        ("? [a]\n: b", ", line 1: found unhashable key"),
        ("hostname: 2020-99-99", ": not YAML"),
        ("[" * 5000, ": nested too deeply"),
        ("- a\n- b", ": must be a mapping of settings"),
    ],
)
def test_a_file_that_is_no_mapping_is_one_line_with_the_place(
    file: Path, text: str, line: str
) -> None:
    assert error_of(file, text) == f"{file}{line}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "absent.yaml")

    assert str(caught.value) == f"{tmp_path}/absent.yaml: No such file or directory"


def test_a_file_that_is_not_text_is_named(file: Path) -> None:
    file.write_bytes(b"hostname: \xff\xfe")

    with pytest.raises(ConfigError, match=r"postroad\.yaml: not UTF-8 text"):
        load_settings(file)


def test_a_variable_overrides_its_key_and_leaves_the_others(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("broker: {url: 'amqp://file/', heartbeat: 7s}")
    monkeypatch.setenv("POSTROAD_BROKER__URL", "embedded:///tmp/x")
    monkeypatch.setenv("POSTROAD_HOSTNAME", "mta.example")

    settings = load_settings(file)

    assert settings.broker.url == "embedded:///tmp/x"
    assert settings.broker.heartbeat == 7_000
    assert settings.hostname == "mta.example"


@pytest.mark.parametrize("text", ["1s,2s", "1s, 2s", '["1s", "2s"]', "[1s, 2s]"])
def test_a_list_in_a_variable_is_yaml_json_or_has_commas(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("POSTROAD_DELIVERY__RETRY_SCHEDULE", text)

    assert load_settings(None).delivery.retry_schedule == (1_000, 2_000)


def test_a_list_of_one_needs_no_mark_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROAD_DNS__NAMESERVERS", "::1")

    assert load_settings(None).dns.nameservers == ("[::1]:53",)


def test_sections_in_a_variable_are_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROAD_ROUTER__ROUTES", '[{"domains": ["a.b"], "hosts": ["h:26"]}]')
    monkeypatch.setenv("POSTROAD_DELIVERY__UNCERTAIN_BY_TENANT", "{bank: hold}")
    monkeypatch.setenv("POSTROAD_INGRESS__TLS__CERTIFICATE", "/crt")
    monkeypatch.setenv("POSTROAD_INGRESS__TLS__KEY", "/key")

    settings = load_settings(None)

    assert settings.router.routes[0].hosts == ("h:26",)
    assert settings.delivery.uncertain_by_tenant == {"bank": "hold"}
    assert settings.ingress.tls is not None
    assert settings.ingress.tls.key == Path("/key")


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("POSTROAD_BROKER__URLL", "x", "broker.urll (POSTROAD_BROKER__URLL): unknown key"),
        ("POSTROAD_BROKR__URL", SECRET, "POSTROAD_BROKR__URL: unknown key"),
        ("POSTROAD_BROKER", SECRET, "broker (POSTROAD_BROKER): must be a mapping"),
        (
            "POSTROAD_BROKER__URL",
            f"http://user:{SECRET}@host",
            "broker.url (POSTROAD_BROKER__URL): the scheme must be amqp, amqps or embedded",
        ),
        (
            "POSTROAD_DELIVERY__RETRY_SCHEDULE",
            "[1s",
            "delivery.retry_schedule.0 (POSTROAD_DELIVERY__RETRY_SCHEDULE): "
            f"'[1s' is not a duration: {DURATION_FORM}",
        ),
        (
            "POSTROAD_INGRESS__LISTENERS",
            '[{"port": "x"}]',
            "ingress.listeners.0.port (POSTROAD_INGRESS__LISTENERS): must be a whole number",
        ),
        (
            "POSTROAD_ADMIN__INGRESS_PORT",
            "tcp://10.0.0.1:25",
            "admin.ingress_port (POSTROAD_ADMIN__INGRESS_PORT): must be a whole number",
        ),
    ],
)
def test_a_wrong_variable_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        load_settings(None)

    assert str(caught.value) == line


def test_variables_that_kubernetes_sets_for_a_service_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTROAD_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("POSTROAD_PORT", "tcp://10.0.0.1:25")

    assert load_settings(None).admin.ingress_port == 9101
