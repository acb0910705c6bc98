"""The command line: ``labkit COMMAND``. It parses, calls one function of the library and prints; nothing else.

Exit codes: 0 done, 1 something that was asked for failed, 2 it could not be tried, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from labkit import __version__
from labkit.errors import LabError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code. argv: the words after ``labkit`` (default: the process's own)."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        code: int = options.run(options)
    except LabError as error:
        print(f"labkit {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"labkit {options.command}: interrupted; everything it started has ended.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `labkit claims | head`: the reader has gone, which is no fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labkit", description="The Scaling Lab's command line.")
    parser.add_argument("--version", action="version", version=f"labkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help_text: str, handler: str, *, json: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        if json:
            sub.add_argument("--json", action="store_true", help="print JSON for programs")
        sub.add_argument("--root", type=Path, default=None, help="the lab's checkout (default: found from here)")
        sub.set_defaults(run=lambda options: _call(handler, options))
        return sub

    command("doctor", "what is attached, installed and missing, and what each lesson loses by it", "doctor", json=True)
    sub = command("lab", "lay the work copies and open JupyterLab at the first lesson", "lab")
    sub.add_argument("--no-browser", action="store_true", help="print the URL, open nothing")
    sub.add_argument("--port", type=int, default=None, help="this port and no other (default: 8888, or a free one)")
    sub.add_argument("--work", type=Path, default=None, help="where the work copies live (default: work/)")
    sub = command("start", "lay or update the work copies in work/", "start")
    sub.add_argument("--work", type=Path, default=None, help="where the work copies live (default: work/)")
    sub.add_argument("--restore", action="store_true", help="also lay again what you deleted")
    sub = command("run", "execute notebooks and write them and claims.json into a folder", "run")
    sub.add_argument("notebooks", nargs="+", type=Path)
    sub.add_argument("--profile", default="quick", help="quick (a test) or full (a lesson)")
    sub.add_argument("--out", type=Path, required=True, help="the folder for executed notebooks and claims.json")
    sub.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    sub.add_argument("--deadline", type=float, default=None, metavar="SECONDS", help="for each notebook")
    command("claims", "the claims ledger: every statement tested here, and its verdict", "claims", json=True)
    sub = command("check", "check an exercise, a work copy or a solution", "check", json=True)
    sub.add_argument("path", type=Path)
    sub = command("diff", "a learner's notebook against the solution, once it passes or --show is given", "diff")
    sub.add_argument("path", type=Path)
    sub.add_argument("--show", action="store_true", help="show it although not every task has passed")
    sub = command(
        "drill", "kill a real job at random points of its checkpoints, and say what it lost", "drill", json=True
    )
    sub.add_argument("subject", choices=["checkpoint"])
    sub.add_argument("--kills", type=int, default=40, help="how many, half of them on two ranks (default: 40)")
    sub.add_argument("--seed", type=int, default=0, help="of the points at which they fall (default: 0)")
    sub = command("exercises", "for authors: generate exercises/ from solutions/", "exercises")
    sub.add_argument("action", choices=["build"])
    sub.add_argument("--check", action="store_true", help="write nothing; fail when something is stale")
    command("ps", "what the lab has running", "ps", json=True)
    sub = command("stop", "end what the lab started: everything, or one process", "stop")
    sub.add_argument("pid", nargs="?", type=int)
    sub = command("clean", "free what the lab has cached; records and work copies stay", "clean")
    sub.add_argument("--dry-run", action="store_true", help="only show the sizes")
    sub = command("records", "list runs, say what tells two apart, copy the file while in use", "records", json=True)
    sub.add_argument("action", choices=["backup", "diff", "path", "runs"])
    sub.add_argument("words", nargs="*", metavar="WORD", help="backup: FILE; runs: a name; diff: two runs")
    return parser


def _call(handler: str, options: argparse.Namespace) -> int:
    """Import a command's module only when it is asked for: ``labkit ps`` must not wait for papermill."""
    from labkit.cli import doctor, drill, lab, notebooks, processes, records

    handlers = {
        "doctor": doctor.doctor,
        "drill": drill.drill,
        "lab": lab.lab,
        "start": lab.start,
        "run": notebooks.run,
        "claims": notebooks.claims,
        "check": notebooks.check,
        "diff": notebooks.diff,
        "exercises": notebooks.exercises,
        "ps": processes.ps,
        "stop": processes.stop,
        "clean": processes.clean,
        "records": records.records,
    }
    return handlers[handler](options)
