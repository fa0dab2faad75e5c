"""The chart and the image (deploy/Dockerfile) mean the same program, user, ports and places."""

from __future__ import annotations

import json
import re

from tests.chart.pods import CONFIG, deployed, every_pod
from tests.support.helm import CHART, laid_over, render, rendered

DOCKERFILE = (CHART.parents[1] / "deploy" / "Dockerfile").read_text("utf-8")


def said(instruction: str) -> str:
    """What the last such instruction of the image says."""
    found: list[str] = re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)
    return found[-1]


def test_the_user_is_the_same() -> None:
    for pod in every_pod(rendered("full")):
        context = pod.spec["securityContext"]
        assert said("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_arguments_are_for_the_entry_point() -> None:
    assert json.loads(said("ENTRYPOINT")) == ["postroad"]
    assert not any("command" in pod.main for pod in every_pod(rendered("full")))


def test_ports_are_those_that_the_image_tells_of() -> None:
    exposed = set(map(int, said("EXPOSE").split()))
    assert {port for pod in deployed(rendered("full")) for port in pod.ports.values()} == exposed


def test_the_configuration_is_where_the_image_looks_for_it() -> None:
    (path,) = set(re.findall(r"POSTROAD_CONFIG=(\S+)", DOCKERFILE))
    assert path == f"{CONFIG}/postroad.yaml"
    assert {pod.env["POSTROAD_CONFIG"] for pod in deployed(rendered("full"))} == {path}


def test_its_name_is_the_same() -> None:
    (name,) = set(re.findall(r"-t (\S+) \.", DOCKERFILE))
    image: str = deployed(rendered("minimal"))[0].main["image"]
    assert image.startswith(f"{name}:")


def test_an_upgrade_may_go_in_steps() -> None:
    steps = {"router": {"imageTag": "0.0.9"}, "ingress": {"imageTag": "0.0.9"}}
    for file in ("minimal", "full"):
        found = render(laid_over(rendered(file).values, steps))
        for pod in deployed(found):
            old = pod.component in steps
            assert pod.main["image"].endswith(":0.0.9") == old
            assert old or pod.main["image"] in {p.main["image"] for p in deployed(rendered(file))}
