"""Modelfiles say a chat template in Ollama's language, or pass prompts on where they can't."""

from __future__ import annotations

import json

import pytest

import decoders
from minikin.package import modelfile

CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
GEMMA = """{{ bos_token }}{% for m in messages %}
{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}
<t>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content | trim }}</t>
{% endfor %}{% if add_generation_prompt %}<t>model
{% endif %}"""
FOLDED = """{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set rest = messages[1:] %}
{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}
{% for m in rest %}{% if m.role == 'user' %}[INST] {{ s if loop.first }}
{{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"""


def folder(tmp_path, template: str):
    source = json.loads(decoders.bytes_tokenizer())
    config = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    config |= {"max_position_embeddings": 77, "rms_norm_eps": 1e-5}
    return decoders.save(tmp_path, config, {}, json.dumps(source), **({"chat_template": template} if template else {}))


def test_blocks_of_role_and_text_are_said_in_ollamas_language(tmp_path):
    assert modelfile.write(folder(tmp_path, CHATML), new_tokens=40)
    assert (tmp_path / "Modelfile").read_text() == (
        'FROM ./model.gguf\nTEMPLATE """{{ range .Messages }}'
        '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n{{ end }}'
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{ end }}'
        '{{ if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n{{ end }}'
        '{{ end }}<|im_start|>assistant\n"""\nPARAMETER num_ctx 77\nPARAMETER stop "</s>"\n'
        "PARAMETER temperature 0\nPARAMETER num_predict 40\n"
    )


@pytest.mark.parametrize("template", [FOLDED, GEMMA, "{{ nothing.at.all }}", "{% for %}", "always the same"])
def test_a_template_of_another_kind_is_passed_over(tmp_path, template):
    assert not modelfile.write(folder(tmp_path, template))
    assert 'TEMPLATE """{{ .Prompt }}"""' in (tmp_path / "Modelfile").read_text()


def test_without_a_template_prompts_are_passed_on(tmp_path):
    assert modelfile.write(folder(tmp_path, ""))
    assert 'TEMPLATE """{{ .Prompt }}"""' in (tmp_path / "Modelfile").read_text()
