"""An encoder's first layers as a decoder: it says nearly what they say under the same mask, and is a plain GPT-2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from minikin.base.errors import TeacherError
from minikin.base.writing import Packed
from minikin.feed.causal import model_of
from minikin.feed.rows import tokens
from minikin.students.tokenizer import learn_bytes
from minikin.teachers import from_encoder
from minikin.teachers.resolve import Checkpoint, resolve
from toys import toy_checkpoint

TEXTS = [f"turn the {room} {thing} {how}" for room in ("hall", "attic") for thing in ("lamp", "fan") for how in "12345"]
PIECES, SETTINGS = learn_bytes(TEXTS, 300)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return resolve(str(toy_checkpoint(tmp_path_factory.mktemp("toy") / "bert", layers=3, initializer=0.15)))


def samples() -> list[np.ndarray]:
    return [np.array(encoding.ids) for encoding in Tokenizer.from_str(PIECES).encode_batch(TEXTS)]


def read(checkpoint: Checkpoint, *, layers: int | None = 2, context: int = 24):
    return from_encoder.read(checkpoint, PIECES, SETTINGS, samples(), layers=layers, context=context, dropout=0.1)


@torch.no_grad()
def test_its_states_are_nearly_the_encoders_own_under_the_same_mask(checkpoint: Checkpoint) -> None:
    student = read(checkpoint)
    decoder = model_of(student)
    encoder = BertModel.from_pretrained(checkpoint.folder, is_decoder=True, use_cache=False, num_hidden_layers=2).eval()
    for ids_T in samples()[::7]:
        ids_1T = torch.from_numpy(ids_T)[None]
        states_TH = encoder(inputs_embeds=decoder.transformer.wte(ids_1T)).last_hidden_state[0]
        found_TH = decoder.transformer(ids_1T).last_hidden_state[0]
        missed = (found_TH - states_TH).square().mean() / (states_TH - states_TH.mean(0)).square().mean()
        assert missed < 0.1


@torch.no_grad()
def test_what_it_may_follow_reads_packed_documents_apart_and_from_left_to_right(checkpoint: Checkpoint) -> None:
    student, (one_T, two_T) = read(checkpoint), (ids_T[:6] for ids_T in samples()[:2])
    encoder = BertModel.from_pretrained(checkpoint.folder, is_decoder=True, use_cache=False, num_hidden_layers=2).eval()
    packed = Packed(
        np.concatenate([one_T, two_T, [0]])[None], np.array([[1] * 6 + [2] * 6 + [0]]), np.zeros((1, 13), bool)
    )
    found_TH = from_encoder.Original(checkpoint, student).states(tokens(packed, np.array([0])))[0]
    embed = model_of(student).transformer.wte
    for ids_T, part in ((one_T, slice(0, 6)), (two_T, slice(6, 12))):
        wanted_TH = encoder(inputs_embeds=embed(torch.from_numpy(ids_T)[None])).last_hidden_state[0]
        assert torch.allclose(found_TH[part], wanted_TH, atol=1e-4)


@torch.no_grad()
def test_no_token_sees_what_follows(checkpoint: Checkpoint) -> None:
    decoder, ids_1T = model_of(read(checkpoint)), torch.from_numpy(samples()[0])[None]
    alone = decoder(ids_1T[:, :3]).logits
    assert torch.allclose(decoder(ids_1T).logits[:, :3], alone, atol=1e-5)


@torch.no_grad()
def test_a_piece_begins_as_the_mean_of_the_encoders_own(checkpoint: Checkpoint) -> None:
    table_VH = read(checkpoint).tensors["transformer.wte.weight"]
    own_VH = BertModel.from_pretrained(checkpoint.folder).embeddings.word_embeddings.weight.numpy()
    its = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    pieces = Tokenizer.from_str(PIECES)
    for i in range(0, pieces.get_vocab_size(), 17):
        ids = its.encode(pieces.decode([i], skip_special_tokens=False).strip(), add_special_tokens=False).ids
        if ids:
            assert np.allclose(table_VH[i], own_VH[ids].mean(0), atol=1e-6)


def test_half_of_the_layers_are_taken_unless_told(checkpoint: Checkpoint) -> None:
    config = read(checkpoint, layers=None).config
    assert (config["model_type"], config["n_layer"], config["n_positions"]) == ("gpt2", 1, 24)
    assert config["embd_pdrop"] == config["resid_pdrop"] == 0.1


@pytest.mark.parametrize(
    ("changes", "words"), [({"layers": 4}, "teacher.layers: .* has 3, not 4"), ({"context": 65}, "reads at most 64")]
)
def test_what_the_encoder_has_not_is_refused(checkpoint: Checkpoint, changes: dict[str, int], words: str) -> None:
    with pytest.raises(TeacherError, match=words):
        read(checkpoint, **changes)


def test_decoders_are_no_encoders(checkpoint: Checkpoint, tmp_path: Path) -> None:
    import decoders

    decoders.toy_llama(tmp_path / "llama")
    assert from_encoder.is_encoder(checkpoint)
    assert not from_encoder.is_encoder(resolve(str(tmp_path / "llama")))


def test_what_can_not_be_loaded_or_made_is_told(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(checkpoint.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    with pytest.raises(TeacherError, match="neurons of the kind relu"):
        read(resolve(str(folder)))
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(TeacherError, match="can't be loaded as an encoder"):
        read(resolve(str(folder)))
