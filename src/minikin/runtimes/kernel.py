"""The kernel as an engine: the C extension answers from a mapped file. Absent where no compiler was at install."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base.errors import KinError
from minikin.base.extras import extension
from minikin.base.manifest import Manifest
from minikin.base.types import Array

SWITCH = "MINIKIN_INSTRUCTIONS"
"""Environment variable that picks a set of instructions, to try an older machine: scalar, avx2, avx-vnni,
avx512-vnni, amx-int8, neon or neon-dotprod."""

LEAST_PER_THREAD = 8
"""Fewer texts than this are not worth a thread of their own."""


class Engine:
    """Answers with probabilities; holds nothing that changes between calls, and lets the interpreter's lock go."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        """Map the file. Raises KinError when it is damaged, newer, or this install has no kernel."""
        compiled, name = extension(), manifest.kernel
        if name is None:
            raise KinError(f"The kin in {folder} carries no kernel file ({manifest.kernel_reason}). Use --engine onnx.")
        if compiled is None:
            raise KinError(
                "This minikin was installed without its kernel: no C compiler was found, or it failed. Install "
                "one, then run pip install --force-reinstall --no-deps minikin; or use --engine onnx."
            )
        wanted = os.environ.get(SWITCH)
        if wanted and not compiled.use(wanted):
            raise KinError(f"{SWITCH}={wanted}: this processor or build has no such instructions. Unset it.")
        path = folder / name
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._model = compiled.Model(mapped)
        except NotImplementedError as error:
            raise KinError(
                f"The kernel can't open {path}: {error}. Upgrade with: pip install --upgrade minikin"
            ) from error
        except (OSError, ValueError) as error:
            raise KinError(f"The kernel can't open {path}: {error}. Copy the kin again, or build it again.") from error
        if (self._model.classes, self._model.pair) != (len(manifest.labels), manifest.pair):
            raise KinError(f"{path} does not fit {folder / 'minikin.json'}. Build the kin again.")
        self.name = f"kernel ({compiled.instructions()})"
        self._pair = manifest.pair
        self._threads = threads

    def answer(self, texts: Sequence[tuple[str, ...]]) -> tuple[Array, Sequence[bool]]:
        """Return probabilities (N, C), and whether each text was cut off."""
        out_NC = np.empty((len(texts), self._model.classes), np.float32)
        return out_NC, self._run(texts, out_NC, None)

    def both(self, texts: Sequence[tuple[str, ...]]) -> tuple[Array, Array, Sequence[bool]]:
        """Return probabilities (N, C), the vectors (N, F) that the classifier reads, and whether texts were cut off."""
        out_NC = np.empty((len(texts), self._model.classes), np.float32)
        pooled_NF = np.empty((len(texts), self._model.pooled_width), np.float32)
        return out_NC, pooled_NF, self._run(texts, out_NC, pooled_NF)

    def _run(self, texts: Sequence[tuple[str, ...]], out_NC: Array, pooled_NF: Array | None) -> Sequence[bool]:
        items: list[Any] = list(texts) if self._pair else [parts[0] for parts in texts]
        workers = min(self._threads, len(items) // LEAST_PER_THREAD)
        if workers < 2:
            return list(map(bool, self._model.answer(items, out_NC, pooled_NF)))
        ends = [len(items) * i // workers for i in range(workers + 1)]

        def part(i: int) -> bytes:
            rows = slice(ends[i], ends[i + 1])
            flags: bytes = self._model.answer(items[rows], out_NC[rows], None if pooled_NF is None else pooled_NF[rows])
            return flags

        with ThreadPoolExecutor(workers) as pool:
            return list(map(bool, b"".join(pool.map(part, range(workers)))))
