"""Speed and accuracy of every loss, as tables on screen and in RESULTS.md."""

from __future__ import annotations

import os
from pathlib import Path

import accuracy
import speed
from _common import Parser, publish

RESULTS = Path(os.path.relpath(Path(__file__).with_name("RESULTS.md")))


def main() -> None:
    parser = speed.arguments(Parser(__doc__))
    parser.set_defaults(write=RESULTS)
    args = parser.parse_args()
    measured = speed.measure(args.losses, args.elements, args.rounds, args.seconds)
    own, shared = accuracy.measure(args.losses)
    goals = "\n".join([*speed.goals(measured), *accuracy.goals(own)])
    text = f"""\
# Speed and accuracy

Written by `make bench`; every figure below, goals included, is from one run.

## Goals

{goals}

{speed.report(measured)}

{accuracy.report(own, shared)}"""
    publish(text, args.write)


if __name__ == "__main__":
    main()
