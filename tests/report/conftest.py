import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("made_up_story", Path(__file__).with_name("story.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)


@pytest.fixture
def story():
    return made_up.story()
