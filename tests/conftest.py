"""Puts this folder on the path, so that tests of every stage can use small.py and toys.py; slow machines are fine."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("minikin", deadline=None, max_examples=50)
settings.load_profile("minikin")
