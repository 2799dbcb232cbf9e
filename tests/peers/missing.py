"""What a peer says when this machine cannot offer it.

    PeerMissingError                 a program or right that a peer needs is not there
        TerminalsUnavailableError    terminals cannot be announced in utmp

A test that meets one is skipped on a laptop and fails under ``--require-services`` (see
``tests/conftest.py``); the demo prints it and ends.
"""

import os
import shutil


class PeerMissingError(Exception):
    """A peer cannot be had here; the message says what to install or change."""


class TerminalsUnavailableError(PeerMissingError):
    """Terminals of our own cannot be registered without disturbing real people."""


# Program -> Debian and Ubuntu package. The keys are also what the header of a test run reports.
PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "dockerd": "docker.io",
    "docker-compose": "docker-compose",
    "busybox": "busybox-static",
    "debootstrap": "debootstrap",
    "gcc": "gcc",
    "wall": "bsdutils",
    "write": "bsdextrautils",
    "setpriv": "util-linux",
    "chattr": "e2fsprogs",
    "nsenter": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "chromium": "chromium",
}

# Upstream's archives name some programs otherwise than Debian does.
_OTHER_NAMES = {"prometheus-alertmanager": ("alertmanager",)}

# Daemons live in sbin, which is not on everybody's PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", "/usr/bin:/bin"), "/usr/sbin", "/sbin"])


def find_tool(name: str) -> str | None:
    """The path of program *name*, or None."""
    for candidate in (name, *_OTHER_NAMES.get(name, ())):
        path: str | None = shutil.which(candidate, path=_PATH)
        if path is not None:
            return path
    return None


def require_tool(name: str) -> str:
    """The path of program *name*; `PeerMissingError` says which package has it."""
    path = find_tool(name)
    if path is None:
        raise PeerMissingError(
            f"{name} is not installed: run tests/peers/install.sh as root,"
            f" or apt-get install {PACKAGES.get(name, name)}"
        )
    return path


def require_root(purpose: str) -> None:
    """Return only for root; otherwise say what root is needed for."""
    if os.geteuid() != 0:
        raise PeerMissingError(f"{purpose} needs root: run this as root")
