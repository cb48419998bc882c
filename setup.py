"""Builds the kernel's extension, where a C compiler is: everything else stands in pyproject.toml.

The extension is optional: without a compiler the install succeeds, and ONNX Runtime answers instead.
"""

import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNEL = Path("src/minikin/kernel")
SOURCES = ("python.c", "model.c", "paths.c", "tokenizer.c")
# no contraction of a*b+c: every machine gives the same bits; attention takes a tenth longer where loops straddle lines
FLAGS = [] if os.name == "nt" else ["-std=c99", "-O3", "-ffp-contract=off", "-falign-loops=64", "-Wall", "-Wextra"]


class BuildKernel(build_ext):
    """Windows' own compiler does not know the kernel's vectors, and setuptools asks no other: name clang-cl by hand."""

    def build_extensions(self) -> None:
        """Compile with clang-cl where CC names it."""
        if self.compiler.compiler_type == "msvc" and os.environ.get("CC", "").endswith("clang-cl"):
            self.compiler.initialize()
            self.compiler.cc = shutil.which(os.environ["CC"]) or os.environ["CC"]
        super().build_extensions()


setup(
    cmdclass={"build_ext": BuildKernel},
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
