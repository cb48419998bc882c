"""A teacher that writes: any checkpoint that transformers' AutoModelForCausalLM reads, with its tokenizer.

Found as classifiers' teachers are; tuned by the one loop on packed rows; asked through its `module`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from minikin.base import digest
from minikin.base.errors import TeacherError
from minikin.base.types import Array, Student
from minikin.feed.causal import CausalModule, state, student_of, tokenizer_settings
from minikin.feed.speech import Speaker
from minikin.teachers.resolve import Checkpoint


class CausalTeacher:
    """A causal language model from disk: `module` is fed with packed rows, `speaker` makes them from examples."""

    def __init__(self, checkpoint: Checkpoint, context: int) -> None:
        """Load it in float32. Raises TeacherError if it can't be, or if it reads fewer than `context` tokens."""
        self.checkpoint, self.context, self.tuned = checkpoint, context, ""
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        folder = checkpoint.folder
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                folder, config=config, local_files_only=True, dtype=torch.float32, use_safetensors=True
            )
            self.tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
            pieces = Tokenizer.from_str(self.tokenizer_json).get_vocab_size()
        except Exception as error:  # transformers raises many kinds, tokenizers plain Exception
            raise TeacherError(
                f"teacher: {checkpoint.name} can't be loaded as a causal language model from {folder}: {error}. "
                "Save model and tokenizer there again, or give another one."
            ) from error
        self.module = CausalModule(model.eval())
        self.tokenizer_config = tokenizer_settings(folder)
        self.speaker = Speaker(self.tokenizer_json, self.tokenizer_config)
        self._check(context, pieces)

    def _check(self, context: int, pieces: int) -> None:
        name, config = self.checkpoint.name, self.module.model.config
        longest = getattr(config, "max_position_embeddings", None)
        if longest is not None and longest < context:
            raise TeacherError(
                f"teacher: {name} reads at most {longest} tokens, and the context is {context}. Set it to {longest}."
            )
        rows = len(self.module.model.get_input_embeddings().weight)
        if pieces > rows:
            raise TeacherError(
                f"teacher: the tokenizer of {name} has {pieces:,} pieces and its model {rows:,} rows: they do not "
                "belong together. Save both again."
            )

    @property
    def digest(self) -> str:
        """Hash of the weights it came with and of what tuning made of them."""
        return digest.of_value([self.checkpoint.weights_sha256, self.tuned, self.context])

    def token_embeddings(self) -> Array:
        """Input embeddings (V, H), a row for each piece of the tokenizer; rows that only pad the table are left out."""
        weights: Tensor = self.module.model.get_input_embeddings().weight
        rows: Array = weights.detach().float().numpy()[: Tokenizer.from_str(self.tokenizer_json).get_vocab_size()]
        return rows.copy()

    def as_student(self) -> Student:
        """The (tuned) teacher as a value, which can be cut and trimmed."""
        return student_of(self.module.model, self.tokenizer_json, self.tokenizer_config, self.context)

    def save(self, folder: Path) -> None:
        """Write the tuned weights, without a tied output."""
        tensors = {k: torch.from_numpy(v).contiguous() for k, v in state(self.module.model).items()}
        save_file(tensors, folder / "model.safetensors")

    def load(self, folder: Path) -> CausalTeacher:
        """Take tuned weights back. Raises TeacherError when they are another model's."""
        tensors = load_file(folder / "model.safetensors")
        if tensors.keys() != state(self.module.model).keys():
            raise TeacherError(f"{folder} holds the weights of another teacher. Delete it and build again.")
        self.module.model.load_state_dict(tensors, strict=False)
        self.tuned = digest.of_file(folder / "model.safetensors")
        self.module.eval()
        return self
