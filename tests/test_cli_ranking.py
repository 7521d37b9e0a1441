"""The commands that train alignment models and rank with them."""

import csv
import functools
import json
import re
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("click")

import command
from command import run_here
from PIL import Image

from birnn_decode.captions import WordVocabulary
from birnn_decode.cli.common import Data
from birnn_decode.cli.ranking import Rankers, RankingModels
from birnn_decode.evaluation import best_weight, blended, without_bias
from birnn_decode.evaluation.rankers import best_cca
from birnn_decode.models import load_alignment
from birnn_decode.show.sheets import Card, sheet

output_of = functools.partial(command.output_of, runner=run_here)
refusal_of = functools.partial(command.refusal_of, runner=run_here)

COLOURS, THINGS = ("red", "green", "blue"), ("ball", "box", "cat", "dog")
COUNTS = {"train": 60, "val": 12, "test": 12}


def described(number):
    colour, thing = COLOURS[number % 3], THINGS[number // 3 % 4]
    return [f"A {colour} {thing} .", f"There is a {thing} , a {colour} one ."]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of a thing with a colour: vectors of whole images, and of four regions, one of which shows the thing."""
    folder = tmp_path_factory.mktemp("data")
    splits = [split for split, count in COUNTS.items() for _ in range(count)]
    images = [
        {"filename": f"{at}.png", "split": split, "sentences": [{"raw": one} for one in described(at)]}
        for at, split in enumerate(splits)
    ]
    images[80]["sentences"].append({"raw": " "})
    (folder / "captions.json").write_text(json.dumps({"images": images}))
    random = np.random.default_rng(0)
    regions = 0.05 * random.normal(size=(len(splits), 4, 7))
    for at in range(len(splits)):
        place = random.integers(4)
        regions[at, place, at % 3] += 1
        regions[at, place, 3 + at // 3 % 4] += 1
    ids = np.array([f"{at}.png" for at in range(len(splits))])
    np.savez(folder / "whole.npz", features=regions.mean(axis=1).astype(np.float16), ids=ids)
    np.savez(folder / "regions.npz", features=regions.astype(np.float16), ids=ids)
    np.savez(folder / "longer.npz", features=np.ones((len(splits), 4, 8)), ids=ids)
    np.savez(folder / "one.npz", features=regions[-1:], ids=ids[-1:])
    np.savez(folder / "most.npz", features=regions[:-2].mean(axis=1), ids=ids[:-2])
    np.savez(folder / "first.npz", features=regions[[0, -20], 0], ids=ids[[0, -20]])
    return folder


@pytest.fixture(scope="module")
def given(data):
    return ["--captions", data / "captions.json"]


@pytest.fixture(scope="module")
def trained(data, given):
    """Models of whole images and of regions, a pair, and what their training printed."""
    small = ["--hidden-size", "64", "--min-count", "1"]
    kind = ["train", *given, "--kind", "alignment", *small, "--epochs", "40"]
    printed = output_of(*kind, "--regions", data / "regions.npz", "--out", data / "parts.model")
    output_of(*kind, "--features", data / "whole.npz", "--out", data / "whole.model")
    pair = ["train", *given, "--features", data / "whole.npz", "--out", data / "pair.model"]
    output_of(*pair, *small, "--epochs", "20")
    output_of("train", *given, "--no-image", "--out", data / "blind.model", *small, "--epochs", "1")
    return printed


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    output_of("scenes", folder / "s", "--count", "24", "--sentences", "2", "--seed", "5")
    read = json.loads((folder / "s" / "dataset.json").read_text())
    for at, image in enumerate(read["images"]):
        image["split"] = "train" if at < 14 else "val" if at < 18 else "test"
    (folder / "s" / "dataset.json").write_text(json.dumps(read))
    return folder / "s"


@pytest.fixture(scope="module")
def of_scenes(scenes):
    return ["--captions", scenes / "dataset.json", "--images", scenes]


@pytest.fixture(scope="module")
def boxes(scenes, of_scenes):
    """A model of boxes that has hardly learnt anything, and the same of a grid."""
    for kind in ("boxes", "grid"):
        options = ["--regions", kind, "--encoder", "scenes", "--min-count", "1", "--hidden-size", "16", "--epochs", "1"]
        output_of("train", *of_scenes, "--kind", "alignment", *options, "--out", scenes / f"{kind}.model")
    return scenes / "boxes.model"


def test_training_says_what_it_does(trained, data):
    lines = trained.splitlines()
    assert lines[0] == "left out: 1 empty captions"
    assert lines[1].startswith(
        "train: 60 images, 120 captions, val: 12 images, 24 captions; 11 words; regions: given, 5; "
    )
    assert len([line for line in lines if line.startswith("epoch")]) == 40
    assert lines[-1].startswith(f"{data / 'parts.model'}: the alignment model of epoch ")
    with open(data / "parts.model.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == ["number", "training", "validation", "seconds"]
    assert float(rows[-1]["validation"]) < 0.5 * float(rows[0]["validation"])
    assert load_alignment(data / "parts.model").config["regions"] == "given"


def figures_of(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {(one["ranker"], one["counting"], one["direction"], one["metric"]): float(one["value"]) for one in rows}


def test_what_was_learnt_ranks(trained, data, given, tmp_path):
    """With several models at once, the baseline, and both ways of counting; the weight is chosen on other data."""
    options = ["--features", data / "whole.npz", "--regions", data / "regions.npz", "--out", tmp_path / "out"]
    models = ["--alignment", data / "whole.model", "--alignment", data / "parts.model", "--model", data / "pair.model"]
    printed = output_of("rank", *given, *options, *models, "--cca")
    lead = figures_of(tmp_path / "out" / "figures.csv")["whole + J", "own", "both", "minus CCA, whole"]
    of_both = [
        figures_of(tmp_path / "out" / "figures.csv")[name, "own", "both", "sum of recalls"]
        for name in ("whole + J", "CCA, whole")
    ]
    assert lead == pytest.approx(of_both[0] - of_both[1])
    figures = figures_of(tmp_path / "out" / "figures.csv")
    rankers = list(dict.fromkeys(key[0] for key in figures))
    captioners = [f"{name}{ending}" for name in ("log P→", "log P←", "J") for ending in ("", " - mean")]
    assert rankers == ["CCA, whole", "CCA, parts", "whole", "parts", *captioners, "whole + J", "parts + J"]
    for ranker in ("whole", "parts", "whole + J"):
        for direction in ("picture → sentences", "sentence → pictures"):
            assert figures[ranker, "own", direction, "R@1"] > 0.9
            assert figures[ranker, "own", direction, "median rank"] == 1
    assert figures["J - mean", "own", "picture → sentences", "R@1"] > 0.9
    assert "12 pictures, 24 sentences" in printed
    assert "chosen on the split val" in printed
    assert "equal" not in {key[1] for key in figures}  # no two pictures of the test have the same sentence


def test_the_rankers_are_what_they_are_called(trained, data, given):
    """Each by its definition; the weight and CCA are chosen on the split val, and another split is measured."""
    models = RankingModels((data / "whole.model",), str(data / "pair.model"), "cpu", None, None, 0.0)
    ranking = Rankers(models, Data((str(data / "captions.json"),), (), data / "whole.npz", None, False))
    test, val, train = (ranking.read(split) for split in ("test", "val", "train"))
    scores = ranking.scores(test, cca=True)
    forward, backward = scores["log P→"], scores["log P←"]
    assert (scores["J"] == forward + backward).all()
    assert not np.allclose(forward, backward)
    corrected = without_bias(forward) + without_bias(backward)
    assert np.array_equal(scores["J - mean"], corrected)
    of_val = ranking.captioner_scores(val, val.texts)["J - mean"], ranking.alignment_scores(val, val.texts)["whole"]
    weight = best_weight(*of_val, val.owner)
    assert np.array_equal(scores["whole + J"], blended(corrected, scores["whole"], weight))
    vocabulary = ranking.alignments["whole"].vocabulary
    features = [split.regions["whole"][:, 0].numpy() for split in (train, val, test)]
    sets = [(own, split.captions(vocabulary)) for own, split in zip(features, (train, val), strict=False)]
    model, _, directions = best_cca(*sets, len(vocabulary))
    expected = model.score(features[2], [vocabulary.encode(text) for text in test.texts], directions)
    assert np.array_equal(scores["CCA, whole"], expected)
    alone = ranking.scores(val, cca=False)
    assert np.array_equal(alone["whole + J"], blended(of_val[0], of_val[1], 1.0))
    assert any("the weight: there are no others to choose it on" in note for note in ranking.notes)


def test_words_and_a_resumed_training(data, given, tmp_path):
    """Words are counted in the training captions; with --resume, a checkpoint is read."""
    options = ["train", *given, "--kind", "alignment", "--features", data / "whole.npz", "--min-count", "50"]
    options += ["--hidden-size", "8", "--epochs", "1", "--out", tmp_path / "model"]
    assert "epoch  1" in output_of(*options)
    model = load_alignment(tmp_path / "model")
    assert model.vocabulary == WordVocabulary(["a", "is", "one", "there"])
    assert model.config["dropout"] == 0.5
    (tmp_path / "model.checkpoint").write_text("not one")
    assert "model.checkpoint" in refusal_of(*options, "--resume")


def test_equal_sentences_are_counted_both_ways(trained, data, given, tmp_path):
    """Five pictures of the training share each sentence."""
    options = ["--features", data / "whole.npz", "--alignment", data / "whole.model", "--split", "train"]
    printed = output_of("rank", *given, *options, "--out", tmp_path / "out")
    figures = figures_of(tmp_path / "out" / "figures.csv")
    for direction in ("picture → sentences", "sentence → pictures"):
        assert figures["whole", "own", direction, "R@1"] < 0.5
        assert figures["whole", "equal", direction, "R@1"] > 0.9
        assert f"{direction}, equal sentences are right, too: 60 pictures, 120 sentences" in printed


def test_a_first_pass_finds_nearly_the_same(trained, data, given, tmp_path):
    models = ["--alignment", data / "whole.model", "--model", data / "pair.model", "--features", data / "whole.npz"]
    figures = []
    for name, more in (("all", []), ("some", ["--first-pass", "6"])):
        printed = output_of("rank", *given, *models, *more, "--out", tmp_path / name)
        figures.append(figures_of(tmp_path / name / "figures.csv"))
    assert "whole, then …: the pair ranks the 6 sentences of each picture" in printed
    rankers = {ranker for ranker, *_ in figures[1]}
    assert {"whole", "whole, then J", "whole, then whole + J"} < rankers
    assert not {"J", "whole + J"} & rankers  # these would be scores of all pairs
    for ranker in ("J - mean", "whole + J"):
        for direction in ("picture → sentences", "sentence → pictures"):
            whole, some = (
                figures[0][ranker, "own", direction, "R@5"],
                figures[1][f"whole, then {ranker}", "own", direction, "R@5"],
            )
            assert some == pytest.approx(whole, abs=0.1)


def test_searching(trained, data, given):
    of_regions = ["--alignment", data / "parts.model", "--regions", data / "regions.npz"]
    of_pair = ["--model", data / "pair.model", "--features", data / "whole.npz"]
    for model in (of_regions, of_pair):
        options = ["--top", "3"]
        printed = output_of("rank", *given, *options, *model, "--search", "a blue dog")
        assert printed.splitlines()[0] == 'pictures for "a blue dog"'
        best = [int(number) for number in re.findall(r"(\d+)\.png", printed)]
        assert len(best) == 3
        assert described(best[0])[0] == "A blue dog ."
        printed = output_of("rank", *given, *options, *model, "--picture", "83.png")
        assert printed.splitlines()[0] == "sentences for 83.png"
        assert {"a", "blue", "dog"} <= set(re.sub(r"\[\d+\]", "", printed.splitlines()[2]).split())
        notes = [line.endswith("its own") for line in printed.splitlines()[2:5]]
        assert notes[0]
        assert not all(notes)
        assert "left out: 1 empty captions" in printed
        # The best sentence has a positive score, as a log-probability never has.
        assert float(printed.splitlines()[2].split()[0]) > 0
        printed = output_of("rank", *given, *options, *model, "--search", "a zebra, a yak, a blue zebra")
        assert printed.splitlines()[0] == "the model does not know: zebra, yak"


def test_pictures_without_features_are_named(trained, data, given):
    options = ["--alignment", data / "whole.model", "--features", data / "most.npz", "--search", "a dog"]
    assert "left out of test: 2 pictures without features" in output_of("rank", *given, *options)


def test_a_card_shows_its_boxes_and_escapes_its_words():
    picture = Image.new("RGB", (200, 100))
    box = (0.1, 0.2, 0.5, 0.9)
    text = sheet("t", [Card(picture, ["a", "<b>", "&c"], [None, box, None], '"<note>"'), Card(picture, ["d"])])
    (outline,) = re.findall(r"<rect [^>]*>", text)
    x, y, width, height = (
        float(re.search(rf' {name}="([\d.]+)"', outline)[1]) for name in ("x", "y", "width", "height")
    )
    assert (x, y, x + width, y + height) == pytest.approx((0.1 * 200, 0.2 * 100, 0.5 * 200, 0.9 * 100), abs=2)
    colour = re.search(r'stroke="(#\w+)"', outline)[1]
    assert f'<span class="word" style="color:{colour}">&lt;b&gt;</span> &amp;c<br>' in text
    assert 'aria-label="a &lt;b&gt; &amp;c"' in text
    assert "<note>" not in text
    assert "<b>" not in text
    assert text.count("Black words belong to the whole picture") == 1
    assert "Black words" not in sheet("t", [Card(picture, ["d"])])


def test_scenes_have_boxes_that_words_go_to(boxes, of_scenes, tmp_path):
    printed = output_of(
        "rank", *of_scenes, "--alignment", boxes, "--alignment", boxes.with_name("grid.model"), "--model", "scenes"
    )
    shares = re.findall(r"(boxes|grid): ([\d.]+)% .* words that name an object go to a region that shows it", printed)
    assert [name for name, _ in shares] == ["boxes", "grid"]
    assert all(0 < float(share) < 100 for _, share in shares)
    assert all(15 < float(share) < 40 for share in re.findall(r"by chance ([\d.]+)%", printed))
    file = tmp_path / "found.html"
    for asked in (["--search", "a red <circle> above a blue star"], ["--picture", "0018.png"]):
        for smoothing in ([], ["--smoothing", "1000"]):
            shown = [*asked, *smoothing, "--sheet", file, "--top", "2"]
            printed = output_of("rank", *of_scenes, "--alignment", boxes, *shown)
            assert printed.splitlines()[-1] == f"the pictures are in {file}"
            text = file.read_text()
            assert text.count("<figure>") == text.count("data:image/png;base64,") == 2
            assert "<circle>" not in text
            assert "<script" not in text
            colours = Counter(re.findall(r'stroke="(#\w+)"', text))
            assert {*re.findall(r"color:(#\w+)", text)} - {"#555"} == {*colours}
            if smoothing:  # all words of a sentence are in one region
                assert sum(colours.values()) <= 2


WRONG = [
    (["--captions", "C"], "give --alignment FILE, --model FILE, or both"),
    (["--alignment", "parts.model"], "--captions FILE is missing"),
    (["--captions", "C", "--alignment", "parts.model"], "was trained on regions of a file: give --regions FILE"),
    (
        ["--captions", "C", "--alignment", "parts.model", "--regions", "longer.npz"],
        "parts was trained with feature vectors of 7 numbers, but got 8: give the features that were used then",
    ),
    (
        ["--captions", "C", "--alignment", "parts.model", "--regions", "whole.npz"],
        "whole.npz needs two arrays: floats [images, regions, feature_size], and ids",
    ),
    (
        ["--captions", "C", "--alignment", "parts.model", "--regions", "one.npz"],
        "the split 'test' has 1 picture with features: ranking needs at least two",
    ),
    (
        ["--captions", "C", "--alignment", "whole.model"],
        "pictures are ranked here: give one of --features and --images",
    ),
    (["--captions", "C", "--model", "pair.model"], "pictures are ranked here: give one of --features and --images"),
    (["--captions", "C", "--model", "blind.model", "--no-image"], "--model blind.model sees no pictures"),
    (["--captions", "W", "--regions", "regions.npz"], "no model was trained on regions of a file: leave --regions out"),
    (
        ["--captions", "C", "--alignment", "parts.model", "--regions", "regions.npz", "--features", "whole.npz"],
        "no model ranks by features of whole pictures: leave --features out",
    ),
    (["--captions", "W", "--search", "a", "--out", "new"], "--out is for figures: leave it out with --search"),
    (["--captions", "W", "--search", "a", "--cca"], "--cca is for figures: leave it out with --search"),
    (["--captions", "W", "--cca", "--split", "val"], "--cca learns from the splits train and val"),
    (["--captions", "W", "--search", "a", "--images", "I", "--sheet", "s.png"], "the file is HTML"),
    (["--captions", "W", "--search", "a", "--images", "I", "--sheet", "no/s.html"], "there is no folder no"),
    (["--captions", "W", "--search", "a", "--images", "I", "--sheet", "s.html"], "I has no picture 72.png"),
    (
        ["--captions", "W", "--picture", "60.png"],
        "the split 'test' has no such picture with features; give --split val",
    ),
    (["--captions", "C", "--alignment", "whole.model", "--no-image"], "--no-image: pictures are ranked here"),
    (
        ["--captions", "C", "--alignment", "whole.model", "--features", "regions.npz"],
        "regions.npz needs two arrays: floats [images, feature_size], and ids",
    ),
    (["--captions", "C", "--alignment", "pair.model"], "does not hold an alignment model: it holds a pair"),
    (["--captions", "C", "--model", "whole.model", "--features", "whole.npz"], "it holds an alignment model"),
    (["--captions", "C", "--alignment", "nowhere.model"], "there is no model file"),
    (["--captions", "C", *2 * ["--alignment", "whole.model"]], "--alignment was given twice with one file name"),
    (["--captions", "C", "--model", "scenes", "--features", "whole.npz"], "the pair was trained with feature vectors"),
    (
        ["--captions", "C", "--model", "pair.model", "--first-pass", "5"],
        "--first-pass goes with --alignment and --model",
    ),
    (
        ["--captions", "C", "--model", "pair.model", "--features", "whole.npz", "--cca"],
        "--cca needs an alignment model, and captions of the splits train and val",
    ),
    (["--captions", "W", "--search", "a", "--picture", "b"], "give one of --search and --picture"),
    (["--captions", "W", "--search", " "], "--search: the sentence has no words"),
    (["--captions", "W", "--search", "zebra"], "--search 'zebra': the model knows none of its words"),
    (
        ["--captions", "W", "--picture", "zebra"],
        "--picture zebra: the split 'test' has no such picture with features; the first one is 72.png",
    ),
    (["--captions", "W", "--sheet", "s.html"], "--sheet goes with --images, and with --search or --picture"),
    (["--captions", "S"], "the picture 82.png has no sentence with words: leave it out"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_what_is_wrong_is_one_line(arguments, message, trained, data):
    read = json.loads((data / "captions.json").read_text())
    read["images"][82]["sentences"] = [{"raw": "!"}]
    (data / "silent.json").write_text(json.dumps(read))
    whole = ["--features", "whole.npz", "--alignment", "whole.model"]
    names = {"C": ["captions.json"], "W": ["captions.json", *whole], "S": ["silent.json", *whole]}
    given = [part for one in arguments for part in names.get(one, [one])]
    assert message in refusal_of("rank", *given, folder=data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--regions", "cells"], "--regions cells: give whole, grid, boxes, or a file of features of regions"),
        (["--regions", "grid"], "regions of the kind grid are made of pictures: give --images FOLDER"),
        (["--regions", "grid", "--images", "I"], "--images needs an image encoder"),
        (["--regions", "boxes", "--images", "I", "--encoder", "scenes"], 'has "regions" with boxes: use whole or grid'),
        (["--regions", "grid", "--images", "nowhere", "--encoder", "scenes"], "there is no folder nowhere"),
        (["--no-image"], "--no-image: pictures are ranked here"),
        ([], "pictures are ranked here: give one of --features and --images"),
        (["--regions", "regions.npz", "--features", "whole.npz"], "leave --features or --regions out"),
        (["--regions", "regions.npz", "--images", "I"], "leave --images out"),
        (["--features", "first.npz"], "the split 'train' has one picture with captions"),
        (
            ["--features", "whole.npz", "--preset", "lstm"],
            "leave out --lines, --captioner, and every --preset but karpathy",
        ),
        (
            ["--features", "whole.npz", "--captioner", "gru"],
            "leave out --lines, --captioner, and every --preset but karpathy",
        ),
        (["--regions", "whole.npz"], "whole.npz needs two arrays: floats [images, regions, feature_size]"),
        (["--regions", "one.npz"], "one.npz has no regions for any of the images, for example 0.png"),
        (["--features", "whole.npz", "--encoder", "lens"], "--encoder lens: use efficientnet-lite0"),
        (["--features", "whole.npz", "--kind", "pair", "--regions", "grid"], "--regions goes with --kind alignment"),
    ],
)
def test_what_cannot_be_trained_is_one_line(arguments, message, data, scenes, tmp_path):
    folder = data / "I"
    folder.mkdir(exist_ok=True)
    for at in range(12):
        (folder / f"{at}.png").write_bytes((scenes / "0000.png").read_bytes())
    options = ["--kind", "alignment", "--captions", "captions.json", "--out", tmp_path / "model"]
    assert message in refusal_of("train", *options, *arguments, folder=data)


def test_a_training_with_the_settings_of_the_paper(data, given, tmp_path):
    options = ["--features", data / "whole.npz", "--preset", "karpathy", "--epochs", "1", "--min-count", "1"]
    printed = output_of("train", *given, "--kind", "alignment", *options, "--out", tmp_path / "model", "--half")
    assert "the alignment model of epoch 1" in printed
    assert load_alignment(tmp_path / "model").config["hidden_size"] == 1000
