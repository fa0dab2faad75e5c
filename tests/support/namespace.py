"""A network of its own for a process that is root, and how to become that."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess

_NEW_NETWORK = 0x40000000
_SET_FLAGS, _UP = 0x8914, 0x1

ISOLATED = (
    *("unshare", "--mount", "--propagation", "private"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)
"""What a command is run by to have mounts and processes that end with it."""


def leave_network() -> None:
    """From now on this process and its children have a loopback of their own, and nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))


def as_root() -> list[str] | None:
    """What a command is run by to be root; None where nobody may."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "--non-interactive", "--preserve-env"]
    if shutil.which("sudo") and not subprocess.run([*sudo, "true"], check=False).returncode:
        return sudo
    return None


def why_not() -> str:
    """Empty where containers can be made: root, unshare, chroot, setpriv and overlays."""
    if missing := [name for name in ("unshare", "chroot", "setpriv") if not shutil.which(name)]:
        return f"there is no {missing[0]}"
    root = as_root()
    if root is None:
        return "neither root nor sudo without a password"
    overlay = "mount -t tmpfs t /mnt; mkdir /mnt/u /mnt/w /mnt/m; mount -t overlay o"
    overlay += " -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/m; unshare --net true"
    tried = subprocess.run(
        [*root, *ISOLATED, "sh", "-ec", overlay], check=False, capture_output=True, text=True
    )
    return tried.stderr.strip() if tried.returncode else ""
