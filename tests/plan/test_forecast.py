from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.plan import forecast
from minikin.plan.forecast import Decoder, Machine, Shape

MINILM = Shape(6, 384, 1536, 30_522, 77)
TINY = Shape(2, 128, 512, 4_000, 77)
HERE = Machine(100.0, 1.0)


def test_weights_of_minilm_by_hand() -> None:
    assert MINILM.embedding_weights == 11_720_448
    # 6 layers of 4 H² + 2 H F, and the head.
    assert MINILM.other_weights == 6 * 1_769_472 + 384 * 77


def test_a_factorised_table_is_smaller_and_has_a_projection() -> None:
    narrow = Shape(6, 384, 1536, 30_522, 77, embedding=128)
    assert narrow.embedding_weights == 30_522 * 128
    assert narrow.other_weights == MINILM.other_weights + 128 * 384


def test_operations_by_hand() -> None:
    # MEASURED: at 16 tokens MiniLM needs about 340 million multiply-accumulates of two operations each, halved.
    assert MINILM.gflop(16) == pytest.approx(0.3422, rel=1e-3)
    assert TINY.gflop(16) == pytest.approx(0.01286, rel=1e-2)


def test_a_twice_as_fast_machine_asks_in_half_the_time() -> None:
    slow = forecast.asking_s(MINILM, 1000, 16, HERE)
    assert forecast.asking_s(MINILM, 1000, 16, Machine(200.0, 1.0)) == pytest.approx(slow / 2)


def test_frozen_embeddings_are_cheaper() -> None:
    free = forecast.training_s(MINILM, 1000, 3, 32, 16, HERE)
    frozen = forecast.training_s(MINILM, 1000, 3, 32, 16, HERE, frozen_embeddings=True)
    # 96 steps in which 11.7 million weights are left alone, at 1 ns each.
    assert free - frozen == pytest.approx(3 * 32 * MINILM.embedding_weights * 1e-9)
    assert forecast.training_mib(MINILM, 32, 16, frozen_embeddings=True) < forecast.training_mib(MINILM, 32, 16)


def test_static_students_have_no_layers_to_compute() -> None:
    bag, mixing = Shape(0, 128, 0, 4000, 77), Shape(0, 128, 0, 4000, 77, window=3)
    assert bag.gflop(16) < mixing.gflop(16) < TINY.gflop(16)


def decoder(**more: object) -> Decoder:
    """4 layers of 64 wide with 1,000 weights each, whose 500 pieces are weighed at 10 tokens of a text."""
    return Decoder(4, 64, 192, 500, 0, inner=4000, **{"learnt": 10.0, **more})  # type: ignore[arg-type]


def test_a_decoder_by_hand() -> None:
    assert decoder().gflop(20) == pytest.approx((2 * 20 * 4000 + 2 * 10 * 500 * 64 + 4 * 400 * 64 * 4) / 1e9)
    assert decoder().other_weights == 4000
    assert decoder(tied=False).other_weights == 4000 + 500 * 64
    assert decoder(learnt=0.0).gflop(20) < decoder().gflop(20) == decoder(tied=False).gflop(20)


def test_what_saves_memory_is_forecast_to() -> None:
    usual = forecast.training_mib(decoder(), 8, 512)
    assert forecast.training_mib(decoder(checkpointing=True), 8, 512) < usual
    # gradients, two moments and the best copy of every weight are what adapters save
    saved = 16 * (500 * 64 + 4000) / 2**20
    assert usual - forecast.training_mib(decoder(), 8, 512, adapters=True) == pytest.approx(saved)
    assert forecast.weights_mib(decoder()) == pytest.approx(saved / 4)
    assert forecast.training_s(decoder(), 10, 1, 2, 20, HERE, adapters=True) < forecast.training_s(
        decoder(), 10, 1, 2, 20, HERE
    )


def test_answers_are_of_one_thread() -> None:
    alone, half = (decoder().answer_s(20, 10, machine, 1) for machine in (HERE, Machine(50.0, 1.0)))
    assert decoder().answer_s(20, 10, HERE, 2) == pytest.approx(half)
    assert half - 10 * forecast.TOKEN_S == pytest.approx(2 * (alone - 10 * forecast.TOKEN_S))


def test_signals_by_hand() -> None:
    # 1,024 texts of 77 logits and 384 pooled numbers, two bytes each.
    assert forecast.signals_mib(1024, 16, 77, 384, {"pooled": 1}) == pytest.approx(1024 * 2 * 461 / 2**20)
    assert forecast.signals_mib(1, 16, 77, 384, {}) < forecast.signals_mib(1, 16, 77, 384, {"hidden": 2})


def test_stages_follow_each_other_so_peaks_do_not_add() -> None:
    assert forecast.memory_mib(100, 300) == forecast.memory_mib(300) == forecast.PROCESS_MIB + 300


@given(st.integers(1, 10**6), st.integers(1, 60), st.integers(1, 512), st.floats(1, 512))
def test_more_work_takes_longer(texts: int, epochs: int, batch: int, tokens: float) -> None:
    took = forecast.training_s(TINY, texts, epochs, batch, tokens, HERE)
    assert took > 0
    assert forecast.training_s(TINY, texts, epochs + 1, batch, tokens, HERE) > took
    assert forecast.training_s(TINY, texts + batch, epochs, batch, tokens, HERE) > took
    assert forecast.training_s(TINY, texts, epochs, batch, tokens + 1, HERE) > took
