"""Images under the names that the compose file pins, made here, since none can be pulled.

What Debian 12 has a package of is that very program. It has none of Grafana and cAdvisor: those are
a web server that says it is well, so that what hangs on them is tried, and no more. The base of our
own image is Debian 12, made by debootstrap, with the packages already in it that the Dockerfile
asks for.
"""

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from docker import DockerClient

from tests.peers.dcgm import PROGRAM as DCGM_PROGRAM
from tests.peers.dockerd import busybox_image
from tests.peers.missing import PeerMissingError, require_tool
from tests.peers.systemd_host import release, root_archive

BASE = "debian:bookworm-slim"
BASE_PACKAGES = ("ca-certificates", "python3-pydbus", "python3-venv")
# By service: Debian's program, its name in the image, and the folder that it writes.
_PROGRAMS = {
    "prometheus": ("prometheus", "prometheus", "/prometheus"),
    "alertmanager": ("prometheus-alertmanager", "alertmanager", "/alertmanager"),
    "node-exporter": ("prometheus-node-exporter", "node_exporter", ""),
}
# What Debian keeps beside a program, and upstream within it.
_TEMPLATES = "/usr/share/prometheus/alertmanager"
_FILES = {"alertmanager": (f"{_TEMPLATES}/default.tmpl", f"{_TEMPLATES}/email.tmpl")}
# By service: where it listens, and what it answers with 200.
_WEB = {
    "grafana": ("127.0.0.1:3000", ("api/health", "metrics")),
    "cadvisor": ("127.0.0.1:8080", ("healthz", "metrics")),
}


def make_base(client: DockerClient) -> None:
    """Give the engine the base of our own image."""
    if release() != "bookworm":
        raise PeerMissingError("the image's base is Debian 12, which only Debian 12 can make")
    _import_file(client, BASE, root_archive(BASE_PACKAGES))


def make_images(client: DockerClient, images: Mapping[str, str], uuids: Iterable[str]) -> None:
    """Give the engine the *images* (name by service) of others; DCGM's tells of GPUs *uuids*."""
    for service, name in images.items():
        if service in _PROGRAMS:
            _import(client, name, *_program(*_PROGRAMS[service]))
        elif service in _WEB:
            _build(client, name, *_web(client, *_WEB[service]))
        elif service == "dcgm-exporter":
            _build(client, name, *_dcgm(uuids))
        else:
            raise AssertionError(f"nobody knows what to put in the place of {service}")


def _program(package: str, name: str, folder: str) -> tuple[bytes, list[str]]:
    """As upstream's image: busybox, one program, and nobody who runs it."""
    binary = Path(require_tool(package))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(binary.resolve(), f"bin/{name}")
        for library in _libraries(binary):
            tar.add(library.resolve(), str(library).lstrip("/"))
        for path in map(Path, _FILES.get(name, ())):
            tar.add(path.resolve(), str(path).lstrip("/"))
        if folder:
            tar.addfile(_folder(folder.lstrip("/")))
    return content.getvalue(), ["USER nobody", f'ENTRYPOINT ["/bin/{name}"]', "WORKDIR /"]


def _libraries(binary: Path) -> list[Path]:
    listed = subprocess.run(
        [require_tool("ldd"), str(binary)], capture_output=True, text=True, check=True
    )
    return [Path(path) for path in re.findall(r"(/\S+) \(", listed.stdout)]


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o755, 65534, 65534
    return entry


def _web(client: DockerClient, address: str, pages: Iterable[str]) -> tuple[str, dict[str, bytes]]:
    dockerfile = f"""\
FROM {busybox_image(client)}
COPY www /www
USER nobody
ENTRYPOINT ["sh", "-c", "exec httpd -f -p {address} -h /www"]
"""
    return dockerfile, {f"www/{page}": b"# a stand-in\n" for page in pages}


def _dcgm(uuids: Iterable[str]) -> tuple[str, dict[str, bytes]]:
    command = ["python3", "/dcgm_program.py", "9400", "--host", "127.0.0.1", *uuids]
    dockerfile = f"""\
FROM {BASE}
COPY dcgm_program.py /
ENTRYPOINT {re.sub("'", '"', str(command))}
"""
    return dockerfile, {"dcgm_program.py": Path(DCGM_PROGRAM).read_bytes()}


def _import(client: DockerClient, name: str, root: bytes, changes: list[str]) -> None:
    dockerfile = "".join([f"FROM {busybox_image(client)}\n", "ADD root.tar /\n"])
    _build(client, name, dockerfile + "\n".join(changes) + "\n", {"root.tar": root})


def _import_file(client: DockerClient, name: str, archive: Path) -> None:
    repository, _, tag = name.rpartition(":")
    client.api.import_image_from_file(
        str(archive), repository=repository, tag=tag, changes=['CMD ["bash"]']
    )


def _build(client: DockerClient, name: str, dockerfile: str, files: Mapping[str, bytes]) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path, content in {"Dockerfile": dockerfile.encode(), **files}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=name, rm=True)
