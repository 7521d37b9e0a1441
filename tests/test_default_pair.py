"""The pair of captioners that comes with the package."""

import subprocess
import sys
from importlib import resources

import pytest

pytest.importorskip("torch")

from birnn_decode import bscd_decode
from birnn_decode.captions import CaptionedImage, make_scenes
from birnn_decode.evaluation import ask, asked, blank_questions, report
from birnn_decode.models import default_pair

HELD_OUT = 2  # the seed of scenes that the pair has not seen


def test_the_files_are_small():
    files = list((resources.files("birnn_decode") / "data").iterdir())
    assert sorted(file.name for file in files) == ["README.md", "molecules.safetensors", "scenes.safetensors"]
    assert sum(len(file.read_bytes()) for file in files) < 4e6


@pytest.mark.process
def test_loading_it_imports_no_compiler():
    """PyTorch's own takes longer to import than the first decode does."""
    code = "import sys; from birnn_decode import models; models.default_pair(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_bscd_fills_blanks_that_looking_one_way_does_not():
    """200 captions without their middle half; the margins are those that the README's larger table shows, and more."""
    models = default_pair()
    scenes = make_scenes(200, HELD_OUT, captions=1)
    images = [CaptionedImage(str(at), at, "test", scene.captions) for at, scene in enumerate(scenes)]
    pictures = {str(at): scene.picture() for at, scene in enumerate(scenes)}
    questions, left_out = blank_questions(images, pictures, models.forward.vocabulary, 0.5)
    assert not left_out
    names = ["urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "bscd"]
    batches = list(ask(asked(names, models), questions))
    made = report("half", questions, batches, captioning=False)
    right = {method: figures["exactly right"].value for method, figures in made.figures.items()}
    assert right["bscd"] >= 0.15 + max(right["urnn-f"], right["urnn-b"])
    assert right["bscd"] > max(right["urnn-f+end"], right["urnn-b+end"])
    assert right["bscd"] > right["rerank"]
    for result in (result for batch in batches for result in batch):
        assert result["bscd"].best.joint >= result["rerank"].best.joint - 1e-4


def test_captions_are_about_the_picture():
    """Whole captions mention no colour that is not there, nearly always."""
    models = default_pair()
    scenes = make_scenes(50, HELD_OUT, captions=1)
    results = bscd_decode(models.forward, models.backward, [scene.picture() for scene in scenes])
    right = 0
    for scene, result in zip(scenes, results, strict=True):
        colours = {"red", "blue", "green", "yellow", "purple", "black"} & set(result.best.text.split())
        right += bool(colours) and colours <= {shape.colour for shape in scene.shapes}
    assert right >= 45
