"""What scales what: rendered objects, and the query of a lane asked of Prometheus' own test tool."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.chart._tmp_render import render
from tests.support.exported import faults
from tests.support.promtool import promtool

LEAST: Mapping[str, Any] = {
    "hostname": "mta.example.net",
    "rabbitmq": {"external": {"existingSecret": "rabbitmq"}},
    "ingress": {"tls": {"existingSecret": "tls"}, "credentials": {"existingSecret": "users"}},
}
ADDRESS = {"keda": {"prometheusAddress": "http://prometheus:9090"}}
TARGET_AGE = 60


def scaled(**autoscaling: Any) -> dict[str, Any]:
    return {**LEAST, **ADDRESS, "pods": {"autoscaling": {"enabled": True, **autoscaling}}}


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """By the name of what is scaled."""
    return {
        document["spec"]["scaleTargetRef"]["name"]: document["spec"]
        for document in documents
        if document["kind"] == kind
    }


def without_replicas(documents: list[dict[str, Any]]) -> set[str]:
    """Deployments whose number somebody else decides."""
    return {
        document["metadata"]["name"]
        for document in documents
        if document["kind"] == "Deployment" and "replicas" not in document["spec"]
    }


EACH = {"mail-postroad-ingress", "mail-postroad-router", "mail-postroad-delivery-default"}


def test_nothing_is_scaled_unless_asked_for() -> None:
    documents = render(LEAST)
    assert of_kind(documents, "ScaledObject") == of_kind(documents, "HorizontalPodAutoscaler") == {}
    assert without_replicas(documents) == set()


@pytest.mark.parametrize(
    ("kind", "scaler", "other"),
    [
        ("keda", "ScaledObject", "HorizontalPodAutoscaler"),
        ("hpa", "HorizontalPodAutoscaler", "ScaledObject"),
    ],
)
def test_each_deployment_is_scaled_by_one_and_leaves_its_number_to_that(
    kind: str, scaler: str, other: str
) -> None:
    documents = render(scaled(type=kind))
    assert of_kind(documents, scaler).keys() == EACH == without_replicas(documents)
    assert of_kind(documents, other) == {}


def test_a_lane_and_a_component_may_be_scaled_differently() -> None:
    documents = render(
        {
            **LEAST,
            **ADDRESS,
            "router": {"autoscaling": {"enabled": True, "type": "hpa", "maxReplicas": 3}},
            "lanes": [
                {"name": "otp", "partitions": 4, "match": {"classes": ["transactional"]}},
                {"name": "bulk", "partitions": 12, "match": {"classes": ["bulk"]},
                 "delivery": {"autoscaling": {"enabled": True, "targetAgeSeconds": 900}}},
            ],
        }
    )  # fmt: skip
    (bulk,) = of_kind(documents, "ScaledObject").values()
    assert bulk["scaleTargetRef"]["name"] == "mail-postroad-delivery-bulk"
    assert bulk["maxReplicaCount"] == 12, "as many as partitions"
    assert "> bool 900" in bulk["triggers"][0]["metadata"]["query"]
    (router,) = of_kind(documents, "HorizontalPodAutoscaler").values()
    assert (router["minReplicas"], router["maxReplicas"]) == (2, 3)


def test_ingress_scales_on_cpu_and_on_sessions() -> None:
    keda = of_kind(render(scaled()), "ScaledObject")["mail-postroad-ingress"]
    assert [trigger["type"] for trigger in keda["triggers"]] == ["prometheus", "cpu"]
    assert keda["triggers"][0]["metadata"]["threshold"] == "500"
    values = scaled(type="hpa")
    values["ingress"] = {
        **LEAST["ingress"],
        "autoscaling": {"podMetric": "postroad_ingress_sessions", "sessions": 200},
    }
    cpu, sessions = of_kind(render(values), "HorizontalPodAutoscaler")["mail-postroad-ingress"][
        "metrics"
    ]
    assert cpu["resource"]["target"]["averageUtilization"] == 70
    assert sessions["pods"]["metric"]["name"] == "postroad_ingress_sessions"
    assert sessions["pods"]["target"]["averageValue"] == "200"


@pytest.mark.parametrize("name", sorted(EACH))
def test_going_down_takes_as_long_as_a_pod_may_drain_and_no_answer_takes_nothing_away(
    name: str,
) -> None:
    documents = render(scaled())
    scaler = of_kind(documents, "ScaledObject")[name]
    behavior = scaler["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (grace,) = (
        document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for document in documents
        if document["kind"] == "Deployment" and document["metadata"]["name"] == name
    )
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == max(300, grace)
    assert max(policy["value"] for policy in behavior["scaleDown"]["policies"]) <= 25
    assert scaler["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert scaler["fallback"]["replicas"] == scaler["minReplicaCount"] == 2
    first = scaler["triggers"][0]["metadata"]
    assert first["ignoreNullValues"] == "false", "or no answer would be a 0"


def test_behavior_can_be_overridden_in_part() -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5, "selectPolicy": "Min"}}
    scaler = of_kind(render(scaled(type="hpa", behavior=behavior)), "HorizontalPodAutoscaler")
    down = scaler["mail-postroad-router"]["behavior"]["scaleDown"]
    assert (down["stabilizationWindowSeconds"], down["selectPolicy"]) == (5, "Min")
    assert down["policies"]


def test_the_authentication_for_prometheus_is_given_to_each_query() -> None:
    values = scaled()
    values["keda"] = {**ADDRESS["keda"], "authenticationRef": {"name": "prometheus"}}
    for scaler in of_kind(render(values), "ScaledObject").values():
        assert scaler["triggers"][0]["authenticationRef"] == {"name": "prometheus"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**scaled(), "keda": {}}, "keda.prometheusAddress: is required"),
        (scaled(maxReplicas=1), "maxReplicas is less than minReplicas"),
        (scaled(maxReplicas=9), "a worker serves whole partitions, and the lane has 8"),
        (scaled(minReplicas=0), "minReplicas"),
        (scaled(type="both"), "type"),
        (
            {**scaled(type="hpa"), "router": {"resources": {"requests": {"cpu": None}}}},
            "router: resources.requests.cpu: is required",
        ),
    ],
)
def test_what_cannot_work_is_refused_and_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        render(values)


# Against the definition of KEDA's resource, as far as the chart uses it.

PLAIN = {"type": "object", "additionalProperties": {"type": "string"}}
RULES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "stabilizationWindowSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
        "selectPolicy": {"enum": ["Max", "Min", "Disabled"]},
        "policies": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type", "value", "periodSeconds"],
                "properties": {
                    "type": {"enum": ["Pods", "Percent"]},
                    "value": {"type": "integer", "minimum": 1},
                    "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
                },
            },
        },
    },
}
SCALED_OBJECT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["scaleTargetRef", "triggers"],
    "properties": {
        "scaleTargetRef": {"type": "object", "required": ["name"]},
        "pollingInterval": {"type": "integer"},
        "minReplicaCount": {"type": "integer"},
        "maxReplicaCount": {"type": "integer"},
        "fallback": {
            "type": "object",
            "additionalProperties": False,
            "required": ["failureThreshold", "replicas"],
            "properties": {
                "failureThreshold": {"type": "integer"},
                "replicas": {"type": "integer"},
                "behavior": {
                    "enum": [
                        "static",
                        "currentReplicas",
                        "currentReplicasIfHigher",
                        "currentReplicasIfLower",
                    ]
                },
            },
        },
        "advanced": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "horizontalPodAutoscalerConfig": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "behavior": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {"scaleUp": RULES, "scaleDown": RULES},
                        }
                    },
                }
            },
        },
        "triggers": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type", "metadata"],
                "properties": {
                    "type": {"enum": ["prometheus", "cpu"]},
                    "metricType": {"enum": ["AverageValue", "Value", "Utilization"]},
                    "metadata": PLAIN,
                    "authenticationRef": {"type": "object", "required": ["name"]},
                },
            },
        },
    },
}


def test_keda_knows_every_field_and_its_type() -> None:
    values = scaled()
    values["keda"] = {**ADDRESS["keda"], "authenticationRef": {"name": "prometheus"}}
    found = of_kind(render(values), "ScaledObject")
    for spec in found.values():
        jsonschema.validate(spec, SCALED_OBJECT)
    assert found.keys() == EACH


# What is asked of Prometheus.


def queries(values: dict[str, Any]) -> dict[str, str]:
    return {
        name: spec["triggers"][0]["metadata"]["query"]
        for name, spec in of_kind(render(values), "ScaledObject").items()
    }


def test_queries_name_what_the_code_exports_and_their_own_release() -> None:
    values = scaled()
    values["keda"] = {**ADDRESS["keda"], "matchers": 'pod=~"mail-.*"'}
    for query in queries(values).values():
        assert query.count('namespace="mail"') == query.count("{") == query.count('pod=~"mail-.*"')
        assert list(faults(query.replace(',pod=~"mail-.*"', ""))) == []


CASES: Mapping[str, tuple[Mapping[str, str], str | None]] = {
    "nothing to do: one": (
        {"useful_workers:a": "0x20", "members:a": "1x20", "oldest_message_seconds:a": "0x20"},
        "1",
    ),
    "the backlog of a throttled giant is old, and nobody is added": (
        {"useful_workers:a": "0.2x20", "members:a": "1x20", "oldest_message_seconds:a": "7000x20"},
        "1",
    ),
    "many slow sites and late: as many as are useful": (
        {
            "useful_workers:a": "1.4x20", "useful_workers:b": "1.3x20", "members:a": "2x20",
            "members:b": "2x20", "oldest_message_seconds:a": "5x20",
            "oldest_message_seconds:b": "90x20",
        },
        "3",
    ),
    "late: twice as many at most": (
        {"useful_workers:a": "7.5x20", "members:a": "1x20", "oldest_message_seconds:a": "90x20"},
        "2",
    ),
    "in time: no more than there are": (
        {"useful_workers:a": "7.5x20", "members:a": "1x20", "oldest_message_seconds:a": "59x20"},
        "1",
    ),
    "too many: what is useful, however late": (
        {
            "useful_workers:a": "0.6x20", "useful_workers:b": "0.6x20", "members:a": "5x20",
            "oldest_message_seconds:a": "900x20",
        },
        "2",
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


@pytest.mark.parametrize("pools", [1, 2])
def test_a_lane_gets_the_workers_that_are_useful_and_no_answer_is_no_number(
    tmp_path: Path, pools: int
) -> None:
    values = scaled(minReplicas=1)
    names = [{"name": f"pool{number}"} for number in range(pools)]
    values["lanes"] = [
        {"name": "default", "partitions": 8, **({"pools": names} if pools > 1 else {})}
    ]
    suffix = "-pool0" if pools > 1 else ""
    query = queries(values)[f"mail-postroad-delivery-default{suffix}"]
    document = {
        "evaluation_interval": "1m",
        "tests": [
            _case(name, query, series, wanted, pools) for name, (series, wanted) in CASES.items()
        ],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    code, text = promtool("test", "rules", "tests.yaml", cwd=tmp_path)
    assert code == 0, text


def _case(
    name: str, query: str, series: Mapping[str, str], wanted: str | None, pools: int
) -> dict[str, Any]:
    samples = [] if wanted is None else [{"labels": "{}", "value": float(wanted) / pools}]
    noise = {  # of another lane, and of another release
        'postroad_useful_workers{namespace="mail",lane="other",pod="z"}': "50x20",
        'postroad_useful_workers{namespace="test",lane="default",pod="z"}': "50x20",
    }
    own = {_series(key): values for key, values in series.items()}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": text} for key, text in (own | noise).items()],
        "promql_expr_test": [{"expr": query, "eval_time": "15m", "exp_samples": samples}],
    }


def _series(key: str) -> str:
    metric, _, pod = key.partition(":")
    kind = ',class="bulk"' if metric == "oldest_message_seconds" else ""
    return f'postroad_{metric}{{namespace="mail",lane="default"{kind},pod="{pod}"}}'
