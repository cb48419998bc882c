"""Small tokenizers for decoders: byte-level BPE with ChatML tokens, and pieces with a word mark and bytes to fall back
on, as SentencePiece makes them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
WORDS = (
    "turn the hall lights down a bit and play some jazz in the kitchen while you are at it please "
    "once upon a time there was a little girl who lived near a lake and had a dog named spot who liked to swim"
)


def corpus() -> list[str]:
    words = WORDS.split()
    return [" ".join(words[i : i + 9]) for i in range(0, len(words) - 8)] * 20


@cache
def byte_level(size: int = 420) -> str:
    """A GPT-2-like tokenizer: every byte, the merges of a few words, three special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
        ),
    )
    tokenizer.add_special_tokens([END, START, STOP])
    return str(tokenizer.to_str())


def byte_config(template: str | None = CHATML) -> dict[str, Any]:
    found: dict[str, Any] = {"eos_token": STOP if template else END, "pad_token": END}
    return found | ({"chat_template": template} if template else {})


@cache
def pieces(kind: str = "first") -> str:
    """A tokenizer of marked pieces with bytes to fall back on; `kind` is how the mark is put: first, legacy."""
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))],
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.train_from_iterator(corpus(), trainer)
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if not token["content"].startswith("<0x")]
    if kind == "first":
        spec["normalizer"] = None
        spec["pre_tokenizer"] = {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "first",
            "split": False,
        }
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return str(tokenizer.to_str())


def piece_config(template: str | None = BRACKETS) -> dict[str, Any]:
    found: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return found | ({"chat_template": template} if template else {})
