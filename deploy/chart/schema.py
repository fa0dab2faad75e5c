"""Writes values.schema.json: types from the defaults, the rest from the table below (pure).

`config` has the keys of the settings models, so a wrong one fails before anything is installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Union, get_args, get_origin

import yaml

from shared.settings.model import Settings
from shared.settings.section import Section

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
LIST_OF_TEXTS: Schema = {"type": "array", "items": TEXT}
ANY_OBJECT: Schema = {"type": "object"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
HIGH_PORT: Schema = {"type": "integer", "minimum": 1024, "maximum": 65535}
AMOUNT: Schema = {"type": ["integer", "string", "null"], "minimum": 0}
LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

LISTENER: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["enabled", "servicePort", "port", "tls", "auth"],
    "properties": {
        "enabled": {"type": "boolean"},
        "servicePort": PORT,
        "port": HIGH_PORT,
        "public": {"type": "boolean"},
        "tls": {"enum": ["none", "starttls", "implicit"]},
        "auth": {"enum": ["none", "optional", "required"]},
        "authWithoutTls": {"type": "boolean"},
        "relayNetworks": LIST_OF_TEXTS,
        "proxyNetworks": LIST_OF_TEXTS,
        "messageClass": {"enum": ["transactional", "bulk"]},
        "tenant": TEXT,
    },
}

SPECIAL: Mapping[str, Schema] = {
    "hostname": {"type": "string", "pattern": r"^([A-Za-z0-9-]+\.)*[A-Za-z0-9-]*$"},
    "listenAddresses": {**LIST_OF_TEXTS, "minItems": 1},
    "fullnameOverride": {"type": "string", "maxLength": 40, "pattern": f"^$|{LABEL}"},
    "commonLabels": TEXTS,
    "commonAnnotations": TEXTS,
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "serviceAccount.annotations": TEXTS,
    "rabbitmq.mode": {"enum": ["external", "operator"]},
    "rabbitmq.external.url": {"type": "string", "pattern": "^$|^amqps?://"},
    "rabbitmq.operator.resources": ANY_OBJECT,
    "contentStore.type": {"enum": ["none", "s3", "volume"]},
    "contentStore.inlineMaxBytes": {"type": ["integer", "null"], "minimum": 0, "maximum": 8 << 20},
    "contentStore.s3.endpoint": {"type": "string", "pattern": "^$|^https?://"},
    "pods.resources": ANY_OBJECT,
    "pods.terminationGracePeriodSeconds": {"type": ["integer", "null"], "minimum": 1},
    "pods.drainSeconds": {"type": "integer", "minimum": 1},
    "pods.pdb.maxUnavailable": AMOUNT,
    "pods.pdb.minAvailable": AMOUNT,
    "pods.probes.startup": ANY_OBJECT,
    "pods.probes.liveness": ANY_OBJECT,
    "pods.probes.readiness": ANY_OBJECT,
    "pods.podLabels": TEXTS,
    "pods.podAnnotations": TEXTS,
    "pods.nodeSelector": TEXTS,
    "pods.hostUsers": {"type": ["boolean", "null"]},
    "pods.dnsConfig": ANY_OBJECT,
    "pods.autoscaling.type": {"enum": ["hpa", "keda"]},
    "pods.autoscaling.minReplicas": {"type": "integer", "minimum": 1},
    "pods.autoscaling.maxReplicas": {"type": ["integer", "null"], "minimum": 1},
    "pods.autoscaling.cpuPercent": {"type": "integer", "minimum": 1},
    "pods.autoscaling.scaleUpSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
    "ingress.autoscaling.sessions": {"type": "integer", "minimum": 1},
    "router.autoscaling.waiting": {"type": "integer", "minimum": 1},
    "delivery.autoscaling.scaleUpSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
    "keda.prometheusAddress": {"type": "string", "pattern": "^$|^https?://"},
    "delivery.resources": ANY_OBJECT,
    "ingress.adminPort": HIGH_PORT,
    "router.adminPort": HIGH_PORT,
    "delivery.adminPort": HIGH_PORT,
    "ingress.listeners": {
        "type": "object",
        "propertyNames": {"pattern": LABEL, "maxLength": 15, "not": {"const": "admin"}},
        "additionalProperties": LISTENER,
    },
    "ingress.service.annotations": TEXTS,
    "ingress.publicService.type": {"enum": ["LoadBalancer", "NodePort"]},
    "ingress.publicService.annotations": TEXTS,
    "ingress.publicService.externalTrafficPolicy": {"enum": ["Local", "Cluster"]},
    "ingress.publicService.nodePorts": {"type": "object", "additionalProperties": PORT},
    "ingress.tls.certManager.privateKey": ANY_OBJECT,
    "networkPolicy.brokerPorts": {"type": "array", "items": PORT},
    "monitoring.podMonitor.labels": TEXTS,
    "monitoring.serviceMonitor.labels": TEXTS,
    "monitoring.prometheusRule.labels": TEXTS,
    "monitoring.dashboards.labels": TEXTS,
    "monitoring.dashboards.annotations": TEXTS,
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
}
"""What the default does not tell. An empty mapping takes anything, where nothing is said here."""


def schema_text(values: str) -> str:
    """The file, for the text of values.yaml."""
    return json.dumps(_chart(yaml.safe_load(values)), indent=2) + "\n"


def _chart(values: Mapping[str, Any]) -> Schema:
    schema = _object(values, "")
    parts = schema["properties"]
    pods = parts["pods"]["properties"]
    for component in ("ingress", "router", "delivery"):
        parts[component]["properties"] = _merged(pods, parts[component]["properties"])
    parts["config"] = _section(Settings)
    parts["lanes"] = {"type": "array", "items": _lane(parts["delivery"])}
    parts["global"] = ANY_OBJECT
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def _merged(under: Schema, over: Schema) -> Schema:
    """The properties of both; what has properties of its own is merged, all else is replaced."""
    merged = {**under, **over}
    for key in under.keys() & over.keys():
        if "properties" in under[key] and "properties" in over[key]:
            inner = _merged(under[key]["properties"], over[key]["properties"])
            merged[key] = {**under[key], "properties": inner}
    return merged


def _object(values: Mapping[str, Any], path: str) -> Schema:
    properties = {key: _of(value, f"{path}.{key}".lstrip(".")) for key, value in values.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _of(value: Any, path: str) -> Schema:
    if path in SPECIAL:
        return dict(SPECIAL[path])
    match value:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": 0}
        case str():
            return TEXT
        case list():
            return {"type": "array"}
        case {}:
            return _object(value, path) if value else ANY_OBJECT
    raise ValueError(f"{path}: say in SPECIAL what it may be")


def _lane(delivery: Schema) -> Schema:
    pool = {**delivery, "properties": {"name": _name(20), **delivery["properties"]}}
    lane = _section(Settings)["properties"]["lanes"]["items"]
    own = {"name": _name(40), "delivery": delivery}
    pools = {"type": "array", "minItems": 1, "items": {**pool, "required": ["name"]}}
    return {
        **lane,
        "required": ["name"],
        "properties": {**lane["properties"], **own, "pools": pools},
    }


def _name(longest: int) -> Schema:
    return {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$", "maxLength": longest}


def _section(section: type[Section]) -> Schema:
    """The keys of a section of the configuration; values are judged by postroad itself."""
    properties = {name: _field(field.annotation) for name, field in section.model_fields.items()}
    required = [name for name, field in section.model_fields.items() if field.is_required()]
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return schema | ({"required": required} if required else {})


def _field(annotation: Any) -> Schema:
    origin = get_origin(annotation)
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        annotation = next(part for part in get_args(annotation) if part is not type(None))
        origin = get_origin(annotation)
    if origin is tuple and _is_section(get_args(annotation)[0]):
        return {"type": "array", "items": _section(get_args(annotation)[0])}
    if _is_section(annotation):
        return _section(annotation)
    if annotation is bool:
        return {"type": "boolean"}
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return {"enum": [str(member) for member in annotation]}
    return {}


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
