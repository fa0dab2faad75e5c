from __future__ import annotations

from pathlib import Path

import pytest

from services.run import (
    DELIVERY_PORT,
    local_places,
    plan_children,
    run_ingress,
    settings_here,
)
from services.supervisor import LONGEST_BACKOFF, backoff
from shared.settings.load import ConfigError, load_settings


def test_queues_and_contents_lie_under_var_when_nothing_is_configured() -> None:
    assert local_places(load_settings(None), Path("/srv/x")) == {
        "POSTROAD_BROKER__URL": "embedded:///srv/x/var/broker",
        "POSTROAD_CONTENT_STORE__URL": "file:///srv/x/var/content",
    }


def test_configured_places_are_left_alone(tmp_path: Path) -> None:
    config = tmp_path / "postroad.yaml"
    config.write_text('broker: {url: "embedded:///b"}\ncontent_store: {url: "file:///c"}\n')
    assert local_places(load_settings(config), Path("/srv/x")) == {}


def test_a_broker_url_in_the_environment_counts_as_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTROAD_BROKER__URL", "amqp://h//")
    assert set(local_places(load_settings(None), Path("/srv/x"))) == {"POSTROAD_CONTENT_STORE__URL"}


def test_children_stop_in_the_direction_in_which_mail_flows() -> None:
    children = plan_children(load_settings(None), None, 1, {})
    assert [child.name for child in children] == ["ingress", "router", "delivery"]
    assert [child.command[-1] for child in children] == ["ingress", "router", "delivery"]


def test_a_store_of_events_is_kept_where_it_is_configured_and_stops_last(tmp_path: Path) -> None:
    config = tmp_path / "postroad.yaml"
    config.write_text("events: {store: {path: /srv/events.sqlite3}}\n")
    children = plan_children(load_settings(config), config, 1, {})
    assert [child.name for child in children] == ["ingress", "router", "delivery", "event-store"]
    assert children[-1].command[-3:] == ("event-store", "--config", str(config))


def test_commands_find_the_queues_that_run_has_put_under_var(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_here(None).broker.url.startswith("amqp://")
    (tmp_path / "var" / "broker").mkdir(parents=True)
    assert settings_here(None).broker.url == f"embedded://{tmp_path}/var/broker"
    monkeypatch.setenv("POSTROAD_BROKER__URL", "amqp://h//")
    assert settings_here(None).broker.url == "amqp://h//"


def test_further_delivery_workers_have_ports_of_their_own() -> None:
    children = plan_children(load_settings(None), Path("/c.yaml"), 3, {"A": "b"})
    workers = children[2:]
    assert [child.name for child in workers] == ["delivery-1", "delivery-2", "delivery-3"]
    assert [dict(child.environment) for child in workers] == [
        {"A": "b"},
        {"A": "b", DELIVERY_PORT: "9104"},
        {"A": "b", DELIVERY_PORT: "9105"},
    ]
    assert workers[0].command[-3:] == ("delivery", "--config", "/c.yaml")


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff(lives) for lives in (0, 1, 2)] == [0.5, 1.0, 2.0]
    assert backoff(1000) == LONGEST_BACKOFF


def test_ingress_processes_need_ports_that_can_be_shared(tmp_path: Path) -> None:
    config = tmp_path / "postroad.yaml"
    listener = "{address: 127.0.0.1, port: 0, tls: none, auth: none, relay_networks: [127.0.0.0/8]}"
    config.write_text(f"ingress: {{listeners: [{listener}]}}\n")
    with pytest.raises(ConfigError, match=r"^ingress\.listeners\.0\.port: 0 cannot be shared"):
        run_ingress(config, 2)
