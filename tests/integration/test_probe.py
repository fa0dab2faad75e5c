"""`postroad probe` as a process against the three services as processes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import trustme
import yaml

from tests.support.ingress import write_users
from tests.support.pipeline import ROOT, SERVICES, free_port
from tests.support.rig import Rig, running_rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 60
USERS = [{"username": "al", "password": "pass word", "tenant": "t"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("probe")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("mta.example.net")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    (folder / "user").write_text("al\n")
    (folder / "word").write_text("pass word\n")
    ingress = {
        "tls": {"certificate": str(folder / "tls.crt"), "key": str(folder / "tls.key")},
        "credentials_file": str(write_users(folder, USERS)),
        "listeners": [
            {"address": "127.0.0.1", "port": free_port(), "tls": tls, "auth": "required"}
            for tls in ("starttls", "implicit")
        ],
    }
    settings = {"ingress": ingress}
    async with running_rig(folder, f"embedded://{folder}/broker", settings) as running:
        yield running


async def probe(rig: Rig, *arguments: str) -> tuple[int, str]:
    """Exit code and what was said."""
    ports = rig.pipeline.admin_ports
    where = [part for name in SERVICES for part in (f"--{name}", f"http://localhost:{ports[name]}")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "services.cli", "probe", *where, *arguments,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("POSTROAD")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(LIMIT):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def submission(rig: Rig, tls: str = "starttls", **options: str) -> list[str]:
    listeners = yaml.safe_load(rig.pipeline.config.read_text("utf-8"))["ingress"]["listeners"]
    (port,) = (listener["port"] for listener in listeners if listener["tls"] == tls)
    folder = rig.pipeline.folder
    given = {
        "smtp": f"127.0.0.1:{port}",
        "tls": tls,
        "tls-name": "mta.example.net",
        "ca-file": str(folder / "ca.pem"),
        "username-file": str(folder / "user"),
        "password-file": str(folder / "word"),
        "from": "probe@sender.test",
        **options,
    }
    return [part for name, value in given.items() for part in (f"--{name}", value)]


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_message_is_followed_to_its_receiver(rig: Rig, tls: str) -> None:
    await rig.renew()
    recipient = rig.address()
    code, said = await probe(rig, *submission(rig, tls, to=recipient))

    (received,) = rig.received("one.test")
    assert received.recipients == (recipient,)
    mail_id = re.search(r"^accepted, queued as (\w+)$", said, re.MULTILINE)
    assert mail_id is not None, said
    assert mail_id[1] in rig.pipeline.log_text("delivery")
    assert said.splitlines()[:3] == [f"{name} is ready" for name in SERVICES]
    assert said.splitlines()[-2:] == ["mail was routed", "mail was tried"]
    assert code == 0


async def test_what_does_not_move_is_named(rig: Rig) -> None:
    await rig.renew()
    rig.pipeline.pause("router")
    try:
        # Its metrics cannot be had either; what is known is that nothing was routed.
        code, said = await probe(rig, "--timeout", "1s")
        assert (code, said.splitlines()[-1].partition(": ")[0]) == (1, "FAILED")
        assert "router is not ready" in said
    finally:
        rig.pipeline.resume("router")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tls-name": "other.example"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"password-file": "user"}, "535"),
        ({"to": "nobody"}, "--to: 'nobody' is not an address"),
        ({"smtp": "127.0.0.1:x"}, "--smtp: '127.0.0.1:x' is not host:port"),
        ({"password-file": "none"}, "--password-file: none: No such file or directory"),
    ],
)
async def test_what_is_refused_is_said(rig: Rig, options: dict[str, str], why: str) -> None:
    options = {"to": rig.address(), **options}
    if options.get("password-file") == "user":
        options["password-file"] = str(rig.pipeline.folder / "user")
    code, said = await probe(rig, *submission(rig, **options))

    assert why in said
    assert code == (2 if why.startswith("--") else 1)
    assert "pass word" not in said


async def test_without_a_message_it_only_looks(rig: Rig) -> None:
    await rig.renew()
    assert await probe(rig) == (0, "ingress is ready\nrouter is ready\ndelivery is ready\n")
    assert rig.received() == []
    assert await probe(rig, "--router", "localhost") == (
        2,
        "postroad: --router: 'localhost' is not http://host:port\n",
    )
