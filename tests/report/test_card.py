import ast
import re

import pytest
import yaml

from minikin.report.card import card

MANIFEST = {
    "schema": 1,
    "family": "encoder",
    "files": {"onnx/model_quantized.onnx": {"size": 1, "sha256": "0"}},
    "teacher": {"name": "sentence-transformers/all-MiniLM-L6-v2", "licence": "apache-2.0"},
    "recipe_sha256": "ab" * 32,
}


def split(text):
    assert text.startswith("---\n")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_metadata_that_the_hub_reads(story):
    metadata, _ = split(card(story, MANIFEST))
    assert metadata["license"] == "apache-2.0"
    assert metadata["library_name"] == "transformers"
    assert metadata["pipeline_tag"] == "text-classification"
    assert metadata["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert "onnx" in metadata["tags"]
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "accuracy", "name": "Accuracy", "value": 0.9119}
    assert result["dataset"] == {"type": "helpdesk", "name": "helpdesk", "split": "test"}


def test_the_hub_itself_accepts_it(story):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(card(story, MANIFEST)).data
    assert data.eval_results[0].metric_value == 0.9119
    assert data.model_name == "helpdesk"


def test_body_says_what_it_is_how_to_use_it_and_what_it_cannot(story):
    _, body = split(card(story, MANIFEST))
    body = body.replace("\u202f", " ")
    for words in (
        "Keeps 99.0 % of the teacher’s accuracy",
        "`wifi_password`",
        "| **This model** | 91.2 % | 88.8 % to 93.6 %",
        "Against the teacher: −1.0 points",
        "With one typo in each text its accuracy is 88.9 %",
        "Weakest classes",
        "licence apache-2.0",
        "ab" * 32,
    ):
        assert words in body
    programs = re.findall(r"```python\n(.*?)```", body, re.S)
    assert len(programs) == 3
    for program in programs:
        ast.parse(program)


def test_static_pair_without_teacher(story):
    story["differences"] = [{"text": ["a", "b"]}]
    metadata, body = split(card(story, {"family": "static", "teacher": None}))
    assert metadata["library_name"] == "minikin"
    assert not {"license", "base_model"} & set(metadata)
    assert "from transformers" not in body
    assert 'kin(("first text", "second text"))' in body
    assert "trained from gold labels" in body


def test_a_path_is_no_base_model(story):
    metadata, _ = split(card(story, {"family": "encoder", "teacher": {"name": "/home/me/teacher"}}))
    assert "base_model" not in metadata


def test_hostile_names_break_neither_yaml_nor_table(story):
    story["name"] = "a: b\n---\n# <script>|x` \x00\ud800"
    story["labels"] = ["<script>alert(1)</script>", "a|b", "`"]
    text = card(story, {**MANIFEST, "teacher": {"name": "x/y", "licence": "other: # |"}})
    text.encode("utf-8")
    metadata = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert metadata["license"] == "other: # |"
    assert "<script>" not in text.split("\n---\n", 1)[1].split("# ", 1)[1].replace("&lt;script>", "")


@pytest.mark.parametrize("key", ["measurements", "labels", "gate", "paired", "per_class", "data", "seeds", "machine"])
def test_any_part_may_be_missing(story, key):
    story[key] = None
    metadata, body = split(card(story, MANIFEST))
    assert metadata["tags"]
    assert "None" not in body.replace("run(None, ", "")


def test_other_work_while_it_was_timed_is_told(story):
    assert "upper bounds" not in card(story, MANIFEST)
    story["measurements"]["student"]["core_share"] = 0.5
    assert "latencies are upper bounds" in card(story, MANIFEST)


def test_an_empty_story_is_still_a_card():
    metadata, body = split(card({}, {}))
    assert metadata["library_name"] == "minikin"
    assert "Not measured yet." in body
