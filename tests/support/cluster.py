"""Deployments and a Service of a rendered manifest, carried out as a cluster would.

A rollout takes no pod away before a new one has been ready for `minReadySeconds`; the Service sends
connections to pods that are ready and not leaving.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.kubelet import Pod
from tests.support.manifest import Document, PodSpec, Texts, pod_spec


class Workload:
    """One Deployment: `pods` are those that were not told to go."""

    def __init__(self, spec: PodSpec, folder: Path) -> None:
        self.spec = spec
        self.pods: list[Pod] = []
        self.gone: list[Pod] = []
        self.exit_codes: list[int] = []
        """Of the pods that have gone in order."""
        self._folder = folder

    async def grow(self) -> Pod:
        """One pod more, which is not ready yet."""
        pod = Pod(self.spec, self._folder)
        await pod.start()
        self.pods.append(pod)
        return pod

    async def scale(self, replicas: int) -> None:
        """So many pods; returns when the new ones are ready, and the others have ended."""
        new = [await self.grow() for _ in range(replicas - len(self.pods))]
        await asyncio.gather(*(pod.wait_ready() for pod in new))
        await asyncio.gather(*map(self.shrink, self.pods[replicas:]))

    async def shrink(self, pod: Pod) -> None:
        """Take this pod away, and wait until it has ended."""
        self.pods.remove(pod)
        self.gone.append(pod)
        self.exit_codes.append(await pod.terminate())

    async def roll(self) -> None:
        """Replace each pod: maxSurge 1, maxUnavailable 0."""
        assert self.spec.surge == (1, 0), "no other rollout is known here"
        leaving = []
        for old in list(self.pods):
            new = await self.grow()
            await new.wait_ready()
            await asyncio.sleep(self.spec.settle)
            leaving.append(asyncio.create_task(self.shrink(old)))
        await asyncio.gather(*leaving)

    async def abort(self) -> None:
        """Kill what still runs."""
        await asyncio.gather(*(pod.abort() for pod in (*self.pods, *self.gone)))


class Service:
    """Listens on loopback `port` and forwards to a port of the pods of a workload that serve."""

    def __init__(self, workload: Workload, port_name: str) -> None:
        self.port = 0
        self.unserved = 0
        """Connections that came while no pod served."""
        self._workload = workload
        self._target = workload.spec.ports[port_name]
        self._turns = itertools.count()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = [pod for pod in self._workload.pods if pod.serves]
        if not serving:
            self.unserved += 1
            writer.transport.abort()
            return
        pod = serving[next(self._turns) % len(serving)]
        try:
            there, back = await asyncio.open_connection(pod.address, self._target)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while octets := await source.read(65_536):
            sink.write(octets)
            await sink.drain()
    sink.close()


class Cluster:
    """The Deployments of `documents` by name, with no pods yet."""

    def __init__(self, documents: Sequence[Document], secrets: Texts, folder: Path) -> None:
        specs = [
            pod_spec(document, documents, secrets)
            for document in documents
            if document["kind"] == "Deployment"
        ]
        self.workloads: Mapping[str, Workload] = {
            spec.name: Workload(spec, folder) for spec in specs
        }

    @property
    def pods(self) -> list[Pod]:
        """Those that were not told to go."""
        return [pod for workload in self.workloads.values() for pod in workload.pods]

    @property
    def all_pods(self) -> list[Pod]:
        """Those that have gone, too."""
        return [*self.pods, *(pod for one in self.workloads.values() for pod in one.gone)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(workload.abort() for workload in self.workloads.values()))
