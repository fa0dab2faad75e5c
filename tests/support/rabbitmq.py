"""A private RabbitMQ node for tests, the demo's check and the benchmark: no system service.

Everything of the node (database, logs, cookie, port mapper) lives in one folder and on ports of
its own, so it disturbs nothing and nothing disturbs it. A test takes a virtual host of its own.
`POSTROAD_TEST_AMQP_URL` names a server to use instead; it must allow its default virtual host to
be shared, and cannot be stopped or alarmed.

A node of a version that may stop all retries gets the supervisor of later versions: tests ask what
we do, and would fail now and then for what only RabbitMQ can mend.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.broker.amqp.version import may_forget_retries, parse_version
from tests.support.pipeline import free_port

URL_VARIABLE = "POSTROAD_TEST_AMQP_URL"
INSTALL_ROOT = Path("/usr/lib/rabbitmq/lib")
START_SECONDS = 90.0
CONTROL_SECONDS = 90.0


class RabbitMqMissing(RuntimeError):  # noqa: N818
    """RabbitMQ is not installed here, or its node does not start."""


def _scripts() -> Path:
    found = sorted(INSTALL_ROOT.glob("rabbitmq_server-*/sbin"))
    if not found:
        raise RabbitMqMissing("the Debian package rabbitmq-server is not installed")
    return found[-1]


def _mended(scripts: Path, folder: Path) -> dict[str, str]:
    """What lets retries outlive the death of two of the processes that lead on what has waited."""
    version = parse_version(scripts.parent.name.rpartition("-")[2])
    if not may_forget_retries(version):
        return {}
    source = folder / "rabbit_fifo_dlx_sup.erl"
    source.write_text(_SUPERVISOR)
    subprocess.run(["erlc", "-o", folder, source], check=True, capture_output=True, timeout=60)
    # Loaded before RabbitMQ boots, which would find its own first.
    return {"ERL_AFLAGS": f"-eval 'code:load_abs(\"{source.with_suffix('')}\")'"}


def _free_ports(count: int) -> list[int]:
    """Below those that outgoing connections get: a node must have its ports again after a kill."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


class RabbitNode:
    """One node. `start` and `stop` may be repeated: the database stays until `remove`."""

    def __init__(self) -> None:
        self._scripts = _scripts()
        self.home = Path(tempfile.mkdtemp(prefix="postroad-rabbitmq-"))
        self.port, distribution, mapper = _free_ports(3)
        self.name = f"postroad-{uuid.uuid4().hex[:8]}@localhost"
        self._process: subprocess.Popen[bytes] | None = None
        (self.home / "enabled_plugins").write_text("[].\n")
        (self.home / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            "loopback_users = none\n"
            "log.file.level = warning\n"
        )
        self._mend = _mended(self._scripts, self.home)
        self.environment = os.environ | {
            "HOME": str(self.home),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "no-such-file"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
        }

    @property
    def url(self) -> str:
        """The AMQP URL of the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def pid(self) -> int:
        """Of the Erlang machine."""
        return int((self.home / "mnesia" / f"{self.name}.pid").read_text())

    def start(self) -> None:
        """Start and wait until clients are served. Raises `RabbitMqMissing`."""
        with (self.home / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._scripts / "rabbitmq-server"],
                env=self.environment | self._mend,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RabbitMqMissing(f"the node did not start: {self._last_words()}")
            time.sleep(0.1)

    def _serves(self) -> bool:
        # The server closes a bad greeting with its own version: then the listener is up.
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                client.sendall(b"AMQP\x00\x00\x09\x01")
                return client.recv(8) != b""
        except OSError:
            return False

    def _last_words(self) -> str:
        return (self.home / "output").read_text(errors="replace")[-2000:]

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node; returns what it printed. Raises on failure."""
        done = subprocess.run(
            [self._scripts / "rabbitmqctl", "-q", "-n", self.name, *arguments],
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=CONTROL_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def new_vhost(self) -> str:
        """Make a virtual host of its own; returns its URL."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.ctl("eval", _NEW_VHOST.format(name=name))
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """Stop in an orderly way and wait for the end."""
        if self._process is None:
            return
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.ctl("stop")
        self._await_end()

    def kill9(self) -> None:
        """Kill the Erlang machine as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)
        self._await_end()

    def _await_end(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
        self._process = None

    def remove(self) -> None:
        """Stop node and port mapper and delete the folder."""
        self.stop()
        subprocess.run(
            ["epmd", "-kill"], env=self.environment, check=False, capture_output=True, timeout=10
        )
        shutil.rmtree(self.home, ignore_errors=True)


_SUPERVISOR = """\
-module(rabbit_fifo_dlx_sup).
-behaviour(supervisor).
-rabbit_boot_step({?MODULE, [
    {description, "supervisor of quorum queue dead-letter workers"},
    {mfa, {rabbit_sup, start_supervisor_child, [?MODULE]}},
    {requires, kernel_ready},
    {enables, core_initialized}]}).
-export([init/1, start_link/0]).

start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    Worker = rabbit_fifo_dlx_worker,
    Child = #{id => Worker, start => {Worker, start_link, []}, type => worker},
    {ok, {#{strategy => simple_one_for_one, intensity => 100, period => 1}, [Child]}}.
"""

# One call into the node instead of two starts of rabbitmqctl at a second each.
_NEW_VHOST = (
    'ok = rabbit_vhost:add(<<"{name}">>, <<"tests">>), '
    "ok = rabbit_auth_backend_internal:set_permissions("
    '<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>).'
)


class ForeignServer:
    """A server that somebody else runs: its default virtual host is all we have of it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def new_vhost(self) -> str:
        """The one URL there is."""
        return self.url


@contextlib.contextmanager
def running_node() -> Iterator[RabbitNode]:
    """A node for the length of the block. Raises `RabbitMqMissing`."""
    node = _started()
    try:
        yield node
    finally:
        node.remove()


def _started() -> RabbitNode:
    """Other tests start nodes as well, and may get a port first that was free a moment ago."""
    for tries_left in (2, 1, 0):
        node = RabbitNode()
        try:
            node.start()
        except RabbitMqMissing:
            node.remove()
            if not tries_left:
                raise
        else:
            return node
    raise AssertionError("the last try returns or raises")


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitNode | ForeignServer]:
    """The session's server: skipped loudly where there is none, a failure under CI=true."""
    if url := os.environ.get(URL_VARIABLE):
        yield ForeignServer(url)
        return
    with contextlib.ExitStack() as stack:
        try:
            node = stack.enter_context(running_node())
        except RabbitMqMissing as missing:
            skip_or_fail(str(missing))
        yield node


@pytest.fixture
def rabbitmq_node(rabbitmq: RabbitNode | ForeignServer) -> RabbitNode:
    """The session's node, for tests that stop, alarm or configure it."""
    if not isinstance(rabbitmq, RabbitNode):
        pytest.skip(f"{URL_VARIABLE} names a server that tests may not control")
    return rabbitmq


def skip_or_fail(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"RabbitMQ is needed under CI=true: {why}")
    pytest.skip(f"*** NOT TESTED ON RABBITMQ: {why} ***")
