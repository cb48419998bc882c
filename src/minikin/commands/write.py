"""`minikin run` and `minikin chat` for a kin that writes: prompts in, completions out, streamed to a person."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minikin.base import manifest as manifests
from minikin.base.errors import UserError
from minikin.base.writing import Completion, Decoding, Stream
from minikin.commands import run as sorting
from minikin.commands import texts as reading
from minikin.commands.texts import Arriving, Bad, Wanted
from minikin.runtimes.author import Author, Message, Prompt, open_author

LEAVE = ("/quit", "/exit", "/bye")


@dataclass(frozen=True)
class How:
    """How to write; None is what the kin was packaged with."""

    schema: Path | None = None
    grammar: Path | None = None
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
    lora: str | None = None
    parallel: int = 1

    def kin(self, folder: Path) -> Author:
        """Load the kin in a folder, with its adapter if one is named."""
        kin = open_author(folder, threads=self.threads, engine=self.engine, draft=self.draft, parallel=self.parallel)
        if self.lora is not None:
            kin.use_adapter(*adapter_of(self.lora))
        return kin

    def decoding(self, kin: Author) -> Decoding:
        """The settings as the runtime takes them; what is longer than the context is cut from its front, and said.

        Raises UserError for settings that can't be followed.
        """
        how = Decoding(
            max_tokens=self.max_tokens or kin.usual.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            stop=self.stop,
            schema=None if self.schema is None else schema_of(self.schema),
            grammar=None if self.grammar is None else grammar_of(self.grammar),
            cut=True,
        )
        kin.generator.check(how)
        return how


@dataclass
class Tally:
    """What was written so far."""

    prompts: int = 0
    truncated: int = 0
    bad: list[int] = field(default_factory=list)
    read: int = 0
    written: int = 0
    reused: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    began_s: float = field(default_factory=time.perf_counter)

    def note(self, completion: Completion) -> None:
        """Count one completion."""
        timing = completion.timing
        self.truncated += completion.truncated
        self.read, self.written = self.read + timing.read - timing.reused, self.written + timing.written
        self.reused += timing.reused
        self.prefill_s, self.decode_s = self.prefill_s + timing.prefill_s, self.decode_s + timing.decode_s

    def bad_line(self, item: Bad) -> dict[str, Any]:
        """Count a line that holds no prompt, and return what stands in its place."""
        self.bad.append(item.line)
        return {"error": f"line {item.line} {item.why}", "line": item.line}

    def rates(self, parallel: int = 1) -> str:
        """Tokens a second, in words; of several texts at a time only what all took together is known."""
        if parallel > 1:
            took_s = time.perf_counter() - self.began_s
            return f"{self.prompts:,} prompts, {parallel} at a time, {self.prompts / max(took_s, 1e-9):,.0f} a second"
        again = f" ({self.reused:,} more were in memory)" if self.reused else ""
        return (
            f"read {self.read:,} tokens{again} at {self.read / max(self.prefill_s, 1e-9):,.0f} a second, "
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


def grammar_of(path: Path) -> str:
    """Read a grammar. Raises UserError when the file can't be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"--grammar {path} can't be read: {error}.") from error


def adapter_of(given: str) -> tuple[Path, float]:
    """The file and the scale in FILE or FILE:SCALE."""
    name, colon, scale = given.rpartition(":")
    try:
        return (Path(name), float(scale)) if colon and not Path(given).exists() else (Path(given), 1.0)
    except ValueError:
        return Path(given), 1.0


def run(folder: Path, given: tuple[str, ...], file: Path | None, form: str, columns: tuple[str, ...], how: How) -> None:
    """Write on from the prompts given, those of a file, or those of standard input; one JSON object for each.

    A single prompt at a terminal is answered in plain text, as it is written. A line that holds no prompt gets
    `{"error": …, "line": …}` in its place; UserError tells of them at the end.
    """
    reading.one_source(given, file, form, "prompt")
    if how.n < 1:
        raise UserError(f"-n {how.n}: ask for at least one completion.")
    started = time.perf_counter()
    kin = how.kin(folder)
    loaded_s = time.perf_counter() - started
    decoding, tally = how.decoding(kin), Tally()
    asked = Wanted(False, columns, (_column(kin),), chats=kin.kind != "text")
    if how.hand_over is None and len(given) == 1 and how.n == 1 and sys.stdout.isatty():
        tally.prompts = 1
        tally.note(_show(kin.stream(given[0], decoding)))
    else:
        with _prompts(given, file, form, asked) as (items, lines):
            if how.hand_over is not None:
                _handed_over(kin, items, how, tally)
            else:
                _rows(kin, items, lines, decoding, how.n, tally)
    if how.verbose:
        rates = tally.rates(kin.parallel) + _drafted(kin)
        sys.stderr.write(f"{kin!r}, engine {kin.engine}, loaded in {loaded_s * 1e3:.0f} ms; {rates}\n")
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


def _handed_over(kin: Author, items: Iterator[Prompt | Bad], how: How, tally: Tally) -> None:
    """Answer what the certificate covers, and give the rest to those whom the hand-over file names."""
    settings = How(threads=how.threads, verbose=how.verbose, engine=how.engine, hand_over=how.hand_over)
    if how != settings:
        raise UserError("With --hand-over the kin writes as it was certified: leave the options of writing out.")
    with sorting.answering(kin, sorting.How(verbose=how.verbose, hand_over=how.hand_over)) as both:
        for item in items:
            tally.prompts += 1
            if not isinstance(item, str | Bad):
                item = Bad(tally.prompts, "holds messages, and with --hand-over only texts are answered")
            if isinstance(item, Bad):
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


def _column(kin: Author) -> str:
    """Where the recipe that the kin was built from has what it is asked."""
    key = {"pairs": "prompt", "chat": "messages"}.get(kin.kind, "text")
    return str(sorting.data_of(kin.folder).get(key) or key)


@contextmanager
def _prompts(
    given: tuple[str, ...], file: Path | None, form: str, wanted: Wanted
) -> Iterator[tuple[Iterator[Prompt | Bad], Arriving | None]]:
    """Yield the prompts, with what is none as `Bad`, and the lines that they come from where they arrive one by one."""
    with ExitStack() as stack:
        items, lines = (iter(given), None) if given else stack.enter_context(reading.arriving(file, form, wanted))
        yield (
            (
                Bad(lines.number if lines else number, "is empty")
                if isinstance(item, str) and not item.strip()
                else item
                for number, item in enumerate(items, 1)
            ),
            lines,
        )  # type: ignore[misc]  # no pairs: they were not wanted


def _rows(
    kin: Author, items: Iterator[Prompt | Bad], lines: Arriving | None, decoding: Decoding, n: int, tally: Tally
) -> None:
    """Write the JSON of each prompt's completions as soon as it is there, before more prompts are waited for."""
    held: list[Prompt | Bad] = []
    for item in items:
        held.append(item)
        if len(held) >= sorting.TOGETHER or kin.parallel == 1 or (lines is not None and not lines.ready()):
            _answer(kin, held, decoding, n, tally)
            held = []
    _answer(kin, held, decoding, n, tally)


def _answer(kin: Author, held: list[Prompt | Bad], decoding: Decoding, n: int, tally: Tally) -> None:
    found = kin.each((item for item in held if not isinstance(item, Bad)), decoding, n)
    for item in held:
        tally.prompts += 1
        if isinstance(item, Bad):
            _say(tally.bad_line(item))
            continue
        completions = next(found)
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


def _show(stream: Stream) -> Completion:
    """Show one completion to a person as it is written; return what there is of it, even after Ctrl-C."""
    try:
        for piece in stream:
            sys.stdout.write(piece)
            sys.stdout.flush()
    finally:
        stream.close()
        sys.stdout.write("\n")
        sys.stdout.flush()
    return stream.completion


def chat(folder: Path, system: str | None, how: How) -> None:
    """Talk with a kin in the terminal until an empty line, /quit, or the end of the input.

    Ctrl-C ends the answer that is being written; between answers, the conversation. Raises UserError for a kin that was
    trained on no chats, and for settings that can't be followed.
    """
    kin = how.kin(folder)
    if kin.kind == "text":
        raise UserError(f"The kin in {folder} continues texts: it was trained on no chats. Use minikin run.")
    if kin.kind == "pairs" and system:
        raise UserError(f"The kin in {folder} was trained on single prompts, without a system message. Leave it out.")
    decoding, tally = how.decoding(kin), Tally()
    said: list[Message] = [{"role": "system", "content": system}] if system else []
    sys.stderr.write(f"{kin!r}. Say something; an empty line or /quit ends it.\n")
    while line := _heard():
        # a kin of single commands has seen no longer conversations: each is asked alone
        before = said if kin.kind == "chat" else said[:0]
        asked = _fitted(kin, [*before, {"role": "user", "content": line}], decoding)
        stream = kin.stream(asked, decoding)
        try:
            _show(stream)
        except KeyboardInterrupt:
            sys.stderr.write("(stopped)\n")
        answer = stream.completion
        tally.note(answer)
        if answer.truncated:
            sys.stderr.write(f"(That is longer than {kin.generator.context} tokens; its beginning was cut off.)\n")
        said = [*asked, {"role": "assistant", "content": answer.text}]
    if how.verbose:
        sys.stderr.write(tally.rates() + "\n")


def _heard() -> str:
    """The next line that a person types; '' where it ends the conversation."""
    sys.stderr.write("> ")
    sys.stderr.flush()
    try:
        line = sys.stdin.readline().strip()
    except KeyboardInterrupt:
        return ""
    return "" if line in LEAVE else line


def _fitted(kin: Author, asked: list[Message], decoding: Decoding) -> list[Message]:
    """A conversation without the oldest turns, which is said, where they leave no room; a system message stays."""
    first = int(asked[0]["role"] == "system")
    fits = list(asked)
    while len(fits) > first + 2 and len(kin.ids(fits)) > kin.generator.room(decoding):
        del fits[first : first + 2]
    if dropped := (len(asked) - len(fits)) // 2:
        turns = "turn is" if dropped == 1 else f"{dropped} turns are"
        sys.stderr.write(f"(The oldest {turns} forgotten: {kin.generator.context} tokens are all that it reads.)\n")
    return fits
