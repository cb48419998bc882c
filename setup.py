"""Builds the kernel's extension, where a C compiler is: everything else stands in pyproject.toml.

The extension is optional: without a compiler the install succeeds, and ONNX Runtime answers instead.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

KERNEL = Path("src/minikin/kernel")
SOURCES = ("python.c", "model.c", "paths.c", "tokenizer.c")
# no contraction of a*b+c: every machine gives the same bits; attention takes a tenth longer where loops straddle lines
FLAGS = [] if os.name == "nt" else ["-std=c99", "-O3", "-ffp-contract=off", "-falign-loops=64", "-Wall", "-Wextra"]

setup(
    ext_modules=[
        Extension(
            "minikin.kernel._kernel",
            [str(KERNEL / name) for name in SOURCES],
            depends=[str(path) for path in sorted(KERNEL.glob("*.h")) + sorted(KERNEL.glob("*.inc"))],
            extra_compile_args=FLAGS,
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
