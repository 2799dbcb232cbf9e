"""``remediator export``: the DS01 exporter."""

import argparse
import os
from pathlib import Path
from typing import Any

from remediator.config.settings import (
    USUAL_FILE,
    Address,
    Settings,
    parse_address,
    read_settings,
    settings_file,
)
from remediator.wiring.exporter import ExporterOptions, run_exporter

_ABOUT = """\
Serve what every container and GPU of this machine is doing, for Prometheus.

Docker and the NVIDIA driver may be down when it starts; a limits file must be usable. SIGHUP reads
the limits again, and so does a change of the file.
"""


def add_to(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "export",
        help="serve DS01's metrics for Prometheus",
        description=_ABOUT,
    )
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help=f"settings file (REMEDIATOR_SETTINGS, else {USUAL_FILE} if it is there)",
    )
    parser.add_argument(
        "--listen",
        type=_address,
        metavar="HOST:PORT",
        help="where to serve /metrics (REMEDIATOR_EXPORTER_LISTEN, else 127.0.0.1:9101)",
    )
    parser.add_argument(
        "--docker-host", metavar="URL", help="the Docker engine to watch (DOCKER_HOST)"
    )
    parser.add_argument(
        "--limits",
        type=Path,
        metavar="FILE",
        help="DS01's limits (REMEDIATOR_LIMITS, else built-in strict ones)",
    )
    parser.add_argument(
        "--gpu-metrics",
        action="store_true",
        default=None,
        help="also serve DCGM's metrics from NVML, where dcgm-exporter cannot run",
    )
    parser.add_argument(
        "--events-log",
        type=Path,
        metavar="FILE",
        help="DS01's log of events (default: /var/log/ds01/events.jsonl)",
    )
    parser.add_argument(
        "--ds01-state-dir",
        type=Path,
        metavar="DIR",
        help="where DS01 keeps its state (default: /var/lib/ds01)",
    )
    _add_roots(parser)
    parser.set_defaults(run=run)


def _add_roots(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--proc-root",
        type=Path,
        default=Path("/proc"),
        metavar="DIR",
        help="where the host's /proc is (default: %(default)s)",
    )
    parser.add_argument(
        "--cgroup-root",
        type=Path,
        default=Path("/sys/fs/cgroup"),
        metavar="DIR",
        help="where the host's cgroups are (default: %(default)s)",
    )
    parser.add_argument(
        "--run-root",
        type=Path,
        default=Path("/run"),
        metavar="DIR",
        help="where the host's /run is, with utmp and logind's sessions (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until told to end; ConfigError or SetupError if it cannot start."""
    settings = read_settings(args.settings or settings_file(os.environ), os.environ)
    return run_exporter(options_from(settings, args))


def options_from(settings: Settings, args: argparse.Namespace) -> ExporterOptions:
    """Return the exporter's options: flags over *settings*."""
    return ExporterOptions(
        listen=_first(args.listen, settings.exporter_listen),
        docker_host=_first(args.docker_host, settings.docker_host),
        limits=_first(args.limits, settings.limits),
        gpu_metrics=_first(args.gpu_metrics, settings.gpu_metrics),
        permitted_host_users=settings.permitted_host_users,
        permitted_processes=settings.permitted_processes,
        events_log=_first(args.events_log, settings.events_log),
        ds01_state_dir=_first(args.ds01_state_dir, settings.ds01_state_dir),
        state_dir=settings.state_dir,
        proc_root=args.proc_root,
        cgroup_root=args.cgroup_root,
        run_root=args.run_root,
        docker_timeout=settings.docker_timeout,
    )


def _first(flag: Any, setting: Any) -> Any:
    return setting if flag is None else flag


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
