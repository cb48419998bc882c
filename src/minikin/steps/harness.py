"""The lm-evaluation-harness on a kin that writes: its tasks, answered by the shipped file through its own runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lm_eval import evaluator
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from minikin.base.errors import DataError, UserError
from minikin.base.types import Progress, no_progress
from minikin.base.writing import Decoding
from minikin.runtimes.writing import Writer

MOST_NEW: Final = 256
"""Tokens that an answer may have where a task does not say."""


class KinLM(TemplateLM):  # type: ignore[misc]
    """A generator as the harness asks it: likelihoods of texts, and texts until a stop string."""

    def __init__(self, writer: Writer, progress: Progress = no_progress) -> None:
        super().__init__()
        self._writer, self._progress = writer, progress
        self._first = [*writer.tokens(""), writer.end][0]

    @property
    def eot_token_id(self) -> int:
        """The token before a text: what its tokenizer puts there, or the end of the text before."""
        return self._first

    @property
    def max_gen_toks(self) -> int:
        """Tokens that an answer may have where a task does not say."""
        return min(MOST_NEW, self._writer.context // 2)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The ids of a text; what names a special token is plain text."""
        return self._writer.plain(string) if add_special_tokens is False else self._writer.tokens(string)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation after its context, and whether greedy decoding would write it.

        A context that is too long loses its front, as in the harness's own models.
        """
        found = []
        for i, (_texts, context, continuation) in enumerate(requests):
            ids = [*context, *continuation][-self._writer.context :]
            logprobs_T, likeliest_T = self._writer.scores(ids)
            part = slice(-min(len(continuation), len(ids) - 1), None)
            if len(continuation):
                found.append((float(logprobs_T[part].sum()), bool(likeliest_T[part].all())))
            else:
                found.append((0.0, True))
            self._progress((i + 1) / len(requests), f"{i + 1:,} likelihoods")
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, in windows of the context that overlap by one token."""
        found = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._writer.context - 1,
                context_len=1,
            )
            pairs = [(None, *make_disjoint_window(window)) for window in windows]
            found.append(sum(score for score, _ in self._loglikelihood_tokens(pairs)))
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Write until a task's stop strings; a prompt that is too long loses its front."""
        found = []
        for i, (context, asked) in enumerate(request.args for request in requests):
            until = asked.get("until") or []
            how = Decoding(
                max_tokens=int(asked.get("max_gen_toks") or self.max_gen_toks),
                temperature=float(asked.get("temperature") or 0.0) if asked.get("do_sample") else 0.0,
                top_p=float(asked.get("top_p") or 1.0),
                stop=tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop),
                cut=True,
            )
            found.append(self._writer.complete(context or [self._first], how)[0].text)
            self._progress((i + 1) / len(requests), f"{i + 1:,} answers")
        return found


def evaluate(
    writer: Writer,
    tasks: Sequence[str],
    *,
    include: Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, dict[str, Any]]:
    """Score a generator on tasks of the harness, or on those defined by YAML files in the folder `include`.

    Returns name of a task → its metrics, as the harness names them. Raises UserError for a task that there is not,
    and DataError where its data is not at hand.
    """
    manager = _manager(tasks, include)
    unknown = [name for name in tasks if not manager.match_tasks([name])]
    if unknown:
        raise UserError(
            f"There is no task '{unknown[0]}'. Give names of lm-evaluation-harness, or --include FOLDER of YAML tasks."
        )
    names = manager.match_tasks(list(tasks))
    for name in names:
        try:
            manager.load([name])
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(_missing(name, error)) from error
    told = evaluator.simple_evaluate(
        model=KinLM(writer, progress),
        tasks=names,
        task_manager=manager,
        num_fewshot=shots,
        limit=limit,
        bootstrap_iters=1000,
        log_samples=False,
        torch_random_seed=None,
    )
    found: dict[str, dict[str, Any]] = told["results"]
    return found


def _manager(tasks: Sequence[str], include: Path | None) -> TaskManager:
    """Know the user's own tasks; the harness's thousands, which take seconds to find, only where others are asked."""
    if include is not None:
        own = TaskManager(include_path=str(include), include_defaults=False)
        if all(own.match_tasks([name]) for name in tasks):
            return own
    return TaskManager(include_path=None if include is None else str(include))


def _missing(name: str, error: BaseException) -> str:
    cause = " ".join(str(error).split()) or type(error).__name__
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    advice = (
        "Nothing was fetched, as minikin evaluate stays offline. Fetch the set where there is a network, with "
        f"'HF_HUB_OFFLINE=0 minikin evaluate … --tasks {name}', and copy the folder that HF_HOME names "
        "(~/.cache/huggingface) here; or give a copy of the task whose dataset_path is json and whose data_files "
        "are yours, with --include FOLDER."
        if offline
        else "Check the name of the set, and the network."
    )
    return f"The data of the task '{name}' is not at hand: {cause}. {advice}"
