"""No pod may more than it needs, and no secret is where it does not belong."""

from __future__ import annotations

import re

import pytest

from tests.chart.pods import CONFIG, Pod, deployed, every_pod
from tests.support.helm import Object, render, rendered, values_files

FILES = values_files()
RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip


def containers(pod: Pod) -> list[Object]:
    return [*pod.spec.get("initContainers", ()), *pod.spec["containers"]]


def breaches(pod: Pod) -> list[str]:
    """What the pod security standard `restricted` would refuse (and `baseline` below it)."""
    spec, context = pod.spec, pod.spec["securityContext"]
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    if not context.get("runAsNonRoot") or context.get("runAsUser", 1) == 0:
        found.append("runAsNonRoot")
    if context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        found.append("seccompProfile")
    for volume in spec.get("volumes", ()):
        found += [kind for kind in volume.keys() - {"name"} if kind not in RESTRICTED_VOLUMES]
    for container in containers(pod):
        own = container["securityContext"]
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append("privileges")
        if own["capabilities"].get("drop") != ["ALL"] or own["capabilities"].get("add"):
            found.append("capabilities")
        if any("hostPort" in port for port in container.get("ports", ())):
            found.append("hostPort")
    return found


@pytest.mark.parametrize("file", FILES)
def test_every_pod_passes_the_restricted_standard(file: str) -> None:
    for pod in every_pod(rendered(file)):
        expected = ["hostNetwork"] if pod.spec.get("hostNetwork") else []
        assert breaches(pod) == expected, pod.name
        if expected:
            assert (file, pod.component) == ("egress-hostnetwork", "delivery")


@pytest.mark.parametrize("file", FILES)
def test_every_pod_is_our_user_on_a_root_that_it_cannot_write(file: str) -> None:
    for pod in every_pod(rendered(file)):
        context = pod.spec["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (10001,) * 3
        assert pod.main["securityContext"]["readOnlyRootFilesystem"] is True
        for container in containers(pod):
            assert container["resources"]["limits"]["memory"], pod.name
            assert container["resources"]["requests"], pod.name


@pytest.mark.parametrize("file", FILES)
def test_no_pod_is_given_a_token_or_variables_of_services(file: str) -> None:
    found = rendered(file)
    for pod in every_pod(found):
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["enableServiceLinks"] is False
    for account in found.every("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    kinds = {each["kind"] for each in found.objects}
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


@pytest.mark.parametrize("file", FILES)
def test_the_chart_makes_no_secret_and_shows_none(file: str) -> None:
    found = rendered(file)
    assert found.every("Secret") == []
    assert not re.search(r"amqps?://[^/\s]*@", found.manifest)
    for pod in every_pod(found):
        wrong = [n for n in pod.env if re.search("PASSWORD|SECRET|URL", n) and pod.env[n]]
        assert wrong == []


@pytest.mark.parametrize("file", FILES)
def test_keys_and_passwords_are_files_that_only_we_can_read(file: str) -> None:
    for pod in deployed(rendered(file)):
        (volume,) = (each for each in pod.spec["volumes"] if each["name"] == "config")
        assert volume["projected"]["defaultMode"] == 0o440
        (mount,) = (each for each in pod.main["volumeMounts"] if each["name"] == "config")
        assert mount == {"name": "config", "mountPath": CONFIG, "readOnly": True}
        others = {"tls/tls.key", "credentials.yaml", "jwks.json"} & pod.files().keys()
        assert not others or pod.component == "ingress", "the rest needs none of them"


@pytest.mark.parametrize("file", FILES)
def test_no_port_needs_a_privilege(file: str) -> None:
    for pod in deployed(rendered(file)):
        assert all(1024 <= port <= 65535 for port in pod.ports.values()), pod.ports


def test_without_a_store_a_content_cannot_be_written_where_it_would_be_lost() -> None:
    for pod in deployed(rendered("minimal")):
        (mount,) = (each for each in pod.main["volumeMounts"] if each["name"] == "content")
        assert mount["readOnly"] is True
    for pod in deployed(rendered("operator")):
        (volume,) = (each for each in pod.spec["volumes"] if each["name"] == "content")
        assert volume["persistentVolumeClaim"] == {"claimName": "contents"}
        (mount,) = (each for each in pod.main["volumeMounts"] if each["name"] == "content")
        assert not mount.get("readOnly")


def test_values_that_are_false_or_nothing_win_over_the_default() -> None:
    values = dict(rendered("minimal").values)
    values["pods"] = {"preStopSleepSeconds": 5, "pdb": {"enabled": True}}
    values["router"] = {"preStopSleepSeconds": 0, "pdb": {"enabled": False}, "hostUsers": False}
    values["lanes"] = [{"name": "default", "delivery": {"dnsConfig": {"options": []}}}]
    found = render(values)
    (router,) = (pod for pod in deployed(found) if pod.component == "router")
    assert "lifecycle" not in router.main
    assert router.spec["hostUsers"] is False
    assert [each["metadata"]["name"] for each in found.every("PodDisruptionBudget")] == [
        "mail-postroad-delivery-default",
        "mail-postroad-ingress",
    ]
    (delivery,) = (pod for pod in deployed(found) if pod.component == "delivery")
    assert delivery.spec["dnsConfig"] == {"options": []}
    assert delivery.main["lifecycle"]["preStop"]["sleep"]["seconds"] == 5
