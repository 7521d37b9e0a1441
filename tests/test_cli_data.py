"""The commands that work on captions: train, evaluate and curves."""

import csv
import functools
import importlib
import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("click")

import command
import torch
from command import command_line, run_here
from PIL import Image

from birnn_decode import bscd_decode
from birnn_decode.captions import make_scene, words_of
from birnn_decode.models import load_pair

output_of = functools.partial(command.output_of, runner=run_here)
refusal_of = functools.partial(command.refusal_of, runner=run_here)

COLOURS = ("red", "green", "blue")
THINGS = ("ball", "box", "cat")
SMALL = ["--hidden-size", "12", "--epochs", "3", "--min-count", "1"]
DATA = os.environ.get("BIRNN_DECODE_DATA")


def captions_of(number):
    colour, thing = COLOURS[number % 3], THINGS[number // 3 % 3]
    return [f"A {colour} {thing} lies here .", f"There is a {thing} , a {colour} one ."]


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """METEOR, which is tested where it is computed, takes ten seconds to start."""
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """36 images: Karpathy's JSON, and vectors that tell what is in the image; one image has none."""
    folder = tmp_path_factory.mktemp("data")
    splits = ["train"] * 18 + ["val"] * 9 + ["test"] * 9
    images = [
        {
            "filename": f"{at}.jpg",
            "imgid": at + 1,
            "split": split,
            "sentences": [{"raw": one} for one in captions_of(at)],
        }
        for at, split in enumerate(splits)
    ]
    images[3]["sentences"].append({"raw": "word " * 41})
    images[4]["sentences"].append({"raw": " "})
    images[35]["sentences"] = [{"raw": "A red zebra lies here ."}, {"raw": "A mauve ball lies here , zebra ."}]
    (folder / "captions.json").write_text(json.dumps({"images": images}))
    vectors = np.zeros((36, 7), dtype=np.float16)
    for at in range(36):
        vectors[at, at % 3] = vectors[at, 3 + at // 3 % 3] = 1
    keep = [at for at in range(36) if at != 1]
    np.savez(folder / "features.npz", features=vectors[keep], image_ids=np.array([f"{at}.jpg" for at in keep]))
    return folder


@pytest.fixture(scope="module")
def given(data):
    return ["--captions", data / "captions.json", "--features", data / "features.npz"]


@pytest.fixture(scope="module")
def trained(data, given):
    """A pair that knows its nine captions by heart, what training printed, and where all of it is."""
    more = ["--hidden-size", "48", "--epochs", "120", "--min-count", "1"]
    printed = output_of("train", *given, "--out", data / "pair", *more)
    return data / "pair", printed


def test_training_says_what_it_does(trained, data):
    path, printed = trained
    lines = printed.splitlines()
    assert lines[:4] == [
        "left out: 1 empty captions",
        "left out: 1 images without features",
        "left out: 1 captions of more than 40 words",
        "train: 17 images, 34 captions, val: 9 images, 18 captions; 13 words; lstm, 115,137 parameters in each "
        "direction",
    ]
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 120
    assert "(saved)" in epochs[0]
    assert lines[-1].startswith(f"{path}: the pair of epoch ")
    with open(f"{path}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == [str(number) for number in range(1, 121)]
    assert float(rows[-1]["validation_forward"]) < 0.5 < float(rows[0]["validation_forward"])
    assert sorted(file.name for file in data.iterdir() if file.name.startswith("pair")) == ["pair", "pair.csv"]


def test_the_best_pair_is_the_one_that_is_kept(trained, data):
    path, printed = trained
    with open(f"{path}.csv", newline="") as file:
        losses = [float(row["validation_forward"]) + float(row["validation_backward"]) for row in csv.DictReader(file)]
    best = 1 + losses.index(min(losses))
    assert printed.splitlines()[-1].startswith(f"{path}: the pair of epoch {best},")
    models = load_pair(path)
    features = np.load(data / "features.npz")
    vector = features["features"][list(features["image_ids"]).index("30.jpg")].astype(np.float32)
    assert bscd_decode(models.forward, models.backward, vector, "a _ _ lies here").best.text == "a red box lies here"


def test_training_on_a_device(given, tmp_path):
    """The model file is the same as that of the CPU in all but its numbers."""
    device = "cuda" if torch.cuda.is_available() else "cpu:0"
    printed = output_of("train", *given, "--out", "pair", *SMALL, "--device", device, folder=tmp_path)
    assert printed.splitlines()[-1].startswith("pair: the pair of epoch ")
    models = load_pair(tmp_path / "pair")
    assert {one.device.type for one in (*models.forward.parameters(), *models.backward.parameters())} == {"cpu"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_training_on_a_device_that_is_not_there(device, given, tmp_path):
    refusal = refusal_of("train", *given, "--out", "pair", *SMALL, "--device", device, folder=tmp_path)
    assert refusal == f"birnn-decode: --device {device}: there is no such device; use cpu"
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_killed_run_goes_on_as_if_nothing_had_been(given, tmp_path):
    expected = output_of("train", *given, "--out", "whole", *SMALL, "--seed", "5", folder=tmp_path)
    program = (
        "import os, signal\n"
        "from birnn_decode.training import Training\n"
        "save = Training.save\n"
        "def killed(self, path):\n"
        "    save(self, path)\n"
        "    if len(self.history) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Training.save = killed\n"
        "from birnn_decode.cli import main\n"
        "main()\n"
    )
    line = [command_line()[0], "-c", program, *map(str, ["train", *given, "--out", "killed", *SMALL, "--seed", "5"])]
    assert subprocess.run(line, cwd=tmp_path, stdout=subprocess.PIPE, check=False).returncode == -signal.SIGKILL
    load_pair(tmp_path / "killed")
    again = ["train", *given, "--out", "killed", *SMALL]
    assert "killed.checkpoint is of an interrupted training: add --resume" in refusal_of(*again, folder=tmp_path)
    changed = refusal_of(*again, "--resume", folder=tmp_path)
    assert "cannot be resumed, because the seed changed since" in changed
    (tmp_path / "killed").rename(tmp_path / "elsewhere")
    missing = refusal_of(*again, "--seed", "5", "--resume", folder=tmp_path)
    assert "killed, the best model so far, is missing" in missing
    (tmp_path / "elsewhere").rename(tmp_path / "killed")
    resumed = output_of(*again, "--seed", "5", "--resume", folder=tmp_path)
    epochs = [
        [line.rpartition(";")[0] for line in printed.splitlines() if "epoch " in line]
        for printed in (expected, resumed)
    ]
    assert epochs[1][0] == epochs[0][2]  # the third
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not (tmp_path / "killed.checkpoint").exists()
    with (tmp_path / "killed.csv").open(newline="") as one, (tmp_path / "whole.csv").open(newline="") as two:
        assert [row[:-1] for row in csv.reader(one)] == [row[:-1] for row in csv.reader(two)]


@pytest.mark.process
def test_an_interrupted_run_leaves_a_pair(given, tmp_path):
    line = command_line("train", *given, "--out", "pair", "--hidden-size", "12", "--epochs", "100000")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": command.heed_interrupts}
    with subprocess.Popen(line, cwd=tmp_path, env=environment, **pipes) as running:
        assert any(line.startswith("epoch  2") for line in running.stdout)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    assert running.returncode == 130
    assert errors == "interrupted: pair holds the best pair so far; --resume continues\n"
    load_pair(tmp_path / "pair")
    assert (tmp_path / "pair.checkpoint").exists()


@pytest.mark.process
def test_a_full_disk_leaves_the_checkpoint_whole(given, tmp_path):
    """Files may not grow beyond some size, as on a full disk, once a first checkpoint has been written."""
    program = (
        "import resource\n"
        "from birnn_decode.training import Training\n"
        "save = Training.save\n"
        "def on_a_full_disk(self, path):\n"
        "    if len(self.history) == 2: resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))\n"
        "    save(self, path)\n"
        "Training.save = on_a_full_disk\n"
        "from birnn_decode.cli import main\n"
        "main()\n"
    )
    line = [command_line()[0], "-c", program, *map(str, ["train", *given, "--out", "pair", *SMALL])]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "birnn-decode: cannot write pair.checkpoint: File too large\n"
    load_pair(tmp_path / "pair")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["pair", "pair.checkpoint", "pair.csv"]
    resumed = output_of("train", *given, "--out", "pair", *SMALL, "--resume", folder=tmp_path)
    assert [line[:8] for line in resumed.splitlines() if line.startswith("epoch")] == ["epoch  2", "epoch  3"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("interrupted", "held"),
    [
        ("save, training._loss = training._loss, interrupted", "the pair as it is"),
        ("save, models.save_pair = models.save_pair, interrupted", "the best pair so far"),
    ],
)
def test_an_interruption_before_anything_was_saved_leaves_the_pair_as_it_stood(interrupted, held, given, tmp_path):
    """In the first epoch, or between its end and the saving of it."""
    program = (
        "from birnn_decode import models, training\n"
        "calls = []\n"
        "def interrupted(*given, **more):\n"
        "    calls.append(given)\n"
        "    if len(calls) == 1: raise KeyboardInterrupt\n"
        "    return save(*given, **more)\n"
        f"{interrupted}\n"
        "from birnn_decode.cli import main\n"
        "main()\n"
    )
    line = [command_line()[0], "-c", program, *map(str, ["train", *given, "--out", "pair", *SMALL])]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr == f"interrupted: pair holds {held}; remove it to start again\n"
    load_pair(tmp_path / "pair")


def test_a_pair_without_images(data, tmp_path):
    given = ["--captions", data / "captions.json", "--no-image"]
    output_of("train", *given, "--out", "pair", *SMALL, "--captioner", "gru", folder=tmp_path)
    assert "width known: 17 questions" in output_of(
        "evaluate", *given, "--model", "pair", "--blank", "0.25", "--methods", "bscd", folder=tmp_path
    )
    assert "trained with no sources, but got feature vectors of 7 numbers" in refusal_of(
        "evaluate", *given[:2], "--features", data / "features.npz", "--model", "pair", folder=tmp_path
    )


@pytest.mark.parametrize("layout", ["coco", "flickr"])
def test_other_layouts(layout, data, tmp_path):
    images = json.loads((data / "captions.json").read_text())["images"][:18]
    vectors = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
    np.savez(tmp_path / "features.npz", a=vectors, b=np.array([image["imgid"] for image in images]))
    if layout == "coco":
        given = []
        for split, part in (("train", images[:12]), ("val", images[12:])):
            named = [{"id": image["imgid"], "file_name": image["filename"]} for image in part]
            written = [
                {"image_id": image["imgid"], "caption": sentence["raw"]}
                for image in part
                for sentence in image["sentences"]
            ]
            (tmp_path / f"{split}.json").write_text(json.dumps({"images": named, "annotations": written}))
            given += ["--captions", f"{split}={split}.json"]
        given += ["--features", "features.npz"]
    else:
        lines = [
            f"{image['filename']}#{at}\t{one['raw']}\n" for image in images for at, one in enumerate(image["sentences"])
        ]
        (tmp_path / "tokens.txt").write_text("".join(lines))
        (tmp_path / "train.txt").write_text("\n".join(image["filename"] for image in images[:12]))
        (tmp_path / "val.txt").write_text("\n".join(image["filename"] for image in images[12:]))
        given = ["--captions", "tokens.txt", "--list", "train=train.txt", "--list", "val=val.txt", "--no-image"]
    printed = output_of("train", *given, "--out", "pair", *SMALL, folder=tmp_path)
    assert "train: 12 images, 24 captions, val: 6 images, 12 captions" in printed


def test_training_on_pictures(data, tmp_path):
    """From pictures to a pair that takes pictures."""
    pytest.importorskip("efficientnet_lite_pytorch")
    for at in range(36):
        make_scene(0, at).picture(32).save(tmp_path / f"{at}.jpg")
    given = ["--captions", data / "captions.json", "--images", tmp_path]
    output_of("train", *given, "--encoder", "efficientnet-lite0", "--out", tmp_path / "pair", *SMALL)
    filled = json.loads(output_of("fill", tmp_path / "30.jpg", "a _ _ lies", "--model", tmp_path / "pair", "--json"))
    assert filled["methods"]["bscd"]["hypotheses"][0]["text"].endswith("lies")
    printed = output_of("evaluate", *given, "--model", tmp_path / "pair", "--blank", "0.5", "--methods", "bscd")
    assert "50% of the words, width known: 16 questions" in printed


def test_evaluating(trained, given, tmp_path):
    names = ["urnn-f", "gibbs", "rerank", "bscd"]
    arguments = ["--blank", "0.25,whole", "--methods", ",".join(names), "--out", "results"]
    printed = output_of("evaluate", *given, "--model", trained[0], *arguments, folder=tmp_path)
    first, second = printed.split("whole captions: ")
    assert "25% of the words, width known: 17 questions" in first
    assert "left out of the split: 1 sentences with a word in the blank that the vocabulary lacks" in first
    assert second.startswith("9 questions")
    assert [line.split()[0] for line in first.splitlines() if line.split(" ")[0] in names][:4] == names
    with (tmp_path / "results" / "figures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figures = {(row["blank"], row["method"], row["minus"], row["metric"]): row for row in rows}
    blank = "25% of the words, width known"
    right = figures[blank, "bscd", "", "exactly right"]
    assert f"{float(right['value']):.3f} [" in first
    assert float(right["low"]) <= float(right["value"]) <= float(right["high"])
    difference = figures[blank, "bscd", "urnn-f", "J"]
    assert float(difference["value"]) == pytest.approx(
        float(figures[blank, "bscd", "", "J"]["value"]) - float(figures[blank, "urnn-f", "", "J"]["value"])
    )
    reports = json.loads((tmp_path / "results" / "figures.json").read_text())["reports"]
    assert [one["questions"] for one in reports] == [17, 9]
    assert reports[0]["signatures"]["bscd"].startswith("bscd|rounds:10|")
    assert json.loads((tmp_path / "results" / "figures.json").read_text())["options"]["blanks"] == "0.25,whole"
    assert "results exists already: name a new folder" in refusal_of(
        "evaluate", *given, "--model", trained[0], *arguments, folder=tmp_path
    )
    whole = json.loads((tmp_path / "results" / "answers-whole-captions-bscd.json").read_text())
    assert [one["image_id"] for one in whole] == list(range(28, 37))
    assert all(
        set(words_of(one["caption"])) <= {"a", "there", "is", "one", "lies", "here", *COLOURS, *THINGS} for one in whole
    )
    answers = json.loads((tmp_path / "results" / "answers-25-percent-of-the-words-width-known-bscd.json").read_text())
    assert len(answers) == 17


def test_sampling_takes_the_rows_of_bscd_whether_bscd_is_asked_or_not(trained, given, tmp_path):
    arguments = ["evaluate", *given, "--model", trained[0], "--blank", "0.75", "--limit", "5"]
    rows = []
    for number, names in enumerate(("gibbs,bscd", "gibbs", "bscd")):
        output_of(*arguments, "--methods", names, "--out", f"{number}", folder=tmp_path)
        (one,) = json.loads((tmp_path / f"{number}" / "figures.json").read_text())["reports"]
        assert list(one["figures"]) == names.split(",")
        rows.append({name: figures["rows"]["value"] for name, figures in one["figures"].items()})
    assert rows[1]["gibbs"] == rows[0]["gibbs"] >= rows[2]["bscd"] == rows[0]["bscd"]


def test_devices(trained, given, tmp_path):
    """The CPU has several names, and gives the same answers by each."""
    arguments = ["evaluate", *given, "--model", trained[0], "--blank", "0.5", "--methods", "bscd", "--limit", "5"]
    for folder, device in (("a", "cpu"), ("b", "cpu:0")):
        output_of(*arguments, "--device", device, "--out", folder, folder=tmp_path)
    one, other = (json.loads((tmp_path / folder / "figures.json").read_text()) for folder in ("a", "b"))
    assert one["reports"][0]["figures"] == other["reports"][0]["figures"]
    assert (one["options"]["device"], other["options"]["device"]) == ("cpu", "cpu:0")


def test_search_errors(trained, given, tmp_path):
    arguments = ["--blank", "0.5", "--methods", "urnn-f,bscd", "--exact", "3000", "--out", "results"]
    printed = output_of("evaluate", *given, "--model", trained[0], *arguments, folder=tmp_path)
    assert "exact: the best sentence is proved of 100.0% of the questions" in printed
    assert "search errors: share of the questions with a proved best sentence where the method found a" in printed
    with (tmp_path / "results" / "figures.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["minus"]]
    errors, lost, below = (
        {row["method"]: float(row["value"]) for row in rows if row["metric"] == name}
        for name in ("search errors", "score lost", "below the bound")
    )
    assert list(errors) == ["urnn-f", "bscd", "exact"]
    assert errors["exact"] == lost["exact"] == below["exact"] == 0
    assert 0 <= errors["bscd"] <= errors["urnn-f"] <= 1
    assert lost == pytest.approx(below)


def test_constraints(trained, given, tmp_path):
    arguments = ["--blank", "0.5", "--methods", "rerank,bscd", "--no-repeat", "1", "--diversity", "2:0.5"]
    printed = output_of("evaluate", *given, "--model", trained[0], *arguments, "--beam-size", "4", folder=tmp_path)
    assert "right in Top-B" in printed
    assert "no repeated 1-gram|diversity:2,0.5|" in printed
    nothing = refusal_of("evaluate", *given, "--model", trained[0], "--must", "one", "--ban", "one", folder=tmp_path)
    assert "no question has an answer that satisfies the constraints" in nothing


def test_widths_to_be_found(trained, given, tmp_path):
    printed = output_of(
        "evaluate", *given, "--model", trained[0], "--blank", "0.5", "--width", "unknown", "--limit", "4"
    )
    assert "width unknown: 4 questions" in printed
    assert "words too many" in printed


def test_without_java(trained, given):
    pytest.importorskip("pycocoevalcap")
    printed = output_of("evaluate", *given, "--model", trained[0], "--blank", "0.5", "--methods", "rerank,bscd")
    assert "METEOR is left out" in printed
    assert "there is no java on the PATH" in printed
    assert "CIDEr" in printed


@pytest.mark.process
def test_an_interrupted_evaluation_says_what_it_has(trained, given, tmp_path):
    """The first batch is kept when the user has had enough."""
    program = (
        "import sys\n"
        "import birnn_decode.evaluation as evaluation\n"
        "ask = evaluation.ask\n"
        "def interrupted(*given, **options):\n"
        "    yield next(ask(*given, **options))\n"
        "    raise KeyboardInterrupt\n"
        "evaluation.ask = interrupted\n"
        "from birnn_decode.cli import main\n"
        "main()\n"
    )
    arguments = [
        "evaluate",
        *given,
        "--model",
        trained[0],
        "--batch-size",
        "8",
        "--blank",
        "0.25,0.5",
        "--out",
        "results",
    ]
    line = [command_line()[0], "-c", program, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "")
    assert "8 questions" in done.stdout
    assert "interrupted: the figures are for the first 8 of 17 questions" in done.stdout
    assert (tmp_path / "results" / "figures.csv").exists()


def test_an_interruption_while_captions_are_compared_keeps_the_rest(trained, given, tmp_path, monkeypatch):
    pytest.importorskip("pycocoevalcap")

    def interrupted(*given):
        raise KeyboardInterrupt

    module = importlib.import_module("birnn_decode.evaluation.report")
    monkeypatch.setattr(module, "caption_metrics", interrupted)
    arguments = [
        "--model",
        trained[0],
        "--methods",
        "rerank,bscd",
        "--blank",
        "0.25,0.5",
        "--out",
        tmp_path / "results",
    ]
    done = run_here("evaluate", *given, *arguments)
    assert done.returncode == 130
    assert "17 questions" in done.stdout
    assert "interrupted: without BLEU, ROUGE-L, METEOR and CIDEr" in done.stdout
    assert "50%" not in done.stdout
    (one,) = json.loads((tmp_path / "results" / "figures.json").read_text())["reports"]
    assert list(one["figures"]["bscd"]) == ["exactly right", "words right", "J", "rows"]


def test_curves(trained, given, tmp_path):
    pytest.importorskip("matplotlib")
    more = ["--beam-sizes", "1,3", "--beam-size", "2", "--rounds", "2", "--budgets", "1,2", "--limit", "6"]
    command = ["curves", *given, "--model", trained[0], *more, "--out", "curves", "--device", "cpu:0"]
    printed = output_of(*command, folder=tmp_path)
    assert "curves.csv and 10 pictures are in curves" in printed
    with (tmp_path / "curves" / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    settings = {(row["along"], row["method"]): [] for row in rows}
    for row in rows:
        if row["metric"] == "J":
            settings[row["along"], row["method"]].append(row["setting"])
    assert settings["beam size", "bscd"] == ["1", "3"]
    assert settings["rounds", "bscd"] == ["0", "1", "2"]
    assert settings["times the rows of bscd", "gibbs"] == ["1", "2"]
    for picture in (tmp_path / "curves").glob("*.png"):
        with Image.open(picture) as opened:
            assert len(opened.convert("RGB").getcolors(2**20)) > 20
        assert picture.with_suffix(".svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--captions", "JSON", "--out", "x"], "one of --features, --images and --no-image"),
        (["train", "--captions", "JSON", "--no-image", "--images", ".", "--out", "x"], "one of --features, --images"),
        (["train", "--captions", "JSON", "--images", ".", "--out", "x"], "--images needs an image encoder"),
        (["train", "--captions", "JSON", "--no-image", "--encoder", "resnet", "--out", "x"], "--encoder goes"),
        (["train", "GIVEN", "--encoder", "resnet", "--out", "x"], "--encoder resnet: use efficientnet-lite0, torch"),
        (["train", "GIVEN", "--out", "x", "--device", "meta"], "--device meta: there is no such device; use cpu"),
        (["train", "GIVEN", "--out", "x", "--device", "graphics"], "--device graphics: there is no such device"),
        (["train", "GIVEN", "--out", "x", "--device", "cuda:99"], "--device cuda:99: there is no such device; use cpu"),
        (["train", "GIVEN", "--out", "no/x"], "cannot write no/x: there is no folder no"),
        (["train", "GIVEN", "--out", "old"], "old exists already; give another name"),
        (["train", "GIVEN", "--out", "x", "--resume"], "there is nothing to resume: there is no x.checkpoint"),
        (["train", "--captions", "cut.json", "--no-image", "--out", "x"], "cut.json is damaged JSON, or cut short"),
        (["train", "--captions", "none.json", "--no-image", "--out", "x"], "there is no file none.json"),
        (["train", "--captions", "JSON", "--features", "nan.npz", "--out", "x"], "nan.npz: "),
        (["train", "--captions", "JSON", "--features", "other.npz", "--out", "x"], "no feature vector belongs to"),
        (["train", "--captions", "JSON", "--list", "train", "--no-image", "--out", "x"], "--list train: write SPLIT="),
        (["evaluate", "--captions", "other.json", "--no-image"], "the model knows only 20% of the words of these"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--blank", "2"], "--blank 2: give shares above 0 and at most 1"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--blank", "half"], "--blank half"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--methods", "bsdc"], "--methods bsdc: use some of urnn-f,"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--methods", "bscd,gibbs,bscd"], "--methods: bscd is named twice"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--methods", "birnn-f"], "--methods birnn-f: give --birnn as well"),
        (["evaluate", "GIVEN", "--birnn", "PAIR", "--methods", "bscd"], "--methods bscd: give --model as well"),
        (["evaluate", "GIVEN", "--birnn", "PAIR", "--exact", "9"], "--exact needs a pair"),
        (["evaluate", "GIVEN", "--birnn", "PAIR", "--blank", "whole"], "a Bi-RNN does not predict where a sentence"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--methods", "exact"], "--methods exact: give --exact ROWS"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--exact", "9", "--blank", "whole"], "nothing can be proved about"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--exact", "0"], "0 is not in the range x>=1"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--min-words", "30"], "no sentence is left to ask about: 18 sen"),
        (["evaluate", "--captions", "JSON", "--no-image", "--model", "PAIR"], "of 7 numbers, but got no sources"),
        (["evaluate", "--captions", "test=JSON", "--no-image"], "there is no file JSON"),
        (["train", "GIVEN", "--list", "val=a", "--list", "val=b", "--out", "x"], "--list was given twice for one"),
        (["train", "--captions", "val=a", "--list", "val=b", "--no-image", "--out", "x"], "both name the split of"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--out", "old"], "Directory 'old' is a file"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--out", "old/new"], "cannot make the folder old/new: Not a"),
        (["evaluate", "--captions", "JSON", "--images", ".", "--model", "PAIR"], "--images needs an image encoder"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--length", "long"], "--length long: use auto, none, average, or a"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--length", "inf"], "finite number of nats per word, got inf"),
        (["evaluate", "GIVEN", "--model", "PAIR", "--device", "meta"], "--device meta: there is no such device"),
        (["evaluate", "GIVEN", "--birnn", "PAIR", "--device", "graphics"], "--device graphics: there is no such"),
        (["evaluate", "GIVEN", "--device", "cuda:99"], "--device cuda:99: there is no such device; use cpu"),
        (["curves", "GIVEN", "--model", "PAIR", "--out", "x", "--device", "graphics"], "--device graphics: there is"),
        (["curves", "GIVEN", "--out", "x", "--device", "cuda:99"], "--device cuda:99: there is no such device; use"),
        (["curves", "GIVEN", "--model", "PAIR"], "--out FOLDER is missing"),
        (["curves", "GIVEN", "--model", "PAIR", "--out", "x", "--beam-sizes", "0,1"], "--beam-sizes 0,1: give posi"),
    ],
)  # fmt: skip
def test_refusals(arguments, message, trained, data, given, tmp_path):
    (tmp_path / "old").touch()
    (tmp_path / "cut.json").write_text((data / "captions.json").read_text()[:500])
    other = {"filename": "x", "split": "test", "sentences": [{"raw": "A dog runs after sheep"}]}
    (tmp_path / "other.json").write_text(json.dumps({"images": [other]}))
    vectors = np.zeros((2, 7))
    np.savez(tmp_path / "other.npz", features=vectors, image_ids=np.array(["x", "y"]))
    vectors[0, 0] = np.nan
    np.savez(tmp_path / "nan.npz", features=vectors, image_ids=np.array(["0.jpg", "1.jpg"]))
    names = {"JSON": [data / "captions.json"], "GIVEN": given, "PAIR": [trained[0]]}
    expanded = [one for argument in arguments for one in names.get(argument, [argument])]
    assert message in refusal_of(*expanded, folder=tmp_path)


@pytest.mark.skipif(not DATA, reason="BIRNN_DECODE_DATA names no folder of real captions")
def test_real_captions(tmp_path):
    """A short training on UCM-Captions, and a real picture with a blank."""
    folder = Path(DATA) / "ucm"
    given = ["--captions", folder / "dataset.json", "--features", folder / "features_effnetlite0.npz"]
    more = ["--encoder", "efficientnet-lite0", "--epochs", "1", "--hidden-size", "64", "--out", tmp_path / "pair"]
    printed = output_of("train", *given, *more)
    assert "train: 1680 images, 8400 captions, val: 210 images, 1050 captions; 269 words" in printed
    pytest.importorskip("efficientnet_lite_pytorch")
    picture = min((folder / "images").glob("*.png"))
    filled = output_of("fill", picture, "there are _ _ on the _", "--model", tmp_path / "pair", "--json")
    assert len(json.loads(filled)["methods"]["bscd"]["hypotheses"]) == 5
