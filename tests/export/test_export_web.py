"""The exported page and folder: what they may contact, and that they answer as the library does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minikin.base.errors import MinikinError
from minikin.package import export_source, export_web
from minikin.package.export_source import KERNEL, Source

from .conftest import MAKERS, TEXTS, needed
from .library import Library

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Library:
    return Library(needed("gcc", "clang"), tmp_path_factory.mktemp("library"))


def in_node(page: Path, given: dict[str, Any], *more: Path) -> dict[str, Any]:
    command = [needed("node"), str(HERE / "answers.mjs"), str(page), *map(str, more)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_browser(address: Path, steps: list[dict[str, str]]) -> list[Any]:
    command = [needed("node"), str(HERE / "browser.mjs"), needed("chromium", "google-chrome"), address.as_uri()]
    done = subprocess.run(command, input=json.dumps(steps), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def texts_of(source: Source) -> list[Any]:
    return [[a, b] for a, b in zip(TEXTS, reversed(TEXTS), strict=True)] if source.manifest.pair else TEXTS


def equal_to(library: Library, source: Source, answers: list[dict[str, Any]]) -> None:
    """The page's answers are the library's, to the bit."""
    memory = source.memory
    assert library.open(source.kernel, memory.classes, memory.tokens) == 0
    texts = texts_of(source)
    assert len(answers) == len(texts)
    for text, found in zip(texts, answers, strict=True):
        expected, cut = library.answer(tuple(s.encode() for s in text) if isinstance(text, list) else text.encode())
        assert np.array(found["probabilities"], np.float32).tobytes() == expected.tobytes(), text
        assert (found["best"], found["truncated"]) == (int(expected.argmax()), cut), text


@pytest.mark.parametrize("kind", MAKERS)
def test_the_page_answers_as_the_library_does(kins, library, tmp_path, kind) -> None:
    source = export_source.read(kins[kind])
    export_web.write_page(source, tmp_path / "kin.html")
    equal_to(library, source, in_node(tmp_path / "kin.html", {"texts": texts_of(source)})["answers"])


def test_a_rebuilt_module_answers_the_same(kins, library, tmp_path) -> None:
    needed("clang"), needed("wasm-ld"), needed("make")
    module = tmp_path / "kernel.wasm"
    done = subprocess.run(["make", "wasm", f"WASM_OUT={module}"], cwd=ROOT, capture_output=True, text=True)
    if "No available targets are compatible" in done.stderr:
        pytest.skip("needs a clang that knows wasm32")
    assert done.returncode == 0, done.stderr
    for kind in ("encoder4", "static_pair"):
        source = export_source.read(kins[kind])
        export_web.write_page(source, tmp_path / "kin.html")
        equal_to(library, source, in_node(tmp_path / "kin.html", {"texts": texts_of(source)}, module)["answers"])


class Parts(HTMLParser):
    """Collects the tags, the policy, and the text of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inline.append((*self.tags[-1], data))


def policy_of(html: str) -> dict[str, str]:
    [content] = [a["content"] for t, a in Parts(html).tags if a.get("http-equiv") == "Content-Security-Policy"]
    return {name: rest for name, _, rest in (part.strip().partition(" ") for part in str(content).split(";"))}


@pytest.mark.parametrize("kind", ["encoder", "pair"])
def test_the_page_can_contact_nothing(kins, kind) -> None:
    html = export_web.page(export_source.read(kins[kind]))
    policy = policy_of(html)
    assert policy["default-src"] == policy["connect-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe-inline" not in str(policy)
    assert "unsafe-eval'" not in policy["script-src"].replace("'wasm-unsafe-eval'", "")
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]", html, re.IGNORECASE)
    parts = Parts(html)
    assert not [tag for tag, attrs in parts.tags if "src" in attrs or tag in ("form", "iframe", "base", "object", "a")]
    assert [attrs["href"] for _, attrs in parts.tags if "href" in attrs] == ["data:,"]
    assert not [attrs for _, attrs in parts.tags if "style" in attrs or any(name.startswith("on") for name in attrs)]
    run = [(tag, text) for tag, attrs, text in parts.inline if attrs.get("type") is None]
    assert sorted(tag for tag, _ in run) == ["script", "style"]
    for tag, text in run:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[f"{tag}-src"]


def test_names_are_text_and_never_markup(tmp_path) -> None:
    from dataclasses import replace

    from .conftest import write

    evil = "</script><b>&\"' {{ labels }} \u2028"
    student = replace(MAKERS["static"](), labels=(evil, *(f"l{i}" for i in range(4))))
    html = export_web.page(export_source.read(write(tmp_path / "kin", student, name=evil)))
    parts = Parts(html)
    [kin] = [text for _, attrs, text in parts.inline if attrs.get("id") == "kin"]
    assert json.loads(kin)["labels"][0] == evil
    assert evil not in html
    assert html.count("</script>") == 4


@pytest.mark.parametrize(("kind", "fields"), [("encoder", ["text"]), ("static_pair", ["text", "text2"])])
def test_every_field_has_a_label(kins, kind, fields) -> None:
    parts = Parts(export_web.page(export_source.read(kins[kind])))
    labelled = {attrs.get("for") for tag, attrs in parts.tags if tag == "label"}
    named = [str(attrs["id"]) for tag, attrs in parts.tags if tag in ("textarea", "select", "input")]
    assert set(named) <= labelled
    assert [name for name in named if name.startswith("text")] == fields
    assert ("html", {"lang": "en"}) in parts.tags
    assert any(attrs.get("name") == "viewport" for _, attrs in parts.tags)


def test_pasted_tables_are_read_and_written(kins, tmp_path) -> None:
    export_web.write_page(export_source.read(kins["static"]), tmp_path / "kin.html")
    tables = [
        'id,text\r\n1,"a, ""b""\nc"\r\n2,\r\n\r\n3,x',
        "id\ttext\n1\twhere, is it",
        'a,"b\n',
    ]
    found = in_node(tmp_path / "kin.html", {"tables": tables})["tables"]
    assert found[0]["rows"] == [["id", "text"], ["1", 'a, "b"\nc'], ["2", ""], ["3", "x"]]
    assert found[0]["again"] == 'id,text\r\n1,"a, ""b""\nc"\r\n2,\r\n3,x\r\n'
    assert [(table["separator"], table["table"]) for table in found] == [(",", True), ("\t", True), (",", False)]
    assert found[2]["rows"] == [["a", "b\n"]]


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("no table here\njust lines", False),
        ("Hi, there\nYes, please\nOk, thanks", False),
        ("Well, yes\nI lost my card", False),
        ("Dear Sir,\nThanks,", False),
        ("yes,please\nno", False),
        ("1,lost card\n2,late card", False),
        ("id,text,note\n1,hello\n2,bye,x,extra", False),
        ("id,text\n1,lost card", True),
        ('first name,text\nMia,"Well, yes"\n', True),
        ("id\ttext\n1\tWell, yes", True),
        ("id,text\n" + "1,lost card\n" * 5000, True),
        ("id,text\n1," + "lost card " * 5000, True),
        ("id,text\n1,a\n2\n3," + "lost card " * 5000, False),
    ],
)
def test_only_what_has_a_header_and_even_rows_is_a_table(kins, tmp_path, text, table) -> None:
    export_web.write_page(export_source.read(kins["static"]), tmp_path / "kin.html")
    assert in_node(tmp_path / "kin.html", {"tables": [text]})["tables"][0]["table"] is table


def test_lines_of_two_texts_are_no_table(kins, tmp_path) -> None:
    export_web.write_page(export_source.read(kins["static_pair"]), tmp_path / "kin.html")
    tables = [
        "lost card\tcard gone\nlate card\twhere is it",
        "first\tsecond\nlost card\tcard gone",
        "id\ta b\tc d\n1\tx\ty",
    ]
    found = in_node(tmp_path / "kin.html", {"tables": tables, "pair": True})["tables"]
    assert [table["table"] for table in found] == [False, True, True]


@pytest.mark.parametrize("separator", [",", "\t"])
def test_answers_to_ragged_rows_have_a_column_of_their_own(kins, tmp_path, separator) -> None:
    export_web.write_page(export_source.read(kins["static"]), tmp_path / "kin.html")
    ragged = "id,text,note\n1,hello\n2,bye,x,extra\n3,yo,z".replace(",", separator)
    [found] = in_node(tmp_path / "kin.html", {"tables": [ragged]})["tables"]
    rows = ["id,text,note,,label,confidence", "1,hello,,,L,0.9", "2,bye,x,extra,L,0.9", "3,yo,z,,L,0.9"]
    assert found["labelled"].splitlines() == rows


def test_the_keyboard_keeps_its_place_in_a_batch(kins, tmp_path) -> None:
    export_web.write_page(export_source.read(kins["encoder"]), tmp_path / "kin.html")
    many = "$('batch').value = 'lost card, or not\\n'.repeat(200000)"
    place = {"ask": "[document.activeElement.id, $('stop').hidden]"}
    steps = [
        {"until": "document.body.dataset.ready !== undefined"},
        {"ask": f"$('batch').hidden = true; {many}; $('start').focus()"},  # hidden, as drawing so much takes long
        *({"key": "Enter"}, place),  # answers
        *({"key": "Enter"}, place),  # is busy: nothing
        *({"key": "Tab"}, place),
        *({"key": "Enter"}, {"until": "$('stop').hidden"}, place),  # stops
        {"ask": "$('done').textContent"},
    ]
    *places, told = in_browser(tmp_path / "kin.html", steps)[1:]
    assert places == [["start", False], ["start", False], ["stop", False], ["start", True]]
    assert "stopped before" in told


def contrast(colour: str, ground: str) -> float:
    """The ratio of WCAG 2 between two colours as CSS writes them, rgb(r, g, b)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(colour), luminance(ground)))
    return (light + 0.05) / (dark + 0.05)


def test_a_folder_opened_from_a_disk_says_what_to_do(kins, tmp_path) -> None:
    export_web.write(export_source.read(kins["static"]), tmp_path / "web")
    colours = {"ask": "[getComputedStyle($('fault')).color, getComputedStyle(document.body).backgroundColor]"}
    steps = [
        {"until": "!$('fault').hidden"},
        {"ask": "$('fault').textContent"},
        {"ask": "$('batch').value = 'lost card'; $('start').click()"},
        {"ask": "$('done').textContent"},
        *({"scheme": "light"}, colours, {"scheme": "dark"}, colours),
    ]
    fault, _, told, light, dark = in_browser(tmp_path / "web" / "index.html", steps)
    assert "Serve this folder" in fault
    assert "--to html" in fault
    assert "browser of 2023" not in fault
    assert told == "The model could not be loaded."
    assert light != dark
    assert min(contrast(*light), contrast(*dark)) >= 4.5


def test_the_folder_keeps_every_file_it_has(kins, tmp_path) -> None:
    source = export_source.read(kins["encoder"])
    export_web.write(source, tmp_path / "web")
    names = {path.name for path in (tmp_path / "web").iterdir()}
    assert names == set(export_web.FILES)
    worker = (tmp_path / "web" / "worker.js").read_text()
    kept = json.loads(re.search(r"FILES = (\[.*\]);", worker)[1])  # type: ignore[index]
    assert set(kept) == {"./", *names} - {"worker.js"}
    index = (tmp_path / "web" / "index.html").read_text()
    assert policy_of(index)["connect-src"] == "'self'"
    assert not re.search(r"https?:", index)
    manifest = json.loads((tmp_path / "web" / "manifest.webmanifest").read_text())
    assert manifest["name"] == "encoder"
    assert {manifest["icons"][0]["src"]} <= names
    assert (tmp_path / "web" / "model.kernel").read_bytes() == source.kernel


def test_another_kin_is_another_store(kins) -> None:
    one, other = (export_web.files(export_source.read(kins[name]))["worker.js"] for name in ("encoder", "static"))
    assert one != other
    assert one == export_web.files(export_source.read(kins["encoder"]))["worker.js"]


def test_a_missing_module_says_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(export_web, "KERNEL", tmp_path)
    with pytest.raises(MinikinError, match="make wasm"):
        export_web.wasm()


def test_the_module_needs_nothing_from_the_page() -> None:
    node = shutil.which("node") or pytest.skip("needs node")
    program = "const m = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));"
    program += "console.log(JSON.stringify(WebAssembly.Module.imports(m)))"
    done = subprocess.run(
        [node, "-e", program, str(KERNEL / "kernel.wasm")], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
