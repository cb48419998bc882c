"""From texts to token ids with a student's or teacher's own tokenizer. Called by the pipeline before training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Tokenizer

from minikin.base.joined import readable
from minikin.base.types import Encoded, Ragged, Text

CHUNK = 4096


def encode(tokenizer_json: str, texts: Sequence[Text], max_length: int, *, special: bool = True) -> Encoded:
    """Encode texts (or pairs), truncated to `max_length` tokens; `special` adds [CLS] and [SEP].

    Pairs without special tokens are marked by segment 1 for the second text.
    """
    tokenizer = _tokenizer(tokenizer_json, max_length)
    pair = len(texts) > 0 and not isinstance(texts[0], str)
    ids: list[Sequence[int]] = []
    segments: list[Sequence[int]] = []
    for start in range(0, len(texts), CHUNK):
        chunk = [texts[i] for i in range(start, min(start + CHUNK, len(texts)))]
        clean = [_clean(t) for t in chunk]
        for encoding in tokenizer.encode_batch(clean, add_special_tokens=special):
            ids.append(encoding.ids)
            if pair:
                segments.append(encoding.type_ids)
    return Encoded(Ragged.of(ids), Ragged.of(segments) if pair else None)


def _clean(text: Text) -> Text:
    """Replace lone surrogates, which no tokenizer can read."""
    return readable(text) if isinstance(text, str) else (readable(text[0]), readable(text[1]))


@lru_cache(maxsize=8)
def _tokenizer(tokenizer_json: str, max_length: int) -> Tokenizer:
    """The tokenizer of this text; parsing 30,000 pieces anew for every batch would cost more than encoding it."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer
