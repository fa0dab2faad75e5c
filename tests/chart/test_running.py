"""How pods come, go and are moved: drains, rollouts, evictions, and what they may reach."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from services.run import REPORT_TIME
from shared.settings.model import Settings
from shared.settings.units import parse_duration_ms
from tests.chart.pods import Pod, deployed
from tests.support.helm import Object, Rendered, render, rendered, values_files

FILES = values_files()


def drain(pod: Pod) -> float:
    return parse_duration_ms(pod.env["POSTROAD_SHUTDOWN_GRACE"]) / 1000


@pytest.mark.parametrize("file", FILES)
def test_a_pod_is_killed_only_after_its_drain(file: str) -> None:
    for pod in deployed(rendered(file)):
        sleep = pod.main.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = sleep + drain(pod) + REPORT_TIME
        assert pod.spec["terminationGracePeriodSeconds"] > needed, pod.name


@pytest.mark.parametrize("file", FILES)
def test_only_ingress_waits_until_balancers_have_noticed(file: str) -> None:
    for pod in deployed(rendered(file)):
        sleeps = {"sleep": {"seconds": 10}} if pod.component == "ingress" else None
        assert pod.main.get("lifecycle", {}).get("preStop") == sleeps


def test_delivery_waits_as_long_as_a_receiver_may_think_after_a_content() -> None:
    for pod in deployed(rendered("minimal")):
        if pod.component == "delivery":
            assert drain(pod) > Settings().delivery.timeouts.final_dot / 1000


@pytest.mark.parametrize("file", FILES)
def test_a_rollout_takes_nothing_away_before_something_else_is_ready(file: str) -> None:
    found = rendered(file)
    for each in found.every("Deployment"):
        on_node = each["spec"]["template"]["spec"].get("hostNetwork", False)
        rolling = each["spec"]["strategy"]["rollingUpdate"]
        # On the network of its node the new pod cannot have the port while the old one has it.
        assert (rolling["maxSurge"], rolling["maxUnavailable"]) == ((0, 1) if on_node else (1, 0))
        assert each["spec"]["minReadySeconds"] > 0


def test_budgets_are_as_written_and_0_is_a_number() -> None:
    spec = {e["metadata"]["name"]: e["spec"] for e in rendered("full").every("PodDisruptionBudget")}
    assert spec["mail-router"]["maxUnavailable"] == 0
    assert spec["mail-ingress"]["minAvailable"] == "50%"
    assert "maxUnavailable" not in spec["mail-ingress"]
    assert spec["mail-delivery-otp"]["maxUnavailable"] == 1
    for each in spec.values():
        assert each["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("component", ["ingress", "router", "delivery"])
def test_replicas_are_left_to_whatever_scales(component: str) -> None:
    values = {**rendered("minimal").values}
    values[component] = {**values.get(component, {}), "autoscaling": {"enabled": True}}
    for each in render(values).every("Deployment"):
        scaled = each["metadata"]["labels"]["app.kubernetes.io/component"] == component
        assert ("replicas" not in each["spec"]) == scaled


def test_pools_on_the_network_of_nodes_have_ports_and_names_of_their_own() -> None:
    pods = [p for p in deployed(rendered("egress-hostnetwork")) if p.component == "delivery"]
    assert all(pod.spec["hostNetwork"] for pod in pods)
    assert {pod.spec["dnsPolicy"] for pod in pods} == {"ClusterFirstWithHostNet"}
    assert len({pod.ports["admin"] for pod in pods}) == len(pods)
    assert {pod.env.get("POSTROAD_HOSTNAME") for pod in pods} == {None, "bulk.example.net"}
    assert {pod.spec["nodeSelector"]["postroad/egress"] for pod in pods} == {"bulk", "main"}


def public(file: str) -> Object:
    found: Object = rendered(file).one("Service", "-ingress-public")["spec"]
    return found


def test_clients_keep_their_address_or_the_balancer_tells_it() -> None:
    local = public("full")
    assert (local["type"], local["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    assert [port["port"] for port in local["ports"]] == [587, 465], "the relay is not public"
    assert local["ports"][0]["nodePort"] == 30587
    told = public("proxy-protocol")
    assert (told["type"], told["externalTrafficPolicy"]) == ("NodePort", "Cluster")
    for listener in rendered("proxy-protocol").config()["ingress"]["listeners"]:
        assert listener["proxy_networks"] == ["10.0.0.0/24"]


def policy(found: Rendered, ending: str) -> Object:
    spec: Object = found.one("NetworkPolicy", ending)["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    return spec


def allows(rules: list[Object], port: int, address: str, protocol: str = "TCP") -> bool:
    """Whether a rule lets something to `port` of a peer at `address` that is no pod."""
    return any(
        {"port": port, "protocol": protocol} in rule.get("ports", ())
        and ("to" not in rule or any(_holds(peer, address) for peer in rule["to"]))
        for rule in rules
    )


def _holds(peer: Object, address: str) -> bool:
    block: dict[str, Any] = peer.get("ipBlock", {})
    where = ipaddress.ip_address(address)
    inside = "cidr" in block and where in ipaddress.ip_network(block["cidr"])
    return inside and not any(
        where in ipaddress.ip_network(other) for other in block.get("except", ())
    )


@pytest.mark.parametrize("file", sorted({*FILES} - {"relay-only"}))
def test_only_delivery_may_send_mail_and_only_to_the_world(file: str) -> None:
    found = rendered(file)
    for pod in deployed(found):
        egress = policy(found, pod.name)["egress"]
        mail = pod.component == "delivery" and "POSTROAD_DELIVERY__SOCKS5" not in pod.env
        for address in ("192.0.2.1", "2001:db8::1"):
            assert allows(egress, 25, address) == mail
        for address in ("10.0.0.1", "127.0.0.1", "169.254.169.254", "fd00::1", "100.64.0.1"):
            # In one of them a static route names a host, and so no address.
            assert allows(egress, 25, address) == (mail and file == "full"), pod.name
        assert not allows(egress, 80, "192.0.2.1")


def test_static_routes_and_what_the_services_use_are_let_out() -> None:
    found = rendered("full")
    egress = policy(found, "mail-delivery-otp")["egress"]
    assert allows(egress, 2525, "10.1.2.3")
    assert not allows(egress, 2525, "10.1.2.4")
    assert allows(egress, 26, "fd00::25")
    for pod in deployed(found):
        rules = policy(found, pod.name)["egress"]
        for port in (53, 5353):
            assert allows(rules, port, "10.0.0.10", "UDP")
        open_to_pods = {p["port"] for r in rules for p in r["ports"] if "to" in r}
        assert {5671, 9000, 4318} <= open_to_pods
        assert 5672 not in open_to_pods


def test_with_a_gateway_mail_goes_there_and_nowhere_else() -> None:
    found = rendered("egress-gateway")
    pods = {pod.name: pod for pod in deployed(found) if pod.component == "delivery"}
    for name, port, where in (("eu", 1080, "10.9.0.1"), ("us", 1081, "fd00::9")):
        pod = pods[f"mail-postroad-delivery-default-{name}"]
        egress = policy(found, pod.name)["egress"]
        assert allows(egress, port, where)
        assert not allows(egress, port, "192.0.2.1")
        assert not allows(egress, 25, "192.0.2.1")
    assert pods["mail-postroad-delivery-default-eu"].env["POSTROAD_DELIVERY__SOCKS5"] == "10.9.0.1"
    direct = policy(found, "mail-postroad-delivery-otp")["egress"]
    assert allows(direct, 25, "192.0.2.1")


def test_the_broker_of_the_operators_is_let_out_to_by_its_pods() -> None:
    found = rendered("operator")
    name = found.one("RabbitmqCluster")["metadata"]["name"]
    rules = policy(found, "-router")["egress"]
    (rule,) = (each for each in rules if {"port": 5671, "protocol": "TCP"} in each["ports"])
    labels = {"app.kubernetes.io/name": name}
    assert rule["to"] == [{"podSelector": {"matchLabels": labels}}]


@pytest.mark.parametrize("file", sorted({*FILES} - {"relay-only"}))
def test_only_ports_that_are_there_are_let_in(file: str) -> None:
    found = rendered(file)
    for pod in deployed(found):
        rules = policy(found, pod.name)["ingress"]
        named = {port["port"] for rule in rules for port in rule.get("ports", ())}
        assert named == set(pod.ports)
        (admin,) = (r for r in rules if {"port": "admin", "protocol": "TCP"} in r.get("ports", ()))
        if file != "full":
            peers = [peer for peer in admin["from"] if "namespaceSelector" in peer]
            assert peers[0]["namespaceSelector"]["matchLabels"] == {
                "kubernetes.io/metadata.name": "monitoring"
            }
            (test,) = (peer for peer in admin["from"] if "podSelector" in peer)
            wanted = test["podSelector"]["matchLabels"].items()
            assert all(wanted <= each["metadata"]["labels"].items() for each in found.tests)
