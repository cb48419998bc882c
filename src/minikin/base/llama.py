"""llama.cpp's C functions, out of the library inside the `xllamacpp` wheel: package/ quantizes, runtimes/ write.

The wheel's own server class is left alone: it opens a port and takes the process's signals. Structures that
llama.cpp passes by value stay opaque here, except four counts at the start of one and the batch, and what came of
them is read back, so that a library of another shape is refused instead of misread.
"""

from __future__ import annotations

import ctypes
from collections import deque
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from functools import cache
from typing import Any, Final

from minikin.base.errors import MinikinError
from minikin.base.extras import need

OPAQUE_BYTES: Final = 1024
LEVEL_ERROR: Final = 4


class ModelParameters(ctypes.Structure):
    """Only ever taken from llama.cpp and given back, so its size need only suffice."""

    _fields_ = (("opaque", c_int64 * (OPAQUE_BYTES // 8)),)


class ContextParameters(ctypes.Structure):
    """The counts that every version has first, and the rest."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("opaque", c_int64 * (OPAQUE_BYTES // 8)),
    )


class Batch(ctypes.Structure):
    """Tokens to compute: their ids, places, sequences, and whether their logits are wanted."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


class Candidate(ctypes.Structure):
    """A token that may come next, with its logit and probability."""

    _fields_ = (("id", c_int32), ("logit", c_float), ("p", c_float))


class Candidates(ctypes.Structure):
    """What a sampler chooses from, or rules out of by a logit of -inf."""

    _fields_ = (("data", c_void_p), ("size", c_size_t), ("selected", c_int64), ("sorted", c_bool))


class VocabularyInit(ctypes.Structure):
    """LLGuidance's description of a vocabulary; what is not set stays zero, as it asks."""

    _fields_ = (
        ("vocab_size", c_uint32),
        ("tok_eos", c_uint32),
        ("token_lens", c_void_p),
        ("token_bytes", c_void_p),
        ("tokenizer_json", c_char_p),
        ("tokenize_assumes_string", c_bool),
        ("tokenize_fn", c_void_p),
        ("use_approximate_greedy_tokenize_fn", c_bool),
        ("opaque", c_int64 * (OPAQUE_BYTES // 8)),
    )


class MatcherInit(ctypes.Structure):
    """LLGuidance's settings of one grammar."""

    _fields_ = (
        ("tokenizer", c_void_p),
        ("log_buffer_level", c_uint32),
        ("log_stderr_level", c_uint32),
        ("opaque", c_int64 * (OPAQUE_BYTES // 8)),
    )


_LOG: Final = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
_P, _I = c_void_p, c_int32
SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "ggml_quantize_chunk": (c_size_t, (ctypes.c_int, _P, _P, c_int64, c_int64, c_int64, _P)),
    "ggml_row_size": (c_size_t, (ctypes.c_int, c_int64)),
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (_LOG, _P)),
    "llama_model_default_params": (ModelParameters, ()),
    "llama_model_load_from_file": (_P, (c_char_p, ModelParameters)),
    "llama_model_free": (None, (_P,)),
    "llama_model_get_vocab": (_P, (_P,)),
    "llama_model_n_ctx_train": (_I, (_P,)),
    "llama_model_meta_val_str": (_I, (_P, c_char_p, c_char_p, c_size_t)),
    "llama_context_default_params": (ContextParameters, ()),
    "llama_init_from_model": (_P, (_P, ContextParameters)),
    "llama_free": (None, (_P,)),
    "llama_n_ctx": (c_uint32, (_P,)),
    "llama_n_seq_max": (c_uint32, (_P,)),
    "llama_set_n_threads": (None, (_P, _I, _I)),
    "llama_get_causal_attn": (c_bool, (_P,)),
    "llama_get_memory": (_P, (_P,)),
    "llama_memory_seq_rm": (c_bool, (_P, _I, _I, _I)),
    "llama_batch_init": (Batch, (_I, _I, _I)),
    "llama_batch_free": (None, (Batch,)),
    "llama_decode": (_I, (_P, Batch)),
    "llama_get_logits_ith": (POINTER(c_float), (_P, _I)),
    "llama_adapter_lora_init": (_P, (_P, c_char_p)),
    "llama_set_adapters_lora": (_I, (_P, POINTER(_P), c_size_t, POINTER(c_float))),
    "llama_sampler_init_grammar": (_P, (_P, c_char_p, c_char_p)),
    "llama_sampler_apply": (None, (_P, POINTER(Candidates))),
    "llama_sampler_accept": (None, (_P, _I)),
    "llama_sampler_free": (None, (_P,)),
    "llama_vocab_n_tokens": (_I, (_P,)),
    "llama_vocab_is_eog": (c_bool, (_P, _I)),
    "llama_vocab_is_control": (c_bool, (_P, _I)),
    "llama_vocab_get_text": (c_char_p, (_P, _I)),
    "llama_vocab_eos": (_I, (_P,)),
    "llama_tokenize": (_I, (_P, c_char_p, _I, POINTER(c_int32), _I, c_bool, c_bool)),
    "llama_token_to_piece": (_I, (_P, _I, c_char_p, _I, _I, c_bool)),
    "llg_new_tokenizer": (_P, (POINTER(VocabularyInit), c_char_p, c_size_t)),
    "llg_free_tokenizer": (None, (_P,)),
    "llg_constraint_init_set_defaults": (None, (POINTER(MatcherInit), _P)),
    "llg_new_matcher": (_P, (POINTER(MatcherInit), c_char_p, c_char_p)),
    "llg_free_matcher": (None, (_P,)),
    "llg_matcher_get_error": (c_char_p, (_P,)),
    "llg_matcher_compute_mask_into": (_I, (_P, _P, c_size_t)),
    "llg_matcher_consume_token": (_I, (_P, c_uint32)),
}
OPTIONAL: Final = frozenset(name for name in SIGNATURES if name.startswith("llg_"))
"""Grammars: not in every build of the wheel."""


class Llama:
    """The functions of `SIGNATURES` under their own names, and what llama.cpp last complained of."""

    def __init__(self) -> None:
        """Open the library and silence it. Raises MissingExtra, and MinikinError where it exports no functions."""
        self.wheel = need("xllamacpp", "gguf")
        path = need("xllamacpp.xllamacpp", "gguf").__file__
        library = ctypes.CDLL(str(path))
        missing = [name for name in SIGNATURES if name not in OPTIONAL and not hasattr(library, name)]
        if missing:
            raise MinikinError(
                f"xllamacpp {self.wheel.__version__} keeps llama.cpp's functions to itself on this platform "
                f"({missing[0]} and {len(missing) - 1} more). Run the GGUF file with llama.cpp or Ollama instead."
            )
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name, None)
            if function is not None:
                function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self._complaints: deque[str] = deque(maxlen=8)
        self._log = _LOG(self._logged)  # held, since llama.cpp keeps only its address
        self.llama_log_set(self._log, None)
        self.llama_backend_init()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def _logged(self, level: int, text: bytes, _data: Any, error: int = LEVEL_ERROR) -> None:
        # a default, since llama.cpp still speaks when Python, ending, has emptied this module
        if level >= error and text.strip():
            self._complaints.append(text.decode("utf-8", "replace").strip())

    def complaint(self) -> str:
        """Return what llama.cpp complained of since the last call, on one line."""
        said = "; ".join(dict.fromkeys(self._complaints))
        self._complaints.clear()
        return said


@cache
def library() -> Llama:
    """Return llama.cpp's functions, opened once a process."""
    return Llama()
