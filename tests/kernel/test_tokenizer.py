"""The kernel's tokenizer against `tokenizers`, the Python runtime, and bytes that are no tokenizer."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Full
from tokenizers import normalizers

import minikin
import small
from minikin.base.errors import UserError
from minikin.compress import vocabulary
from minikin.package.tokenizer_section import byte_characters, can_run, section
from minikin.runtimes.tokenize import Tokenizer

SOURCES = Path(minikin.__file__).parent / "kernel"
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here")

MAX_LENGTH = 128
MOST = 40 * (MAX_LENGTH + 16)
UNREACHED = 1 << 20
SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


class Opened(ctypes.Structure):
    """The public front of mk_tokenizer, and room for the rest."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("kind", "flags", "vocab_size", "max_characters")),
        *((name, ctypes.c_int32) for name in ("cls_id", "sep_id", "pad_id", "unk_id")),
        ("rest", ctypes.c_uint64 * 64),
    ]


@cache
def library() -> ctypes.CDLL:
    """The C file as a shared library; CFLAGS adds to the flags, such as -fsanitize=address."""
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC"]
    flags += os.environ.get("CFLAGS", "").split()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "tokenizer.so"
        subprocess.run([str(COMPILER), *flags, str(SOURCES / "tokenizer.c"), "-o", str(target)], check=True)
        loaded = ctypes.CDLL(str(target))
    loaded.mk_tokenizer_work.restype = ctypes.c_size_t
    loaded.mk_tokenizer_open.argtypes = [ctypes.POINTER(Opened), ctypes.c_void_p, ctypes.c_size_t]
    loaded.mk_tokenizer_work.argtypes = [ctypes.POINTER(Opened), ctypes.c_size_t]
    loaded.mk_tokenize.argtypes = [
        ctypes.POINTER(Opened),
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_int),
        ctypes.c_void_p,
        ctypes.c_size_t,
    ]
    return loaded


class Kernel:
    """A section, opened by the C code."""

    def __init__(self, blob: bytes) -> None:
        self.blob = ctypes.create_string_buffer(blob, max(1, len(blob)))
        self.opened = Opened()
        self.status = library().mk_tokenizer_open(self.opened, self.blob, len(blob))

    def ids(self, text: str | bytes, capacity: int = UNREACHED, work: int | None = None) -> tuple[list[int], bool]:
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        capacity_made = min(capacity, 4 * len(data) + 8)
        found, truncated = (ctypes.c_int32 * (capacity_made + 1))(), ctypes.c_int(-1)
        found[capacity_made] = -7
        size = library().mk_tokenizer_work(self.opened, len(data)) if work is None else work
        area = ctypes.create_string_buffer(size) if size else None
        count = library().mk_tokenize(self.opened, data, len(data), found, capacity_made, truncated, area, size)
        assert found[capacity_made] == -7
        if count < 0:
            raise MemoryError(count)
        assert count <= capacity_made
        assert truncated.value in (0, 1)
        return list(found[:count]), bool(truncated.value)


class Pair:
    """A tokenizer twice: by the kernel and by `tokenizers`."""

    def __init__(self, spec: str, max_length: int = MAX_LENGTH) -> None:
        self.spec, self.most = spec, 40 * (max_length + 16)
        self.kernel = Kernel(section(spec, max_length))
        assert self.kernel.status == 0
        self.full = Full.from_str(spec)
        self.full.no_truncation()
        self.full.no_padding()

    def expected(self, text: str | bytes, capacity: int) -> tuple[list[int], bool]:
        whole = text.encode("utf-8", "replace").decode() if isinstance(text, str) else text.decode("utf-8", "replace")
        ids = self.full.encode(whole[: self.most], add_special_tokens=False).ids
        return ids[:capacity], len(ids) > capacity or len(whole) > self.most

    def check(self, text: str | bytes, *capacities: int) -> None:
        for capacity in capacities or (UNREACHED,):
            assert self.kernel.ids(text, capacity) == self.expected(text, capacity), repr(text[:200])


def changed(spec: str, part: str, **values: object) -> str:
    whole = json.loads(spec)
    whole[part] = {**(whole[part] or {}), **values}
    return json.dumps(whole)


def with_added(spec: str, *tokens: dict) -> str:
    whole = json.loads(spec)
    new = max([*whole["model"]["vocab"].values(), *(token["id"] for token in whole["added_tokens"])]) + 1
    whole["added_tokens"] += [SPECIAL | {"id": new + i} | token for i, token in enumerate(tokens)]
    return json.dumps(whole)


def letters_of(texts: Iterable[str]) -> str:
    """The small tokenizer with every character of some texts as a piece, at the start of a word and inside."""
    whole = json.loads(small.tokenizer_json())
    pieces = whole["model"]["vocab"]
    for character in sorted({c for text in texts for c in text}):
        for piece in (character, "##" + character):
            pieces.setdefault(piece, len(pieces))
    return json.dumps(whole)


def byte_level(merges: Sequence[tuple[str, str]], *, prefix: bool = False, added: Sequence[dict] = ()) -> str:
    """A byte-level BPE tokenizer with these merges."""
    pieces = [*sorted(byte_characters()), *dict.fromkeys(left + right for left, right in merges)]
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [list(merge) for merge in merges],
        },
    }
    return with_added(json.dumps(spec), *added)


def data() -> Path:
    for folder in (os.environ.get("MINIKIN_DATA"), Path(__file__).parents[3] / "shared" / "data"):
        if folder and (Path(folder) / "tokenizers").is_dir():
            return Path(folder)
    pytest.skip("the public sets are not here (set MINIKIN_DATA)")


def lines(folder: Path, every: int) -> Iterator[str]:
    """Each `every`th line of every text file of the public sets."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".csv", ".json", ".jsonl", ".tsv", ".txt", ".md", ".yaml", ".conllu", ".conll"):
            for i, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
                if i % every == 0:
                    yield line


ODD = [
    "",
    " ",
    "Where is my CARD?",
    "naïve café — ünïcödé ☃ 漢字 ẞ ß Å",
    "ﬁ ﬂ ﬃ ǆ ǅ Ǆ Ⅳ ⅳ ① ㈱ ㎏",
    "İstanbul ıI iİ I\u0307 i\u0307",
    "ΌΣΟΣ ΣΑΣ. σς Σ",
    "한국어 각 갂 힣 ㄱ 각 가\u11a8",
    "豈 更 車 \ufa0e \U0002f800 \U00020000 漢字かな交じり文 カタカナ ｶﾞ",
    "a\0b\x01c\x7fd\x85e\x0bf\x0cg\x1ch",
    "a\u200db\u200cc\ufeffd\u00ade\u2028f\u2029g\u00a0h\u3000i\u1680j\u180ek",
    "👩‍👩‍👧‍👦 🏳️‍🌈 1️⃣ 🇩🇪 e👍🏽",
    "שלום עולם مرحبا بالعالم \u202eabc\u202c",
    "[SEP] [CLS]x[MASK] [sep] [SEP [[SEP]] [UNK][PAD]",
    "don't 'tis we'll I'd've it's''s 's 'S 're",
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101 + " card",
    "é" * 100 + " " + "é" * 101,
    "A\u0301\u0323\u0327 o\u0323\u0302 o\u0302\u0323 \u0344 \u0f73",
    "\U0001d15e\U0001d16d\U0001d165 \u1baa\u302e \u302e\u1baa a\u08d4\u1b44 a\u08d4\u0b3f\u1b44 a\u08d4\u0345\u1b44",
    "\u0cc7 \u0cca \u0dda \u09cb \u1b06 \U000115ba क्षि தமிழ் ไทย",
    "\uffff \ufffd \U0010ffff \ue000 \u0378 \U000e0001",
    "#hash ##ed ##ing card##ed a_b a-b a–b «a» ¿a? a・b a。b $5 +1 ^x `y` ~z |w <v> =",
    "tab\tnew\nline\r\nend  two   three    ",
    "  \n\n  leading and trailing \t\n ",
]


@cache
def bert() -> Pair:
    return Pair(letters_of(ODD))


BERT_FLAGS = [
    {"clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": strip, "lowercase": lower}
    for clean in (True, False)
    for chinese in (True, False)
    for strip in (True, False, None)
    for lower in (True, False)
]


@pytest.mark.parametrize("flags", BERT_FLAGS, ids=str)
def test_hard_cases_whatever_the_normaliser_does(flags):
    pair = Pair(changed(letters_of(ODD), "normalizer", **flags))
    for text in ODD:
        pair.check(text, UNREACHED, 0, 1, 5)


@pytest.mark.parametrize(
    "text",
    [
        "x" * (1 << 20),
        "é" * (1 << 20),
        "漢" * (1 << 20),
        "!" * (1 << 20),
        " " * (1 << 20),
        "\0" * (1 << 20),
        "\ud800" * 1000,
        "card " * 100_000,
        "e" + "\u0301" * 5000 + " card",
        "e" + "\u08d4\u1baa" * 3000 + " card",
        "e" + "\u302e\u1baa" * 45 + " card",
        "card" * 25 + " " + "card" * 26,
        "x" * MOST,
        "x " * (MOST // 2) + "y",
        "é " * (MOST // 2) + "y",
    ],
    ids=lambda text: f"{text[:3]!a}x{len(text)}",
)
def test_huge_texts(text):
    for pair in (bert(), Pair(byte_level([("a", "a"), ("x", "x"), ("xx", "xx"), ("Ġ", "Ġ"), ("Ã", "©")]))):
        pair.check(text, UNREACHED, 126)


@settings(max_examples=600, deadline=None)
@given(
    st.text()
    | st.text(st.characters(max_codepoint=127), max_size=80)
    | st.text("".join(ODD), max_size=40)
    | st.lists(st.sampled_from([*small.WORDS, *small.SPECIALS, "\t", "\0", "x" * 101, "É", "\u0301"])).map("".join),
    st.integers(0, 12),
)
def test_any_text(text, capacity):
    bert().check(text, UNREACHED, capacity)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"\xed", b"\xf0\x9f", b"\x80", b"\xe2\x82\xac", b"a", b" "])).map(b"".join)
)
def test_invalid_utf8_reads_as_pythons_replacement(data_of_text):
    bert().check(data_of_text)
    merging().check(data_of_text)


def test_every_character_alone_and_in_words():
    kernel, full = bert().kernel, bert().full
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(codes), 500):
        text = "".join(f"a{chr(code)}b " for code in codes[start : start + 500])
        assert kernel.ids(text)[0] == full.encode(text, add_special_tokens=False).ids, hex(codes[start])


CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and code != ord("|")]


def each(normalize: Callable[[str], str], texts: Sequence[str]) -> dict[str, str]:
    """What a normaliser makes of each text, asked for a thousand at once."""
    chunks = [texts[start : start + 1000] for start in range(0, len(texts), 1000)]
    return dict(zip(texts, chain(*(normalize("|".join(chunk)).split("|") for chunk in chunks)), strict=True))


@cache
def normalisers(clean_text: bool = True, **flags: bool) -> Callable[[str], str]:
    return normalizers.BertNormalizer(clean_text, handle_chinese_chars=True, **flags).normalize_str


@pytest.mark.parametrize(("strip", "lower"), [(True, False), (False, True)])
def test_every_character_that_is_mapped(strip, lower):
    normalize = normalisers(strip_accents=strip, lowercase=lower)
    results = {c: result for c, result in each(normalize, CHARACTERS).items() if result not in (c, f" {c} ")}
    assert len(results) > 1400
    spec = changed(letters_of([*results, *results.values()]), "normalizer", strip_accents=strip, lowercase=lower)
    pair, words = Pair(spec), [f"{c}a{c}" for c in results]
    for start in range(0, len(words), 500):
        pair.check(" ".join(words[start : start + 500]))


@cache
def reordering() -> tuple[Pair, list[str], list[str]]:
    """A tokenizer with pieces for combining characters that strip_accents keeps, these, and those that it drops."""
    stripped = normalisers(clean_text=False, strip_accents=True, lowercase=False)
    nfd = normalizers.NFD().normalize_str
    results, overtaken = each(stripped, CHARACTERS), each(nfd, [f"a{c}\u0334" for c in CHARACTERS])
    kept = [c for c in CHARACTERS if results[c] == c and overtaken[f"a{c}\u0334"] == f"a\u0334{c}"]
    return Pair(letters_of(kept)), kept, [c for c in CHARACTERS if results[c] == ""]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_combining_characters_are_brought_into_order(data):
    pair, kept, dropped = reordering()
    character = st.sampled_from(kept) | st.sampled_from(dropped) | st.sampled_from("a. \u0b3f\u1baa\u08d4\u302e")
    pair.check("a" + data.draw(st.text(character, max_size=30)))


def test_marks_hold_back_what_comes_after_them():
    pair, kept, dropped = reordering()
    assert len(dropped) < 2000
    for first in (kept[0], kept[-1], "\u1baa", "\u302e"):
        pair.check(" ".join(f"a{first}{mark}\u1baa" for mark in dropped[:1000]))
        pair.check(" ".join(f"a{first}{mark}\u1baa" for mark in dropped[1000:]))


def test_the_ids_are_those_of_the_python_runtime(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(letters_of(ODD), encoding="utf-8")
    python = Tokenizer(path, MAX_LENGTH)
    opened = bert().kernel.opened
    assert (opened.cls_id, opened.sep_id) == (python.cls_id, python.sep_id) == (2, 3)
    assert (opened.pad_id, opened.unk_id, opened.max_characters) == (0, 1, MOST)
    for text in [*ODD, "card " * 900, "漢字 " * 700]:
        assert bert().kernel.ids(text, 30) == python.ids(text, 30)


ADDED = [
    {"content": "<l>", "lstrip": True},
    {"content": "<r>", "rstrip": True},
    {"content": "<lr>", "lstrip": True, "rstrip": True},
    {"content": "<r><r>x"},
    {"content": "é!", "special": False},
]
SECOND = [{"content": "<n>", "normalized": True}, {"content": "r>", "normalized": True, "lstrip": True}]
ADDED_TEXT = st.lists(
    st.sampled_from(["<l>", "<r>", "<lr>", "<r><r>x", "é!", "<n>", "r>", " ", "\n", "\u3000", "x", "card", "<", "\0"])
).map("".join)


@cache
def adding(prefix: bool) -> list[Pair]:
    spec = byte_level([("Ġ", "x"), ("c", "a")], prefix=prefix)
    return [
        Pair(with_added(letters_of(ODD), *ADDED)),
        Pair(with_added(spec, *ADDED)),
        Pair(with_added(spec, *ADDED, *SECOND)),
    ]


@settings(max_examples=400, deadline=None)
@given(ADDED_TEXT, st.booleans())
def test_added_tokens(text, prefix):
    for pair in adding(prefix):
        pair.check(text, UNREACHED, 3)


@cache
def merging() -> Pair:
    """A BPE with merges in an order that no training gives: later pairs come before those that make them."""
    rng = random.Random(5)
    pieces, merges = list("abcdĠÃ©"), []
    for _ in range(150):
        merge = (rng.choice(pieces), rng.choice(pieces))
        if len(merge[0] + merge[1]) < 9:
            merges.append(merge)
            pieces.append(merge[0] + merge[1])
    rng.shuffle(merges)
    return Pair(byte_level([*dict.fromkeys(merges), merges[0]]))


@settings(max_examples=500, deadline=None)
@given(st.text("abcd é", max_size=400) | st.text() | st.text("ab 's't're\n1٢½'!é\u00a0\x85", max_size=30))
def test_bpe_of_any_text(text):
    merging().check(text, UNREACHED, 4)


@pytest.mark.parametrize("prefix", [True, False])
def test_hard_cases_of_bpe(prefix):
    pair = Pair(byte_level([("Ġ", "a")], prefix=prefix))
    for text in ODD:
        pair.check(text, UNREACHED, 0, 1, 5)


def test_every_character_in_bpe():
    pair = Pair(byte_level([("Ġ", "a")]))
    for start in range(0, 0x20000, 512):
        pair.check("".join(f" a{c}b{c}1" for c in CHARACTERS[start : start + 512]))


def test_bpe_without_some_bytes():
    whole = json.loads(byte_level([("a", "b")]))
    del whole["model"]["vocab"]["c"], whole["model"]["vocab"]["Ã"]
    Pair(json.dumps(whole)).check("abcé cab c", UNREACHED, 2)
    whole["model"]["unk_token"] = "a"
    Pair(json.dumps(whole)).check("abcccbé cab c", UNREACHED, 2)
    whole["model"]["fuse_unk"] = True
    assert "fuse_unk" in str(can_run(json.dumps(whole)))


def test_bpe_says_when_its_work_area_is_too_small():
    pair = Pair(byte_level([("a", "a")]))
    assert pair.kernel.ids("aaaa aaaa", work=8 * 5)[0] == pair.expected("aaaa aaaa", UNREACHED)[0]
    with pytest.raises(MemoryError):
        pair.kernel.ids("aaaa aaaa", work=8 * 4)
    assert library().mk_tokenizer_work(pair.kernel.opened, ctypes.c_size_t(-1).value) == 8 * (4 * MOST + 1)
    assert library().mk_tokenizer_work(bert().kernel.opened, 1000) == 0


def public_tokenizers(folder: Path) -> list[Pair]:
    """Real tokenizers: BERT's whole and trimmed, GPT-2's, and a BPE of 2,000 pieces."""
    whole = (folder / "tokenizers" / "bert_base_uncased_tokenizer.json").read_text(encoding="utf-8")
    texts = (folder / "banking77" / "train.csv").read_text(encoding="utf-8").splitlines()
    pairs = [Pair(whole), Pair(vocabulary.trim(whole, texts, keep=6000)[0])]
    for name in ("gpt2", "tiny_bpe"):
        spec = json.loads(byte_level([]))
        read = (folder / "tokenizers" / f"{name}_merges.txt").read_text(encoding="utf-8").split("\n")
        spec["model"]["merges"] = [line for line in read if line and not line.startswith("#version")]
        pieces = json.loads((folder / "tokenizers" / f"{name}_vocab.json").read_text(encoding="utf-8"))
        spec["model"]["vocab"] = pieces
        end = "<|endoftext|>"
        spec["added_tokens"] = [SPECIAL | {"id": pieces.get(end, len(pieces)), "content": end, "normalized": True}]
        pairs.append(Pair(json.dumps(spec)))
    return pairs


def test_a_sample_of_the_public_sets():
    folder = data()
    every = int(os.environ.get("MINIKIN_EVERY", "997"))
    pairs, read = public_tokenizers(folder), 0
    for text in lines(folder, every):
        read += 1
        for pair in pairs:
            pair.check(text, UNREACHED if read % 2 else 126)
    print(f"{read} texts by {len(pairs)} tokenizers")


def test_sections_are_small():
    spec = (data() / "tokenizers" / "bert_base_uncased_tokenizer.json").read_text(encoding="utf-8")
    pieces = json.loads(spec)["model"]["vocab"]
    bare = sum(len(piece.removeprefix("##").encode()) for piece in pieces)
    assert len(section(spec, MAX_LENGTH)) < bare + 8 * len(pieces)


REFUSED = [
    ("{}", "no tokenizer.json"),
    (changed(small.tokenizer_json(), "model", type="Unigram"), "Unigram"),
    (changed(small.tokenizer_json(), "model", continuing_subword_prefix="@@"), "'@@'"),
    (changed(small.tokenizer_json(), "model", max_input_chars_per_word=1000), "1000 characters"),
    (changed(small.tokenizer_json(), "normalizer", type="Lowercase"), "normalises with Lowercase"),
    (changed(small.tokenizer_json(), "pre_tokenizer", type="Whitespace"), "Whitespace"),
    (with_added(small.tokenizer_json(), {"content": "<x>", "single_word": True}), "single words"),
    (with_added(small.tokenizer_json(), {"content": "<x>", "normalized": True}), "normalised text"),
    (with_added(small.tokenizer_json(), {"content": "<x>", "id": 4000}), "id"),
    (changed(byte_level([]), "model", dropout=0.1), "dropout"),
    (changed(byte_level([]), "model", ignore_merges=True), "ignore_merges"),
    (changed(byte_level([]), "pre_tokenizer", use_regex=False), "GPT-2's pattern"),
    (changed(byte_level([]), "normalizer", type="NFC"), "NFC"),
    (changed(byte_level([]), "model", merges=[["a", "b"]]), "can't read it"),
]


@pytest.mark.parametrize(("spec", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_the_kernel_cannot_run_is_said(spec, reason):
    assert reason in str(can_run(spec))
    with pytest.raises(UserError, match=re.escape(reason)):
        section(spec, MAX_LENGTH)


def test_what_it_can_run():
    assert can_run(small.tokenizer_json()) is None
    assert can_run(byte_level([("a", "b")])) is None
    with pytest.raises(UserError, match="max_length"):
        section(small.tokenizer_json(), 1 << 21)


@pytest.mark.parametrize("spec", [small.tokenizer_json(), byte_level([("a", "b"), ("ab", "c")])], ids=["bert", "bpe"])
def test_malformed_sections_are_refused_or_harmless(spec):
    blob, rng = section(spec, 16), random.Random(3)
    assert Kernel(blob).status == 0
    for size in [*range(0, 80), *(rng.randrange(len(blob)) for _ in range(100))]:
        assert Kernel(blob[:size]).status < 0
    for _ in range(1500):
        broken = bytearray(blob)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(64) if rng.random() < 0.5 else rng.randrange(len(blob))
            broken[place] ^= 1 << rng.randrange(8)
        kernel = Kernel(bytes(broken))
        if kernel.status == 0 and kernel.opened.max_characters < 1 << 16:
            ids, _ = kernel.ids("abc my card's [SEP] é漢 " * 3)
            assert all(0 <= i < kernel.opened.vocab_size for i in ids)
    for _ in range(200):
        assert Kernel(rng.randbytes(rng.randrange(300))).status < 0


def generator():
    spec = importlib.util.spec_from_file_location("make_unicode", SOURCES / "make_unicode.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_unicode_tables_are_those_of_the_library():
    text = (SOURCES / "unicode_tables.h").read_text(encoding="utf-8")
    if f"tokenizers {tokenizers.__version__};" not in text:
        pytest.skip("the tables are of another version of tokenizers")
    assert generator().header() == text


def test_the_unicode_tables_are_small():
    text = (SOURCES / "unicode_tables.h").read_text(encoding="utf-8")
    arrays = re.findall(r"static const u?int(\d+)_t \w+\[(\d+)\]", text)
    assert sum(int(bits) // 8 * int(count) for bits, count in arrays) <= 60 * 1024
