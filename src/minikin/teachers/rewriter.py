"""A teacher that reads and then writes: an encoder-decoder such as T5 or BART, whose answers a student learns as text.

Its tokens mean nothing to a decoder, so that what it teaches is its likeliest answer to each prompt: sequence-level
distillation (Kim & Rush 2016, "Sequence-Level Knowledge Distillation", section 3.2). Answers are kept as an endpoint's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSeq2SeqLM

from minikin.base import digest
from minikin.base.errors import TeacherError
from minikin.base.joined import readable
from minikin.base.types import Progress, no_progress
from minikin.teachers import causal
from minikin.teachers.answers import Answered, Answers, Chat, Forecast, Reply, Validate
from minikin.teachers.resolve import Checkpoint, is_encoder_decoder

BATCH: Final = 16
LONGEST: Final = 512
"""Tokens that one reads which names no limit, as T5 was trained."""

DECIDING: Final = ("config.json", "generation_config.json", "tokenizer.json")
"""Files beside the weights that decide an answer."""


def is_rewriter(checkpoint: Checkpoint | None) -> bool:
    """Whether there is a checkpoint, and it is an encoder-decoder."""
    return checkpoint is not None and is_encoder_decoder(checkpoint.folder)


class Rewriter:
    """An encoder-decoder, which is loaded once it must answer."""

    def __init__(
        self, checkpoint: Checkpoint, cache: Path, *, max_tokens: int, beams: int, bfloat16: bool = False
    ) -> None:
        self.checkpoint, self.answers = checkpoint, Answers(cache)
        self.max_tokens, self.beams, self.bfloat16 = max_tokens, beams, bfloat16
        files = [checkpoint.folder / name for name in DECIDING]
        made_of = [checkpoint.weights_sha256, *(digest.of_file(path) for path in files if path.is_file())]
        self._identity = [*made_of, max_tokens, beams, bfloat16]

    def forecast(self, chats: Sequence[Chat]) -> Forecast:
        """How many prompts it must still answer."""
        keys = {self._key(chat): chat for chat in chats}
        left = [chat for key, chat in keys.items() if self.answers.get(key) is None]
        read = sum(len(_text(chat)) for chat in left)
        return Forecast(len(left), len(keys) - len(left), read, self.max_tokens * len(left))

    def ask(
        self, chats: Sequence[Chat], *, validate: Validate | None = None, progress: Progress = no_progress
    ) -> Answered:
        """Its likeliest answer to every chat, by beam search; those that lie in the cache are taken from there.

        An answer that is empty, cut off or found wrong by `validate` is left out and told by its place, as is a prompt
        that is longer than what it reads. Raises TeacherError when the checkpoint can't be loaded.
        """
        keys = [self._key(chat) for chat in chats]
        texts = {k: _text(chat) for k, chat in zip(keys, chats, strict=True) if self.answers.get(k) is None}
        if texts:
            self._write(texts, progress)
        return self.answers.answered(keys, validate)

    def _write(self, texts: dict[str, str], progress: Progress) -> None:
        """Answer texts of like length together, and keep each answer."""
        model, pieces, longest = self._loaded()
        read = {key: ids for key, text in texts.items() if len(ids := pieces.encode(text).ids) <= longest}
        for key in texts.keys() - read.keys():
            self.answers.put(key, Reply("", "", 0, 0, fault=f"a prompt of more than {longest:,} tokens"))
        order = sorted(read, key=lambda key: len(read[key]))
        most = min(self.max_tokens, longest - 1)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            for key, reply in zip(batch, self._replies(model, pieces, [read[key] for key in batch], most), strict=True):
                self.answers.put(key, reply)
            done = start + len(batch)
            progress(done / len(order), f"{done:,} answers")

    @torch.inference_mode()
    def _replies(self, model: Any, pieces: Any, prompts: Sequence[Sequence[int]], most: int) -> list[Reply]:
        """Answers to prompts, which are padded to one length."""
        pad, ends = int(model.config.pad_token_id or 0), _ends(model)
        width = max(1, *map(len, prompts))
        ids_BT = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in prompts])
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in prompts])
        written_BT = model.generate(
            input_ids=ids_BT, attention_mask=mask_BT, num_beams=self.beams, max_new_tokens=most, do_sample=False
        )
        replies = []
        for ids, said in zip(prompts, written_BT[:, 1:].tolist(), strict=True):  # the first one only starts it
            end = next((i for i, token in enumerate(said) if token in ends), None)
            text = readable(pieces.decode(said[:end], skip_special_tokens=True)).strip()
            written = len(said) if end is None else end
            replies.append(Reply(text, "length" if end is None else "stop", len(ids), written))
        return replies

    def _loaded(self) -> tuple[Any, Any, int]:
        """Model, tokenizer and the most tokens that it reads. Raises TeacherError when one can't be loaded."""
        name, folder = self.checkpoint.name, self.checkpoint.folder
        causal.quiet()
        kind = torch.bfloat16 if self.bfloat16 else torch.float32
        try:
            model = AutoModelForSeq2SeqLM.from_pretrained(
                folder, local_files_only=True, dtype=kind, use_safetensors=True
            )
            pieces = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # transformers raises many kinds, tokenizers plain Exception
            raise TeacherError(
                f"teacher: {name} can't be loaded as an encoder-decoder from {folder}: {error}. "
                "Save model and tokenizer there again, or give another one."
            ) from error
        causal.refuse_apart(name, pieces.get_vocab_size(), model)
        model.generation_config.forced_eos_token_id = None  # an answer that is cut off is to be seen
        pieces.no_truncation()
        pieces.no_padding()
        longest = getattr(model.config, "max_position_embeddings", None) or getattr(model.config, "n_positions", None)
        return model.eval(), pieces, int(longest or LONGEST)

    def _key(self, chat: Chat) -> str:
        return digest.of_value([self._identity, _text(chat)])


def _text(chat: Chat) -> str:
    """A chat as the text that is rewritten: an instruction stands before it on the same line, as T5 has learnt it."""
    system = " ".join(message["content"].strip() for message in chat if message["role"] == "system")
    said = "\n".join(message["content"] for message in chat if message["role"] != "system")
    return f"{system} {said}" if system else said


def _ends(model: Any) -> set[int]:
    found = model.generation_config.eos_token_id
    return set(found) if isinstance(found, list) else {found}
