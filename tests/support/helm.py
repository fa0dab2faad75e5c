"""Renders the chart with Helm's own engine, without a cluster.

The engine (helm-sdkpy, `scripts/install_helm.sh`) installs into a server of a few lines, which
tells what APIs there are and sends every object back. Skipped without the engine, a failure under
CI.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "helm" / "postroad"
CI = CHART / "ci"
NEWEST = 37

Object = dict[str, Any]

CORE: Mapping[str, Sequence[str]] = {
    "v1": ("ConfigMap", "Pod", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment", "StatefulSet"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
}
CUSTOM: Mapping[str, Sequence[str]] = {
    "cert-manager.io/v1": ("Certificate",),
    "keda.sh/v1alpha1": ("ScaledObject", "TriggerAuthentication"),
    "monitoring.coreos.com/v1": ("PodMonitor", "PrometheusRule", "ServiceMonitor"),
    "rabbitmq.com/v1beta1": ("Permission", "Policy", "Queue", "RabbitmqCluster", "User", "Vhost"),
}
EVERYTHING = {**CORE, **CUSTOM}


class RenderError(Exception):
    """Helm refuses the values; the text is what it says."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What Helm would install; `tests` are the pods of `helm test`."""

    manifest: str
    objects: tuple[Object, ...]
    tests: tuple[Object, ...]
    notes: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def every(self, kind: str) -> list[Object]:
        """All objects of a kind, in the order of their names."""
        found = [each for each in self.objects if each["kind"] == kind]
        return sorted(found, key=lambda each: str(each["metadata"]["name"]))

    def one(self, kind: str, ending: str = "") -> Object:
        """The only object of that kind whose name ends so."""
        found = [e for e in self.every(kind) if e["metadata"]["name"].endswith(ending)]
        assert len(found) == 1, [each["metadata"]["name"] for each in found]
        return found[0]

    def pod(self, ending: str) -> Object:
        """The pod's spec of the only Deployment whose name ends so."""
        spec: Object = self.one("Deployment", ending)["spec"]["template"]["spec"]
        return spec

    def config(self) -> Object:
        """postroad.yaml, as it is in the ConfigMap."""
        found = [
            each for each in self.every("ConfigMap") if "postroad.yaml" in each.get("data", ())
        ]
        assert len(found) == 1
        loaded: Object = yaml.safe_load(found[0]["data"]["postroad.yaml"])
        return loaded


def values_files() -> list[str]:
    """Names of the values files that have to render."""
    return sorted(path.name.removesuffix("-values.yaml") for path in CI.glob("*-values.yaml"))


@cache
def rendered(name: str) -> Rendered:
    """What the values file of that name gives, rendered once."""
    return render(yaml.safe_load((CI / f"{name}-values.yaml").read_text("utf-8")))


def laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `under` in which `over` has its say, as with a second `-f`."""
    both = {**under}
    for key, value in over.items():
        inner = both.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            both[key] = laid_over(inner, value)
        else:
            both[key] = value
    return both


def render(
    values: Mapping[str, Any],
    *,
    release: str = "mail",
    namespace: str = "mail-ns",
    apis: Mapping[str, Sequence[str]] = EVERYTHING,
    minor: int = NEWEST,
) -> Rendered:
    """Render the chart for Kubernetes 1.`minor` with these APIs. Raises `RenderError`."""
    with _cluster(apis, minor) as kubeconfig:
        installed = asyncio.run(_install(values, release, namespace, kubeconfig))
    hooks = [yaml.safe_load(hook["manifest"]) for hook in installed.get("hooks") or ()]
    documents = yaml.safe_load_all(installed["manifest"])
    return Rendered(
        installed["manifest"],
        tuple(each for each in documents if each is not None),
        tuple(hooks),
        installed["info"]["notes"],
        values,
    )


def lint() -> list[str]:
    """What `helm lint` says of the chart."""
    sdk = engine()
    said = asyncio.run(sdk.Lint(sdk.Configuration("default")).run(str(CHART)))
    return [str(each) for key in ("Messages", "Errors") for each in said[key] or ()]


def engine() -> Any:
    """The module helm_sdkpy; skips the test without it, or fails it under CI=true."""
    try:
        import helm_sdkpy
    except ImportError:
        why = "helm-sdkpy is missing (scripts/install_helm.sh .venv)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{why}, and CI=true allows no skipped tests")
        pytest.skip(f"*** THE CHART IS NOT TESTED: {why} ***")
    return helm_sdkpy


async def _install(
    values: Mapping[str, Any], release: str, namespace: str, kubeconfig: Path
) -> dict[str, Any]:
    sdk = engine()
    configuration = sdk.Configuration(namespace, kubeconfig=str(kubeconfig))
    install = sdk.Install(configuration)
    try:
        done: dict[str, Any] = await install.run(release, str(CHART), values=values, wait=False)
    except sdk.InstallError as error:
        raise RenderError(" ".join(str(error).split())) from None
    return done


@contextmanager
def _cluster(apis: Mapping[str, Sequence[str]], minor: int) -> Iterator[Path]:
    server = _Server(apis, minor)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            kubeconfig = Path(folder, "kubeconfig")
            kubeconfig.write_text(json.dumps(server.kubeconfig()), encoding="utf-8")
            yield kubeconfig
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, apis: Mapping[str, Sequence[str]], minor: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = dict(_discovery(apis))
        version = f"v1.{minor}.0"
        self.answers["version"] = {"major": "1", "minor": str(minor), "gitVersion": version}

    def kubeconfig(self) -> Object:
        place = {"server": f"http://127.0.0.1:{self.server_port}"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": place}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }


def _discovery(apis: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Object]]:
    """What a client asks before it does anything, by the path of the question."""
    yield "api", {"kind": "APIVersions", "versions": ["v1"]}
    groups = []
    for name, kinds in apis.items():
        group, _, version = name.rpartition("/")
        entry = {"groupVersion": name, "version": version}
        if group:
            groups.append({"name": group, "versions": [entry], "preferredVersion": entry})
        yield (
            f"apis/{name}" if group else "api/v1",
            {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": name,
                "resources": [_resource(kind) for kind in kinds],
            },
        )
    yield "apis", {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _resource(kind: str) -> Object:
    lower = kind.lower()
    plural = f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}s"
    verbs = ["create", "delete", "get", "list", "patch", "update"]
    return {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms for an acknowledgement
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        if path in self.server.answers:
            self._answer(200, self.server.answers[path])
        elif path.endswith("/secrets"):
            self._answer(200, {"kind": "SecretList", "apiVersion": "v1", "metadata": {}})
        else:
            self._answer(404, {"kind": "Status", "reason": "NotFound", "code": 404})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(201, self.headers["Content-Type"], body)

    do_PUT = do_PATCH = do_POST  # noqa: N815

    def _answer(self, status: int, document: Object) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
