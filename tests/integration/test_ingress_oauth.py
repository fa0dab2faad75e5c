"""AUTH OAUTHBEARER (RFC 7628) over real TLS, with tokens and keys made at run time."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from prometheus_client import REGISTRY

from services.ingress.oauth import load_keys
from services.ingress.renewal import watch_keys
from shared.settings.load import ConfigError
from tests.support.ingress import RunningIngress, ingress_settings, running_ingress
from tests.support.tokens import Issuer

ISSUER = Issuer()
USERS = [
    {"username": "al@b.test", "oauth": True, "tenant": "shop"},
    {"username": "bo", "certificates": ["bo.test"]},
]
FAILURE = {"status": "invalid_token"}


class Site:
    """Certificate, users and keys in a folder, and a client that trusts the certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = trustme.CA()
        leaf = authority.issue_cert("mta.test")
        leaf.private_key_pem.write_to_path(folder / "key")
        leaf.cert_chain_pems[0].write_to_path(folder / "crt")
        (folder / "users.yaml").write_text(yaml.safe_dump(USERS))
        self.keys = ISSUER.write(folder / "jwks.json")
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)

    def settings(self, tls: str = "implicit", **oauth: Any) -> Any:
        values = {"issuer": "https://id.test", "audience": "postroad", "jwks_file": str(self.keys)}
        return ingress_settings(
            self.folder,
            {"address": "127.0.0.1", "port": 0, "auth": "required", "tls": tls,
             "auth_without_tls": tls != "implicit"},
            tls={"certificate": str(self.folder / "crt"), "key": str(self.folder / "key")},
            credentials_file=str(self.folder / "users.yaml"),
            oauth={**values, "username_claim": "email", **oauth},
        )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
async def ingress(site: Site) -> AsyncIterator[RunningIngress]:
    async with running_ingress(site.folder, site.settings()) as running:
        running.service._authentication._throttle._first_delay = 0.0  # type: ignore[union-attr]
        yield running


def token(alg: str = "RS256", **claims: Any) -> bytes:
    common = {"iss": "https://id.test", "aud": "postroad", "exp": time.time() + 300}
    return ISSUER.token({**common, "email": "al@b.test", **claims}, alg)


def auth(token: bytes, authzid: str = "") -> bytes:
    header = f"n,a={authzid}," if authzid else "n,,"
    return base64.b64encode(header.encode() + b"\x01auth=Bearer " + token + b"\x01\x01")


class Client:
    """Says one line after the other."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self._port, self._context = port, context

    async def __aenter__(self) -> Client:
        name = "mta.test" if self._context else None
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._context, server_hostname=name
        )
        await self.reader.readline()
        self.offered = await self.say(b"EHLO client.example")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def say(self, line: bytes) -> str:
        """All lines of the answer."""
        self.writer.write(line + b"\r\n")
        answer = ""
        while not answer or answer.splitlines()[-1][3:4] == "-":
            answer += (await asyncio.wait_for(self.reader.readline(), 10)).decode()
        return answer.rstrip("\r\n")


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
async def test_a_token_logs_its_user_in(site: Site, ingress: RunningIngress, alg: str) -> None:
    succeeded = counted("success")
    async with Client(ingress.port, site.client) as client:
        assert "250-AUTH PLAIN LOGIN OAUTHBEARER\r\n" in client.offered
        answer = await client.say(b"AUTH OAUTHBEARER " + auth(token(alg), "al@b.test"))
        assert answer == "235 2.7.0 Authentication succeeded"
        assert (await client.say(b"MAIL FROM:<a@b.test>"))[:3] == "250"
        assert (await client.say(b"RCPT TO:<c@d.test>"))[:3] == "250"
        assert (await client.say(b"DATA"))[:3] == "354"
        assert (await client.say(b"From: a@b.test\r\n\r\n."))[:3] == "250"
    (mail,) = ingress.accepted()
    assert mail.tenant == "shop"
    assert counted("success") == succeeded + 1


def counted(result: str, mechanism: str = "OAUTHBEARER") -> float:
    labels = {"mechanism": mechanism, "result": result}
    found = REGISTRY.get_sample_value("postroad_ingress_auth_total", labels)
    assert found is not None
    return found


async def test_the_token_may_come_as_an_answer(site: Site, ingress: RunningIngress) -> None:
    async with Client(ingress.port, site.client) as client:
        assert await client.say(b"AUTH OAUTHBEARER") == "334 "
        assert (await client.say(auth(token())))[:3] == "235"


@pytest.mark.parametrize(
    "response",
    [
        auth(token(exp=time.time() - 100)),
        auth(token(aud="other")),
        auth(token(email="bo")),
        auth(token(email="nobody")),
        auth(token(email=["al@b.test"])),
        auth(token(), "bo"),
        auth(Issuer().token({"iss": "https://id.test"})),
        auth(token("PS256")),
        base64.b64encode(b"n,,\x01auth=\x01\x01"),
    ],
)
@pytest.mark.parametrize("dummy", [b"AQ==", b"*", b"", b"!"])
async def test_a_token_that_is_not_good_gets_a_challenge_and_then_535(
    site: Site, ingress: RunningIngress, response: bytes, dummy: bytes
) -> None:
    wrong = counted("wrong")
    async with Client(ingress.port, site.client) as client:
        challenge = await client.say(b"AUTH OAUTHBEARER " + response)
        assert challenge[:4] == "334 "
        assert json.loads(base64.b64decode(challenge[4:])) == FAILURE
        assert await client.say(dummy) == "535 5.7.8 Authentication credentials invalid"
        assert (await client.say(b"MAIL FROM:<a@b.test>"))[:3] == "530"
    assert counted("wrong") == wrong + 1


async def test_a_malformed_message_is_told_so(site: Site, ingress: RunningIngress) -> None:
    malformed = counted("malformed")
    async with Client(ingress.port, site.client) as client:
        line = b"AUTH OAUTHBEARER " + base64.b64encode(b"n,,auth=Bearer x\x01\x01")
        assert (await client.say(line))[:9] == "501 5.5.2"
    assert counted("malformed") == malformed + 1


async def test_tokens_never_cross_in_the_clear(site: Site) -> None:
    async with running_ingress(site.folder, site.settings(tls="none")) as ingress:
        unknown = counted("unknown_mechanism", "other")
        async with Client(ingress.port, None) as client:
            assert "250-AUTH PLAIN LOGIN\r\n" in client.offered
            assert (await client.say(b"AUTH OAUTHBEARER " + auth(token())))[:3] == "504"
        assert counted("unknown_mechanism", "other") == unknown + 1


async def test_the_tenant_may_come_with_the_token_and_a_session_ends_with_it(site: Site) -> None:
    settings = site.settings(tenant_claim="org", clock_skew="1s")
    async with running_ingress(site.folder, settings) as ingress:
        clock = [time.time()]
        ingress.service._authentication._clock = lambda: clock[0]  # type: ignore[union-attr]
        async with Client(ingress.port, site.client) as client:
            assert (await client.say(b"AUTH OAUTHBEARER " + auth(token())))[:3] == "334"
            assert (await client.say(b"AQ=="))[:3] == "535"
            assert (await client.say(b"AUTH OAUTHBEARER " + auth(token(org="acme"))))[:3] == "235"
            for line in (b"MAIL FROM:<a@b.test>", b"RCPT TO:<c@d.test>", b"DATA", b"\r\n."):
                assert (await client.say(line))[0] in "23"
            clock[0] += 302
            answer = await client.say(b"MAIL FROM:<a@b.test>")
            assert answer == "421 4.7.0 The user has changed, authenticate anew"
        assert [mail.tenant for mail in ingress.accepted()] == ["acme"]


async def test_new_keys_are_taken_up_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path = ISSUER.write(tmp_path / "jwks.json")
    taken = asyncio.Queue[int]()
    watch = watch_keys(path, lambda keys: taken.put_nowait(len(keys)), pause=0.005)
    watch.start()
    try:
        failed = reloads("failed")
        path.write_text("{}")
        async with asyncio.timeout(10):
            while reloads("failed") == failed:
                await asyncio.sleep(0.005)
            assert taken.empty()
            Issuer().write(path)
            assert await taken.get() == 5
    finally:
        await watch.stop()


def reloads(result: str) -> float:
    return REGISTRY.get_sample_value("postroad_jwks_reloads_total", {"result": result}) or 0.0


def test_a_key_set_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^ingress\.oauth\.jwks_file: .*nowhere: No such file"):
        load_keys(tmp_path / "nowhere")
    (tmp_path / "jwks").write_text("[]")
    with pytest.raises(ConfigError, match=r"^ingress\.oauth\.jwks_file: .*jwks: not a JSON Web"):
        load_keys(tmp_path / "jwks")
