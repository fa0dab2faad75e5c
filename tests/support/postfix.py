"""A private Postfix: its own configuration, queue and data folders, nothing of the system's.

It needs root (Postfix's master does). Whoever starts one stops it; folders are the caller's.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

INSTALL = Path(__file__).parents[2] / "scripts" / "apt_install.sh"
TIMEOUT = 30.0


class PostfixMissing(RuntimeError):  # noqa: N818
    """Postfix is not installed, cannot be, or this account may not run it."""


def install_postfix() -> None:
    """Make sure that Postfix, smtp-source and smtp-sink are there. Raises `PostfixMissing`."""
    if os.geteuid() != 0:
        raise PostfixMissing("Postfix's master runs as root only")
    if not _present() and subprocess.run([INSTALL, "postfix"], check=False).returncode:
        raise PostfixMissing("the Debian package postfix is missing")
    if not _present():
        raise PostfixMissing("smtp-source or smtp-sink is missing")


def _present() -> bool:
    search = f"{os.environ.get('PATH', '')}:/usr/sbin"
    tools = ("postfix", "smtp-source", "smtp-sink")
    return all(shutil.which(tool, path=search) for tool in tools)


def tool(name: str) -> str:
    """The path of one of Postfix's programs. Raises `PostfixMissing`."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        raise PostfixMissing(f"{name} is not installed")
    return path


def postfix_version() -> str:
    """The installed version, such as `3.7.11`."""
    command = [tool("postconf"), "-d", "-h", "mail_version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Postfix:
    """One instance below `home`, relaying from `port` on loopback as its templates say."""

    def __init__(self, home: Path, templates: Path, values: Mapping[str, str], port: int) -> None:
        self.home, self.port = home, port
        self._templates = templates
        self._values = {**values, "HOME": str(home), "PORT": str(port)}
        self.config = home / "config"

    def start(self) -> None:
        """Start; returns once the port answers. Raises `PostfixMissing` or CalledProcessError."""
        self.home.chmod(0o755)  # the unprivileged daemons walk through it
        for name in ("config", "queue", "data"):
            (self.home / name).mkdir()
        shutil.chown(self.home / "data", "postfix", "postfix")
        for name in ("main.cf", "master.cf"):
            (self.config / name).write_text(self._filled(self._templates / name))
        self._control("start")
        self._wait_for_port()

    def stop(self) -> None:
        """Stop and wait until master is gone; nothing to do if it never ran."""
        if not self._pid_file.exists():
            return
        master = self.pid
        self._control("stop")
        deadline = time.monotonic() + TIMEOUT
        while Path(f"/proc/{master}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The process id of master, the parent of all the others."""
        return int(self._pid_file.read_text())

    @property
    def _pid_file(self) -> Path:
        return self.home / "queue" / "pid" / "master.pid"

    def queued(self) -> int:
        """Messages in the queue."""
        folders = ("maildrop", "incoming", "active", "deferred")
        paths = (self.home / "queue" / folder for folder in folders)
        return sum(1 for path in paths for entry in path.rglob("*") if entry.is_file())

    def log(self) -> str:
        """The mail log so far."""
        return (self.home / "maillog").read_text(errors="replace")

    def _filled(self, template: Path) -> str:
        text = template.read_text()
        for name, value in self._values.items():
            text = text.replace(f"@{name}@", value)
        return text

    def _control(self, verb: str) -> None:
        subprocess.run(
            [tool("postfix"), "-c", str(self.config), verb],
            check=True,
            capture_output=True,
            timeout=TIMEOUT,
        )

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return
