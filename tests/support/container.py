"""Runs a program as a container would: a root of its own, read-only, as nobody, without privileges.

No Docker and no image store: an overlay on the layers that `tests.support.layers` has built, a
mount namespace, chroot and setpriv (util-linux). Whoever calls it is root in a namespace of mounts
that may be thrown away. The network is the caller's, so containers reach each other on loopback.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.compose import Mount, mounts, services
from tests.support.dockerfile import Config


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run. `layers`: the first is on top. `user` is `uid:gid`."""

    name: str
    layers: Sequence[Path]
    arguments: Sequence[str]
    user: str
    workdir: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    tmpfs: Sequence[str] = ()
    read_only: bool = True


class Containers:
    """All of one test, below `folder`; named volumes are folders there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0

    def script(self, spec: Spec) -> str:
        """The shell lines that make the root and become the program."""
        self._started += 1
        place = self._folder / f"{spec.name}-{self._started}"
        root = place / "root"
        place.mkdir(parents=True)
        lower = ":".join(map(str, spec.layers))
        lines = [
            f"mount -t tmpfs tmpfs {place}",
            f"mkdir {place}/upper {place}/work {root}",
            f"mount -t overlay overlay -o lowerdir={lower},upperdir={place}/upper,"
            f"workdir={place}/work {root}",
        ]
        for name in ("proc", "dev"):
            lines += [f"mkdir -p {root}/{name}", f"mount --rbind /{name} {root}/{name}"]
        # The name service of the test, whatever the layers have.
        resolver = Mount(self._folder / "resolv.conf", "/etc/resolv.conf", read_only=True)
        for target in spec.tmpfs:
            lines += [f"mkdir -p {root}{target}", f"mount -t tmpfs tmpfs {root}{target}"]
        for mount in (resolver, *spec.mounts):
            lines += self._mounted(mount, root)
        if spec.read_only:
            lines.append(f"mount -o remount,ro {root}")
        return "\n".join([*lines, f"exec {_become(spec, root)}"])

    def _mounted(self, mount: Mount, root: Path) -> list[str]:
        source = self._folder / "volumes" / mount.volume if mount.volume else mount.source
        target = f"{root}{mount.target}"
        make = f"mkdir -p {target}"
        if source.is_file():
            make = f"mkdir -p {Path(target).parent}; rm -f {target}; touch {target}"
        lines = [make, f"mount --bind {source} {target}"]
        return [*lines, f"mount -o remount,bind,ro {target}"] if mount.read_only else lines

    def make_volume(self, name: str, target: str, layers: Sequence[Path], user: str) -> None:
        """As Docker does: a new volume belongs to whom the image's folder there belongs."""
        folder = self._folder / "volumes" / name
        if folder.exists():
            return
        folder.mkdir(parents=True)
        for layer in layers:
            if (there := layer / target.lstrip("/")).is_dir():
                shutil.copystat(there, folder)
                shutil.chown(folder, there.stat().st_uid, there.stat().st_gid)
                return
        shutil.chown(folder, *map(int, user.split(":")))

    async def start(self, spec: Spec, log: Path) -> asyncio.subprocess.Process:
        """Start it; its output goes to `log`."""
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-ec", self.script(spec)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def run(self, spec: Spec) -> tuple[int, str]:
        """Run it to its end; exit code, and what it said."""
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-ec", self.script(spec)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode(errors="replace")


def _become(spec: Spec, root: Path) -> str:
    uid, gid = spec.user.split(":")
    settings = [f"{name}={value}" for name, value in spec.environment.items()]
    inside = ["env", "-i", "-C", spec.workdir, *settings, *spec.arguments]
    rights = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *rights]
    return shlex.join(["chroot", str(root), *become, *inside])


def of_service(name: str, layers: Sequence[Path], image: Config) -> Spec:
    """A service of deploy/compose.yaml on an image, as `docker compose up` starts it."""
    said = services()[name]
    entrypoint = said.get("entrypoint") or image.entrypoint
    given = {key: str(value) for key, value in (said.get("environment") or {}).items()}
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    return Spec(
        name,
        layers,
        [*entrypoint, *(image.command if said.get("command") is None else said["command"])],
        said.get("user", image.user),
        image.workdir,
        image.environment | given,
        mounts(name),
        said.get("tmpfs", ()),
        said["read_only"],
    )
