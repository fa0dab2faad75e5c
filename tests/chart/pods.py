"""The pods of a rendered chart, whatever makes them, and what selects them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.helm import Object, Rendered

CONFIG = "/etc/postroad"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod template: the name of what makes it, its labels, its annotations and its spec."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Object

    @property
    def main(self) -> Object:
        """Our container."""
        found: Object = self.spec["containers"][0]
        return found

    @property
    def component(self) -> str:
        """`ingress`, `router` or `delivery`."""
        return self.labels["app.kubernetes.io/component"]

    @property
    def env(self) -> dict[str, Any]:
        """Its plain variables."""
        return {each["name"]: each.get("value") for each in self.main.get("env", ())}

    @property
    def ports(self) -> dict[str, int]:
        """Its named ports."""
        return {port["name"]: port["containerPort"] for port in self.main["ports"]}

    def files(self) -> dict[str, tuple[str, str, str]]:
        """Path below /etc/postroad to kind, name and key of where the file comes from."""
        (volume,) = (each for each in self.spec["volumes"] if each["name"] == "config")
        return {
            item["path"]: (kind, source["name"], item["key"])
            for entry in volume["projected"]["sources"]
            for kind, source in entry.items()
            for item in source["items"]
        }


def deployed(found: Rendered) -> list[Pod]:
    """The pods of all Deployments."""
    return [_pod(each, each["spec"]["template"]) for each in found.every("Deployment")]


def every_pod(found: Rendered) -> list[Pod]:
    """Those, and the pods of `helm test`."""
    return [*deployed(found), *(_pod(each, each) for each in found.tests)]


def _pod(owner: Object, template: Object) -> Pod:
    metadata = template["metadata"]
    return Pod(
        owner["metadata"]["name"],
        metadata["labels"],
        metadata.get("annotations", {}),
        template["spec"],
    )


def selects(selector: Mapping[str, str], pod: Pod) -> bool:
    """Whether all labels of the selector are the pod's."""
    return selector.items() <= pod.labels.items()


def selected(selector: Mapping[str, str], found: Rendered) -> list[str]:
    """Names of what is selected."""
    return sorted(pod.name for pod in every_pod(found) if selects(selector, pod))


def walk(value: Any) -> Iterator[Any]:
    """The value and everything within."""
    yield value
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in within:
        yield from walk(each)
