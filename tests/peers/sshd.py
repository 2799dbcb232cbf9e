"""A real OpenSSH server with keys of its own, for tunnels to it."""

import getpass
import os
import signal
import subprocess
from pathlib import Path
from typing import Self

from tests.peers.missing import require_root, require_tool
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.process import Daemon

# Where a Debian sshd wants to be locked in before a login; the package's service makes it.
_EMPTY = Path("/run/sshd")


class SshServer:
    """One sshd at *host*; whoever has ``key`` logs in as ``user``, held by *options*.

    ``known_hosts`` is a line for a client's file of that name. *options* are those of
    ``authorized_keys``.
    """

    def __init__(self, folder: Path, host: str = LOOPBACK, options: str = "restrict") -> None:
        require_root("an sshd that lets its own user in")
        folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.port = free_port()
        self.user = getpass.getuser()
        self.key = _new_key(folder / "key")
        host_key = _new_key(folder / "host_key")
        self.known_hosts = f"[{host}]:{self.port} {host_key.with_suffix('.pub').read_text()}"
        authorized = folder / "authorized_keys"
        authorized.write_text(f"{options} {self.key.with_suffix('.pub').read_text()}")
        config = folder / "sshd_config"
        config.write_text(
            f"ListenAddress {host}:{self.port}\nHostKey {host_key}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {authorized}\nStrictModes no\nAuthenticationMethods publickey\n"
            "PermitRootLogin prohibit-password\nClientAliveInterval 15\n"
        )
        self.daemon = Daemon(
            "sshd",
            [require_tool("sshd"), "-D", "-e", "-f", str(config)],
            folder,
            ready=lambda: answers(self.port, host),
        )

    def start(self) -> Self:
        """Open the port."""
        _EMPTY.mkdir(mode=0o755, exist_ok=True)
        self.daemon.start()
        return self

    def stop(self) -> None:
        """Close the port and end every connection; harmless when it is closed."""
        if self.daemon.is_running:
            self.drop_connections()
        self.daemon.stop()

    def drop_connections(self) -> int:
        """End every connection as a power failure would; return how many that were."""
        connections = _children_of(self.daemon.pid)
        for pid in connections:
            os.kill(pid, signal.SIGKILL)
        return len(connections)


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _new_key(path: Path) -> Path:
    keygen = [require_tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", ""]
    subprocess.run([*keygen, "-f", str(path)], check=True)
    return path
