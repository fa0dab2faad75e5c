"""Values that cannot work are refused with the value to change, before anything is installed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.helm import RenderError, laid_over, render, rendered


def refusal(values: dict[str, Any], base: str = "minimal") -> str:
    with pytest.raises(RenderError) as caught:
        render(laid_over(rendered(base).values, values))
    return str(caught.value)


LANE = {"name": "default"}
PUBLIC = {"publicService": {"enabled": True}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hostname": ""}, "hostname: is required"),
        (
            {"rabbitmq": {"external": {"existingSecret": ""}}},
            "rabbitmq.external.existingSecret: is required",
        ),
        (
            {"rabbitmq": {"external": {"url": "amqp://guest:guest@rabbit/"}}},
            "rabbitmq.external.url: has a user, which belongs in the secret",
        ),
        (
            {"rabbitmq": {"mode": "operator"}},
            "rabbitmq.external.existingSecret: has no meaning with rabbitmq.mode: operator",
        ),
        (
            {
                "rabbitmq": {
                    "mode": "operator",
                    "external": {"existingSecret": ""},
                    "operator": {"tlsSecret": "t"},
                }
            },
            "rabbitmq.caSecret: is required with rabbitmq.operator.tlsSecret",
        ),
        ({"contentStore": {"type": "s3"}}, "contentStore.s3.bucket: is required"),
        (
            {"contentStore": {"type": "volume"}},
            "contentStore.volume.existingClaim: is required with contentStore.type: volume: "
            "a claim that all pods can write at once (ReadWriteMany)",
        ),
        (
            {"config": {"ingress": {"max_message_bytes": 26214400}}},
            "config.ingress.max_message_bytes: is more than 983040, and contentStore.type is none",
        ),
        ({"config": {"lanes": [LANE]}}, "config.lanes: give lanes instead"),
        (
            {"config": {"shutdown_grace": "5m"}},
            "config.shutdown_grace: give drainSeconds of ingress, router or delivery instead",
        ),
        (
            {"config": {"ingress": {"listeners": [{"port": 25}]}}},
            "config.ingress.listeners: give ingress.listeners instead",
        ),
        (
            {"config": {"delivery": {"socks5": "gateway:1080"}}},
            "config.delivery.socks5: give delivery.socks5 instead",
        ),
        ({"config": {"broker": {"url": "amqp://h"}}}, "config.broker.url: give rabbitmq instead"),
        (
            {"ingress": {"tls": {"existingSecret": ""}}},
            "ingress.tls.existingSecret: is required by listeners with TLS",
        ),
        (
            {"ingress": {"tls": {"certManager": {"enabled": True}}}},
            "ingress.tls: existingSecret and certManager.enabled exclude each other",
        ),
        (
            {"ingress": {"tls": {"existingSecret": "", "certManager": {"enabled": True}}}},
            "ingress.tls.certManager.issuerRef.name: is required",
        ),
        (
            {"ingress": {"credentials": {"existingSecret": ""}}},
            "ingress.credentials.existingSecret: is required by listeners with AUTH",
        ),
        (
            {"ingress": {"oauth": {"enabled": True}}},
            "ingress.oauth: issuer, audience and jwksSecret are required",
        ),
        (
            {
                "ingress": {
                    "listeners": {
                        "submission": {"enabled": False},
                        "submissions": {"enabled": False},
                    }
                }
            },
            "ingress.listeners: none is enabled",
        ),
        (
            {"ingress": {"listeners": {"smtp": {"enabled": True}}}},
            "ingress.listeners.smtp: nobody may send here: give relayNetworks or auth",
        ),
        (
            {"ingress": {"listeners": {"submission": {"port": 2465}}}},
            "ingress.listeners.submissions.port: 2465 is taken by ingress.listeners.submission",
        ),
        (
            {"ingress": {"listeners": {"submission": {"port": 9101}}}},
            "ingress.listeners.submission.port: 9101 is taken by ingress.adminPort",
        ),
        (
            {"ingress": {"listeners": {"submission": {"servicePort": 465}}}},
            "ingress.listeners.submissions.servicePort: 465 is taken by",
        ),
        (
            {
                "ingress": {
                    **PUBLIC,
                    "listeners": {
                        "submission": {"public": False},
                        "submissions": {"public": False},
                    },
                }
            },
            "ingress.publicService.enabled: no listener is public",
        ),
        (
            {
                "ingress": {
                    "publicService": {"enabled": True, "externalTrafficPolicy": "Cluster"},
                    "listeners": {"submission": {"relayNetworks": ["10.0.0.0/8"]}},
                }
            },
            "ingress.listeners.submission.relayNetworks: would let the whole world relay",
        ),
        (
            {"lanes": [{"name": "a_b", "match": {"tenants": ["x"]}}, {"name": "a-b"}]},
            "lanes: two Deployments would have the name mail-postroad-delivery-a-b",
        ),
        (
            {"lanes": [{"name": "a" * 40, "pools": [{"name": "b" * 20}]}]},
            "has more than 63 characters",
        ),
        (
            {"ingress": {"terminationGracePeriodSeconds": 119}},
            "ingress: terminationGracePeriodSeconds is 119, "
            "but preStopSleepSeconds and drainSeconds need 120",
        ),
        (
            {"lanes": [{"name": "slow", "delivery": {"terminationGracePeriodSeconds": 30}}]},
            "slow: terminationGracePeriodSeconds is 30, "
            "but preStopSleepSeconds and drainSeconds need 660",
        ),
        (
            {
                "router": {"pdb": {"maxUnavailable": None}},
                "pods": {"pdb": {"maxUnavailable": None}},
            },
            "pdb: give minAvailable or maxUnavailable",
        ),
        (
            {"delivery": {"hostNetwork": True}, "lanes": [{"name": "bulk"}, LANE]},
            "default: adminPort 9103 is taken by bulk, which has hostNetwork, too",
        ),
        (
            {"monitoring": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
            "monitoring: podMonitor and serviceMonitor exclude each other",
        ),
        (
            {"test": {"recipient": "a@example.com"}},
            "test.existingSecret: is required, since the listener submission requires AUTH",
        ),
        (
            {"test": {"recipient": "a@example.com", "listener": "smtp"}},
            "test.listener: smtp is not enabled",
        ),
    ],
)
def test_a_combination_that_cannot_work_is_named(values: dict[str, Any], message: str) -> None:
    assert message in refusal(values)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"hostnam": "x"}, "'hostnam' not allowed"),
        ({"ingress": {"replica": 3}}, "'replica' not allowed"),
        ({"pods": {"pdb": {"max": 1}}}, "'max' not allowed"),
        ({"lanes": [{"name": "default", "partition": 3}]}, "'partition' not allowed"),
        ({"lanes": [{"match": {}}]}, "missing property 'name'"),
        ({"lanes": [{"name": "x", "pools": [{"replicas": 1}]}]}, "missing property 'name'"),
        ({"config": {"deliverey": {}}}, "'deliverey' not allowed"),
        ({"config": {"delivery": {"retries": 1}}}, "'retries' not allowed"),
        ({"config": {"limits": {"overrides": [{"connections": 1}]}}}, "missing property 'match'"),
        ({"ingress": {"listeners": {"smtp": {"port": 25}}}}, "minimum: got 25, want 1,024"),
        ({"ingress": {"listeners": {"admin": {"port": 2525}}}}, "admin"),
        ({"contentStore": {"type": "file"}}, "value must be one of 'none', 's3', 'volume'"),
        ({"image": {"digest": "sha1:00"}}, "image/digest"),
        ({"fullnameOverride": "x" * 41}, "fullnameOverride"),
    ],
)
def test_a_value_that_the_schema_does_not_know_is_named(values: dict[str, Any], where: str) -> None:
    assert where in refusal(values)


def test_global_values_of_a_parent_chart_are_let_in() -> None:
    assert render({**rendered("minimal").values, "global": {"registry": "x"}}).objects
