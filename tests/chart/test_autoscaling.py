"""What scales what: rendered objects, and a lane's query asked of Prometheus' own test tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.exported import faults
from tests.support.helm import NEWEST, Object, Rendered, RenderError, render, rendered
from tests.support.kubernetes import faults as faults_of
from tests.support.promtool import promtool

LEAST: Mapping[str, Any] = {
    "hostname": "mta.example.net",
    "rabbitmq": {"external": {"existingSecret": "rabbitmq"}},
    "ingress": {"tls": {"existingSecret": "tls"}, "credentials": {"existingSecret": "users"}},
}
LANES = ["bulk-eu", "bulk-us", "default", "otp"]
EACH = {
    f"mail-postroad-{name}" for name in ("ingress", "router", *(f"delivery-{n}" for n in LANES))
}


def scaled(**autoscaling: Any) -> dict[str, Any]:
    address = {"prometheusAddress": "http://prometheus:9090"}
    scaling = {"enabled": True, "type": "keda", **autoscaling}
    return {**LEAST, "keda": address, "pods": {"autoscaling": scaling}}


def of_kind(found: Rendered, kind: str) -> dict[str, Object]:
    """What such an object says, by the name of what it scales."""
    specs = (each["spec"] for each in found.every(kind))
    return {spec["scaleTargetRef"]["name"]: spec for spec in specs}


def without_replicas(found: Rendered) -> set[str]:
    """Deployments whose number somebody else decides."""
    deployments = found.every("Deployment")
    return {each["metadata"]["name"] for each in deployments if "replicas" not in each["spec"]}


def test_nothing_is_scaled_unless_asked_for() -> None:
    found = rendered("minimal")
    assert of_kind(found, "ScaledObject") == of_kind(found, "HorizontalPodAutoscaler") == {}
    assert without_replicas(found) == set()


def test_each_deployment_is_scaled_by_keda_and_leaves_its_number_to_it() -> None:
    found = rendered("keda")
    assert of_kind(found, "ScaledObject").keys() == EACH == without_replicas(found)
    assert found.every("HorizontalPodAutoscaler") == []


def test_each_deployment_but_the_router_is_scaled_by_an_hpa() -> None:
    found = rendered("hpa")
    scaled = {"mail-postroad-ingress", "mail-postroad-delivery-default"}
    assert of_kind(found, "HorizontalPodAutoscaler").keys() == scaled == without_replicas(found)
    assert found.every("ScaledObject") == []


def test_a_lane_and_a_pool_may_be_scaled_differently() -> None:
    found = of_kind(rendered("keda"), "ScaledObject")
    most = {name: found[f"mail-postroad-delivery-{name}"]["maxReplicaCount"] for name in LANES}
    assert most == {"otp": 4, "bulk-eu": 6, "bulk-us": 4, "default": 8}, "partitions, or as given"
    assert found["mail-postroad-delivery-otp"]["minReplicaCount"] == 1
    assert "> bool 10" in query_of(found["mail-postroad-delivery-otp"])
    assert "> bool 60" in query_of(found["mail-postroad-delivery-default"])


def test_ingress_scales_on_cpu_and_on_sessions() -> None:
    keda = of_kind(rendered("keda"), "ScaledObject")["mail-postroad-ingress"]
    assert [trigger["type"] for trigger in keda["triggers"]] == ["prometheus", "cpu"]
    assert keda["triggers"][0]["metadata"]["threshold"] == "300"
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (3, 20)
    hpa = of_kind(rendered("hpa"), "HorizontalPodAutoscaler")["mail-postroad-ingress"]
    cpu, sessions = hpa["metrics"]
    assert cpu["resource"]["target"]["averageUtilization"] == 60
    assert sessions["pods"]["metric"]["name"] == "postroad_ingress_sessions"
    assert sessions["pods"]["target"]["averageValue"] == "200"


@pytest.mark.parametrize("name", sorted(EACH))
def test_going_down_takes_as_long_as_a_pod_may_drain_and_no_answer_takes_nothing_away(
    name: str,
) -> None:
    found = rendered("keda")
    scaler = of_kind(found, "ScaledObject")[name]
    grace = found.pod(name)["terminationGracePeriodSeconds"]
    down = scaler["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == max(300, grace)
    assert {(policy["type"], policy["value"]) for policy in down["policies"]} == {
        ("Pods", 1),
        ("Percent", 25),
    }
    assert scaler["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert scaler["fallback"]["replicas"] == scaler["minReplicaCount"]
    trigger = scaler["triggers"][0]
    assert trigger["metadata"]["ignoreNullValues"] == "false", "or no answer would be a 0"
    assert trigger["metricType"] == "AverageValue", "or KEDA would not fall back"
    assert trigger["authenticationRef"]["name"] == "prometheus"


def test_kubernetes_takes_the_behavior_that_keda_hands_on() -> None:
    hpa = json.loads(json.dumps(rendered("hpa").one("HorizontalPodAutoscaler", "-ingress")))
    for scaler in of_kind(rendered("keda"), "ScaledObject").values():
        hpa["spec"]["behavior"] = scaler["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert faults_of(hpa, f"1.{NEWEST}") == []
    hpa["spec"]["behavior"]["scaleDown"]["policy"] = []
    assert faults_of(hpa, f"1.{NEWEST}") != []


def test_behavior_can_be_overridden_in_part() -> None:
    hpa = of_kind(rendered("hpa"), "HorizontalPodAutoscaler")["mail-postroad-delivery-default"]
    down = hpa["behavior"]["scaleDown"]
    assert (down["stabilizationWindowSeconds"], down["selectPolicy"]) == (900, "Min")
    assert len(down["policies"]) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**scaled(), "keda": {}}, "keda.prometheusAddress: is required"),
        (
            {**scaled(), "keda": {"prometheusAddress": "prometheus:9090"}},
            "/keda/prometheusAddress",
        ),
        (scaled(maxReplicas=1), "maxReplicas is less than minReplicas"),
        (scaled(maxReplicas=9), "a worker serves whole partitions, and the lane has 8"),
        (scaled(minReplicas=0), "/pods/autoscaling/minReplicas"),
        (scaled(type="both"), "/pods/autoscaling/type"),
        (
            {**scaled(type="hpa"), "router": {"resources": {"requests": {"cpu": None}}}},
            "router: resources.requests.cpu: is required",
        ),
    ],
)
def test_what_cannot_work_is_refused_and_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RenderError, match=message):
        render(values)


# What is asked of Prometheus.


def query_of(scaled_object: Object) -> str:
    query: str = scaled_object["triggers"][0]["metadata"]["query"]
    return query


@pytest.mark.parametrize("name", sorted(EACH))
def test_a_query_names_what_the_code_exports_and_this_release(name: str) -> None:
    query = query_of(of_kind(rendered("keda"), "ScaledObject")[name])
    ours, more = 'namespace="mail-ns"', ',app_kubernetes_io_instance="mail"'
    assert query.count("{") == query.count(ours) == query.count(more) > 0
    assert list(faults(query.replace(more, ""))) == []


CASES: Mapping[str, tuple[Mapping[str, str], int | None]] = {
    "nothing to do: one": (
        {"useful_workers:a": "0x20", "members:a": "1x20", "oldest_message_seconds:a": "0x20"},
        1,
    ),
    "the backlog of a throttled giant is old, and nobody is added": (
        {"useful_workers:a": "0.2x20", "members:a": "1x20", "oldest_message_seconds:a": "7000x20"},
        1,
    ),
    "many slow sites and late: as many as are useful": (
        {
            "useful_workers:a": "1.4x20", "useful_workers:b": "1.3x20", "members:a": "2x20",
            "members:b": "2x20", "oldest_message_seconds:a": "5x20",
            "oldest_message_seconds:b": "90x20",
        },
        3,
    ),
    "late: twice as many at most": (
        {"useful_workers:a": "7.5x20", "members:a": "1x20", "oldest_message_seconds:a": "90x20"},
        2,
    ),
    "in time: no more than there are": (
        {"useful_workers:a": "7.5x20", "members:a": "1x20", "oldest_message_seconds:a": "59x20"},
        1,
    ),
    "too many: what is useful, however late": (
        {
            "useful_workers:a": "0.6x20", "useful_workers:b": "0.6x20", "members:a": "5x20",
            "oldest_message_seconds:a": "900x20",
        },
        2,
    ),
    "no worker, or none that is scraped: no answer": ({}, None),
    "one stale minute ago: no answer": (
        {
            "useful_workers:a": "3x5 stale", "members:a": "3x5 stale",
            "oldest_message_seconds:a": "90x5 stale",
        },
        None,
    ),
    "the age is not known: no answer": (
        {"useful_workers:a": "3x20", "members:a": "2x20"},
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lane", "pool", "pools"), [("default", "", 1), ("bulk", "-us", 2)])
def test_a_lane_gets_the_workers_that_are_useful_and_no_answer_is_no_number(
    tmp_path: Path, lane: str, pool: str, pools: int
) -> None:
    found = of_kind(rendered("keda"), "ScaledObject")
    query = query_of(found[f"mail-postroad-delivery-{lane}{pool}"])
    document = {
        "evaluation_interval": "1m",
        "tests": [
            _case(name, lane, query, series, wanted and float(wanted) / pools)
            for name, (series, wanted) in CASES.items()
        ],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    code, text = promtool("test", "rules", "tests.yaml", cwd=tmp_path)
    assert code == 0, text


LABELS = 'namespace="mail-ns",app_kubernetes_io_instance="mail"'


def _case(
    name: str, lane: str, query: str, series: Mapping[str, str], wanted: float | None
) -> dict[str, Any]:
    samples = [] if wanted is None else [{"labels": "{}", "value": wanted}]
    own = {_series(key, lane): values for key, values in series.items()}
    others = {
        f'postroad_useful_workers{{{LABELS},lane="another",pod="z"}}': "50x20",
        f'postroad_useful_workers{{namespace="test",lane="{lane}",pod="z"}}': "50x20",
    }
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": text} for key, text in (own | others).items()],
        "promql_expr_test": [{"expr": query, "eval_time": "15m", "exp_samples": samples}],
    }


def _series(key: str, lane: str) -> str:
    metric, _, pod = key.partition(":")
    kind = ',class="bulk"' if metric == "oldest_message_seconds" else ""
    return f'postroad_{metric}{{{LABELS},lane="{lane}"{kind},pod="{pod}"}}'
