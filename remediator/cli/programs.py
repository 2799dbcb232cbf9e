"""``remediator serve``, ``work`` and ``run``: the long-running programs."""

import argparse
import os
from pathlib import Path
from typing import Any

from remediator.config.settings import USUAL_FILE, Settings, read_settings, settings_file

# What the programs are made of is imported by the one that runs: each of them is a process of its
# own, in whose memory the others would only lie about.

Subparsers = Any


def add_to(subparsers: Subparsers) -> None:
    """Add the commands."""
    for name, run, about in (
        ("serve", serve, "take deliveries from Alertmanager (the receiver, no privileges needed)"),
        ("work", work, "decide, act, verify and tell people (the worker, root)"),
        ("run", run_everything, "run serve, work and export as children of one process"),
    ):
        parser = subparsers.add_parser(name, help=about, description=about)
        add_settings(parser)
        parser.set_defaults(run=run)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every command with settings has."""
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help=f"settings file (REMEDIATOR_SETTINGS, else {USUAL_FILE} if it is there)",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where the databases are (REMEDIATOR_STATE_DIR, else /var/lib/remediator)",
    )
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="the policy (REMEDIATOR_POLICY, else /etc/remediator/policy.yaml)",
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings: flags over the environment over the file over the defaults."""
    environment = dict(os.environ)
    for flag, variable in (
        (options.settings, "REMEDIATOR_SETTINGS"),
        (options.state_dir, "REMEDIATOR_STATE_DIR"),
        (options.policy, "REMEDIATOR_POLICY"),
    ):
        if flag is not None:
            environment[variable] = str(flag)
    return read_settings(settings_file(environment), environment)


def serve(options: argparse.Namespace) -> int:
    """Run the receiver until told to stop."""
    from remediator.wiring.receiver import run_receiver  # noqa: PLC0415 - only where it runs

    run_receiver(settings_of(options))
    return 0


def work(options: argparse.Namespace) -> int:
    """Run the worker until told to stop."""
    from remediator.wiring.worker import run_worker  # noqa: PLC0415 - only where it runs

    run_worker(settings_of(options))
    return 0


def run_everything(options: argparse.Namespace) -> int:
    """Run everything until told to stop."""
    from remediator.wiring.all_in_one import run_all  # noqa: PLC0415 - only where it runs

    settings_of(options)
    settings = ["--settings", str(options.settings)] if options.settings else []
    folders: list[str] = []
    for flag, value in (("--state-dir", options.state_dir), ("--policy", options.policy)):
        if value is not None:
            folders += [flag, str(value)]
    shared = [*settings, *folders]
    return run_all({"serve": shared, "work": shared, "export": settings})
