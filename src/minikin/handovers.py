"""From a kin and a hand-over file to the pair that answers: opens what the file names. Called by the commands."""

from __future__ import annotations

from operator import eq
from os import PathLike
from pathlib import Path

from minikin.base.wire import Patience
from minikin.equations.metrics import same
from minikin.recipe import handover as files
from minikin.recipe.handover import HandOverFile
from minikin.runtimes import Kin
from minikin.runtimes import open as open_kin
from minikin.runtimes.author import Author, open_author
from minikin.trust.book import Facts
from minikin.trust.drift import Watch
from minikin.trust.egress import Egress
from minikin.trust.endpoint import Endpoint, Prices
from minikin.trust.guard import Guard
from minikin.trust.handover import HandOver, Policy
from minikin.trust.large import KinLarge, Large, WritingLarge
from minikin.trust.queue import Queue


def open(kin: Kin | Author, file: HandOverFile | str | PathLike[str]) -> HandOver:
    """Join a kin, its certificate, the queue and those who are asked, as the hand-over file says.

    Raises RecipeError for faults in the file, KinError and QueueError for what it names and can't be opened.
    """
    if not isinstance(file, HandOverFile):
        file = files.read(Path(file))
    guard = Guard.of(kin.folder, engine=kin.engine)
    queue = Queue(file.queue.at)
    leaves = file.egress
    egress = Egress(leaves.allow, tuple(leaves.never), tuple(leaves.fields), leaves.patterns, leaves.found == "redact")
    return HandOver(
        kin,
        large=[asked(one, kin, queue.book) for one in file.large],
        queue=queue,
        guard=guard,
        watch=watch_of(guard, file, queue),
        egress=egress,
        policy=Policy(frozenset(file.people.labels), 0.0 if guard.unaudited else file.audit.share),
    )


def watch_of(guard: Guard, file: HandOverFile, queue: Queue) -> Watch | None:
    """The watch over the certificate, its state in the queue's database; None where there is no certificate."""
    if not len(guard.calibration_scores_N):
        return None
    name = str(guard.value["sha256_of_this"])[:16]
    reference = {"scores": guard.calibration_scores_N}
    judge = same if guard.value.get("task") == "generate" else eq
    return Watch(name, guard.alpha, reference, alarm=file.audit.alarm, book=queue.book, same=judge)


def asked(spec: files.Large, small: Kin | Author, book: Facts) -> Large:
    """One who is asked: another kin, or an endpoint."""
    labels = () if isinstance(small, Author) else small.labels
    if spec.kin is not None:
        if isinstance(small, Author):
            author = open_author(spec.kin)
            return WritingLarge(author, spec.answers == "certified", author.manifest.name or author.folder.name)
        kin = open_kin(spec.kin)
        guard = Guard.of(kin.folder, engine=kin.engine) if spec.answers == "certified" else None
        return KinLarge(kin, labels, guard, kin.manifest.name or kin.folder.name)
    assert spec.url is not None
    assert spec.model is not None
    return Endpoint(
        spec.url,
        spec.model,
        labels,
        most_tokens=small.usual.max_tokens if isinstance(small, Author) else None,
        key_from=spec.key_from,
        about=spec.about,
        structured=spec.structured,
        patience=Patience(spec.timeout_s, spec.retries, spec.longest_wait_s, spec.concurrency),
        prices=Prices(spec.price_in, spec.price_out, spec.cost_per_day),
        book=book,
    )
