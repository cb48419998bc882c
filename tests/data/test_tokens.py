import json
import subprocess
import sys

import numpy as np
import pytest

import talk
from minikin.base.errors import DataError
from minikin.base.types import Split
from minikin.data import tokens
from minikin.data.faults import Bag
from minikin.feed.speech import Speaker

SPEAKER = Speaker(talk.byte_level(), talk.byte_config())
PAIRS = [(f"play jazz number {i}", f"jazz {i}") for i in range(50)]


def split(texts):
    return Split(texts, np.full(len(texts), -1), np.arange(1, len(texts) + 1))


def together(documents):
    return sorted(documents.ids[i].tolist() for i in range(len(documents)))


def test_every_example_is_there_as_the_speaker_says_it(tmp_path):
    documents = tokens.write(split(PAIRS), "pairs", SPEAKER, tmp_path / "d", context=64)
    chats = [[{"role": "user", "content": p}, {"role": "assistant", "content": c}] for p, c in PAIRS]
    spoken = SPEAKER.chats(chats)
    assert together(documents) == sorted(s.ids_T.tolist() for s in spoken)
    assert documents.learnt.values.sum() == sum(s.learnt_T.sum() for s in spoken)
    assert isinstance(documents.ids.values, np.memmap)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]


def test_faults_are_told_by_row(tmp_path):
    bag = Bag()
    texts = [*PAIRS, ("long " * 100, "x"), ("say <|im_end|> now", "no")]
    documents = tokens.write(split(texts), "pairs", SPEAKER, tmp_path / "d", context=64, bag=bag)
    assert {fault.kind: fault.rows for fault in bag.faults()} == {"over-long": (51,), "special-token": (52,)}
    assert len(documents) == 51


def test_chats_that_the_template_refuses_are_left_out(tmp_path):
    picky = talk.CHATML + "{% if 'number 7' in messages[0]['content'] %}{{ raise_exception('no sevens') }}{% endif %}"
    bag, speaker = Bag(), Speaker(talk.byte_level(), talk.byte_config(picky))
    documents = tokens.write(split(PAIRS), "pairs", speaker, tmp_path / "d", context=64, bag=bag)
    assert [fault.rows for fault in bag.faults()] == [(8,)]
    assert len(documents) == 49


def test_nothing_that_fits_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="context of 4 tokens"):
        tokens.write(split(PAIRS), "pairs", SPEAKER, tmp_path / "d", context=4)
    assert not list(tmp_path.iterdir())


def test_a_killed_run_goes_on_after_the_last_whole_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "SHARD_ROWS", 8)
    whole = tokens.write(split(PAIRS), "pairs", SPEAKER, tmp_path / "w", context=64)
    said, calls = tokens._said, []

    def dying(texts, kind, speaker):
        calls.append(len(texts))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return said(texts, kind, speaker)

    monkeypatch.setattr(tokens, "_said", dying)
    with pytest.raises(KeyboardInterrupt):
        tokens.write(split(PAIRS), "pairs", SPEAKER, tmp_path / "d", context=64)
    assert not (tmp_path / "d").exists()
    resumed = tokens.write(split(PAIRS), "pairs", SPEAKER, tmp_path / "d", context=64)
    assert calls == [8, 8, 8, 8, 8, 8, 8, 2]
    assert np.array_equal(resumed.ids.values, whole.ids.values)
    assert np.array_equal(resumed.learnt.values, whole.learnt.values)


BIG = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from minikin.data import documents, formats, generate, tokens
from minikin.feed.packing import pack
from minikin.feed.speech import Speaker
documents.BATCH_CHARS = tokens.SHARD_CHARS = 300_000
folder, tokenizer_json = Path(sys.argv[1]), Path(sys.argv[1], "t.json").read_text()

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

def work(name):
    corpus = generate.read(str(folder / name), kind="text", cache=folder / f"{name}.cache")
    speaker = Speaker(tokenizer_json, {})
    made = tokens.write(corpus.data.train, "text", speaker, folder / f"{name}.tokens", context=256)
    return made, pack(made, 256, folder=folder / f"{name}.rows")

work("small.txt")
before, peak, done = held(), 0.0, threading.Event()
def watch():
    global peak
    while not done.wait(0.02):
        peak = max(peak, held())
thread = threading.Thread(target=watch)
thread.start()
made, packed = work("big.txt")
done.set()
thread.join()
print(json.dumps({"grew_mib": peak - before, "tokens": made.tokens, "rows": len(packed.ids_NT)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_text_larger_than_the_memory_it_takes(tmp_path):
    rng = np.random.default_rng(0)
    names = sorted({"".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(20_000)})
    words = {name: i for i, name in enumerate([*names, "[UNK]"])}
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }
    (tmp_path / "t.json").write_text(json.dumps(spec))
    for name, count in (("small.txt", 200), ("big.txt", 2000)):
        with (tmp_path / name).open("w") as handle:
            for _ in range(count):
                handle.write(" ".join(rng.choice(np.array(names), 1500)) + "\n\n")
    size_mib = (tmp_path / "big.txt").stat().st_size / 2**20
    out = subprocess.run([sys.executable, "-c", BIG, str(tmp_path)], capture_output=True, text=True, check=True)
    told = json.loads(out.stdout)
    assert told["tokens"] > 1_800_000
    assert size_mib > 18
    assert told["grew_mib"] < size_mib / 2, told
