"""`minikin evaluate`: tasks on local files whose scores are known beforehand, by both engines, and what is missing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from .test_measure_writing import write

pytest.importorskip("lm_eval", reason="the extra 'evaluate' is not installed")

PROMPTS = [f"turn the lights {i} down" for i in range(12)]
CHOICES = ["play some jazz", "what is the time"]
TASKS = {
    "tiny_choice": "output_type: multiple_choice\ndoc_to_choice: '{{choices}}'\ndoc_to_target: '{{label}}'\n"
    "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n",
    "tiny_answer": "output_type: generate_until\ndoc_to_target: '{{answer}}'\n"
    "generation_kwargs: {until: ['zzz'], max_gen_toks: 6}\n"
    "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n",
    "tiny_text": "output_type: loglikelihood_rolling\ndoc_to_target: '{{prompt}}'\n"
    "metric_list: [{metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]\n",
}


@pytest.fixture(scope="module", autouse=True)
def _apart(tmp_path_factory):
    """What the harness reads is cached in a folder of the test's own."""
    patch = pytest.MonkeyPatch()
    patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        patch.setenv(name, os.environ.get(name, "1"))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def kin(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("writer") / "kin")


class Reference:
    """What plain transformers makes of the folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def nats(self, text: str, more: str) -> float:
        import torch

        before = self.tokenizer(text).input_ids or [self.tokenizer.eos_token_id]
        ids = torch.tensor([before + self.tokenizer(text + more).input_ids[len(self.tokenizer(text).input_ids) :]])
        with torch.inference_mode():
            logs = self.model(ids).logits[0, :-1].log_softmax(-1)
        return float(logs.gather(-1, ids[0, 1:, None])[len(before) - 1 :].sum())

    def writes(self, text: str) -> str:
        ids = self.tokenizer(text, return_tensors="pt")
        done = self.model.generate(**ids, max_new_tokens=6, do_sample=False)[0, ids.input_ids.shape[1] :]
        return self.tokenizer.decode(done, skip_special_tokens=True)


@pytest.fixture(scope="module")
def tasks(kin, tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """A folder of tasks, and the score of each: three of four labels are what transformers answers."""
    folder, known = tmp_path_factory.mktemp("tasks"), Reference(kin)
    rows = []
    for i, prompt in enumerate(PROMPTS):
        best = int(np.argmax([known.nats(prompt, f" {choice}") for choice in CHOICES]))
        right = i % 4 != 0
        answer = known.writes(prompt) if right else "nothing of the kind"
        rows.append({"prompt": prompt, "choices": CHOICES, "label": best if right else 1 - best, "answer": answer})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, more in TASKS.items():
        text = "''" if name == "tiny_text" else "'{{prompt}}'"
        data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}\n"
        head = f"task: {name}\n{data}test_split: test\nnum_fewshot: 0\ndoc_to_text: {text}\n"
        (folder / f"{name}.yaml").write_text(head + more, encoding="utf-8")
    total = sum(known.nats("", prompt) for prompt in PROMPTS)
    perplexity = float(np.exp(-total / sum(len(prompt) for prompt in PROMPTS)))
    return folder, {"tiny_choice": 0.75, "tiny_answer": 0.75, "tiny_text": perplexity}


@pytest.mark.parametrize("engine", ["llama.cpp", "torch"])
def test_scores_are_those_known(say, kin, tasks, engine):
    folder, known = tasks
    found = say("evaluate", kin, "--tasks", ",".join(TASKS), "--include", folder, "--engine", engine, "--json")
    assert found.exit_code == 0, found.output
    results = json.loads(found.stdout)["results"]
    assert results["tiny_choice"]["acc,none"] == known["tiny_choice"]
    assert results["tiny_answer"]["exact_match,none"] == known["tiny_answer"]
    assert results["tiny_text"]["byte_perplexity,none"] == pytest.approx(known["tiny_text"], rel=2e-3)


def test_a_table_and_fewer_rows(say, kin, tasks):
    found = say("evaluate", kin, "--tasks", "tiny_choice", "--include", tasks[0], "--limit", "4")
    assert found.exit_code == 0, found.output
    assert "0.7500" in found.stdout
    assert "engine llama.cpp" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tasks", "no_such_task_at_all"), "There is no task 'no_such_task_at_all'"),
        (("--tasks", " , "), "names no task"),
        (("--tasks", "x", "--include", "nowhere"), "is no folder"),
        (("--tasks", "lambada_openai"), "The data of the task 'lambada_openai' is not at hand"),
    ],
)
def test_what_is_missing_is_said(say, kin, arguments, words):
    found = say("evaluate", kin, *arguments)
    assert found.exit_code == 2, found.output
    told = " ".join(found.stderr.split())
    assert words in told
    if "lambada_openai" in arguments:
        assert "HF_HUB_OFFLINE=0" in told
        assert "--include FOLDER" in told
