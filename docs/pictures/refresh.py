"""Makes the pictures of docs/examples.md anew.

python docs/pictures/refresh.py                     all of them, in about ten minutes
python docs/pictures/refresh.py fit_curve ...       those of these examples
python docs/pictures/refresh.py --from out          from pictures that are there already
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
WIDTHS, COLOURS, LIMIT = (800, 720, 640, 560), 128, 60_000


def shrink(source: Path, target: Path) -> None:
    """Write the picture as the site shows it: in a few colours, as wide as a card if it is light.

    Noise does not compress: a picture of it becomes less wide.
    """
    with Image.open(source) as image:
        image = image.convert("RGB")
    for width in WIDTHS:
        size = width, round(image.height * width / image.width)
        small = image.resize(size, Image.Resampling.LANCZOS)
        small = small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        small.save(target, optimize=True)
        if target.stat().st_size <= LIMIT:
            print(f"{target.name}: {width} wide, {target.stat().st_size} bytes")
            return
    raise SystemExit(f"{target.name} has more than {LIMIT} bytes")


def main() -> None:
    """Make those that are asked for."""
    names = sorted(path.stem for path in EXAMPLES.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="example", help="all if none is named")
    parser.add_argument("--from", dest="folder", type=Path, help="where their pictures are")
    options = parser.parse_args()
    for name in options.names:
        if name not in names:
            parser.error(f"no example is named {name!r}; there are {', '.join(names)}")
    with tempfile.TemporaryDirectory() as made:
        for name in options.names or names:
            picture = (options.folder or Path(made)) / f"{name}.png"
            if options.folder is None:
                command = [sys.executable, EXAMPLES / f"{name}.py", "--out", picture]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            elif not picture.exists():
                parser.error(f"{picture} is not there")
            shrink(picture, HERE / f"{name}.png")


if __name__ == "__main__":
    main()
