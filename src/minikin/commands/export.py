"""`minikin export`: a kin as C source, as one HTML page, or as a folder for a web server; an adapter as GGUF."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from minikin.base import atomic
from minikin.base.errors import UserError
from minikin.package import export_c, export_source, export_web, gguf_lora

FORMS = ("c", "html", "web", "gguf-lora")
FOLDERS = {"c": export_c, "web": export_web}


def export(kin: Path, form: str, out: Path, base: Path | None = None) -> None:
    """Write the kin in that form, or an adapter of the kin `base` as GGUF, and print what was written.

    Raises UserError for an unknown form, a kin that the kernel can't run, or a place that holds something else.
    """
    if form not in FORMS:
        raise UserError(f"--to {form}: give one of {', '.join(FORMS)}.")
    if (form == "gguf-lora") != (base is not None):
        raise UserError(
            "--for names the kin that an adapter was trained on: give it with --to gguf-lora, and only there."
        )
    if base is not None:
        _adapter(kin, base, out)
        return
    source = export_source.read(kin)
    if form == "html":
        if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
            raise UserError(f"--to html writes one file, and {out} is none. Give one with -o, such as {kin.name}.html.")
        if out.exists() and not export_web.is_ours(out):
            raise UserError(f"{out} is a page that minikin did not write. Give another name with -o.")
        export_web.write_page(source, out)
        written = [out]
    else:
        writer = FOLDERS[form]
        _refuse_to_replace(out, writer.FILES, writer.is_ours(out))
        writer.write(source, out)
        written = [out / name for name in writer.FILES]
    _told(written)


def _adapter(adapter: Path, base: Path, out: Path) -> None:
    if out.suffix != ".gguf" or out.is_dir():
        raise UserError(f"--to gguf-lora writes one file. Give one with -o, such as {adapter.name}.gguf.")
    if out.exists() and not export_source.starts_with(out, "adapter.type"):
        raise UserError(f"{out} holds something else than an adapter. Give another name with -o.")
    gguf_lora.write(adapter, base, out)
    _told([out])


def _told(written: Sequence[Path]) -> None:
    for path in written:
        sys.stdout.write(f"{path}  {path.stat().st_size / 1024:,.0f} KiB\n")


def _refuse_to_replace(folder: Path, names: tuple[str, ...], ours: bool) -> None:
    """An export replaces a folder as a whole, so nothing but an earlier export may be in it."""
    atomic.refuse_current(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file. Give a folder with -o.")
    others = sorted(path.name for path in folder.iterdir() if path.name not in names or not ours)
    if others:
        raise UserError(f"{folder} holds something else than an export: {others[0]}. Give a new folder with -o.")
