"""A fresh broker for each run: a virtual host of one RabbitMQ node, or a folder."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.systems import EMBEDDED, RABBITMQ, SYSTEMS
from tests.support.rabbitmq import RabbitNode, running_node


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run lies. `broker_pids` are of the broker's own processes, if it has any."""

    broker: str
    url: str
    folder: Path
    broker_pids: tuple[int, ...] = ()


class Brokers:
    """Gives a place for each run; what it held is gone afterwards."""

    def __init__(self, folder: Path, node: RabbitNode | None, names: Sequence[str]) -> None:
        self.names = names
        """The brokers that are to be measured."""
        self._folder = folder
        self._node = node
        self._numbers = itertools.count(1)

    @contextmanager
    def place(self, broker: str) -> Iterator[Place]:
        """An empty broker of this kind, and a folder for everything else."""
        folder = self._folder / f"run-{next(self._numbers)}"
        folder.mkdir(parents=True)
        try:
            if broker == EMBEDDED:
                yield Place(broker, f"embedded://{folder}/broker", folder)
            else:
                yield from self._virtual_host(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _virtual_host(self, folder: Path) -> Iterator[Place]:
        assert self._node is not None
        url = self._node.new_vhost()
        try:
            yield Place(RABBITMQ, url, folder, (self._node.pid,))
        finally:
            self._node.ctl("delete_vhost", urlsplit(url).path[1:])


@contextmanager
def start_brokers(folder: Path, only: str | None) -> Iterator[Brokers]:
    """Both kinds, or the one that `only` names. Raises `RabbitMqMissing`."""
    names = [SYSTEMS[key] for key in ("embedded", "rabbitmq") if only in {None, key}]
    with ExitStack() as stack:
        node = None
        if RABBITMQ in names:
            tempfile.tempdir = str(folder)  # the node's database lies on the disk to be measured
            stack.callback(setattr, tempfile, "tempdir", None)
            node = stack.enter_context(running_node())
        yield Brokers(folder, node, names)
