"""postroad takes the configuration that the chart writes, with the variables of each pod."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from services.cli import check_files
from services.ingress.passwords import hash_password
from shared.settings.load import load_settings
from shared.settings.model import Settings
from tests.chart.pods import CONFIG, Pod, deployed
from tests.support.helm import Rendered, laid_over, render, rendered, values_files
from tests.support.tokens import Issuer

FILES = values_files()
SECRETS = {
    "broker/url": "amqp://mail:secret@rabbitmq.example:5672/mail",
    "broker/username": "mail",
    "broker/password": "p@ss/word",
}
"""What is in a secret, by the path at which it is mounted."""


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that a secret could have."""
    folder = tmp_path_factory.mktemp("etc")
    for name in ("broker", "tls"):
        (folder / name).mkdir()
    for path, text in SECRETS.items():
        (folder / path).write_text(text, "utf-8")
    user = {"username": "shop", "password_hash": hash_password("secret")}
    (folder / "credentials.yaml").write_text(yaml.safe_dump([user]), "utf-8")
    Issuer().write(folder / "jwks.json")
    authority = trustme.CA()
    certificate = authority.issue_cert("mta.example.net")
    certificate.private_key_pem.write_to_path(folder / "tls" / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls" / "tls.crt")
    for path in ("broker/ca.crt", "tls/clients.crt"):
        authority.cert_pem.write_to_path(folder / path)
    return folder


def loaded(
    found: Rendered, pod: Pod, secrets: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Settings:
    """What the pod's process reads, its files in `secrets`; as `postroad check-config` does."""
    for name in [name for name in os.environ if name.startswith("POSTROAD_")]:
        monkeypatch.delenv(name)
    for name, value in pod.env.items():
        if name.startswith("POSTROAD_") and name != "POSTROAD_CONFIG":
            monkeypatch.setenv(name, value)
    text = yaml.safe_dump(found.config()).replace(CONFIG, str(secrets))
    path = folder / "postroad.yaml"
    path.write_text(text, "utf-8")
    return load_settings(path)


@pytest.mark.parametrize("file", FILES)
def test_check_config_is_content(
    file: str, secrets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for pod in deployed(rendered(file)):
        settings = loaded(rendered(file), pod, secrets, monkeypatch, tmp_path)
        if pod.component == "ingress":
            check_files(settings)
        assert settings.hostname.endswith("example.net")


def test_what_the_values_say_arrives(
    secrets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = rendered("full")
    pods = {pod.name: pod for pod in deployed(found)}
    ingress = loaded(found, pods["mail-ingress"], secrets, monkeypatch, tmp_path)
    assert ingress.ingress.max_message_bytes == 41_943_040
    assert ingress.broker.url == "amqps://mail:p%40ss%2Fword@rabbitmq.queues.svc:5671/mail"
    assert ingress.content_store.url == "s3://mail/contents"
    assert ingress.content_store.inline_max_bytes == 65_536
    assert ingress.limits.overrides[0].messages_per_second == 5
    assert ingress.shutdown_grace == 140_000
    smtp = ingress.ingress.listeners[0]
    assert (smtp.port, smtp.tenant, str(smtp.message_class)) == (2525, "batch", "bulk")
    assert ingress.ingress.oauth is not None
    assert ingress.ingress.oauth.clock_skew == 30_000
    pool = loaded(found, pods["mail-delivery-bulk-mail-eu"], secrets, monkeypatch, tmp_path)
    assert (pool.hostname, pool.shutdown_grace) == ("eu.mta.example.net", 700_000)
    assert pool.ingress.tls is not None, "the same file for all"


@pytest.mark.parametrize(
    ("limit", "most"),
    [("512Mi", 402_653_184), ("2Gi", 1_610_612_736), ("1G", 750_000_000), ("1.5Gi", None)],
)
def test_ingress_takes_no_more_before_its_memory_is_full(limit: str, most: int | None) -> None:
    resources = {"limits": {"memory": limit}, "requests": {"memory": limit}}
    values = laid_over(rendered("minimal").values, {"ingress": {"resources": resources}})
    assert render(values).config()["ingress"].get("max_memory_bytes") == most
    given = laid_over(values, {"config": {"ingress": {"max_memory_bytes": 5}}})
    assert render(given).config()["ingress"]["max_memory_bytes"] == 5


def test_without_a_store_what_is_held_fits_into_memory() -> None:
    found = rendered("minimal")
    config = found.config()
    largest = config["content_store"]["inline_max_bytes"]
    # Two classes, and half as many again of what comes again (delivery.prefetch).
    assert largest * config["delivery"]["prefetch"] * 2 * 1.5 < 512 << 20
    assert largest * Settings().router.prefetch < 256 << 20
    assert config["ingress"]["max_message_bytes"] + 65_536 == largest
    assert "prefetch" not in rendered("full").config()["delivery"]
    chosen = laid_over(found.values, {"config": {"delivery": {"prefetch": 10}}})
    assert render(chosen).config()["delivery"]["prefetch"] == 10


def test_both_families_of_addresses_are_listened_on() -> None:
    listeners = rendered("relay-only").config()["ingress"]["listeners"]
    assert [(each["address"], each["port"]) for each in listeners] == [
        ("0.0.0.0", 2525),
        ("::", 2525),
    ]


@pytest.mark.parametrize("file", FILES)
def test_each_lane_has_workers_and_each_worker_a_lane(
    file: str, secrets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = rendered(file)
    workers = [pod for pod in deployed(found) if pod.component == "delivery"]
    settings = loaded(found, workers[0], secrets, monkeypatch, tmp_path)
    served = [pod.main["args"] for pod in workers]
    assert {args[2] for args in served} == {lane.name for lane in settings.lanes}
    assert all(args[:2] == ["delivery", "--lane"] for args in served)


def test_a_lane_may_have_several_pools_and_default_is_added() -> None:
    found = rendered("full")
    assert [lane["name"] for lane in found.config()["lanes"]] == ["otp", "bulk_mail", "default"]
    pods = {pod.name: pod for pod in deployed(found) if pod.component == "delivery"}
    assert set(pods) == {
        "mail-delivery-otp",
        "mail-delivery-bulk-mail-eu",
        "mail-delivery-bulk-mail-us",
        "mail-delivery-default",
    }
    eu, us = pods["mail-delivery-bulk-mail-eu"], pods["mail-delivery-bulk-mail-us"]
    assert (eu.main["args"][2], us.main["args"][2]) == ("bulk_mail", "bulk_mail")
    assert (eu.labels["egress"], us.labels["egress"]) == ("eu", "us")
    assert us.spec["nodeSelector"] == {"zone": "us"}
    assert "nodeSelector" not in eu.spec
    replicas = {d["metadata"]["name"]: d["spec"]["replicas"] for d in found.every("Deployment")}
    assert replicas["mail-delivery-bulk-mail-eu"] == 4
    assert replicas["mail-delivery-otp"] == 3
    assert pods["mail-delivery-otp"].spec["priorityClassName"] == "high"
    assert pods["mail-delivery-default"].spec["priorityClassName"] == "normal"


def changed(name: str, **values: Any) -> Rendered:
    return render({**rendered(name).values, **values})


def checksums(found: Rendered) -> set[str]:
    return {pod.annotations["checksum/config"] for pod in deployed(found)}


@pytest.mark.parametrize(
    ("values", "rolls_out"),
    [
        ({"config": {"delivery": {"max_age": "1d"}}}, True),
        ({"lanes": [{"name": "default", "partitions": 16}]}, True),
        ({"hostname": "other.example.net"}, True),
        ({"config": {"limits": {"default": {"connections": 3}}}}, False),
    ],
)
def test_a_changed_configuration_is_rolled_out_unless_it_is_taken_up(
    values: Mapping[str, Any], rolls_out: bool
) -> None:
    before, after = rendered("minimal"), changed("minimal", **values)
    assert before.config() != after.config()
    assert (checksums(before) != checksums(after)) == rolls_out
    assert len(checksums(after)) == 1
