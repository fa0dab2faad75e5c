"""deploy/compose.yaml and the files that it mounts; test_compose.py runs them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import argon2
import pytest
import yaml

from services.cli import check_files
from shared.settings.load import load_settings
from shared.settings.model import Settings
from tests.support.boards import panels
from tests.support.compose import COMPOSE, ROOT, compose_config, model, mounts, services
from tests.support.play import PASSWORD
from tests.support.promtool import promtool

OWN = ROOT / "deploy" / "compose"
POSTROAD = ("ingress", "router", "delivery")


def test_compose_takes_it_and_has_nothing_to_complain_of() -> None:
    assert compose_config(COMPOSE, "--quiet") == (0, "", "")


def test_compose_would_complain(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(COMPOSE.read_text("utf-8").replace("stop_grace_period:", "stop_grace:"))

    code, _, said = compose_config(file, "--quiet")

    assert (code, "stop_grace" in said) == (1, True)


@pytest.mark.parametrize("name", services())
def test_every_container_is_locked_in(name: str) -> None:
    said = services()[name]

    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert said["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}
    assert not {"privileged", "cap_add", "devices", "pid", "container_name"} & said.keys()


@pytest.mark.parametrize("name", services())
def test_every_port_is_on_this_machine_only(name: str) -> None:
    for port in services()[name].get("ports", []):
        assert port["host_ip"] == "127.0.0.1"
        assert port["published"] == str(port["target"])


@pytest.mark.parametrize("name", services())
def test_every_image_is_ours_or_named_by_its_digest(name: str) -> None:
    image = services()[name]["image"]

    assert "build" in services()[name] or re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", image)


@pytest.mark.parametrize("name", services())
def test_every_file_that_is_mounted_is_there_and_cannot_be_changed(name: str) -> None:
    for mount in mounts(name):
        if not mount.volume:
            assert mount.source.exists(), mount.source
            assert mount.read_only


def test_every_volume_and_every_secret_is_used() -> None:
    used = {mount.volume for name in services() for mount in mounts(name)} - {""}
    files = {mount.source for name in services() for mount in mounts(name)}

    assert used == set(model()["volumes"])
    for secret in model()["secrets"].values():
        assert Path(secret["file"]) in files
    assert {path for path in (OWN / "secrets").iterdir() if path.suffix != ".md"} < files


@pytest.mark.parametrize("name", services())
def test_who_is_waited_for_can_be_waited_for(name: str) -> None:
    for other, said in services()[name].get("depends_on", {}).items():
        awaited = services()[other]
        if said["condition"] == "service_healthy":
            assert awaited["healthcheck"]["test"]
        else:
            assert (said["condition"], awaited["restart"]) == (
                "service_completed_successfully",
                "no",
            )


@pytest.mark.parametrize("name", POSTROAD)
def test_a_service_has_longer_to_stop_than_it_takes(name: str) -> None:
    grace = yaml.safe_load((OWN / "postroad" / "postroad.yaml").read_text("utf-8"))[
        "shutdown_grace"
    ]

    assert services()[name]["command"] == [name]
    assert int(services()[name]["stop_grace_period"].removesuffix("s")) > int(grace.rstrip("s"))


def secret(name: str) -> str:
    return (OWN / "secrets" / name).read_text("utf-8").strip()


def settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Settings:
    """As a service in its container has them."""
    for mount in mounts("ingress"):
        if mount.target.startswith("/run/secrets/"):
            (folder / Path(mount.target).name).write_text(mount.source.read_text("utf-8"))
    monkeypatch.setenv("POSTROAD_SECRETS_DIR", str(folder))
    return load_settings(OWN / "postroad" / "postroad.yaml")


def test_the_services_ask_those_who_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = settings(monkeypatch, tmp_path)
    (route,) = found.router.routes

    assert urlsplit(found.broker.url).hostname in services()
    assert urlsplit(found.content_store.s3_endpoint).hostname in services()
    assert {host.partition(":")[0] for host in route.hosts} <= services().keys()
    assert route.domains == ("*",), "or mail would leave this machine"


def test_who_knows_a_password_knows_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = settings(monkeypatch, tmp_path)
    broker = urlsplit(found.broker.url)

    rabbitmq = dict(
        line.split(" = ")
        for line in secret("rabbitmq.conf").splitlines()
        if not line.startswith("#")
    )
    assert rabbitmq == {"default_user": broker.username, "default_pass": broker.password}
    assert found.content_store.s3_access_key_id == secret("s3_access_key_id")
    assert found.content_store.s3_secret_access_key.get_secret_value() == secret(
        "s3_secret_access_key"
    )
    (user,) = yaml.safe_load((OWN / "postroad" / "credentials.yaml").read_text("utf-8"))
    assert argon2.PasswordHasher().verify(user["password_hash"], PASSWORD)


def test_each_port_that_is_open_is_one_on_which_somebody_listens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = settings(monkeypatch, tmp_path)
    listeners = {listener.port for listener in found.ingress.listeners}

    assert {port["target"] for port in services()["ingress"]["ports"]} == listeners


def test_the_bucket_that_is_made_is_the_one_that_is_used() -> None:
    (script,) = services()["bucket"]["command"]
    url = yaml.safe_load((OWN / "postroad" / "postroad.yaml").read_text("utf-8"))["content_store"][
        "url"
    ]

    assert f"mc mb --ignore-existing store/{urlsplit(url).netloc}\n" in script
    assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    for mount in mounts("prometheus"):
        if not mount.volume:
            (tmp_path / Path(mount.target).name).write_text(mount.source.read_text("utf-8"))

    code, said = promtool("check", "config", tmp_path / "prometheus.yml")

    assert code == 0, said
    assert "1 rule files found" in said


def test_prometheus_asks_each_service_on_its_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    admin = settings(monkeypatch, tmp_path).admin
    asked: dict[str, Any] = {
        one["job_name"]: one
        for one in yaml.safe_load((OWN / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    }

    for name in POSTROAD:
        (found,) = asked[f"postroad-{name}"]["dns_sd_configs"]
        assert (found["names"], found["port"]) == ([name], getattr(admin, f"{name}_port"))


def test_grafana_finds_the_boards_and_prometheus() -> None:
    places = {mount.target: mount.source for mount in mounts("grafana")}
    (provider,) = yaml.safe_load((OWN / "grafana" / "dashboards.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((OWN / "grafana" / "datasources.yaml").read_text())["datasources"]
    boards = list(places[provider["options"]["path"]].glob("*.json"))
    home = Path(services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])

    assert urlsplit(source["url"]).hostname in services()
    assert home.parent == Path(provider["options"]["path"])
    assert home.name in {board.name for board in boards}
    assert all(panels(json.loads(board.read_text("utf-8"))) for board in boards)
    assert places["/etc/grafana/provisioning/datasources/postroad.yaml"].name == "datasources.yaml"


def test_the_configuration_is_one_that_check_config_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = settings(monkeypatch, tmp_path)
    with_files = found.ingress.model_copy(
        update={
            "tls": None,
            "credentials_file": OWN / "postroad" / "credentials.yaml",
            "listeners": (),
        }
    )

    check_files(found.model_copy(update={"ingress": with_files}))
