"""Plays deploy/compose.yaml without Docker and writes down what it saw.

    unshare --mount --pid --fork --mount-proc python -m tests.support.playground BASE FOLDER

The three services run from the image that deploy/Dockerfile describes (`tests.support.layers`), in
containers as `tests.support.container` makes them, with the command, environment, configuration,
secrets and users of the compose file. Nothing in these is changed: the names `rabbitmq`, `minio`
and `receiver` are answered by a name server here, in a network of its own, where every port is
free. RabbitMQ and Prometheus are those of Debian, with the compose file's configuration; a server
that speaks S3 stands for MinIO, and the demo's receiver for Mailpit.

FOLDER/seen.json has the facts; tests judge them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.demo.receiver import Receiver
from tests.support.compose import ROOT, mounts, services
from tests.support.container import Containers, Spec, of_service
from tests.support.dockerfile import Config
from tests.support.layers import BASE_PATH, command
from tests.support.namespace import leave_network
from tests.support.pipeline import eventually, http_get
from tests.support.play import PROBE, SINGLE, ask, large, plain, submitted
from tests.support.rabbitmq import RabbitNode
from tests.support.surroundings import BUCKET, rabbitmq, surroundings

PORTS = {"ingress": 9101, "router": 9102, "delivery": 9103}
PROMETHEUS_PORT = 9090
Seen = dict[str, Any]


class Playground:
    """The containers of one play, and what was seen of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: Seen = {}
        described = json.loads((folder / "image" / "image.json").read_text("utf-8"))
        self.image = Config(**described["config"])
        self._layers = [Path(each) for each in described["layers"]]
        self._containers = Containers(folder / "containers")
        self._running: dict[str, asyncio.subprocess.Process] = {}
        (folder / "containers").mkdir()
        (folder / "containers" / "resolv.conf").write_text("nameserver 127.0.0.1\n")

    def spec(self, service: str) -> Spec:
        """A service of the compose file, with its volumes made."""
        found = of_service(service, self._layers, self.image)
        return self.with_volumes(found)

    def with_volumes(self, spec: Spec) -> Spec:
        """Make its named volumes."""
        for mount in spec.mounts:
            if mount.volume:
                self._containers.make_volume(mount.volume, mount.target, spec.layers, spec.user)
        return spec

    async def start(self, spec: Spec) -> None:
        """Start it and leave it running."""
        log = self.folder / f"{spec.name}.log"
        self._running[spec.name] = await self._containers.start(spec, log)

    async def run(self, spec: Spec) -> tuple[int, str]:
        """Run it to its end; exit code, and what it said."""
        return await self._containers.run(spec)

    async def inside(self, spec: Spec, *arguments: str) -> tuple[int, str]:
        """What `docker exec` would do: another program in a container like that one."""
        return await self.run(replace(spec, arguments=arguments))

    async def ready(self, name: str, port: int, path: str = "/readyz") -> None:
        """Return once it says so; AssertionError with its log if it ends before."""

        async def is_ready() -> bool:
            status = self._running[name].returncode
            assert status is None, f"{name} ended with {status}: {self.log(name)[-3000:]}"
            with contextlib.suppress(OSError):
                return (await http_get(port, path))[0] == 200
            return False

        await eventually(is_ready, f"{name} is ready; {self.log(name)[-2000:]}", 60)

    def log(self, name: str) -> str:
        """All it wrote."""
        return (self.folder / f"{name}.log").read_text("utf-8", errors="replace")

    async def stop(self, name: str) -> int:
        """SIGTERM; the exit code."""
        process = self._running.pop(name)
        process.terminate()
        async with asyncio.timeout(40):
            return await process.wait()

    async def abort(self) -> None:
        """Kill whatever still runs."""
        for process in self._running.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


async def play(ground: Playground, node: RabbitNode) -> None:
    """From the first start to the last exit."""
    seen = ground.seen
    async with surroundings() as receiver:
        prometheus = asyncio.create_task(start_prometheus(ground))
        seen["certificate"] = await ground.run(ground.spec("certificate"))
        ingress = ground.spec("ingress")
        seen["check_config"], seen["absent"] = await asyncio.gather(
            ground.inside(ingress, "postroad", "check-config"),
            ground.inside(ingress, *healthcheck("ingress")),
        )
        await ground.start(ground.spec("events"))
        await ground.start(ingress)
        await ground.ready("ingress", PORTS["ingress"])
        seen["replies"] = [await asyncio.to_thread(each) for each in (plain, submitted, large)]
        seen["stored"] = await asyncio.to_thread(ask, f"{BUCKET}?list-type=2")
        seen["inside"] = await ground.inside(ingress, "python", "-c", PROBE)
        for name in ("router", "delivery"):
            await ground.start(ground.spec(name))
        for name in ("router", "delivery"):
            await ground.ready(name, PORTS[name])
        await receiver.wait_for(len(seen["replies"]), 60)
        seen["received"] = [
            [one.reverse_path, list(one.recipients), len(one.content)] for one in receiver.messages
        ]
        *checks, seen["image_health"] = await asyncio.gather(
            *(ground.inside(ground.spec(name), *healthcheck(name)) for name in PORTS),
            ground.inside(ingress, *ground.image.healthcheck),
        )
        seen["health"] = dict(zip(PORTS, checks, strict=True))
        mail = seen["replies"][0].split()[-1]
        seen["story"] = await ground.inside(ground.spec("events"), "postroad", "message", mail)
        await prometheus
        seen["targets"] = await targets()
        seen["queues"] = await asyncio.to_thread(node.ctl, "list_queues", "name", "messages")
        seen["users"] = await asyncio.to_thread(node.ctl, "list_users")
        stopped = (*PORTS, "prometheus", "events")
        exits = await asyncio.gather(*map(ground.stop, stopped))
        seen["exits"] = dict(zip(stopped, exits, strict=True))
        seen["left"] = await asyncio.to_thread(ask, f"{BUCKET}?list-type=2")
        await play_alone(ground, receiver)
    seen["logs"] = {name: ground.log(name) for name in PORTS}


def healthcheck(name: str) -> list[str]:
    """What Docker would run."""
    kind, *arguments = services()[name]["healthcheck"]["test"]
    assert kind == "CMD"
    return [str(one) for one in arguments]


async def start_prometheus(ground: Playground) -> None:
    """Debian's, where the image's would be."""
    spec = of_service("prometheus", [Path("/")], Config(environment={"PATH": BASE_PATH}))
    spec = replace(spec, arguments=["prometheus", *spec.arguments], user="65534:65534")
    await ground.start(ground.with_volumes(spec))
    await ground.ready("prometheus", PROMETHEUS_PORT, "/-/ready")


async def targets() -> Seen:
    """The health of every target by its job, once all have been asked; and the rules."""
    found: dict[str, str] = {}

    async def asked() -> bool:
        text = await asyncio.to_thread(ask, f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/targets")
        answer = json.loads(text)
        active = answer["data"]["activeTargets"]
        found.update({one["labels"]["job"]: one["health"] for one in active})
        return len(found) == 5 and all(health != "unknown" for health in found.values())

    await eventually(asked, f"every target was asked: {found}", 60)
    return found


async def play_alone(ground: Playground, receiver: Receiver) -> None:
    """The image by itself, `postroad run` with queues and contents in its volume."""
    folder = ground.folder / "single"
    folder.mkdir()
    (folder / "postroad.yaml").write_text(SINGLE)
    config = replace(mounts("ingress")[0], source=folder)
    data = replace(config, source=Path(), volume="alone", target=ground.image.volumes[0])
    spec = replace(
        ground.spec("ingress"),
        name="alone",
        arguments=[*ground.image.entrypoint, "run"],
        environment=ground.image.environment,
        mounts=[config, replace(data, read_only=False)],
    )
    await ground.start(ground.with_volumes(spec))
    for name, port in PORTS.items():
        await ground.ready("alone", port)
        assert name
    had = len(receiver.messages)
    ground.seen["alone"] = [await asyncio.to_thread(plain)]
    await receiver.wait_for(had + 1, 60)
    ground.seen["alone_inside"] = await ground.inside(spec, "python", "-c", PROBE)
    ground.seen["exits"]["alone"] = await ground.stop("alone")


async def _play(folder: Path, node: RabbitNode) -> None:
    ground = Playground(folder)
    try:
        await play(ground, node)
    finally:
        await ground.abort()
        (folder / "seen.json").write_text(json.dumps(ground.seen), encoding="utf-8")


def main() -> None:
    """Build the image while RabbitMQ starts; the build needs the network, the rest must not."""
    base, folder = map(Path, sys.argv[1:])
    (folder / "image").mkdir(parents=True)
    command("mount", "-t", "tmpfs", "tmpfs", folder / "image")
    layers = (sys.executable, "-m", "tests.support.layers", ROOT, base, folder / "image")
    with subprocess.Popen(list(map(str, layers)), cwd=ROOT) as build:
        leave_network()
        with rabbitmq() as node:
            assert build.wait(300) == 0, "the image could not be built"
            asyncio.run(_play(folder, node))


if __name__ == "__main__":
    main()
