"""`minikin run` and `minikin chat` for a kin that writes: prompts in, completions out, streamed to a person."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minikin.base import manifest as manifests
from minikin.base.errors import UserError
from minikin.base.writing import Completion, Decoding
from minikin.commands import texts as reading
from minikin.commands.texts import Bad, Wanted
from minikin.runtimes.author import Author, Message, open_author

LEAVE = ("/quit", "/exit", "/bye")


@dataclass(frozen=True)
class How:
    """How to write; None is what the kin was packaged with."""

    schema: Path | None = None
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0
    max_tokens: int | None = None
    threads: int = 1
    verbose: bool = False
    engine: str | None = None
    hand_over: Path | None = None
    draft: Path | None = None

    def decoding(self, kin: Author) -> Decoding:
        """The settings as the runtime takes them; what is longer than the context is cut from its front, and said."""
        return Decoding(
            max_tokens=self.max_tokens or kin.usual.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            stop=self.stop,
            schema=None if self.schema is None else schema_of(self.schema),
            cut=True,
        )


@dataclass
class Tally:
    """What was written so far."""

    prompts: int = 0
    truncated: int = 0
    bad: list[int] = field(default_factory=list)
    read: int = 0
    written: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def note(self, completion: Completion) -> None:
        """Count one completion."""
        timing = completion.timing
        self.truncated += completion.truncated
        self.read, self.written = self.read + timing.read, self.written + timing.written
        self.prefill_s, self.decode_s = self.prefill_s + timing.prefill_s, self.decode_s + timing.decode_s

    def bad_line(self, item: str | Bad) -> dict[str, Any]:
        """Count a line that holds no prompt, and return what stands in its place."""
        line = item.line if isinstance(item, Bad) else self.prompts
        self.bad.append(line)
        return {"error": f"line {line} {item.why}" if isinstance(item, Bad) else f"line {line} is empty", "line": line}

    @property
    def rates(self) -> str:
        """Tokens a second, in words."""
        return (
            f"read {self.read:,} tokens at {self.read / max(self.prefill_s, 1e-9):,.0f} a second, "
            f"wrote {self.written:,} at {self.written / max(self.decode_s, 1e-9):,.0f}"
        )


def writes(folder: Path) -> bool:
    """Whether the kin in a folder writes. Raises KinError when there is none."""
    return manifests.read(folder).writes


def schema_of(path: Path) -> dict[str, Any]:
    """Read a JSON Schema. Raises UserError when the file holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--json-schema {path} can't be read as JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UserError(f"--json-schema {path} holds no JSON object. Give a JSON Schema.")
    return found


def run(folder: Path, given: tuple[str, ...], file: Path | None, form: str, columns: tuple[str, ...], how: How) -> None:
    """Write on from the prompts given, those of a file, or those of standard input; one JSON object for each.

    A single prompt at a terminal is answered in plain text, as it is written. A line that holds no prompt gets
    `{"error": …, "line": …}` in its place; UserError tells of them at the end.
    """
    reading.one_source(given, file, form, "prompt")
    if how.n < 1:
        raise UserError(f"-n {how.n}: ask for at least one completion.")
    started = time.perf_counter()
    kin = open_author(folder, threads=how.threads, engine=how.engine, draft=how.draft)
    loaded_s = time.perf_counter() - started
    decoding, tally = how.decoding(kin), Tally()
    if how.hand_over is not None:
        _handed_over(kin, _prompts(given, file, form, columns or ("prompt",)), how, tally)
    elif len(given) == 1 and how.n == 1 and sys.stdout.isatty():
        _shown(kin, given[0], decoding, tally)
    else:
        for item in _prompts(given, file, form, columns or ("prompt",)):
            _row(kin, item, decoding, how.n, tally)
    if how.verbose:
        sys.stderr.write(
            f"{kin!r}, engine {kin.engine}, loaded in {loaded_s * 1e3:.0f} ms; {tally.rates}{_drafted(kin)}\n"
        )
    if tally.truncated:
        sys.stderr.write(
            f"{tally.truncated:,} of {tally.prompts:,} prompts leave no room in the context of "
            f'{kin.generator.context} tokens; their beginning was cut off ("truncated": true).\n'
        )
    if tally.bad:
        raise UserError(
            f"{len(tally.bad):,} of the lines hold no prompt (the first is line {tally.bad[0]}); "
            'an {"error": …} stands in the place of each.'
        )


def _handed_over(kin: Author, items: Iterator[str | Bad], how: How, tally: Tally) -> None:
    """Answer what the certificate covers, and give the rest to those whom the hand-over file names."""
    from minikin.commands import run as sorting

    settings = How(threads=how.threads, verbose=how.verbose, engine=how.engine, hand_over=how.hand_over)
    if how != settings:
        raise UserError("With --hand-over the kin writes as it was certified: leave the options of writing out.")
    with sorting.answering(kin, sorting.How(verbose=how.verbose, hand_over=how.hand_over)) as both:
        for item in items:
            tally.prompts += 1
            if isinstance(item, Bad) or not item.strip():
                _say(tally.bad_line(item))
                continue
            answer = both([item])[0]
            tally.truncated += answer.truncated
            row = sorting.row_of(answer, everything=False)
            _say({"text": row.pop("label"), **row})


def _drafted(kin: Author) -> str:
    """How many of a draft's guesses were right."""
    guessed = getattr(kin.generator, "guessed", None)
    return "" if guessed is None else f"; {kin.generator.taken:,} of {guessed:,} guessed tokens were right"  # type: ignore[attr-defined]


def _prompts(given: tuple[str, ...], file: Path | None, form: str, columns: tuple[str, ...]) -> Iterator[str | Bad]:
    if given:
        yield from given
        return
    with reading.arriving(file, form, Wanted(False, columns, columns)) as (items, _):
        for item in items:
            yield item if isinstance(item, str | Bad) else item[0]


def _row(kin: Author, item: str | Bad, decoding: Decoding, n: int, tally: Tally) -> None:
    """Write the JSON of one prompt's completions, as soon as it is there."""
    tally.prompts += 1
    if isinstance(item, Bad) or not item.strip():
        _say(tally.bad_line(item))
        return
    completions = kin.complete(item, decoding, n)
    for completion in completions:
        tally.note(completion)
    judged = kin.guard is not None
    rows = [
        {"text": c.text, "finish": c.finish, "tokens": c.timing.written, "truncated": c.truncated}
        | ({"certified": c.certified, "reason": c.reason} if judged else {})
        for c in completions
    ]
    _say(rows[0] if n == 1 else {"completions": rows})


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _shown(kin: Author, prompt: str | Sequence[Message], decoding: Decoding, tally: Tally) -> str:
    """Show one completion to a person as it is written; return it."""
    tally.prompts += 1
    stream = kin.stream(prompt, decoding)
    for piece in stream:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    tally.note(stream.completion)
    return stream.completion.text


def chat(folder: Path, system: str | None, how: How) -> None:
    """Talk with a kin in the terminal until an empty line, /quit, or the end of the input.

    Raises UserError for a kin that was trained on no chats.
    """
    kin = open_author(folder, threads=how.threads)
    if kin.kind == "text":
        raise UserError(f"The kin in {folder} continues texts: it was trained on no chats. Use minikin run.")
    decoding, tally = how.decoding(kin), Tally()
    said: list[Message] = [{"role": "system", "content": system}] if system else []
    sys.stderr.write(f"{kin!r}. Say something; an empty line or /quit ends it.\n")
    while True:
        try:
            sys.stderr.write("> ")
            sys.stderr.flush()
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            break
        if not line.strip() or line.strip() in LEAVE:
            break
        # a kin of single commands has seen no longer conversations: each is asked alone
        before = said if kin.kind == "chat" else said[:0]
        asked = [*before, {"role": "user", "content": line.strip()}]
        answer = _shown(kin, asked, decoding, tally)
        said = [*asked, {"role": "assistant", "content": answer}]
    if how.verbose:
        sys.stderr.write(tally.rates + "\n")
