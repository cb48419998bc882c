import json
from pathlib import Path

import numpy as np
import pytest

from minikin.base.errors import DataError
from minikin.data.generate import messages, read

THINGS = ["lamp", "heater", "kettle", "radio", "blind", "fan", "oven", "screen", "gate", "pump", "alarm", "speaker"]
ROOMS = ["kitchen", "hall", "cellar", "attic", "garage", "nursery", "office", "porch", "bathroom", "library"]


def commands(n: int) -> list[tuple[str, str]]:
    found = [(f"please switch the {t} of our {r} to {t[::-1]}{r[::-1]}", f"{t}/{r}") for t in THINGS for r in ROOMS]
    return found[:n]


def jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return str(path)


def pairs(path: Path, rows: list[tuple[object, object]]) -> str:
    return jsonl(path, [{"prompt": prompt, "completion": completion} for prompt, completion in rows])


def parts(data):
    return [data.train, data.validation, data.calibration, data.test]


def by_row(data):
    return {row: text for part in parts(data) for row, text in zip(part.rows_N.tolist(), part.texts, strict=True)}


def test_pairs_are_split_apart_by_seed(tmp_path):
    path = pairs(tmp_path / "a.jsonl", commands(100))
    found = [read(path, cache=tmp_path / str(k), seed=seed).data for k, seed in enumerate((0, 0, 1))]
    assert [len(part) for part in parts(found[0])] == [68, 6, 6, 20]
    assert sorted(np.concatenate([part.rows_N for part in parts(found[0])])) == list(range(1, 101))
    assert found[0].digest == found[1].digest != found[2].digest
    text = found[0].train.texts[0]
    assert text == commands(100)[found[0].train.rows_N[0] - 1]
    assert messages(text, "pairs") == [
        {"role": "user", "content": text[0]},
        {"role": "assistant", "content": text[1]},
    ]


def test_every_fault_is_told_by_row(tmp_path):
    rows = [*commands(60), ("", "x"), ("say nothing", "  "), ("odd\x00one", {"call": "on"}), commands(1)[0]]
    rows += [(commands(2)[1][0].upper(), "another answer"), (["list"], "[]")]
    corpus = read(pairs(tmp_path / "a.jsonl", rows), cache=tmp_path / "c")
    kinds = {fault.kind: fault.rows for fault in corpus.data.faults}
    assert kinds == {
        "empty-prompt": (61,),
        "empty-completion": (62,),
        "nul": (63,),
        "duplicate": (64,),
        "answers": (2, 65),
    }
    told = by_row(corpus.data)
    assert told[63] == ("oddone", '{"call":"on"}')
    assert {2, 65, 66} <= set(told)
    side = {row: k for k, part in enumerate(parts(corpus.data)) for row in part.rows_N.tolist()}
    assert side[2] == side[65]


def test_leaks_into_given_splits_are_kept_out(tmp_path):
    rows = commands(60)
    test = [(rows[4][0].upper() + "!", "other words"), (rows[5][0] + " .", rows[5][1]), ("quite new", "yes")]
    corpus = read(
        pairs(tmp_path / "a.jsonl", rows),
        test=pairs(tmp_path / "t.jsonl", test),
        unlabelled=jsonl(tmp_path / "u.jsonl", [{"prompt": "quite new"}, {"prompt": "newer than new"}]),
        cache=tmp_path / "c",
    )
    assert not {5, 6} & set(np.concatenate([p.rows_N for p in parts(corpus.data)[:3]]).tolist())
    assert list(corpus.data.unlabelled.texts) == [("newer than new", "")]
    assert {"leak"} <= {fault.kind for fault in corpus.data.faults}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([{"role": "user", "content": "hi"}], "bad-messages"),
        ([{"role": "wizard", "content": "hi"}, {"role": "assistant", "content": "ho"}], "bad-messages"),
        ([{"content": "hi"}], "bad-messages"),
        ("not json", "bad-messages"),
        ([], "bad-messages"),
        ([{"role": "user", "content": " "}, {"role": "assistant", "content": "ho"}], "empty-prompt"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}], "empty-completion"),
        ([{"role": "user", "content": None}, {"role": "assistant", "content": "ho"}], "bad-messages"),
    ],
)
def test_chats_are_checked(tmp_path, value, kind):
    def chat(prompt, answer):
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]

    rows = [{"messages": chat(*pair)} for pair in commands(60)] + [{"messages": value}]
    rows[3]["messages"] = json.dumps(rows[3]["messages"])
    corpus = read(jsonl(tmp_path / "a.jsonl", rows), kind="chat", cache=tmp_path / "c")
    assert {fault.kind: fault.rows for fault in corpus.data.faults} == {kind: (61,)}
    row, text = corpus.data.train.rows_N[0], corpus.data.train.texts[0]
    assert messages(text, "chat") == chat(*commands(60)[row - 1])


def test_conversations_of_from_and_value_are_chats(tmp_path):
    rows = [
        {
            "conversations": [
                {"from": "system", "value": "be brief"},
                {"from": "human", "value": p},
                {"from": "gpt", "value": a},
            ]
        }
        for p, a in commands(60)
    ]
    rows[7]["conversations"][2]["from"] = "wizard"
    corpus = read(jsonl(tmp_path / "a.jsonl", rows), kind="chat", columns=["conversations"], cache=tmp_path / "c")
    (fault,) = corpus.data.faults
    assert (fault.kind, fault.rows) == ("bad-messages", (8,))
    said = messages(corpus.data.train.texts[0], "chat")
    assert [message["role"] for message in said] == ["system", "user", "assistant"]
    assert (said[1]["content"], said[2]["content"]) in commands(60)


def test_missing_columns_and_files_are_told_together(tmp_path):
    with pytest.raises(DataError) as raised:
        read(
            jsonl(tmp_path / "a.jsonl", [{"prompts": "a", "completion": "b"}]),
            test=str(tmp_path / "nothing.jsonl"),
            cache=tmp_path / "c",
        )
    assert "did you mean 'prompts'" in str(raised.value)
    assert "no file" in str(raised.value)


def test_too_few_examples_are_refused(tmp_path):
    with pytest.raises(DataError, match="none for"):
        read(pairs(tmp_path / "a.jsonl", commands(3)), cache=tmp_path / "c")


@pytest.mark.parametrize("mark", ["\n<|endoftext|>\n", "\n\n"])
def test_texts_come_as_documents(tmp_path, mark):
    stories = [f"story {k} of {words}\nand so on about {words[::-1]}" for k, (words, _) in enumerate(commands(80))]
    (tmp_path / "a.txt").write_text(mark.join(stories) + mark, encoding="utf-8")
    corpus = read(str(tmp_path / "a.txt"), kind="text", cache=tmp_path / "c")
    told = by_row(corpus.data)
    assert told == dict(enumerate(stories, 1))


def test_a_document_that_comes_in_parts_stays_on_one_side(tmp_path, monkeypatch):
    from minikin.data import documents

    monkeypatch.setattr(documents, "PART_CHARS", 200)
    rng = np.random.default_rng(0)
    stories = ["".join(rng.choice(list("abcdefgh \n"), 900)).replace("\n\n", "\n") for _ in range(40)]
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(stories), encoding="utf-8")
    data = read(str(tmp_path / "a.txt"), kind="text", cache=tmp_path / "c").data
    numbers = [set(part.rows_N.tolist()) for part in parts(data)]
    assert sum(map(len, numbers)) == len(set.union(*numbers)) == 40
    assert sum(map(len, parts(data))) > 120


def test_public_stories_and_instructions(public, tmp_path):
    data = read(str(public / "tinystories" / "tinystories_b_2MB.txt"), kind="text", cache=tmp_path / "a").data
    assert 2_000 < sum(map(len, parts(data))) <= 2_317
    rows = json.loads((public / "alpaca_5000" / "alpaca_5000.json").read_text(encoding="utf-8"))
    path = jsonl(tmp_path / "b.jsonl", rows)
    alpaca = read(path, columns=("instruction", "output"), cache=tmp_path / "b").data
    assert 4_000 < sum(map(len, parts(alpaca))) <= 5_000
