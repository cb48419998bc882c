"""Puts this folder on the path, so that tests of every stage can use small.py and toys.py; slow machines are fine."""

from hypothesis import settings

settings.register_profile("minikin", deadline=None, max_examples=50)
settings.load_profile("minikin")
