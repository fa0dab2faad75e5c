"""What a rendered Deployment says of its pods, as values (pure).

Whatever the kubelet would read is read from the manifest: command, environment, files, probes, hook
and grace. `PodSpec.rewritten` is the only change: a process has no root and no address of its own.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Document = Mapping[str, Any]
Texts = Mapping[str, Mapping[str, str]]
"""Keys and texts, by the name of a ConfigMap or Secret."""

ENTRYPOINT = ("postroad",)
"""Of the image: what `args` are given to where a container has no `command`."""
_ANYWHERE = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d./])")


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP probe; times in seconds."""

    path: str
    port: int
    period: float
    timeout: float
    failures: int

    @classmethod
    def of(cls, probe: Document, ports: Mapping[str, int]) -> Probe:
        """As a container with these ports has it."""
        get = probe["httpGet"]
        port = get["port"]
        return cls(
            get["path"],
            ports[port] if isinstance(port, str) else port,
            probe.get("periodSeconds", 10),
            probe.get("timeoutSeconds", 1),
            probe.get("failureThreshold", 3),
        )


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What a pod runs. `files` are by their path in the container, `folders` are empty."""

    name: str
    labels: Mapping[str, str]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, str]
    folders: tuple[str, ...]
    ports: Mapping[str, int]
    startup: Probe
    liveness: Probe
    readiness: Probe
    pre_stop: float
    grace: float
    settle: float
    """`minReadySeconds` of the Deployment."""
    surge: tuple[int, int]
    """`maxSurge` and `maxUnavailable` of its rollouts."""

    def rewritten(self, root: str, address: str) -> PodSpec:
        """The same for a process whose mounts lie below `root` and whose address is `address`."""
        mounts = {*self.folders, *(path.rpartition("/")[0] for path in self.files)}
        paths = "|".join(map(re.escape, sorted(mounts, key=len, reverse=True)))
        inside = re.compile(rf"(?<![\w/])(?:{paths})(?=/|\b)")

        def rewrite(text: str) -> str:
            return _ANYWHERE.sub(address, inside.sub(lambda match: root + match[0], text))

        return replace(
            self,
            command=tuple(map(rewrite, self.command)),
            environment={name: rewrite(value) for name, value in self.environment.items()},
            files={f"{root}{path}": rewrite(text) for path, text in self.files.items()},
            folders=tuple(f"{root}{path}" for path in self.folders),
        )


def pod_spec(deployment: Document, documents: Iterable[Document], secrets: Texts) -> PodSpec:
    """Of a Deployment among the rendered `documents`; `secrets` are those that somebody else made.

    KeyError where it names something that is not there, as the kubelet would refuse it.
    """
    template = deployment["spec"]["template"]
    spec = template["spec"]
    (container,) = spec["containers"]
    texts = {**_texts(documents), **{("Secret", name): keys for name, keys in secrets.items()}}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    files: dict[str, str] = {}
    folders: list[str] = []
    for mount in container["volumeMounts"]:
        found = _files(volumes[mount["name"]], texts)
        if found is None:
            folders.append(mount["mountPath"])
        else:
            files |= {f"{mount['mountPath']}/{path}": text for path, text in found.items()}
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {"seconds": 0})
    return PodSpec(
        name=deployment["metadata"]["name"],
        labels=template["metadata"]["labels"],
        command=(*container.get("command", ENTRYPOINT), *container.get("args", ())),
        environment=dict(_environment(container, texts)),
        files=files,
        folders=tuple(folders),
        ports=ports,
        startup=Probe.of(container["startupProbe"], ports),
        liveness=Probe.of(container["livenessProbe"], ports),
        readiness=Probe.of(container["readinessProbe"], ports),
        pre_stop=sleep["seconds"],
        grace=spec["terminationGracePeriodSeconds"],
        settle=deployment["spec"].get("minReadySeconds", 0),
        surge=(rolling["maxSurge"], rolling["maxUnavailable"]),
    )


def _texts(documents: Iterable[Document]) -> dict[tuple[str, str], Mapping[str, str]]:
    found: dict[tuple[str, str], Mapping[str, str]] = {}
    for document in documents:
        if document["kind"] in {"ConfigMap", "Secret"}:
            keys = dict(document.get("data") or {})
            if document["kind"] == "Secret":
                keys = {key: base64.b64decode(text).decode() for key, text in keys.items()}
            keys |= document.get("stringData") or {}
            found[document["kind"], document["metadata"]["name"]] = keys
    return found


def _files(
    volume: Document, texts: Mapping[tuple[str, str], Mapping[str, str]]
) -> dict[str, str] | None:
    """The files of a volume by their path in it; None for an empty folder."""
    if "emptyDir" in volume:
        return None
    sources = volume["projected"]["sources"] if "projected" in volume else [volume]
    files: dict[str, str] = {}
    for source in sources:
        if "configMap" in source:
            kind, given = "ConfigMap", source["configMap"]
        else:
            kind, given = "Secret", source["secret"]
        keys = texts[kind, given.get("name") or given["secretName"]]
        items = given.get("items") or [{"key": key, "path": key} for key in keys]
        files |= {item["path"]: keys[item["key"]] for item in items}
    return files


def _environment(
    container: Document, texts: Mapping[tuple[str, str], Mapping[str, str]]
) -> Iterable[tuple[str, str]]:
    for variable in container.get("env", ()):
        source = variable.get("valueFrom")
        if source is None:
            yield variable["name"], variable.get("value", "")
        elif "secretKeyRef" in source:
            named = source["secretKeyRef"]
            yield variable["name"], texts["Secret", named["name"]][named["key"]]
        else:
            named = source["configMapKeyRef"]
            yield variable["name"], texts["ConfigMap", named["name"]][named["key"]]
