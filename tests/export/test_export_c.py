"""The exported C, compiled: it answers as the library does, to the bit, within the memory that it states."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import small
from minikin.package import export_c, export_source
from minikin.package.export_source import Source

from .conftest import BYTES, MAKERS, TEXTS, needed
from .library import Library, Pair

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
Compiled = tuple[Source, Path]


@pytest.fixture(scope="module")
def sources(kins, tmp_path_factory) -> dict[str, Compiled]:
    """Each kin's source and the folder of its C."""
    root = tmp_path_factory.mktemp("c")
    found = {name: (export_source.read(kin), root / name) for name, kin in kins.items()}
    for source, folder in found.values():
        export_c.write(source, folder)
    return found


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Library:
    return Library(needed("gcc", "clang"), tmp_path_factory.mktemp("library"))


def compiled(folder: Path, name: str, *flags: str, compiler: str = "gcc", main: bool = False) -> Path:
    out = folder / name
    more = ["main.c"] if main else ["-shared", "-fPIC"]
    command = [needed(compiler), *flags, "model.c", *more, "-o", str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return out


class Exported:
    """An exported model.c as a shared library."""

    def __init__(self, path: Path, source: Source) -> None:
        self.c, self.source = ctypes.CDLL(str(path)), source
        self.c.minikin_instructions.restype = ctypes.c_char_p

    def answer(self, text: bytes | Pair) -> tuple[np.ndarray, bool, int]:
        found = np.zeros(self.source.memory.classes, np.float32)
        at = found.ctypes.data_as(ctypes.c_void_p)
        if isinstance(text, tuple):
            sizes = [ctypes.c_size_t(len(side)) for side in text]
            best = self.c.minikin_classify_pair(text[0], sizes[0], text[1], sizes[1], at)
        else:
            best = self.c.minikin_classify(text, ctypes.c_size_t(len(text)), at)
        return found, bool(self.c.minikin_truncated()), best


def texts_of(source: Source) -> list[bytes] | list[Pair]:
    return list(zip(BYTES, reversed(BYTES), strict=True)) if source.manifest.pair else BYTES


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        *((kind, (*STRICT, "-O2")) for kind in MAKERS),
        ("encoder4", (*STRICT, "-O2", "-DMK_SCALAR_ONLY")),
        ("encoder", ("-std=gnu17", "-O3")),  # which would contract multiplications and additions
    ],
)
def test_answers_are_the_librarys_to_the_bit(sources, library, kind, flags) -> None:
    source, folder = sources[kind]
    exported = Exported(compiled(folder, f"answers{len(flags)}.so", *flags), source)
    memory = source.memory
    assert library.open(source.kernel, memory.classes, memory.tokens) == 0
    for instructions in small.INSTRUCTIONS:
        if not exported.c.minikin_use(instructions.encode()):
            continue
        for text in texts_of(source):
            expected, cut = library.answer(text)
            found, was_cut, best = exported.answer(text)
            assert found.tobytes() == expected.tobytes(), (instructions, text)
            assert (was_cut, best) == (cut, int(expected.argmax()))


@pytest.mark.parametrize("kind", MAKERS)
def test_the_memory_is_counted_as_the_kernel_counts(sources, library, kind) -> None:
    source, _ = sources[kind]
    memory = source.memory
    assert library.open(source.kernel, memory.classes, memory.tokens) == 0
    assert memory.workspace == library.workspace_bytes
    assert memory.ids == 4 * library.c.mk_ids_room(library.at)


@pytest.mark.parametrize(
    ("kind", "compiler", "level"),
    [("encoder", "gcc", "-O2"), ("static_pair", "gcc", "-O3"), ("encoder4", "clang", "-O3")],
)
def test_the_stated_sizes_are_true(sources, kind, compiler, level) -> None:
    source, folder = sources[kind]
    stated = dict(re.findall(r"#define (MINIKIN_\w+) (\d+)", (folder / "model.h").read_text()))
    subprocess.run([needed(compiler), "-std=c99", level, "-c", "model.c", "-o", "model.o"], cwd=folder, check=True)
    listed = subprocess.run(["size", "-A", "model.o"], cwd=folder, capture_output=True, text=True, check=True).stdout
    sizes = dict(re.findall(r"^(\.\S+)\s+(\d+)", listed, re.MULTILINE))
    changing = sum(int(sizes.get(name, 0)) for name in (".bss", ".data"))
    most = int(stated["MINIKIN_STATIC_BYTES"])
    assert most - export_c.VIEW_BYTES < changing <= most
    fixed = sum(int(size) for name, size in sizes.items() if name.startswith((".text", ".rodata")))
    assert len(source.kernel) < fixed <= len(source.kernel) + 1024 * export_c.CODE_KIB
    assert int(stated["MINIKIN_MODEL_BYTES"]) == len(source.kernel)


PAINTED = """
#include "model.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#define ROOM (256 * 1024)
static unsigned char stack[ROOM] __attribute__((aligned(4096)));
static void *work(void *path)
{
    char text[] = "where is my card? \\xed\\x95\\x9c\\xea\\xb5\\xad naïve [CLS] x";
    minikin_use(path);
#if MINIKIN_PAIR
    minikin_classify_pair(text, sizeof text - 1, text, 4, NULL);
#else
    minikin_classify(text, sizeof text - 1, NULL);
#endif
    return NULL;
}
int main(int count, char **arguments)
{
    pthread_t thread;
    pthread_attr_t attributes;
    size_t untouched = 0;
    memset(stack, 0xA5, ROOM);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, ROOM);
    if (count < 2 || pthread_create(&thread, &attributes, work, arguments[1]))
        return 1;
    pthread_join(thread, NULL);
    while (untouched < ROOM && stack[untouched] == 0xA5)
        untouched++;
    printf("%zu", ROOM - untouched);
    return 0;
}
"""


@pytest.mark.parametrize(("kind", "level"), [("encoder", "-O1"), ("pair", "-O3")])
def test_the_stack_stays_below_what_is_stated(sources, kind, level) -> None:
    _, folder = sources[kind]
    (folder / "painted.c").write_text(PAINTED)
    build = [needed("gcc"), "-std=gnu99", level, "-Wno-psabi", "model.c", "painted.c", "-lpthread", "-o", "painted"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    for path in small.INSTRUCTIONS:
        done = subprocess.run([folder / "painted", path], capture_output=True, text=True, check=True)
        assert int(done.stdout) < export_c.STACK_BYTES, path  # the thread's own descriptor is in it


@pytest.mark.parametrize("kind", ["encoder", "static_pair"])
def test_it_compiles_as_strict_c99_with_clang_too(sources, kind) -> None:
    compiled(sources[kind][1], "clang", *STRICT, "-O2", compiler="clang", main=True)


def test_nothing_but_its_own_names_is_seen_from_outside(sources) -> None:
    _, folder = sources["encoder"]
    library = compiled(folder, "names.so", *STRICT, "-O2")
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in listed.splitlines()}
    assert names - {"_init", "_fini", "__bss_start", "_edata", "_end"} == {
        *("minikin_classify", "minikin_instructions", "minikin_labels", "minikin_truncated", "minikin_use"),
    }


@pytest.mark.parametrize(("kind", "more"), [("pair", ()), ("static", ("-DMK_SCALAR_ONLY",))])
def test_the_example_is_clean_under_sanitizers(sources, kind, more) -> None:
    source, folder = sources[kind]
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *more)
    program = compiled(folder, "checked", *STRICT, *flags, main=True)
    lines = [text.replace(b"\n", b" ").replace(b"\r", b" ") for text in BYTES]
    separator = b"\tmy card\n" if source.manifest.pair else b"\n"
    done = subprocess.run([program], input=separator.join(lines) + separator, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    answers = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert len(answers) == len(lines)
    assert {label for label, _ in answers} <= set(source.manifest.labels)


def test_the_example_answers_arguments(sources) -> None:
    _, folder = sources["encoder"]
    program = compiled(folder, "example", *STRICT, "-O2", main=True)
    done = subprocess.run([program, "my card", ""], capture_output=True, text=True, check=True)
    assert [line.split("\t")[0][:6] for line in done.stdout.splitlines()] == ["label "] * 2


def test_a_changed_model_gives_no_answer(sources) -> None:
    source, folder = sources["static"]
    other = folder.parent / "changed"
    other.mkdir()
    for name, text in export_c.files(source).items():
        (other / name).write_text(text)
    text = (other / "model.c").read_text()
    start = text.index("model_words[MINIKIN")
    place = text.index("0x", start + 4000)
    (other / "model.c").write_text(text[:place] + "0x7," + text[text.index(",", place) + 1 :])
    exported = Exported(compiled(other, "changed.so", "-O1"), source)
    assert exported.answer(b"card")[2] == -1
    assert exported.c.minikin_classify(None, 0, None) == -2


def test_big_endian_and_fast_maths_are_refused(sources) -> None:
    _, folder = sources["static"]
    for flag, words in (
        ("-D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__", "little-endian"),
        ("-ffast-math", "-ffast-math"),
    ):
        command = [needed("gcc"), "-std=c99", flag, "-fsyntax-only", "model.c"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode != 0
        assert words in done.stderr


@pytest.mark.parametrize(
    "label",
    ['quo"te\\', "what??!", "caf\u00e91", "漢字", "line\nbreak\t", "\x01" + "1", "%s {{ words }}", "*/ //"],
)
def test_a_label_of_any_kind_survives(label, tmp_path) -> None:
    program = f'#include <stdio.h>\nint main(void) {{ fputs("{export_c.c_string(label)}", stdout); return 0; }}\n'
    (tmp_path / "p.c").write_text(program)
    subprocess.run([needed("gcc"), "-std=c99", "-Wall", "-Werror", "p.c", "-o", "p"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "p"], capture_output=True, check=True).stdout.decode() == label


def test_the_same_kin_gives_the_same_source(sources) -> None:
    source, folder = sources["encoder"]
    assert all((folder / name).read_text() == text for name, text in export_c.files(source).items())
    assert set(export_c.files(source)) == set(export_c.FILES)
    assert len(TEXTS) >= 45
