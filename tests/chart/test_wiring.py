"""Every port, secret, probe and label finds its counterpart."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from services.cli import app
from tests.chart.pods import CONFIG, Pod, deployed, kept, selected, walk
from tests.support.helm import Object, Rendered, render, rendered, values_files

FILES = values_files()
ADMIN = {"ingress": "ingress_port", "router": "router_port", "delivery": "delivery_port"}


def selector(each: Object) -> dict[str, str]:
    spec = each["spec"]
    found: dict[str, str] = (
        spec["podSelector"]["matchLabels"]
        if "podSelector" in spec
        else spec["selector"].get("matchLabels") or spec["selector"]
    )
    return found


@pytest.mark.parametrize("file", FILES)
def test_a_deployment_selects_its_own_pods_and_no_others(file: str) -> None:
    found = rendered(file)
    for each in found.every("Deployment"):
        assert selected(selector(each), found) == [each["metadata"]["name"]]
        assert "app.kubernetes.io/version" not in selector(each), "selectors cannot change"


@pytest.mark.parametrize("file", FILES)
def test_the_labels_are_those_that_runbooks_and_dashboards_go_by(file: str) -> None:
    pods = deployed(rendered(file))
    assert {pod.component for pod in pods} == {"ingress", "router", "delivery"}
    for pod in pods:
        assert pod.labels["app.kubernetes.io/name"] == "postroad"
        assert pod.main["name"] == pod.component
        assert pod.main["args"][0] == pod.component


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "NetworkPolicy"])
def test_budgets_and_policies_cover_each_pod_once(file: str, kind: str) -> None:
    found = rendered(file)
    covered = [name for each in found.every(kind) for name in selected(selector(each), found)]
    pods = [*deployed(found), *(kept(found) if kind == "NetworkPolicy" else ())]
    everything = [] if file == "relay-only" else [pod.name for pod in pods]
    assert sorted(covered) == sorted(everything)


def ports_of(pods: list[Pod], name: str) -> set[int]:
    return {pod.ports[name] for pod in pods}


@pytest.mark.parametrize("file", FILES)
def test_a_service_leads_to_ports_that_its_pods_listen_on(file: str) -> None:
    found = rendered(file)
    for each in found.every("Service"):
        pods = [pod for pod in deployed(found) if pod.name in selected(selector(each), found)]
        assert pods, each["metadata"]["name"]
        assert len({pod.component for pod in pods}) == 1
        for port in each["spec"]["ports"]:
            assert ports_of(pods, port["targetPort"]), port
    names = Counter(p["port"] for p in found.one("Service", "-ingress")["spec"]["ports"])
    assert max(names.values()) == 1


@pytest.mark.parametrize("file", FILES)
def test_listeners_of_the_configuration_are_the_ports_of_the_pod_and_the_service(file: str) -> None:
    found = rendered(file)
    (ingress,) = (pod for pod in deployed(found) if pod.component == "ingress")
    listening = {listener["port"] for listener in found.config()["ingress"]["listeners"]}
    open_ports = {name: port for name, port in ingress.ports.items() if name != "admin"}
    assert listening == set(open_ports.values())
    service = found.one("Service", "-ingress")["spec"]["ports"]
    assert {port["targetPort"] for port in service} == set(open_ports)


@pytest.mark.parametrize("file", FILES)
def test_probes_ask_the_admin_endpoint_where_the_service_has_it(file: str) -> None:
    found = rendered(file)
    admin = found.config()["admin"]
    assert admin["address"] in {"0.0.0.0", "::"}
    for pod in deployed(found):
        own = pod.env.get(f"POSTROAD_ADMIN__{pod.component.upper()}_PORT")
        port = int(own) if own else admin[ADMIN[pod.component]]
        assert pod.ports["admin"] == port
        paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
        for probe, path in paths.items():
            assert pod.main[probe]["httpGet"] == {"path": path, "port": "admin"}
        startup = pod.main["startupProbe"]
        assert startup["failureThreshold"] * startup["periodSeconds"] >= 60


def paths(value: Any) -> set[str]:
    return {each for each in walk(value) if isinstance(each, str) and each.startswith(f"{CONFIG}/")}


@pytest.mark.parametrize("file", FILES)
def test_every_file_that_the_configuration_names_is_mounted_where_it_is_read(file: str) -> None:
    found = rendered(file)
    config = found.config()
    for pod in deployed(found):
        mounted = {f"{CONFIG}/{path}" for path in pod.files()}
        needed = {f"{CONFIG}/postroad.yaml"} | paths(config["broker"])
        needed |= paths(config["ingress"]) if pod.component == "ingress" else set()
        assert mounted == needed
        assert pod.env["POSTROAD_CONFIG"] in mounted


@pytest.mark.parametrize("file", FILES)
def test_mounts_have_volumes_and_volumes_have_mounts(file: str) -> None:
    for pod in deployed(rendered(file)):
        volumes = {volume["name"] for volume in pod.spec["volumes"]}
        assert volumes == {mount["name"] for mount in pod.main["volumeMounts"]}


def configmaps_and_accounts(found: Rendered) -> dict[str, set[str]]:
    return {
        kind: {each["metadata"]["name"] for each in found.every(kind)}
        for kind in ("ConfigMap", "ServiceAccount")
    }


@pytest.mark.parametrize("file", FILES)
def test_what_pods_need_of_the_chart_is_in_it(file: str) -> None:
    found = rendered(file)
    ours = configmaps_and_accounts(found)
    for pod in deployed(found):
        account = pod.spec["serviceAccountName"]
        assert account in (ours["ServiceAccount"] or {"default"})
        for kind, name, _ in pod.files().values():
            assert kind == "secret" or name in ours["ConfigMap"]


def test_secrets_are_those_that_the_values_name() -> None:
    found = rendered("full")
    (ingress,) = (pod for pod in deployed(found) if pod.component == "ingress")
    secrets = {
        path: (name, key) for path, (kind, name, key) in ingress.files().items() if kind == "secret"
    }
    assert secrets == {
        "broker/username": ("rabbitmq-user", "user"),
        "broker/password": ("rabbitmq-user", "pass"),
        "broker/ca.crt": ("rabbitmq-ca", "ca.crt"),
        "tls/tls.crt": ("tls", "tls.crt"),
        "tls/tls.key": ("tls", "tls.key"),
        "tls/clients.crt": ("clients", "ca.crt"),
        "credentials.yaml": ("users", "users.yaml"),
        "jwks.json": ("jwks", "jwks.json"),
    }
    for pod in deployed(found):
        keys = {
            each["name"]: each["valueFrom"]["secretKeyRef"]
            for each in pod.main["env"]
            if "valueFrom" in each
        }
        assert keys == {
            "AWS_ACCESS_KEY_ID": {"name": "minio", "key": "accessKey"},
            "AWS_SECRET_ACCESS_KEY": {"name": "minio", "key": "secretKey"},
        }


def test_the_certificate_is_the_one_that_cert_manager_makes() -> None:
    found = rendered("cert-manager")
    certificate = found.one("Certificate")["spec"]
    (ingress,) = (pod for pod in deployed(found) if pod.component == "ingress")
    assert ingress.files()["tls/tls.crt"] == ("secret", certificate["secretName"], "tls.crt")
    assert certificate["dnsNames"] == ["mta.example.net", "smtp.example.net"]


def test_the_broker_of_the_operators_is_the_one_that_is_used() -> None:
    found = rendered("operator")
    cluster = found.one("RabbitmqCluster")["metadata"]["name"]
    for kind in ("Vhost", "User", "Permission"):
        each = found.one(kind)
        assert each["spec"]["rabbitmqClusterReference"] == {"name": cluster}
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert (
        found.one("RabbitmqCluster")["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    )
    assert found.one("Vhost")["spec"]["deletionPolicy"] == "retain", "mail lies in it"
    user = found.one("User")["metadata"]["name"]
    assert found.one("Permission")["spec"]["userReference"] == {"name": user}
    assert found.one("Permission")["spec"]["vhost"] == found.one("Vhost")["spec"]["name"]
    assert found.config()["broker"]["url"] == f"amqps://{cluster}.mail-ns.svc:5671/postroad"
    for pod in deployed(found):
        secret = f"{user}-user-credentials"
        assert pod.files()["broker/password"] == ("secret", secret, "password")


@pytest.mark.parametrize("file", FILES)
def test_monitors_select_every_pod_by_a_job_that_the_alerts_look_for(file: str) -> None:
    found = rendered(file)
    everything = sorted(pod.name for pod in deployed(found))
    for monitor in found.every("PodMonitor"):
        if monitor["metadata"]["name"].endswith("-rabbitmq"):
            continue
        assert selected(selector(monitor), found) == everything
        assert "postroad" in deployed(found)[0].labels[monitor["spec"]["jobLabel"]]
        assert monitor["spec"]["namespaceSelector"]["matchNames"] == ["mail-system"]
    for monitor in found.every("ServiceMonitor"):
        labels = selector(monitor).items()
        services = [s for s in found.every("Service") if labels <= s["metadata"]["labels"].items()]
        reached = [name for each in services for name in selected(selector(each), found)]
        assert sorted(reached) == everything, "each once"
        for each in services:
            assert "postroad" in each["metadata"]["labels"][monitor["spec"]["jobLabel"]]
            (endpoint,) = monitor["spec"]["endpoints"]
            assert [port["name"] for port in each["spec"]["ports"]] == [endpoint["port"]]


@pytest.mark.parametrize("file", FILES)
def test_pods_are_spread_among_those_of_their_own_rollout(file: str) -> None:
    for pod in deployed(rendered(file)):
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            assert selected(spread["labelSelector"]["matchLabels"], rendered(file)) == [pod.name]
            assert spread["matchLabelKeys"] == ["pod-template-hash"]
        if "topologySpreadConstraints" not in pod.spec:
            assert (file, pod.component) == ("full", "delivery")


def test_the_broker_is_scraped_for_what_the_boards_show_of_single_queues() -> None:
    found = rendered("operator")
    spec = found.one("PodMonitor", "-rabbitmq")["spec"]
    cluster = found.one("RabbitmqCluster")
    assert selector({"spec": spec}) == {"app.kubernetes.io/name": cluster["metadata"]["name"]}
    assert "jobLabel" not in spec, "its job is not one of ours"
    whole, detailed = spec["podMetricsEndpoints"]
    assert (whole["path"], detailed["path"]) == ("/metrics", "/metrics/detailed")
    assert detailed["params"] == {"family": ["queue_coarse_metrics", "queue_consumer_count"]}
    assert cluster["spec"]["tls"]["disableNonTLSListeners"]
    assert {each["port"] for each in spec["podMetricsEndpoints"]} == {"prometheus-tls"}


FAMILIES = {"IPv4": "0.0.0.0", "IPv6": "::"}


@pytest.mark.parametrize("file", FILES)
def test_a_service_has_the_families_that_somebody_listens_on(file: str) -> None:
    found = rendered(file)
    listening = {listener["address"] for listener in found.config()["ingress"]["listeners"]}
    for each in found.every("Service"):
        metrics = each["metadata"]["name"].endswith("-metrics")
        addresses = {found.config()["admin"]["address"]} if metrics else listening
        if len(addresses) == 1:
            assert each["spec"]["ipFamilyPolicy"] == "SingleStack"
            assert {FAMILIES[family] for family in each["spec"]["ipFamilies"]} == addresses
        else:
            assert each["spec"]["ipFamilyPolicy"] == "PreferDualStack"


def test_services_of_a_cluster_with_ipv6_only_have_no_other_family() -> None:
    found = render({**rendered("minimal").values, "listenAddresses": ["::"]})
    assert {str(each["spec"]["ipFamilies"]) for each in found.every("Service")} == {"['IPv6']"}


@pytest.mark.parametrize("file", sorted({*FILES} - {"relay-only"}))
def test_the_test_asks_what_the_program_understands_at_places_that_are_there(file: str) -> None:
    found = rendered(file)
    (pod,) = found.tests
    (container,) = pod["spec"]["containers"]
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    probe = command.commands[container["args"][0]]
    given = probe.make_context("probe", container["args"][1:]).params
    services = {each["metadata"]["name"]: each for each in found.every("Service")}
    for name in ("ingress", "router", "delivery"):
        host, _, port = given[name].removeprefix("http://").partition(":")
        assert int(port) in {each["port"] for each in services[host]["spec"]["ports"]}
    if file == "full":
        host, _, port = given["smtp"].partition(":")
        (target,) = (p for p in services[host]["spec"]["ports"] if p["port"] == int(port))
        assert (target["targetPort"], given["tls"]) == ("submissions", "implicit")
        (volume,) = pod["spec"]["volumes"]
        mounted = {f"{CONFIG}/{item['path']}" for item in volume["secret"]["items"]}
        assert {str(given["username_file"]), str(given["password_file"])} == mounted
        assert given["recipient"] == "blackhole@example.com"


def test_the_message_of_the_test_has_a_sender_that_nobody_gave() -> None:
    test = {"recipient": "a@example.com", "existingSecret": "probe", "verifyCertificate": False}
    (pod,) = render({**rendered("minimal").values, "test": test}).tests
    args = pod["spec"]["containers"][0]["args"]
    assert args[args.index("--from") + 1] == "postmaster@mta.example.net"
    assert "--no-verify" in args


def test_events_are_kept_by_one_pod_with_a_disk_of_its_own() -> None:
    found = rendered("event-store")
    (pod,) = kept(found)
    each = found.one("StatefulSet")
    assert each["spec"]["replicas"] == 1, "each would keep everything"
    assert selected(selector(each), found) == [pod.name]
    assert pod.main["args"] == ["event-store"]
    (claim,) = each["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    mounts = {mount["name"]: mount["mountPath"] for mount in pod.main["volumeMounts"]}
    assert str(pod.env["POSTROAD_EVENTS__STORE__PATH"]).startswith(f"{mounts['events']}/")
    assert set(mounts) == {"config", "tmp", "events"}
    assert set(pod.files()) == {"postroad.yaml", "broker/url"}
    assert found.config()["events"]["store"] == {"max_events": 20_000_000}
    assert rendered("minimal").every("StatefulSet") == []
    (policy,) = (p for p in found.every("NetworkPolicy") if selector(p) == selector(each))
    assert policy["spec"]["ingress"] == []
    ports = [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]]
    assert sorted(ports) == [53, 53, 5671, 5672]
