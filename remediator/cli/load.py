"""``remediator load``: keep a GPU busy for a while, to see how dashboards and alerts look."""

import argparse
import sys
from collections.abc import Callable
from datetime import timedelta

from remediator.cli.programs import Subparsers
from remediator.gpu_load import installed
from remediator.wiring.gpu_load import load_gpu

_ABOUT = """\
Keep one GPU busy for a while, to try dashboards and alerts. It needs torch or cupy, which are not
installed with Remediator. A GPU that anybody uses is refused, and the load ends when somebody
comes. Run it as a user in permitted_host_users, or the process may be ended as an orphan.
"""
_EXPLANATION = """\
remediator: neither torch nor cupy is installed here, and one of them has to do the work.
Install one into the same environment, and try again:

  {python} -m pip install torch
  {python} -m pip install cupy-cuda12x

The 12 of cupy is the CUDA version that nvidia-smi shows."""
_USAGE = 2
_LONGEST = 86400
_WHOLE = 100


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "load", help="keep a GPU busy for a while, to try dashboards", description=_ABOUT
    )
    parser.add_argument(
        "--gpu", type=_from_to(0, 1023), default=0, metavar="N", help="as nvidia-smi counts (0)"
    )
    parser.add_argument(
        "--seconds", type=_from_to(1, _LONGEST), default=60, metavar="N", help="for how long (60)"
    )
    parser.add_argument(
        "--percent",
        type=_from_to(1, _WHOLE),
        default=_WHOLE,
        metavar="N",
        help="of the time at work, 1 to 100 (100)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Put the load on; 2 if nothing can, 1 if the GPU is somebody's."""
    if not installed():
        print(_EXPLANATION.format(python=sys.executable), file=sys.stderr)
        return _USAGE
    done = load_gpu(options.gpu, options.percent, timedelta(seconds=options.seconds), print)
    print(f"{done.busy_seconds:.0f} s of {done.seconds:.0f} s at work")
    if done.interrupted is not None:
        print(f"remediator: ended early: {done.interrupted}", file=sys.stderr)
        return 1
    return 0


def _from_to(least: int, most: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most):
            raise argparse.ArgumentTypeError(f'"{text}" is not a whole number, {least} to {most}')
        return int(text)

    return whole_number
