"""The command ``birnn-decode``: in this process, and as a program of its own where that shows something else."""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("click")

import command
import torch
from command import run, run_here
from PIL import Image

from birnn_decode import BanWords, Diversity, MustAppear, NoRepeatedNgram, WordCount, decode
from birnn_decode.captions import WordVocabulary, make_scene
from birnn_decode.models import GRUCaptioner, default_pair, save_pair

pytestmark = pytest.mark.process

output_of = functools.partial(command.output_of, runner=run_here)
refusal_of = functools.partial(command.refusal_of, runner=run_here)

METHODS = ["urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "bscd"]
TEMPLATE = "a _ _ is {1-5} a _ _"


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    make_scene(11, 0).picture().save(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A saved pair that nobody has trained and that takes feature vectors, and one that knows no images."""
    folder = tmp_path_factory.mktemp("models")
    words = WordVocabulary(["red", "square", "a"])
    made = {}
    for name, feature_size in (("vectors", 4), ("text", 0)):
        torch.manual_seed(0)
        sizes = {"feature_size": feature_size, "hidden_size": 4, "embedding_size": 4}
        made[name] = folder / f"{name}.safetensors"
        save_pair(*(GRUCaptioner(words, direction=way, **sizes) for way in ("forward", "backward")), made[name])
    return made


def test_the_command_is_installed():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="birnn-decode")
    assert entry.value == "birnn_decode.cli:main"


def test_demo(tmp_path):
    printed = output_of("demo", folder=tmp_path, runner=run)
    with Image.open(tmp_path / "scene.png") as drawn:
        assert drawn.size == (256, 256)
        assert len(drawn.getcolors(2**16)) > 10
    facts = dict(line.split(maxsplit=1) for line in printed.splitlines()[:3])
    assert facts["picture"] == "scene.png"
    known = [word for word in facts["template"].split() if word != "_"]
    assert facts["template"].count("_") == round(len(facts["caption"].split()) / 2)
    rows = {line.split()[0]: line for line in printed.splitlines() if line.split(" ")[0] in METHODS}
    assert list(rows) == METHODS
    for method, line in rows.items():
        assert " ".join(known[:3]) in line, method
    assert "✓" in rows["bscd"]


def test_demo_for_programs(tmp_path):
    arguments = ["demo", "--seed", "5", "--scene", "3", "--out", tmp_path / "x.png", "--beam-size", "3", "--json"]
    answer = json.loads(output_of(*arguments))
    assert answer["caption"] == make_scene(5, 3).captions[0]
    assert list(answer["methods"]) == METHODS
    for result in answer["methods"].values():
        assert 1 <= len(result["hypotheses"]) <= 3
        assert result["seconds"] > 0
    best = {method: result["hypotheses"][0] for method, result in answer["methods"].items()}
    for better, worse in (("bscd", "rerank"), ("rerank", "urnn-f"), ("rerank", "urnn-b")):
        assert best[better]["joint"] >= best[worse]["joint"] - 1e-4  # single precision


def test_fill_says_what_the_library_says(picture):
    expected = decode(default_pair(), picture, TEMPLATE)
    answer = json.loads(output_of("fill", picture, TEMPLATE, "--json", runner=run))
    assert answer["template"] == TEMPLATE.replace("_ {", "{")
    result = answer["methods"]["bscd"]
    assert [one["text"] for one in result["hypotheses"]] == [one.text for one in expected.hypotheses]
    assert result["stop"] == expected.stop
    printed = output_of("fill", picture, TEMPLATE, "--top", "3")
    places = [printed.index(f" {one.text} ") for one in expected.hypotheses[:3]]
    assert places == sorted(places)
    assert f"{expected.best.joint:.2f}" in printed
    assert expected.stop.advice.split(":")[0] in printed


def test_caption(picture):
    answer = json.loads(output_of("caption", picture, "--json"))
    colours = {shape.colour for shape in make_scene(11, 0).shapes}
    assert answer["template"] is None
    assert colours & set(answer["methods"]["bscd"]["hypotheses"][0]["text"].split())


def test_a_pair_without_images(files):
    answer = json.loads(output_of("fill", "-", "a _ square", "--model", files["text"], "--json"))
    assert answer["source"] == "-"
    assert answer["methods"]["bscd"]["hypotheses"][0]["text"].startswith("a ")


def test_no_rounds_are_the_rerank(picture):
    answer = json.loads(output_of("compare", picture, TEMPLATE, "--json", "--max-rounds", "0"))
    rerank, bscd = answer["methods"]["rerank"], answer["methods"]["bscd"]
    assert bscd["rounds"] == 0
    assert bscd["hypotheses"] == rerank["hypotheses"]


@pytest.mark.parametrize("command", [["demo"], ["fill", "PICTURE", TEMPLATE], ["compare", "PICTURE", TEMPLATE]])
def test_devices(command, picture, tmp_path):
    command = [picture if one == "PICTURE" else one for one in command]
    by_default = json.loads(output_of(*command, "--json", folder=tmp_path))
    on_device = json.loads(output_of(*command, "--json", "--device", "cpu:0", folder=tmp_path))
    for answer in (by_default, on_device):
        for result in answer["methods"].values():
            del result["seconds"]
    assert on_device == by_default
    for device in ("graphics", "meta", "cuda:99"):
        refusal = refusal_of(*command, "--device", device, folder=tmp_path)
        assert refusal.startswith(f"birnn-decode: --device {device}: there is no such device; use cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    ("command", "runner"),
    [(["demo"], run_here), (["fill", "PICTURE", TEMPLATE], run), (["compare", "PICTURE", TEMPLATE], run_here)],
)
def test_a_device_that_is_not_there(command, runner, picture, tmp_path):
    """The program prints one line. A warning of PyTorch would be a second line."""
    command = [picture if one == "PICTURE" else one for one in command]
    refusal = refusal_of(*command, "--device", "cuda", folder=tmp_path, runner=runner)
    assert refusal == "birnn-decode: --device cuda: there is no such device; use cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_filling_on_a_gpu(picture):
    on_cpu, on_gpu = (
        json.loads(output_of("fill", picture, TEMPLATE, "--json", "--device", device))["methods"]["bscd"]["hypotheses"]
        for device in ("cpu", "cuda")
    )
    assert on_gpu[0]["text"] == on_cpu[0]["text"]
    assert on_gpu[0]["joint"] == pytest.approx(on_cpu[0]["joint"], rel=1e-4)


def test_a_terminal_without_arrows(picture):
    command = [sys.executable, "-m", "birnn_decode.cli", "fill", str(picture), TEMPLATE]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0
    assert "log P?" in done.stdout


def test_constraints_and_diversity(picture):
    asked = ["--must", "red", "--ban", "small", "--ban", "little", "--no-repeat", "3", "--word-count", "5-12", "--json"]
    answer = json.loads(output_of("caption", picture, *asked, "--diversity", "5:1"))["methods"]["bscd"]
    expected = decode(
        default_pair(),
        picture,
        constraints=[MustAppear(["red"]), BanWords(["small", "little"]), NoRepeatedNgram(3), WordCount(5, 12)],
        diversity=Diversity(5, 1.0),
    )
    assert [one["text"] for one in answer["hypotheses"]] == [one.text for one in expected.hypotheses]
    for one in answer["hypotheses"]:
        words = one["text"].split()
        assert "red" in words
        assert not {"small", "little"} & {*words}
        assert 5 <= len(words) <= 12
        assert not one["broken"]
    assert "a red" in output_of("fill", picture, "a _ star is over a _", "--must", "red")
    printed = output_of("fill", picture, "a small {1-4}", "--diversity", "5:1", "--top", "5")
    assert "score: includes the cost of words that a sentence of an earlier group has\n" in printed
    printed = output_of("fill", picture, "a small _ _", "--diversity", "5:1", "--top", "5")
    assert printed.split()[:3] == ["method", "sentence", "score"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--must", "zebra"], "the vocabulary lacks 'zebra'"),
        (["--must", "red", "--ban", "red"], "satisfies these constraints together: must appear: red; banned: red"),
        (["--word-count", "3-x"], "--word-count: 'x' is not a whole number"),
        (["--diversity", "5"], "--diversity 5: write GROUPS:NATS"),
        (["--diversity", "2:1"], "got beam_size=5 and 2 groups"),
    ],
)
def test_constraints_that_cannot_be(options, message, picture):
    assert message in refusal_of("fill", picture, "a _ _ star", *options)


def test_compare(picture):
    printed = output_of("compare", picture, TEMPLATE)
    assert [word for word in printed.split() if word in METHODS] == METHODS
    assert "✓" not in printed
    answer = json.loads(output_of("compare", picture, TEMPLATE, "--json"))
    assert list(answer["methods"]) == METHODS
    assert answer["template"] == TEMPLATE


def test_how_sure_the_answer_is(picture):
    expected = decode(default_pair(), picture, TEMPLATE).posterior
    printed = output_of("fill", picture, TEMPLATE, "--top", "2")
    lines = printed[printed.index("most probable") :].splitlines()
    spans = [one for own in expected.spans for one in own[:2]]
    for line, one in zip(lines[1:], spans, strict=False):
        assert line.split()[-1] == f"{one.probability.estimate:.2f}"
        assert f" {one.text} " in line
    words = lines[1 + len(spans) :]
    for number, (line, own) in enumerate(zip(words, expected.words, strict=False), 1):
        assert line.startswith(f"word {number} ")
        assert own[0].text in line
    assert f"among the {expected.sentences} sentences whose J is known; the others do not count" in printed
    proved = output_of("fill", picture, "a _ circle is _ a _ square", "--top", "2", "--exact", "2000")
    assert "of the probability of all sentences" in proved
    assert "most probable" not in output_of("fill", picture, TEMPLATE)


def test_trace(picture, tmp_path):
    printed = output_of("trace", picture, TEMPLATE, "--exact", "300", folder=tmp_path)
    assert printed == "5 searches in trace.html: open it in a browser\n"
    page = (tmp_path / "trace.html").read_text(encoding="utf-8")
    best = decode(default_pair(), picture, TEMPLATE).best
    assert [name in page for name in ('"name":"bscd"', '"name":"exact"', "data:image/png;base64,")] == [True] * 3
    assert all(f'"{word}"' in page for word in best.text.split())
    assert len(page) < 10**6
    output_of("trace", picture, TEMPLATE, "-o", "trace.html", "--beam-size", "2", folder=tmp_path)
    assert len((tmp_path / "trace.html").read_text(encoding="utf-8")) < len(page)


def test_scenes(tmp_path):
    assert "3 pictures, dataset.json and questions.jsonl" in output_of(
        "scenes", "--count", "3", "--seed", "4", "out", folder=tmp_path
    )
    data = json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8"))
    assert [image["filename"] for image in data["images"]] == ["0000.png", "0001.png", "0002.png"]
    for number, image in enumerate(data["images"]):
        scene = make_scene(4, number)
        assert [sentence["raw"] for sentence in image["sentences"]] == list(scene.captions)
        assert image["sentences"][0]["tokens"] == scene.captions[0].split()
        with Image.open(tmp_path / "out" / image["filename"]) as drawn:
            assert drawn.tobytes() == scene.picture().tobytes()
    assert "out exists already: name a new folder" in refusal_of("scenes", "out", folder=tmp_path)


@pytest.mark.parametrize(
    "command",
    [[], ["demo"], ["fill"], ["caption"], ["compare"], ["scenes"], ["train"], ["evaluate"], ["curves"], ["trace"]],
)
def test_help(command):
    printed = output_of(*command, "--help")
    assert printed.startswith("Usage: birnn-decode")
    assert max(len(line) for line in printed.splitlines()) <= 100
    if command:
        assert "[default: " in printed
    if command and command[0] not in ("scenes", "train"):
        assert "--device" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fill", "missing.png", "a _"], "there is no picture missing.png"),
        (["fill", "text.png", "a _"], "cannot read the picture text.png: it is not in an image format"),
        (["fill", "PICTURE", "a smal _"], "the vocabulary lacks 'smal'; near it: small"),
        (["fill", "PICTURE", "a small red circle"], "has no blank: write _ for a missing word"),
        (["fill", "PICTURE", "a {3-1} circle"], "a blank must have low <= high <= 10000 words, got 3 to 1 words"),
        (["fill", "PICTURE", "a {x} circle"], "cannot read '{x} circle'"),
        (["fill", "PICTURE", "a {0-99} circle"], "100 combinations of widths; at most 64"),
        (["fill", "PICTURE", "a {99999999999} circle"], "<= 10000 words, got 99999999999 to 99999999999"),
        (["demo", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["compare", "PICTURE", "_", "--beam-size", "0"], "0 is not in the range x>=1"),
        (["caption", "PICTURE", "--model", "none.st"], "there is no model file none.st"),
        (["caption", "PICTURE", "--model", "."], ". is a folder, not a model file"),
        (["caption", "PICTURE", "--model", "text.png"], "text.png is not a model file"),
        (["caption", "PICTURE", "--model", "VECTORS"], "has no image encoder and cannot see pictures"),
        (["caption", "PICTURE", "--model", "TEXT"], "was trained without sources: write - in place of"),
        (["caption", "-"], "this model needs a picture"),
        (["demo", "--out", "nowhere/x.png"], "nowhere"),
        (["demo", "--scene", "-1"], "-1 is not in the range"),
        (["fil"], "No such command 'fil'"),
        (["fill", "PICTURE"], "give TEMPLATE or --templates FILE, one of them"),
        (["fill", "PICTURE", "_", "--tpo", "3"], "No such option"),
        (["trace", "PICTURE", "a small red circle"], "has no blank: write _ for a missing word"),
        (["trace", "PICTURE", "a _", "-o", "nowhere/trace.html"], "nowhere"),
    ],
)  # fmt: skip
def test_refusals(arguments, message, picture, files, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    names = {"PICTURE": picture, **{name.upper(): path for name, path in files.items()}}
    given = [names.get(argument, argument) for argument in arguments]
    assert message in refusal_of(*given, folder=tmp_path)


@pytest.mark.parametrize("missing", ["click", "rich.console", "torch", "safetensors"])
def test_what_is_not_installed(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['birnn-decode', 'caption', 'x.png']\n"
    code += "from birnn_decode.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    package = missing.partition(".")[0]
    assert done.stderr == f"birnn-decode: {package} is missing; the extra birnn_decode[cli] brings it\n"


def test_without_a_command_there_is_help():
    done = run()
    assert done.returncode == 2
    assert "Usage: birnn-decode" in done.stdout
