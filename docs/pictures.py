"""Takes the pictures of the documentation from finished pages, with Chromium.

    python docs/pictures.py demo=runs/mine comparison=docs/lab-notebook/comparison

Each argument names a folder that pages are in. Pictures whose folder is not given stay
as they are.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]

from browser import Browser, find_browser, open_browser  # noqa: E402

IMAGES = ROOT / "docs" / "images"
WIDTH, MARGIN = 1120, 8
"""Of a picture, and what it has above and below, in pixels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture shows: a part of a page, over its whole width."""

    folder: str
    """As the command line names it."""
    page: str
    """Its file in the folder, or a pattern that only it matches."""
    first: str
    """CSS selector of the element that it begins with."""
    last: str
    """And of the one that it ends with."""


PICTURES: Mapping[str, Picture] = {
    "report.png": Picture("demo", "report.html", "header", "nav"),
    "calibration.png": Picture(
        "demo", "report.html", "#calibration", "#calibration figure:last-of-type"
    ),
    "selection.png": Picture("demo", "report.html", "#selection", "#selection figure"),
    "teacher.png": Picture(
        "demo", "report.html", "#cases", "#cases details:nth-of-type(6)"
    ),
    "training.png": Picture("demo", "report.html", "#training", "#training figure"),
    "atlas-layers.png": Picture(
        "analysis", "atlas/*.html", "#layers", "#layers figure"
    ),
    "atlas-chance.png": Picture(
        "analysis", "atlas/*.html", "#chance", "#chance figure"
    ),
    "atlas-neurons.png": Picture(
        "analysis", "atlas/*.html", "#neurons", "#neurons .cells"
    ),
    "comparison.png": Picture(
        "comparison", "comparison.html", "header", "#results tr:nth-of-type(8)"
    ),
}
"""By their names in docs/images."""

EDGES = """(selectors => selectors.map(one => {
  const box = document.querySelector(one)?.getBoundingClientRect();
  return box && [box.top, box.bottom];
}))"""
"""Gives top and bottom of elements, in pixels from the top of the page."""


def take(browser: Browser, page: Path, picture: Picture) -> bytes:
    """Return a picture of a page, in light colours, as PNG.

    Raises:
        ValueError: If the page does not have what the picture shows.
    """
    screen = {"width": WIDTH, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    light = [{"name": "prefers-color-scheme", "value": "light"}]
    browser.ask("Emulation.setDeviceMetricsOverride", **screen)
    browser.ask("Emulation.setScrollbarsHidden", hidden=True)
    browser.ask("Emulation.setEmulatedMedia", features=light)
    browser.look_at(page)
    call = f"{EDGES}({json.dumps([picture.first, picture.last])})"
    reply = browser.ask("Runtime.evaluate", expression=call, returnByValue=True)
    first, last = reply["result"]["value"]
    if not first or not last:
        raise ValueError(f"{page} has no {picture.last if first else picture.first}")
    top = max(0.0, first[0] - MARGIN)
    clip = {"x": 0, "y": top, "width": WIDTH, "height": last[1] + MARGIN - top}
    shown = browser.ask(
        "Page.captureScreenshot", clip={**clip, "scale": 1}, captureBeyondViewport=True
    )
    return base64.b64decode(shown["data"])


def take_all(browser: Browser, folders: Mapping[str, Path]) -> Iterator[Path]:
    """Write every picture whose folder is given, and yield where.

    Raises:
        ValueError: If a folder does not have the page of a picture.
    """
    for name, picture in PICTURES.items():
        if picture.folder in folders:
            pages = list(folders[picture.folder].glob(picture.page))
            if len(pages) != 1:
                raise ValueError(f"{folders[picture.folder]}: not one {picture.page}")
            (IMAGES / name).write_bytes(take(browser, pages[0], picture))
            yield IMAGES / name


def main() -> int:
    """Take the pictures of the folders on the command line."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    names = {picture.folder for picture in PICTURES.values()}
    program = find_browser()
    if program is None or not given or given.keys() - names:
        print(f"{__doc__}\nFolders: {', '.join(sorted(names))}. Needs Chromium.")
        return 2
    with (
        tempfile.TemporaryDirectory() as profile,
        open_browser(program, Path(profile)) as browser,
    ):
        folders = {name: Path(folder) for name, folder in given.items()}
        for written in take_all(browser, folders):
            print(f"{written.stat().st_size:>9,} bytes  {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
