"""The kernel: a small C engine for small models (docs/kernel.md). `_kernel` is its extension, where it was built."""
