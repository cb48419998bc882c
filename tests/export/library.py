"""The kernel as a shared library, called through ctypes: what every export is compared with."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np

from minikin.package.export_source import KERNEL

Pair = tuple[bytes, bytes]
FLAGS = ("-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-Wno-psabi")
MODEL_BYTES = 1 << 16  # more than mk_model


class ReadText(ctypes.Structure):
    _fields_ = (("length", ctypes.c_int32), ("second", ctypes.c_int32), ("truncated", ctypes.c_int32))


class Library:
    """The kernel as compiled by `compiler`, with one model open."""

    def __init__(self, compiler: str, folder: Path) -> None:
        out = folder / "kernel.so"
        sources = [str(KERNEL / name) for name in ("tokenizer.c", "paths.c", "model.c")]
        subprocess.run([compiler, *FLAGS, *sources, "-o", str(out)], check=True, capture_output=True)
        self.c = ctypes.CDLL(str(out))
        self.c.mk_read.restype = ReadText
        self.c.mk_workspace.restype = self.c.mk_tokenizer_work.restype = ctypes.c_size_t
        self.c.mk_instructions.restype = ctypes.c_char_p

    def open(self, data: bytes, classes: int, tokens: int) -> int:
        """Open a model file; returns the kernel's code."""
        self.data, self.classes, self.tokens = _aligned(len(data)), classes, tokens
        self.data[:] = np.frombuffer(data, np.uint8)
        self.model = _aligned(MODEL_BYTES)
        return int(self.c.mk_open(_at(self.model), _at(self.data), ctypes.c_size_t(len(data))))

    @property
    def workspace_bytes(self) -> int:
        """What mk_workspace says for one text."""
        return int(self.c.mk_workspace(self.at, self.tokens, 1))

    @property
    def at(self) -> ctypes.c_void_p:
        """Where the model lies."""
        return _at(self.model)

    def answer(self, text: bytes | Pair) -> tuple[np.ndarray, bool]:
        """Probabilities (C,) of a text or pair, and whether it was cut."""
        first, second = text if isinstance(text, tuple) else (text, None)
        ids, work = np.zeros(self.c.mk_ids_room(self.at), np.int32), _aligned(1 << 20)
        workspace, found = _aligned(self.workspace_bytes), np.zeros(self.classes, np.float32)
        sizes = ctypes.c_size_t(len(first)), ctypes.c_size_t(len(second or b""))
        work_size = ctypes.c_size_t(work.nbytes)
        read = self.c.mk_read(self.at, first, sizes[0], second, sizes[1], _at(ids), _at(work), work_size)
        self.c.mk_answer(self.at, _at(ids), ctypes.byref(read), 1, _at(workspace), _at(found), None)
        return found, bool(read.truncated)


def _aligned(size: int) -> np.ndarray:
    """Zeros at an address divisible by 64."""
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


def _at(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
