import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import causal
import talk
from minikin.feed.causal import tokenizer_settings
from minikin.feed.template import render
from minikin.package import transformers as package

CHAT = [{"role": "user", "content": "play some jazz"}, {"role": "assistant", "content": "jazz ☃"}]
TOKENIZERS = {
    "bytes": (talk.byte_level(), talk.byte_config()),
    "pieces": (talk.pieces("first"), talk.piece_config()),
    "pieces, legacy mark": (talk.pieces("legacy"), talk.piece_config()),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_plain_transformers_reads_tokens_and_template_alike(kind, tmp_path):
    tokenizer_json, settings = TOKENIZERS[kind]
    student = causal.student()
    student = type(student)(**{**student.__dict__, "tokenizer_json": tokenizer_json, "tokenizer_config": settings})
    package.write(tmp_path, student)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    plain = talk.Tokenizer.from_str(tokenizer_json)
    for text in ("turn the lights down", " two  spaces", "naïve ☃ 漢字", "<|im_end|> x", ""):
        assert tokenizer(text).input_ids == plain.encode(text).ids
    assert tokenizer.apply_chat_template(CHAT, tokenize=False) == render(settings, CHAT)
    prompt = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == render(settings, CHAT[:1], prompting=True)
    assert tokenizer.eos_token == settings["eos_token"]
    assert tokenizer.model_max_length == 64


def test_plain_transformers_generates_from_the_folder(tmp_path):
    package.write(tmp_path, causal.student())
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    inputs = tokenizer("turn the lights", return_tensors="pt")
    one = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert one.shape[1] > inputs.input_ids.shape[1]
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 2


def test_the_template_is_found_beside_the_settings_too(tmp_path):
    package.write(tmp_path, causal.student())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert tokenizer_settings(tmp_path)["chat_template"] == talk.CHATML
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert tokenizer_settings(tmp_path) == settings | {"chat_template": "{{ messages[0]['content'] }}"}
