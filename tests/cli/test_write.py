"""`run` and `chat` for kins that write: prompts and chats from files, adapters, grammars, and conversations."""

from __future__ import annotations

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import minikin
from minikin.base.errors import UserError
from minikin.base.writing import Decoding
from minikin.runtimes.llama_sequences import Sequence

from .test_measure_writing import write

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'minikin[gguf]'")
pytest.importorskip("gguf", reason="gguf is not installed: pip install 'minikin[gguf]'")


@pytest.fixture(scope="module")
def kin(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("writer") / "pairs", data="{kind: pairs, prompt: ask}")


@pytest.fixture(scope="module")
def talker(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("writer") / "chat", kind="chat")


def lines(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_prompts_stand_in_the_column_of_the_recipe(say, kin, tmp_path):
    path = lines(tmp_path / "p.jsonl", [{"do": "x", "ask": "the lamp"}, {"do": "y", "ask": " "}])
    done = say("run", kin, "-f", path)
    assert done.exit_code == 2  # the second line
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0]["text"] == minikin.load(kin)("the lamp").text
    assert rows[1] == {"error": "line 2 is empty", "line": 2}


def test_chats_are_answered_line_by_line(say, talker, tmp_path):
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the lamp"}]
    answered = [*chat, {"role": "assistant", "content": "on"}]
    bad = [{"role": "boss", "content": "x"}]
    rows = [{"messages": chat}, chat, {"messages": answered}, {"messages": bad}, {"messages": []}, {"messages": "lamp"}]
    done = say("run", talker, "-f", lines(tmp_path / "c.jsonl", rows))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    text = minikin.load(talker)(chat).text
    assert [row.get("text") for row in found[:3]] == [text] * 3
    assert "line 4 holds no chat to answer: message 1 has the role 'boss'" in found[3]["error"]
    assert "line 5" in found[4]["error"]
    assert found[5]["text"] == minikin.load(talker)("lamp").text


@pytest.mark.parametrize("more", [(), ("-n", "2", "--temperature", "1")])
def test_several_prompts_at_a_time_change_no_answer(say, kin, tmp_path, more):
    path = lines(tmp_path / "p.jsonl", [f"turn lamp {i} on" for i in range(9)] + [" ", "more"])
    one, several = (say("run", kin, "-f", path, "--parallel", n, "-v", *more) for n in (1, 4))
    assert one.stdout == several.stdout
    assert one.exit_code == several.exit_code == 2
    assert "11 prompts, 4 at a time" in several.stderr


def test_a_kin_is_shared_by_threads(kin):
    prompts = [f"turn lamp {i} on" for i in range(8)]
    loaded = minikin.load(kin)
    expected = loaded(prompts)
    for parallel in (1, 3):
        one = minikin.load(kin, parallel=parallel)
        with ThreadPoolExecutor(4) as pool:
            assert [done.tokens for done in pool.map(one, prompts)] == [done.tokens for done in expected]
    with pytest.raises(UserError, match="parallel is 0"):
        minikin.load(kin, parallel=0)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (None, "it is of the type NoneType"),
        ({}, "of the type dict"),
        ([{"role": "user"}], "message 1 has no text under 'content'"),
        ([{"role": "user", "content": None}], "message 1 has no text"),
        ([{"role": "boss", "content": "x"}], "role 'boss' and none of system, user, assistant"),
        ([{"role": "user", "content": "x"}, 3], "message 2 is a int"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "is an answer already"),
        ([{"role": "user", "content": " "}], "the last message is empty"),
    ],
)
def test_what_is_no_prompt_is_told(kin, prompt, words):
    with pytest.raises(UserError, match=words):
        minikin.load(kin)(prompt)


def test_an_adapter_comes_and_goes(say, kin, tmp_path):
    peft = pytest.importorskip("peft", reason="adapters need the package peft")
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(kin, local_files_only=True)
    with_it = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weights in with_it.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights)
    with_it.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "a.gguf"
    done = say("export", tmp_path / "adapter", "--to", "gguf-lora", "--for", kin, "-o", file)
    assert done.exit_code == 0, done.output
    loaded = minikin.load(kin)
    plain = loaded("the lamp").text
    loaded.use_adapter(file, 2)
    changed = loaded("the lamp").text
    assert changed != plain
    assert json.loads(say("run", kin, "the lamp", "--lora", f"{file}:2").stdout)["text"] == changed
    assert json.loads(say("run", kin, "the lamp", "--lora", f"{file}:0").stdout)["text"] == plain
    loaded.use_adapter(None)
    assert loaded("the lamp").text == plain
    for more, words in (
        (("--lora", tmp_path / "none.gguf"), "There is no adapter"),
        (("--lora", f"{file}:x"), "There is no adapter"),
        (("--lora", file, "--engine", "torch"), "Only llama.cpp takes an adapter"),
    ):
        refused = say("run", kin, "the lamp", *more)
        assert refused.exit_code == 2
        assert words in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "KIN", "x", "--threads", "0"), "threads is 0. Give a whole number"),
        (("run", "KIN", "x", "--parallel", "0"), "parallel"),
        (("run", "KIN", "x", "--grammar", "no.gbnf"), "--grammar no.gbnf can't be read"),
        (("run", "KIN", "x", "--grammar", "BAD"), "Undefined rule identifier 'nothing'"),
        (("run", "KIN", "x", "--grammar", "BAD", "--engine", "torch"), "Only llama.cpp follows a grammar"),
        (("run", "BAD", "x"), "is a file. Give the folder"),
        (("chat", "KIN", "--system", "be brief"), "without a system message"),
        (("chat", "KIN", "--grammar", "BAD"), "Undefined rule identifier 'nothing'"),
        (("chat", "KIN", "--top-p", "0"), "top_p is 0"),
        (("chat", "KIN", "--stop", ""), "stop string is empty"),
        (("chat", "KIN", "--json-schema", "BAD"), "can't be read as JSON"),
        (("export", "KIN", "--to", "c", "-o", "out"), "Ship its model.gguf"),
    ],
)
def test_what_means_nothing_is_told_before_anything_is_asked(say, kin, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.gbnf").write_text("root ::= nothing")
    names = {"KIN": kin, "BAD": tmp_path / "bad.gbnf"}
    done = say(*(names.get(a, a) for a in arguments), input="hello\n")
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.output.split())
    assert "Say something" not in done.output


def test_a_grammar_binds_what_is_written(say, kin, tmp_path):
    (tmp_path / "g.gbnf").write_text('root ::= "yes" | "no"\n', encoding="utf-8")
    done = say("run", kin, "the lamp", "--grammar", tmp_path / "g.gbnf")
    assert json.loads(done.stdout)["text"] in ("yes", "no")


def test_without_standard_input_a_prompt_is_asked_for(say, kin, monkeypatch):
    from minikin.commands import texts

    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="Give a prompt"):
        texts.one_source((), None, "auto", "prompt")


def test_a_temperature_next_to_nothing_takes_the_likeliest(kin):
    loaded = minikin.load(kin)
    assert loaded("the lamp", Decoding(temperature=1e-320)).tokens == loaded("the lamp", Decoding()).tokens[:128]


def test_a_long_conversation_forgets_its_oldest_turns_and_keeps_what_it_was_told(say, talker, monkeypatch):
    from minikin.runtimes.author import Author

    asked = []
    stream = Author.stream
    monkeypatch.setattr(Author, "stream", lambda self, said, how: asked.append(list(said)) or stream(self, said, how))
    said = "one\ntwo\nthree\nfour\nfive\n" + "long " * 60 + "\n\n"
    done = say("chat", talker, "--system", "be", "--max-tokens", "1", input=said)
    assert done.exit_code == 0, done.output
    assert all(said[0] == {"role": "system", "content": "be"} for said in asked)
    assert all(
        [m["role"] for m in said[1:]] == ["user", "assistant"] * (len(said) // 2 - 1) + ["user"] for said in asked
    )
    assert [len(said) for said in asked][:2] == [2, 4]
    assert asked[4][1]["content"] != "one"
    room = minikin.load(talker).generator.context
    assert all(len(minikin.load(talker).ids(said)) < room for said in asked[:-1])
    assert "The oldest turn is forgotten: 64 tokens are all that it reads" in done.stderr
    assert "longer than 64 tokens; its beginning was cut off" in done.stderr


def test_a_conversation_is_computed_only_from_where_it_goes_on(say, tmp_path):
    long = write(tmp_path / "kin", kind="chat", max_position_embeddings=512)
    done = say("chat", long, "--system", "be brief " * 8, "--max-tokens", "4", "-v", input="one\ntwo\nthree\n\n")
    assert "more were in memory" in done.stderr


def test_ctrl_c_ends_an_answer_and_not_the_conversation(say, talker, monkeypatch):
    feed, fed = Sequence.feed, []

    def interrupted(self, ids):
        fed.append(ids)
        if len(fed) == 3:
            raise KeyboardInterrupt
        return feed(self, ids)

    monkeypatch.setattr(Sequence, "feed", interrupted)
    done = say("chat", talker, input="one\ntwo\n\n")
    assert done.exit_code == 0, done.output
    assert "(stopped)" in done.stderr
    assert done.stderr.count(">") >= 3
    assert len(fed) > 4


def test_ctrl_c_between_answers_ends_the_conversation(say, talker, monkeypatch):
    class Typing(io.StringIO):
        def readline(self, *_):
            raise KeyboardInterrupt

    from minikin.commands import write as command

    monkeypatch.setattr(sys, "stdin", Typing())
    command.chat(talker, None, command.How())
