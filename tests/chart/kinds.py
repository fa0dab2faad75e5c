"""What the chart says in other people's kinds: the part of each that it uses, strictly.

Written by hand from the custom resource definitions of cert-manager, KEDA, the Prometheus operator
and RabbitMQ's two operators. A field that is not here is an error: look it up before it is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
DURATION: Schema = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
GO_DURATION: Schema = {"type": "string", "pattern": "^([0-9]+(ms|[smh]))+$"}
NAMED: Schema


def mapping(*required: str, **properties: Schema) -> Schema:
    """A mapping with these keys and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }


def sequence(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


NAMED = mapping("name", name=TEXT)
ANY: Schema = {"type": "object"}
"""Kinds of Kubernetes itself, within; they are checked where they are known."""

_TLS = mapping(
    ca=mapping(secret=mapping("name", "key", name=TEXT, key=TEXT)),
    serverName=TEXT,
)
_ENDPOINT = mapping(
    port=TEXT,
    path=TEXT,
    interval=DURATION,
    scrapeTimeout=DURATION,
    scheme={"enum": ["http", "https"]},
    params={"type": "object", "additionalProperties": sequence(TEXT)},
    tlsConfig=_TLS,
)
_MONITOR: Mapping[str, Schema] = {
    "jobLabel": TEXT,
    "namespaceSelector": mapping(matchNames=sequence(TEXT)),
    "selector": mapping(matchLabels=TEXTS),
}
_RULE = {
    "oneOf": [
        mapping("record", "expr", record=TEXT, expr=TEXT, labels=TEXTS),
        mapping(
            "alert",
            "expr",
            alert=TEXT,
            expr=TEXT,
            **{"for": DURATION},
            keep_firing_for=DURATION,
            labels=TEXTS,
            annotations=TEXTS,
        ),
    ]
}
_CLUSTER = mapping("name", name=TEXT)

SPECS: Mapping[tuple[str, str], Schema] = {
    ("cert-manager.io/v1", "Certificate"): mapping(
        "issuerRef",
        "secretName",
        secretName=TEXT,
        issuerRef=mapping("name", name=TEXT, kind=TEXT, group=TEXT),
        dnsNames=sequence(TEXT),
        duration=GO_DURATION,
        renewBefore=GO_DURATION,
        privateKey=mapping(
            algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]},
            size=COUNT,
            rotationPolicy={"enum": ["Never", "Always"]},
        ),
        usages=sequence({"enum": ["server auth", "digital signature", "key encipherment"]}),
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): mapping(
        "selector",
        **_MONITOR,
        podTargetLabels=sequence(TEXT),
        podMetricsEndpoints=sequence(_ENDPOINT),
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): mapping(
        "selector",
        "endpoints",
        **_MONITOR,
        targetLabels=sequence(TEXT),
        endpoints=sequence(_ENDPOINT),
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): mapping(
        groups=sequence(
            mapping("name", name=TEXT, interval=DURATION, rules=sequence(_RULE)),
        )
    ),
    ("rabbitmq.com/v1beta1", "RabbitmqCluster"): mapping(
        replicas=COUNT,
        image=TEXT,
        persistence=mapping(storage=TEXT, storageClassName=TEXT),
        resources=ANY,
        affinity=ANY,
        tolerations=sequence(ANY),
        tls=mapping(secretName=TEXT, caSecretName=TEXT, disableNonTLSListeners=TRUTH),
        rabbitmq=mapping(additionalConfig=TEXT, additionalPlugins=sequence(TEXT)),
    ),
    ("rabbitmq.com/v1beta1", "Vhost"): mapping(
        "name",
        "rabbitmqClusterReference",
        name=TEXT,
        defaultQueueType={"enum": ["quorum", "classic", "stream"]},
        deletionPolicy={"enum": ["delete", "retain"]},
        rabbitmqClusterReference=_CLUSTER,
    ),
    ("rabbitmq.com/v1beta1", "User"): mapping(
        "rabbitmqClusterReference",
        tags=sequence(TEXT),
        importCredentialsSecret=NAMED,
        rabbitmqClusterReference=_CLUSTER,
    ),
    ("rabbitmq.com/v1beta1", "Permission"): mapping(
        "permissions",
        "rabbitmqClusterReference",
        "vhost",
        vhost=TEXT,
        userReference=NAMED,
        permissions=mapping("configure", "write", "read", configure=TEXT, write=TEXT, read=TEXT),
        rabbitmqClusterReference=_CLUSTER,
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): mapping(
        "scaleTargetRef",
        "triggers",
        scaleTargetRef=mapping("name", name=TEXT, kind=TEXT, apiVersion=TEXT),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        initialCooldownPeriod=COUNT,
        fallback=mapping(
            "failureThreshold",
            "replicas",
            failureThreshold=COUNT,
            replicas=COUNT,
            behavior={"enum": ["static", "currentReplicas", "currentReplicasIfHigher"]},
        ),
        advanced=mapping(
            restoreToOriginalReplicaCount=TRUTH,
            horizontalPodAutoscalerConfig=mapping(name=TEXT, behavior=ANY),
        ),
        triggers=sequence(
            mapping(
                "type",
                "metadata",
                type=TEXT,
                name=TEXT,
                metadata=TEXTS,
                metricType={"enum": ["AverageValue", "Value", "Utilization"]},
                useCachedMetrics=TRUTH,
                authenticationRef=mapping("name", name=TEXT, kind=TEXT),
            )
        ),
    ),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): mapping(
        secretTargetRef=sequence(
            mapping("parameter", "name", "key", parameter=TEXT, name=TEXT, key=TEXT)
        )
    ),
}


def schema_of(api_version: str, kind: str) -> Schema:
    """The schema of a whole object. Raises KeyError for a kind that nobody has looked up."""
    head = {"apiVersion": {"const": api_version}, "kind": {"const": kind}}
    metadata = mapping(
        "name", "namespace", name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS
    )
    spec = SPECS[api_version, kind]
    return mapping("apiVersion", "kind", "metadata", "spec", **head, metadata=metadata, spec=spec)
