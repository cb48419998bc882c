"""The command line in this process, and made-up answers whose risk is known.

Those are N texts of C classes, some out of scope, with vectors that lie by class.
"""

import numpy as np
import pytest
from typer.testing import CliRunner

from minikin.cli import app
from minikin.trust.certify import Labelled

CLASSES, WIDTH = 6, 12
MEANS = np.random.default_rng(99).normal(size=(CLASSES, WIDTH)) * 2


def made_up(rng, n, *, noise=0.0, outside=0.1, scale=1.0, reject=-1):
    """Texts of a class lie around its mean; the kin answers by distance, so those between classes are often wrong."""
    labels = rng.integers(0, CLASSES, n)
    out = rng.random(n) < outside
    h = MEANS[labels] + rng.normal(size=(n, WIDTH)) * 1.8 * scale
    h[out] = rng.normal(size=(out.sum(), WIDTH)) * 2.2
    logits = -((h[:, None] - MEANS[None]) ** 2).sum(-1) / 8
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    given = labels.copy()
    changed = rng.random(n) < noise
    given[changed] = (given[changed] + 1 + rng.integers(0, CLASSES - 1, changed.sum())) % CLASSES
    given[out] = reject
    return Labelled(p.astype(np.float32), h.astype(np.float32), given, reject)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def answers():
    return made_up


@pytest.fixture
def say():
    """Run a command: `say("queue", kin, "list", input=...)`."""
    return lambda *args, **more: CliRunner().invoke(app, [str(a) for a in args], **more)
