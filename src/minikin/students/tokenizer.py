"""Tokenizers of one's own, for recipes without a teacher to take one from: WordPiece, and byte-level BPE."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
REPEATS = 1000
END = "<|endoftext|>"
"""What ends a text of a decoder of one's own."""
KEY = re.compile(r'[{\[\]}",\s]*"\w+"\s*:\s*["\[{]?')
OFTEN = 0.005
"""Share of the answers that have a key, for it to become a piece."""


def learn(texts: Iterable[str], vocabulary: int = 4000) -> str:
    """Learn a lower-casing BERT tokenizer from texts; returns its JSON, the same for the same texts.

    It reads every word of ASCII letters and digits, and of the characters that the texts have.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    counts = _counted(tokenizer, texts)
    first = {word[0] for word in counts} | {chr(c) for c in range(33, 127) if not chr(c).isupper()}
    later = {c for word in counts for c in word[1:]} | set(string.ascii_lowercase + string.digits)
    # the trainer numbers continued characters in the order of a hash map and breaks ties by these numbers:
    # named among the special tokens, they come in our order
    continued = [f"##{c}" for c in sorted(later)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, *continued],
        initial_alphabet=sorted(first),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(counts), trainer)
    ids = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=list(ids.items())
    )
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] in SPECIAL]
    return json.dumps(spec, ensure_ascii=False)


def keys(answers: Iterable[str]) -> list[str]:
    """The keys of JSON answers with what stands around them, such as `","time":"`, from the most frequent one on."""
    counts: Counter[str] = Counter()
    many = 0
    for answer in answers:
        many += 1
        counts.update(KEY.findall(answer) if _is_object(answer) else ())
    return [key for key, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= OFTEN * many]


def least_bytes(whole: Sequence[str] = ()) -> int:
    """Pieces that `learn_bytes` needs at least: all bytes, the end of a text, one merge (llama.cpp asks for it), and
    each of `whole`."""
    return 256 + 1 + 1 + len(whole)


def learn_bytes(
    texts: Iterable[str], vocabulary: int = 1024, *, whole: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Learn a byte-level BPE from texts, split into words as GPT-2's and digits; returns its JSON and special tokens.

    It reads any input: every byte is a piece. The same texts give the same tokenizer. Each of `whole` is one piece,
    wherever it stands.
    """
    tokenizer = Tokenizer(models.BPE())
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(whole),
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in whole])
    return tokenizer.to_str(), {"eos_token": END, "pad_token": END}


def _is_object(answer: str) -> bool:
    try:
        return isinstance(json.loads(answer), dict)
    except ValueError:
        return False


def _counted(tokenizer: Any, texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, as the tokenizer splits and normalises."""
    counts: Counter[str] = Counter()
    for text in texts:
        plain = tokenizer.normalizer.normalize_str(text)
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(plain))
    return counts


def _repeated(counts: Counter[str]) -> Iterator[str]:
    """The words as often as they occur, a line at a time."""
    for word in sorted(counts):
        for start in range(0, counts[word], REPEATS):
            yield " ".join([word] * min(REPEATS, counts[word] - start))
