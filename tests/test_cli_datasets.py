"""The commands decode and report, with the pair that comes with the package."""

import functools
import io
import json
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("click")

import command
from command import run_here

from birnn_decode.captions import make_scene
from birnn_decode.datasets import decode_dataset, parts, read_answers
from birnn_decode.methods import BSCD, BeamSearch
from birnn_decode.models import default_pair, molecule_pair, save_pair

output_of = functools.partial(command.output_of, runner=run_here)
refusal_of = functools.partial(command.refusal_of, runner=run_here)
SMALL = ["--beam-size", "2", "--batch-size", "4"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Six pictures with questions, of which one has no picture."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    output_of("scenes", folder, "--count", "6", "--seed", "7")
    with (folder / "questions.jsonl").open("a") as file:
        file.write(json.dumps({"id": "missing", "image": "none.png", "template": "a _ star"}) + "\n")
    return folder


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")


def test_questions_that_scenes_writes(scenes):
    rows = [json.loads(line) for line in (scenes / "questions.jsonl").read_text().splitlines()[:6]]
    for number, row in enumerate(rows):
        (reference,) = row["references"]
        words, asked = reference.split(), row["template"].split()
        assert row["id"] == number
        assert reference == make_scene(7, number, 5).captions[0]
        assert len(asked) == len(words)
        assert asked.count("_") == -(-len(words) // 2)
        assert all(one in ("_", word) for one, word in zip(asked, words, strict=True))


def test_a_bad_question_is_an_answer_and_exit_code_3(scenes, tmp_path):
    output = tmp_path / "answers.jsonl"
    done = run_here("decode", scenes / "questions.jsonl", "-o", output, *SMALL)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith(f"7 answers, 1 errors in {output}; 7 decoded in ")
    answers = list(read_answers(output))
    assert answers[6]["error"] == f"there is no picture {scenes / 'none.png'}"
    assert all(one["text"] for one in answers[:6])
    again = run_here("decode", scenes / "questions.jsonl", "-o", output, *SMALL)
    assert (again.returncode, again.stdout) == (3, f"{output} was complete before: 7 answers, 1 errors\n")


def test_the_command_and_the_function_do_the_same(scenes, tmp_path):
    run_here("decode", scenes / "questions.jsonl", "-o", tmp_path / "command.jsonl", *SMALL)
    given = tmp_path / "function.jsonl"
    options = {"batch_size": 4, "beam_size": 2, "constraints": []}
    decode_dataset(default_pair(), scenes / "questions.jsonl", BSCD(), given, device="cpu", **options)
    for of in (lambda run: run.output, lambda run: run.manifest):
        one, other = (of(parts.Run(tmp_path / name)).read_bytes() for name in ("command.jsonl", "function.jsonl"))
        lines = (b"\n".join(line for line in text.split(b"\n") if b"seconds" not in line) for text in (one, other))
        assert next(lines) == next(lines)


def test_strict_stops_with_one_line(scenes, tmp_path):
    done = run_here("decode", scenes / "questions.jsonl", "-o", tmp_path / "a.jsonl", "--strict", *SMALL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"birnn-decode: question 'missing': there is no picture {scenes / 'none.png'}\n"


def test_standard_input(scenes, tmp_path, monkeypatch):
    data = (scenes / "questions.jsonl").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    run_here("decode", "-", "-o", tmp_path / "piped.jsonl", "--images", scenes, *SMALL)
    run_here("decode", scenes / "questions.jsonl", "-o", tmp_path / "read.jsonl", *SMALL)
    piped, read = ((tmp_path / name).read_text() for name in ("piped.jsonl", "read.jsonl"))
    assert piped == read
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"image": 1}\n{"ima')))
    line = refusal_of("decode", "-", "-o", tmp_path / "cut.jsonl")
    assert line.startswith("birnn-decode: the given questions, line 2 is not JSON")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("cut")) == []


def test_caption_files_methods_and_formats(scenes, tmp_path):
    given = ["decode", scenes / "dataset.json", "--method", "urnn-f", "--format", "coco", *SMALL]
    assert "6 answers, 0 errors" in output_of(*given, "--split", "test", "-o", tmp_path / "coco.json")
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [one["image_id"] for one in found] == list(range(6))
    assert all(one["caption"] for one in found)
    assert refusal_of(*given, "--split", "val", "-o", tmp_path / "val.json").startswith(
        "birnn-decode: no image is in the split 'val'"
    )
    about = json.loads(parts.Run(tmp_path / "coco.json").manifest.read_text())
    assert about["settings"]["method"] == repr(BeamSearch("forward"))


def test_models_without_sources(tmp_path):
    models = molecule_pair()
    save_pair(models.forward, models.backward, tmp_path / "molecules.safetensors")
    (tmp_path / "questions.jsonl").write_text('{"template": "CC(=O)_c1ccccc1"}\n{"image": "a.png"}\n')
    given = ["decode", tmp_path / "questions.jsonl", "-o", tmp_path / "answers.jsonl", *SMALL]
    done = run_here(*given, "--model", tmp_path / "molecules.safetensors")
    assert done.returncode == 3
    first, second = read_answers(tmp_path / "answers.jsonl")
    assert first["text"].startswith("CC(=O)")
    assert second["error"] == "the question has image, and the model needs no source"


def test_features(scenes, tmp_path):
    import numpy as np
    import torch

    models = default_pair()
    pictures = [make_scene(7, number, 5).picture() for number in range(6)]
    with torch.no_grad():
        vectors = models.forward.encode(pictures).numpy()
    np.savez(tmp_path / "features.npz", features=vectors, image_ids=np.array([f"{at}.png" for at in range(6)]))
    asked = [json.loads(line) for line in (scenes / "questions.jsonl").read_text().splitlines()[:6]]
    for number, one in enumerate(asked):
        del one["image"]
        one["features"] = f"{number}.png" if number % 2 else vectors[number].tolist()
    asked.append({"features": "9.png"})
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    run_here("decode", scenes / "questions.jsonl", "-o", tmp_path / "pictures.jsonl", *SMALL)
    given = ["decode", tmp_path / "questions.jsonl", "-o", tmp_path / "vectors.jsonl", *SMALL]
    assert run_here(*given, "--features", tmp_path / "features.npz").returncode == 3
    of_pictures, of_vectors = (list(read_answers(tmp_path / name)) for name in ("pictures.jsonl", "vectors.jsonl"))
    for one, other in zip(of_pictures[:6], of_vectors[:6], strict=True):
        assert one["text"] == other["text"]
        assert one["joint"] == pytest.approx(other["joint"], abs=1e-3)
    assert of_vectors[6]["error"] == "the file of features has no vector of '9.png'"
    assert "features" in of_vectors[1]
    assert "features" not in of_vectors[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "a", "--birnn", "b"], "decode takes one kind of models: give --model or --birnn"),
        (["--device", "cuda:99"], "--device cuda:99: there is no such device; use cpu"),
        (["--address", "localhost:1"], "address is that of a Ray cluster: say how many workers it shall start"),
        (["--format", "parquet"], "answers.jsonl does not go with the format parquet: give it another ending"),
        (["--split", "val"], "a split is for caption files (.json)"),
    ],
)
def test_wrong_options_are_one_line(scenes, tmp_path, more, message):
    line = refusal_of("decode", scenes / "questions.jsonl", "-o", "answers.jsonl", *more, folder=tmp_path)
    assert line.startswith(f"birnn-decode: {message}")
    assert list(tmp_path.iterdir()) == []


def test_report(scenes, tmp_path):
    """Pictures are found where decode found them."""
    run_here("decode", scenes / "questions.jsonl", "-o", tmp_path / "answers.jsonl", *SMALL)
    printed = output_of("report", tmp_path / "answers.jsonl", "-o", tmp_path / "page.html")
    assert printed.startswith("answers.jsonl: 7 answers, 1 errors\n")
    assert "exactly right" in printed
    assert printed.endswith(f"the page is {tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").read_text().count("<img") == 6
    assert refusal_of("report", tmp_path / "none.jsonl").startswith("birnn-decode: there is no file of answers")
