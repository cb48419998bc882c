"""Writes card and report of a kin, with the certificate where one lies there. Called by pipeline and `certify`."""

from __future__ import annotations

import json
from pathlib import Path

from minikin.base import atomic, extras
from minikin.base.manifest import CERTIFICATE, Manifest
from minikin.report import card, card_writing, page


def write(folder: Path, manifest: Manifest) -> Path:
    """(Re)write README.md and, where jinja2 is installed, report.html from report.json; return the report's path."""
    story = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if (folder / CERTIFICATE).is_file():
        story["certificate"] = json.loads((folder / CERTIFICATE).read_text(encoding="utf-8"))
    written = card_writing.card if story.get("task") == "generate" else card.card
    atomic.write_text(folder / "README.md", written(story, manifest.raw))
    if extras.has("jinja2"):
        atomic.write_text(folder / "report.html", page.page(story))
    return folder / "report.html"
