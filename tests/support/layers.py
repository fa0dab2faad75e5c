"""Builds an image's root from its Dockerfile without Docker: each stage is a layer on the last.

It does what the file says, in a root of its own (chroot on an overlay), so it needs to be root in a
mount namespace of its own. `base` stands for the image that the first FROM names: the root of this
machine, or a folder that debootstrap has made.

    unshare --mount python -m tests.support.layers CONTEXT BASE FOLDER
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.dockerfile import Config, Instruction, Stage, note, stages

DOCKERFILE = Path("deploy/Dockerfile")
PASSED = ("PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "HTTPS_PROXY", "https_proxy")
"""What this machine needs to reach its package index."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
HERE = Path("/")
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 300.0


def command(*arguments: str | Path, **options: str) -> None:
    """Run it; what it said is in the error if it fails."""
    done = subprocess.run(
        list(map(str, arguments)),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=options or None,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-3000:]}"


class Root:
    """A merged tree at `path`: `upper` on the `lower` ones, the first of them on top."""

    def __init__(self, folder: Path, lower: Sequence[Path]) -> None:
        self.upper, self.path, work = folder / "upper", folder / "root", folder / "work"
        for each in (self.upper, self.path, work):
            each.mkdir(parents=True)
        self.lower = tuple(lower)
        options = f"lowerdir={':'.join(map(str, lower))},upperdir={self.upper},workdir={work}"
        command("mount", "-t", "overlay", "overlay", "-o", options, self.path)

    @property
    def layers(self) -> tuple[Path, ...]:
        """What a root on top of this one has below it."""
        return (self.upper, *self.lower)

    def mount_kernel(self) -> None:
        """/proc and /dev, which programs expect."""
        for name in ("proc", "dev"):
            (self.path / name).mkdir(exist_ok=True)
            command("mount", "--rbind", f"/{name}", self.path / name)


class Builder:
    """Stage by stage, into `folder`."""

    def __init__(self, context: Path, base: Path, folder: Path) -> None:
        self._context, self._folder = context, folder
        ground = Root(folder / "ground", [base])
        self._ground = ground, Config(environment={"PATH": _make_base(ground.path, base)})
        self._done: dict[str, tuple[Root, Config]] = {}

    def build(self, stage: Stage) -> tuple[Root, Config]:
        """Its root, and what a container of it starts with."""
        below, config = self._done.get(stage.base, self._ground)
        name = stage.name or "image"
        root = Root(self._folder / name, below.layers)
        root.mount_kernel()
        config, arguments = copy.deepcopy(config), dict[str, str]()
        for one in stage.instructions:
            note(one, config, arguments)
            self._do(one, root, config)
        self._done[name] = root, config
        return root, config

    def _do(self, one: Instruction, root: Root, config: Config) -> None:
        if one.keyword == "RUN":
            run_in(root.path, one.rest, config)
        elif one.keyword == "COPY":
            self._copy(one, root, config)
        elif one.keyword == "WORKDIR":
            (root.path / one.rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _copy(self, one: Instruction, root: Root, config: Config) -> None:
        *sources, target = one.rest.split()
        stage = one.options.get("from")
        origin = self._done[stage][0].path if stage else self._context
        to = root.path / config.workdir.lstrip("/") / target
        if target.startswith("/"):
            to = root.path / target.lstrip("/")
        # What an earlier stage made is copied whole; what lies about in a checkout is not.
        ignore = None if stage else shutil.ignore_patterns("__pycache__", "*.pyc")
        for source in sources:
            found = origin / source.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True, ignore=ignore)
            else:
                into = to / found.name if target.endswith("/") else to
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into)


def _make_base(root: Path, base: Path) -> str:
    """Make what Python's own image has: `python`, for everybody. Returns the PATH."""
    python = Path("/usr/bin/python3") if base != HERE else Path(sys._base_executable)  # type: ignore[attr-defined]
    if base == HERE:
        for folder in python.resolve().parents:
            place = root / str(folder).lstrip("/")
            place.chmod(place.stat().st_mode | 0o011)
    else:
        for file in (CERTIFICATES, Path("/etc/resolv.conf")):
            shutil.copy(file, root / str(file).lstrip("/"))
    home = root / str(python.resolve().parent).lstrip("/")
    if not (home / "python").exists():
        (home / "python").symlink_to(python.name)
    return f"{python.resolve().parent}:{BASE_PATH}"


def run_in(root: Path, line: str, config: Config) -> None:
    """RUN: the shell line, as root of that root."""
    outside = {name: os.environ[name] for name in PASSED if name in os.environ}
    # Packages that make test has fetched need not come again.
    cache = {"PIP_NO_CACHE_DIR": "0", "PIP_CACHE_DIR": str(Path("~/.cache/pip").expanduser())}
    environment = {**outside, **config.environment, **cache, "HOME": "/root"}
    settings = [f"{name}={value}" for name, value in environment.items()]
    shell = f"cd {config.workdir} && {line}"
    command("chroot", root, "/usr/bin/env", "-i", *settings, "/bin/sh", "-ec", shell)


def build_image(context: Path, base: Path, folder: Path) -> tuple[Root, Config]:
    """The last stage of the context's Dockerfile. Raises AssertionError with what a step said."""
    builder = Builder(context, base, folder)
    return [builder.build(one) for one in stages((context / DOCKERFILE).read_text("utf-8"))][-1]


def main() -> None:
    """Build, and write FOLDER/image.json: what the image has below it, and its configuration."""
    context, base, folder = map(Path, sys.argv[1:])
    root, config = build_image(context, base, folder)
    described = {"layers": list(map(str, root.layers)), "config": dataclasses.asdict(config)}
    (folder / "image.json").write_text(json.dumps(described), encoding="utf-8")


if __name__ == "__main__":
    main()
