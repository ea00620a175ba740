"""Speed and accuracy of every loss, as tables on screen, in RESULTS.md and in history/."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import accuracy
import speed
from _common import Parser, publish

RESULTS = Path(os.path.relpath(Path(__file__).with_name("RESULTS.md")))


def in_history() -> Path:
    """The file of this run: of this day, on a machine of this kind."""
    machine = f"{platform.machine()}-{speed.cores()}-cores"
    return RESULTS.parent / "history" / f"{datetime.date.today()}-{machine}.md"


def main() -> None:
    parser = speed.arguments(Parser(__doc__))
    parser.set_defaults(write=RESULTS)
    args = parser.parse_args()
    # Speed last: it is what needs a quiet machine, and nothing after it can lose its figures.
    own, shared = accuracy.measure(args.losses)
    measured = speed.measure(args.losses, args.elements, args.rounds, args.seconds)
    goals = "\n".join([*speed.goals(measured), *accuracy.goals(own)])
    text = f"""\
# Speed and accuracy

Written by `make bench`; every figure below, goals included, is from one run.

## Goals

{goals}

{speed.report(measured)}

{accuracy.report(own, shared)}"""
    publish(text, args.write)
    if args.losses is None and args.write == RESULTS:
        in_history().write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
