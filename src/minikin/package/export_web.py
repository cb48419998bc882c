"""Writes a kin as one HTML page that needs no network, or as a folder for a server. Called by `minikin export`.

The page holds the kernel as WebAssembly and the kin's kernel file, and its security policy forbids every connection.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html import escape
from pathlib import Path
from typing import Any, Final

from minikin.base import atomic
from minikin.base.errors import MinikinError
from minikin.package.export_source import KERNEL, TEMPLATES, Source, filled, starts_with

FILES: Final = (
    "index.html",
    "page.css",
    "page.js",
    "kernel.wasm",
    "model.kernel",
    "worker.js",
    "icon.svg",
    "manifest.webmanifest",
)
MARK: Final = '<meta name="generator" content="minikin">'
"""Stands in the head of every page."""

LOOK: Final = Path(__file__).parent.parent / "report" / "look.css"
PAGE_POLICY: Final = (
    "default-src 'none'; script-src {script} 'wasm-unsafe-eval'; style-src {style}; connect-src 'none'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
FOLDER_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)
SENTENCES: Final = {
    False: {
        "title": "Which label does a text get?",
        "ask": "One text",
        "list": "a list with a text on each line",
        "lines": "lines; each is a text",
        "column": "Column of the text",
    },
    True: {
        "title": "Which label do two texts get?",
        "ask": "Two texts",
        "list": "lines of two texts with a tab between them",
        "lines": "lines; a tab parts the two texts",
        "column": "Column of the first text",
    },
}


def write_page(source: Source, path: Path) -> None:
    """Write the kin as one HTML file, which appears whole."""
    atomic.write_text(path, page(source))


def page(source: Source) -> str:
    """Return one HTML document that opens from a disk, answers offline, and can connect to nothing."""
    style, script = stylesheet(), _script("load_inline.js")
    parts = {"wasm": deflated(wasm()), "model": deflated(source.kernel)}
    data = "\n".join(f'<script type="text/plain" id="{name}">{text}</script>' for name, text in parts.items())
    return _document(
        source,
        policy=PAGE_POLICY.format(script=_hash(script), style=_hash(style)),
        head=f'<link rel="icon" href="data:,">\n<style>{style}</style>',
        scripts=f"{_described(source)}\n{data}\n<script>{script}</script>",
        promise="The model is inside this page. It answers on this device, and the page can connect to nothing.",
    )


def is_ours(path: Path) -> bool:
    """Whether a page, or a folder, is an earlier export."""
    return starts_with(path / "index.html" if path.is_dir() else path, MARK)


def write(source: Source, folder: Path) -> None:
    """Write the kin as a folder for a web server; it appears whole and replaces an earlier export."""
    with atomic.folder(folder) as out:
        for name, data in files(source).items():
            (out / name).write_bytes(data)


def files(source: Source) -> dict[str, bytes]:
    """Return every file of the folder form by its name."""
    found = {
        "index.html": _document(
            source,
            policy=FOLDER_POLICY,
            head='<link rel="icon" href="icon.svg">\n<link rel="manifest" href="manifest.webmanifest">\n'
            '<link rel="stylesheet" href="page.css">',
            scripts=f'{_described(source)}\n<script src="page.js"></script>',
            promise="It answers on this device: what you type is sent nowhere. After this visit it needs no network.",
        ).encode(),
        "page.css": stylesheet().encode(),
        "page.js": _script("load_fetched.js").encode(),
        "kernel.wasm": wasm(),
        "model.kernel": source.kernel,
        "icon.svg": (TEMPLATES / "web" / "icon.svg").read_bytes(),
        "manifest.webmanifest": _web_manifest(source).encode(),
    }
    version = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in found.values())).hexdigest()[:16]
    listed = json.dumps(["./", *found])
    found["worker.js"] = filled("web/worker.js", {"version": version, "files": listed}).encode()
    return found


def wasm() -> bytes:
    """Return the kernel as a WebAssembly module. Raises MinikinError when this installation lacks it."""
    path = KERNEL / "kernel.wasm"
    if not path.is_file():
        raise MinikinError(f"{path} is missing. Install minikin again, or build the file with: make wasm")
    return path.read_bytes()


def stylesheet() -> str:
    """Return the page's style: the look of the report, and what is its own."""
    return LOOK.read_text(encoding="utf-8") + (TEMPLATES / "web" / "page.css").read_text(encoding="utf-8")


def deflated(data: bytes) -> str:
    """Return base64 of the raw deflate stream, which kernel.js undoes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(packer.compress(data) + packer.flush()).decode("ascii")


def _script(load: str) -> str:
    names = ("kernel.js", load, "page.js")
    return "\n".join((TEMPLATES / "web" / name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    """The name of an inline script or style in a policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _document(source: Source, *, policy: str, head: str, scripts: str, promise: str) -> str:
    labels, pair = source.manifest.labels, source.manifest.pair
    values: dict[str, Any] = {
        "policy": policy,
        "head": head,
        "name": escape(source.name),
        "kind": f"sorts {'pairs of texts' if pair else 'texts'} into {len(labels)} labels",
        "promise": promise,
        "fields": _fields(pair),
        "facts": "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in _facts(source).items()),
        "count": len(labels),
        "labels": " ".join(f"<span>{escape(label)}</span>" for label in labels),
        **SENTENCES[pair],
        "scripts": scripts,
    }
    return filled("web/page.html", values)


def _fields(pair: bool) -> str:
    names = {"text": "First text", "text2": "Second text"} if pair else {"text": "Text"}
    focus = " autofocus"
    return "\n  ".join(
        f'<label for="{field}">{name}</label>\n  <textarea id="{field}" rows="{2 if pair else 3}" '
        f'autocomplete="off" aria-describedby="hint"{focus if field == "text" else ""}></textarea>'
        for field, name in names.items()
    )


def _facts(source: Source) -> dict[str, str]:
    """What the page says about the kin."""
    found, raw = source.manifest, source.manifest.raw
    facts = {
        "Model": f"{found.family}, {found.scheme}, {len(source.kernel) / 2**20:.2f} MiB",
        "Reads": f"up to {found.max_length} tokens {'of both texts together' if found.pair else 'of a text'}",
    }
    measured = (raw.get("measurements") or {}).get("student") or {}
    if isinstance(accuracy := measured.get("accuracy"), float):
        facts["Measured"] = f"{100 * accuracy:.1f} % of the test texts get the right label"
    facts["Privacy"] = "What you type stays in this page. Nothing is stored, counted or sent."
    return facts


def _described(source: Source) -> str:
    """What the script must know of the kin, as JSON in the page."""
    values = {
        "labels": source.manifest.labels,
        "pair": source.manifest.pair,
        "tokens": source.manifest.max_length,
        "file": re.sub(r"[^\w.-]+", "-", source.name),
    }
    text = json.dumps(values, ensure_ascii=True).replace("<", "\\u003c")
    return f'<script type="application/json" id="kin">{text}</script>'


def _web_manifest(source: Source) -> str:
    values = {
        "name": source.name,
        "short_name": source.name[:12],
        "start_url": "./",
        "display": "standalone",
        "background_color": "#fdfcfa",
        "theme_color": "#0a5ea8",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}],
    }
    return json.dumps(values, indent=2) + "\n"
