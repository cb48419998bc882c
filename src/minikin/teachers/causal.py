"""A teacher that writes: any checkpoint that transformers' AutoModelForCausalLM reads, with its tokenizer."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from minikin.base.errors import TeacherError
from minikin.base.types import Student
from minikin.feed.causal import student_of, tokenizer_settings
from minikin.teachers.resolve import Checkpoint


def read(checkpoint: Checkpoint, context: int) -> Student:
    """The checkpoint in float32 as a value, which can be asked, tuned, cut and trimmed.

    Raises TeacherError if it can't be loaded, or if it reads fewer than `context` tokens.
    """
    quiet()
    name, folder = checkpoint.name, checkpoint.folder
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, local_files_only=True, dtype=torch.float32, use_safetensors=True
        )
        tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
        pieces = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    except Exception as error:  # transformers raises many kinds, tokenizers plain Exception
        raise TeacherError(
            f"teacher: {name} can't be loaded as a causal language model from {folder}: {error}. "
            "Save model and tokenizer there again, or give another one."
        ) from error
    refuse_short(name, getattr(model.config, "max_position_embeddings", None), context)
    refuse_apart(name, pieces, model)
    return student_of(model, tokenizer_json, tokenizer_settings(folder), context)


def quiet() -> None:
    """Keep transformers from printing while it loads."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def refuse_short(name: str, longest: int | None, context: int) -> None:
    """Raise TeacherError where a checkpoint reads fewer tokens than the context; None: as many as it gets."""
    if longest is not None and longest < context:
        raise TeacherError(
            f"teacher: {name} reads at most {longest} tokens, and the context is {context}. Set it to {longest}."
        )


def refuse_apart(name: str, pieces: int, model: Any) -> None:
    """Raise TeacherError where a tokenizer has more pieces than a model has rows."""
    rows = len(model.get_input_embeddings().weight)
    if pieces > rows:
        raise TeacherError(
            f"teacher: the tokenizer of {name} has {pieces:,} pieces and its model {rows:,} rows: they do not "
            "belong together. Save both again."
        )
