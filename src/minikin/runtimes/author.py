"""A loaded kin that writes: what `minikin.load` returns for the task `generate`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias, overload

from minikin.base import manifest as manifests
from minikin.base.errors import KinError, UserError
from minikin.base.manifest import Manifest
from minikin.base.writing import Completion, Decoding, Generator, Stream, no_chat
from minikin.feed.speech import Speaker, Spoken
from minikin.runtimes import check_counts, guard_of

ENGINES = ("llama.cpp", "torch")
OTHERWISE = "it was asked to write otherwise than the certificate covers: leave the settings as the kin was packaged"
Message: TypeAlias = Mapping[str, str]
Prompt: TypeAlias = str | Sequence[Message]
"""What is asked: a text, or the messages of a chat so far."""


class Guard(Protocol):
    """What a certificate says of what was written (see trust/guard.py)."""

    def written(self, completion: Completion) -> str:
        """Why the certificate does not cover a completion with log-probabilities; '' when it does."""
        ...


class Author:
    """A small model that writes on from what it is asked. Safe to share between threads.

    As many texts are written at a time as it was loaded for (`parallel`); further threads wait for their turn.
    Where a certificate lies in its folder, `guard` says of each completion whether it is covered.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, generator: Generator, guard: Guard | None = None, parallel: int = 1
    ) -> None:
        self.folder, self.manifest, self.generator, self.guard = folder, manifest, generator, guard
        self.parallel, self.adapter = parallel, ""
        self.kind = str(manifest.raw.get("kind", "pairs"))
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self._speaker = Speaker((folder / "tokenizer.json").read_text(encoding="utf-8"), settings)
        self.usual = Decoding(max_tokens=int(manifest.raw.get("new_tokens", 128)))

    @property
    def engine(self) -> str:
        """Name of what writes."""
        return str(getattr(self.generator, "name", type(self.generator).__name__))

    @overload
    def __call__(self, prompt: str, how: Decoding | None = None) -> Completion: ...

    @overload
    def __call__(self, prompt: list[str], how: Decoding | None = None) -> list[Completion]: ...

    def __call__(self, prompt: Any, how: Decoding | None = None) -> Completion | list[Completion]:
        """Write one completion, or one for each of a list of texts, in order. Raises UserError for no text."""
        if isinstance(prompt, list) and all(isinstance(one, str) for one in prompt):
            return [found[0] for found in self.each(prompt, how)]
        return self.complete(prompt, how)[0]

    def complete(self, prompt: Prompt, how: Decoding | None = None, n: int = 1) -> list[Completion]:
        """Write `n` completions, with the seeds `how.seed`, `how.seed` + 1, …"""
        return next(self.each([prompt], how, n))

    def each(self, prompts: Iterable[Prompt], how: Decoding | None = None, n: int = 1) -> Iterator[list[Completion]]:
        """Write `n` completions of each prompt, as many at a time as the kin was loaded for; yield them in order.

        Several at a time are computed together, which rounds a little differently: near-ties may fall otherwise.
        """
        how = how or self.usual
        asked = how if self.guard is None else replace(how, logprobs=True)
        wanted = (
            (ids, replace(asked, seed=asked.seed + i)) for ids in map(self.ids, prompts) for i in range(max(1, n))
        )
        done = self.generator.abreast(wanted, self.parallel)
        while found := list(islice(done, max(1, n))):
            yield [self._guarded(one, how) for one in found]

    def stream(self, prompt: Prompt, how: Decoding | None = None) -> Stream:
        """Begin to write; iterate over the pieces of text."""
        return self.generator.stream(self.ids(prompt), how or self.usual)

    def use_adapter(self, path: str | PathLike[str] | None, scale: float = 1.0) -> None:
        """Write with a LoRA adapter, a GGUF file, added `scale` times from now on; None: without one again.

        Nothing is loaded again but the adapter, once. What a certificate says does not hold for it. Raises UserError
        for a file that is no adapter of this model, and for an engine other than llama.cpp.
        """
        adapt = getattr(self.generator, "adapt", None)
        if adapt is None:
            raise UserError("Only llama.cpp takes an adapter. Leave --engine torch out.")
        adapt(None if path is None else Path(path), scale)
        self.adapter = "" if path is None else str(path)

    def ids(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt as the model was trained to read it; what names a special token is plain text.

        Raises UserError for what is neither a text nor messages, and for what this kin was not trained on.
        """
        if isinstance(prompt, str):
            if not prompt.strip():
                raise UserError("The prompt is empty. Give some text.")
            if self.kind == "text":
                return self._opened(prompt)
            prompt = [{"role": "user", "content": prompt}]
        if reason := no_chat(prompt):
            raise UserError(f"The prompt is neither a text nor the messages of a chat: {reason}.")
        if self.kind == "text":
            raise UserError("This kin continues texts: it was trained on no chats. Give a text.")
        return [int(i) for i in self._speaker.prompt(prompt)]

    def spoken(self, texts: Sequence[Any], kind: str) -> list[Spoken]:
        """Whole examples as tokens, with those that are learnt: texts, (prompt, completion) pairs, or chats as JSON."""
        if kind == "text":
            return self._speaker.texts([str(text) for text in texts])
        chats = [json.loads(text) if isinstance(text, str) else _pair(text) for text in texts]
        return self._speaker.chats(chats)

    def _opened(self, text: str) -> list[int]:
        """A text that goes on: without the mark of its end."""
        ids = [int(i) for i in self._speaker.texts([text])[0].ids_T]
        return ids[:-1] if ids and ids[-1] in self._speaker.ends else ids

    def _guarded(self, completion: Completion, how: Decoding) -> Completion:
        """Say whether the certificate covers a completion, or why not."""
        if self.guard is None:
            return completion
        plain = replace(how, seed=self.usual.seed, logprobs=self.usual.logprobs, cut=self.usual.cut)
        usual = plain == self.usual and not self.adapter
        reason = self.guard.written(completion) if usual else OTHERWISE
        return replace(completion, certified=not reason, reason=reason)

    def __repr__(self) -> str:
        return f"<Kin {self.manifest.family} {self.manifest.scheme}, {self.manifest.size_mib:.2f} MiB>"


def _pair(text: Sequence[str]) -> list[Message]:
    prompt, completion = text
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]


def open_author(
    folder: str | PathLike[str],
    *,
    threads: int = 1,
    verify: bool = True,
    engine: str | None = None,
    draft: str | PathLike[str] | None = None,
    parallel: int = 1,
) -> Author:
    """Load the kin in `folder`; `verify` compares every file with its SHA-256 first.

    `engine` is `llama.cpp`, which runs the GGUF file (the default), or `torch`, which runs the float32 weights with
    transformers, to compare. `draft` is a smaller kin, whose guesses save the larger one time and change no text.
    `parallel` is how many texts llama.cpp can write at a time, each with memory for a whole context.

    Raises KinError for a folder that is no kin that writes, or was changed, and MissingExtra
    without the engine's packages.
    """
    if draft is not None and engine == "torch":
        raise UserError("A draft helps llama.cpp only. Leave --engine torch out.")
    if engine not in (None, *ENGINES):
        raise UserError(f"There is no engine {engine!r} for a kin that writes. Choose one of {', '.join(ENGINES)}.")
    check_counts(threads=threads, parallel=parallel)
    path = Path(folder)
    manifest = manifests.read(path)
    if not manifest.writes:
        raise KinError(f"The kin in {path} sorts texts, it does not write. Ask it with minikin.load.")
    if verify:
        manifests.verify(path, manifest)
    if engine == "torch":
        # apart, as it needs more than what runs on a device
        writer = import_module("minikin.steps.rewritten").TorchWriter(path, threads=threads)
        return Author(path, manifest, writer, guard_of(path, writer.name), parallel)
    llama_cpp = import_module("minikin.runtimes.llama_cpp")
    if draft is None:
        writer = llama_cpp.LlamaCpp(path / manifest.model, threads=threads, parallel=parallel)
        return Author(path, manifest, writer, guard_of(path, writer.name), parallel)
    from minikin.runtimes.drafted import Drafted

    small = open_author(draft, threads=threads, verify=verify, parallel=parallel).generator
    writer = Drafted(path / manifest.model, small, threads=threads, parallel=parallel)
    return Author(path, manifest, writer, parallel=parallel)
