from __future__ import annotations

import torch

from minikin.measure import rate


def test_rates_are_of_this_world_and_leave_the_threads_alone() -> None:
    before = torch.get_num_threads()
    assert 0.05 < rate.gemm_gflops(1, seconds=0.05) < 10_000
    assert 0.01 < rate.update_ns(1, seconds=0.05) < 1000
    assert torch.get_num_threads() == before
