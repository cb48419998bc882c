"""What test_sequence.py launches as two processes: the same training, and a report from each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from minikin.teachers import token_signals as store
from minikin.train import sequence

shown = 0


def main(folder: Path) -> None:
    """Train on the store in `folder`, counting the rows that this process is shown."""
    from minikin.train.loop import Settings
    from minikin.train.token_objectives import TokenObjective
    from toy_decoders import decoder, many

    rows, tokens = many(24), sequence.tokens

    def counted(packed, rows_B):  # type: ignore[no-untyped-def]
        global shown
        shown += len(rows_B)
        return tokens(packed, rows_B)

    sequence.tokens = counted
    model = decoder(seed=2)
    history = sequence.distil(
        model,
        rows,
        [TokenObjective("gold", 0.3), TokenObjective("kl")],
        Settings(epochs=3, batch=5, learning_rate=5e-3, seed=1),
        source=store.read(folder / "store", rows),
        scratch=folder,
    )
    state = PartialState()
    report = {
        "processes": state.num_processes,
        "shown": shown,
        "losses": history.losses,
        "weights": {name: p.tolist() for name, p in model.named_parameters()},
    }
    (folder / f"process-{state.process_index}.json").write_text(json.dumps(report))
    state.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
