import gzip
import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

# A shell lets the programs that it starts in the background ignore Ctrl-C. The tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples may take as long as they like on a slow machine. Where a commit is judged, what is drawn must not depend on
# the day; where faults are planted, nobody reads the smallest example.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("faults", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("ci" if os.environ.get("CI") else "default")

# The files that take longest. Workers take them first. Otherwise, one worker is busy with such a file at the end, and
# the other worker is idle.
LONGEST = (
    "test_documents.py",
    "test_constraints.py",
    "test_datasets_ray.py",
    "test_cli_data.py",
    "test_exact.py",
    "test_accept.py",
    "test_wrapping.py",
    "test_bscd.py",
    "test_memory.py",
    "test_tokenizers.py",
    "test_gibbs.py",
)


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist would take files with many tests first
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


PARAPHRASES = [("some parked cars", "a few cars"), ("top of the keyboard", "a laptop")]


@pytest.fixture
def small_meteor(tmp_path, monkeypatch):
    """METEOR with a handful of paraphrases: its own 60 MB of them take it many seconds to read."""
    from pycocoevalcap.meteor import meteor

    shutil.copy(Path(meteor.__file__).parent / meteor.METEOR_JAR, tmp_path / "small.jar")
    (tmp_path / "data").mkdir()
    with gzip.open(tmp_path / "data" / "paraphrase-en.gz", "wt") as table:
        table.writelines(f"0.5\n{one}\n{other}\n" for one, other in PARAPHRASES)
    monkeypatch.setattr(meteor, "METEOR_JAR", str(tmp_path / "small.jar"))
