"""Caption metrics: the figures of sums against those of pycocoevalcap, and what happens without Java."""

import random
import re
import shutil

import numpy as np
import pytest

from birnn_decode.captions import words_of
from birnn_decode.evaluation.metrics import caption_metrics, mean_metric

PLAIN = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
IMAGES = [
    [
        "A man riding a brown horse down the street.",
        "The person rides his horse along a road",
        "a man on horseback, near some parked cars",
    ],
    ["Two dogs are playing with a ball in the park.", "two puppies run after a red ball on the grass"],
    ["A woman's hat lies on the wooden table!", "there is a hat - a big one - on top of a table", "Hat on a desk."],
    ["a child eats a piece of chocolate cake", "The kid is eating some cake at the kitchen table"],
    ["several people are waiting for the bus at a bus stop"],
    ["a cat sleeping on a laptop computer", "The cat is asleep on top of the keyboard", "a kitten naps on a computer"],
]
REFERENCES = [captions for captions in IMAGES for _ in range(3)]
WORDS = sorted({word for captions in IMAGES for caption in captions for word in words_of(caption)})

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="the PTB tokeniser and METEOR need java")


@pytest.fixture(autouse=True)
def _evaluation_extra():
    pytest.importorskip("pycocoevalcap.bleu.bleu")


@pytest.fixture
def no_java(monkeypatch):
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """Put a shell script in the place of java; ``@java`` in it is the real one."""

    def install(script):
        path = tmp_path / "java"
        path.write_text("#!/bin/sh\n" + script.replace("@java", str(shutil.which("java"))))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def noisy(seed):
    """References with a few words replaced, cut, or added; some answers are empty, or without words."""
    rng = random.Random(seed)
    answers = []
    for captions in REFERENCES:
        words = rng.choice(captions).split()
        begin = rng.randrange(len(words))
        words[begin : begin + rng.randrange(4)] = rng.choices(WORDS, k=rng.randrange(4))
        answers.append(" ".join(words))
    answers[seed % len(answers)] = ""
    answers[(seed + 5) % len(answers)] = "... ! -"
    return answers


def figures(metrics):
    return {metric.name: float(metric.value(metric.statistics.sum(axis=0))) for metric in metrics}


def figures_of(answers, references=REFERENCES):
    return figures(caption_metrics({"only": answers}, references)[0]["only"])


@pytest.mark.usefixtures("no_java")
@pytest.mark.parametrize(
    "answers",
    [
        *map(noisy, range(4)),
        [" ".join(sorted(words_of(captions[0]))) for captions in REFERENCES],  # no 4-gram is right
        [" and ".join(captions * 2) for captions in REFERENCES],  # longer than any reference
        ["a"] * len(REFERENCES),
    ],
)
def test_figures_from_sums_are_pycocoevalcaps(answers):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truth = {item: [" ".join(words_of(text)) for text in texts] for item, texts in enumerate(REFERENCES)}
    guess = {item: [" ".join(words_of(text))] for item, text in enumerate(answers)}
    expected = [*Bleu(4).compute_score(truth, guess, verbose=0)[0]]
    expected += [scorer.compute_score(truth, guess)[0] for scorer in (Rouge(), Cider())]
    metrics, _ = caption_metrics({"other": noisy(5), "this": answers}, REFERENCES)
    assert figures(metrics["this"]) == pytest.approx(dict(zip(PLAIN, expected, strict=True)), rel=0, abs=1e-9)
    for metric in metrics["this"]:
        assert metric.statistics.dtype == np.float64
        assert len(metric.statistics) == len(REFERENCES)
        # Many corpora at once are as many figures.
        halves = np.stack([metric.statistics[::2].sum(axis=0), metric.statistics[1::2].sum(axis=0)])
        assert metric.value(halves).tolist() == pytest.approx([float(metric.value(half)) for half in halves])


@pytest.mark.usefixtures("no_java")
def test_without_java_words_are_split_here_and_a_note_says_so():
    metrics, notes = caption_metrics({"this": noisy(0)}, REFERENCES)
    assert [metric.name for metric in metrics["this"]] == PLAIN
    assert len(notes) == 1
    assert "\n" not in notes[0]
    assert "METEOR is left out" in notes[0]
    assert "no java on the PATH" in notes[0]


@pytest.mark.usefixtures("no_java")
def test_answers_that_are_references_are_perfect():
    found = figures_of([captions[-1].upper() for captions in IMAGES], IMAGES)
    assert [found[name] for name in PLAIN[:4]] == pytest.approx([1] * 4, abs=1e-6)
    assert found["ROUGE-L"] == pytest.approx(1)
    assert found["CIDEr"] > figures_of(noisy(0))["CIDEr"]


@pytest.mark.usefixtures("no_java")
def test_neither_order_nor_the_other_methods_matter():
    order = random.Random(0).sample(range(len(REFERENCES)), len(REFERENCES))
    answers = noisy(3)
    shuffled, references = [answers[i] for i in order], [REFERENCES[i] for i in order]
    expected = figures_of(answers)
    assert figures_of(shuffled, references) == pytest.approx(expected)
    together, _ = caption_metrics({"a": answers, "b": noisy(4), "c": answers}, REFERENCES)
    assert figures(together["a"]) == figures(together["c"]) == expected
    assert figures(together["b"]) == figures_of(noisy(4))


@pytest.mark.usefixtures("no_java")
def test_a_corpus_twice_has_the_figures_of_the_corpus():
    once, twice = figures_of(noisy(1)), figures_of(noisy(1) * 2, REFERENCES * 2)
    # Of a word that no reference has, CIDEr knows only how many items there are.
    del once["CIDEr"], twice["CIDEr"]
    assert twice == pytest.approx(once)


@pytest.mark.usefixtures("no_java")
@pytest.mark.parametrize("answer", ["", " \n", "?! ...", "|||"])
def test_an_answer_without_words_is_worth_nothing(answer):
    # A reference without words is no match for it either.
    references = [["a man on a horse", "..."]]
    for items in (1, 3):
        assert figures_of([answer] * items, references * items) == pytest.approx(dict.fromkeys(PLAIN, 0), abs=1e-6)


@pytest.mark.usefixtures("no_java")
def test_one_item():
    found = figures_of(["a man on a horse"], [["a man on a horse", "a rider"]])
    assert found["BLEU-4"] == pytest.approx(1, abs=1e-6)
    assert found["CIDEr"] == 0  # a word that every document has weighs nothing


def test_refusals():
    with pytest.raises(ValueError, match="references is empty: give the captions of at least one item"):
        caption_metrics({"this": []}, [])
    with pytest.raises(ValueError, match="this: 1 answers and references for 2 items: give one each"):
        caption_metrics({"this": ["a"]}, [["a"], ["a"]])
    with pytest.raises(ValueError, match="references of item 1 are one text: give a list"):
        caption_metrics({"this": ["a", "a"]}, [["a"], "a"])


@pytest.mark.usefixtures("no_java")
@pytest.mark.parametrize("captions", [[], [""], ["...", " - "]])
def test_an_item_without_words_in_its_references_does_not_count(captions):
    answers = noisy(2)
    expected = figures_of(answers)
    metrics, notes = caption_metrics({"this": ["a", *answers]}, [captions, *REFERENCES])
    assert figures(metrics["this"]) == pytest.approx(expected)
    assert notes[1:] == ["BLEU, ROUGE-L, METEOR and CIDEr leave out 1 items whose references have no word"]
    for metric in metrics["this"]:
        assert len(metric.statistics) == 1 + len(REFERENCES)
    assert caption_metrics({"this": ["a"]}, [captions])[0] == {"this": []}


@needs_java
@pytest.mark.usefixtures("small_meteor")
def test_meteor_does_not_count_an_item_without_words_either():
    answers = noisy(2)
    metrics, _ = caption_metrics({"this": ["a", *answers]}, [["..."], *REFERENCES])
    assert figures(metrics["this"])["METEOR"] == pytest.approx(figures_of(answers)["METEOR"])


def test_a_mean_is_over_the_items_that_have_a_value():
    metric = mean_metric("J", [1.0, np.nan, 4.0])
    assert metric.name == "J"
    assert metric.statistics.tolist() == [[1, 1], [0, 0], [4, 1]]
    assert metric.value(metric.statistics.sum(axis=0)) == 2.5
    np.testing.assert_array_equal(metric.value(metric.statistics), [1, np.nan, 4])
    assert np.isnan(metric.value(np.zeros(2)))


@pytest.mark.process
@needs_java
@pytest.mark.usefixtures("small_meteor")
def test_with_java_all_figures_are_pycocoevalcaps(capfd):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    answers = noisy(2)
    answers[0] = REFERENCES[0][0]  # METEOR treats a segment that is its reference on its own
    answers[1] = REFERENCES[1][1]
    answers[3] = "two dogs ||| are|||playing"
    answers[4] = "two canine are playing with balls\u2028in the $ park\n"
    answers[2] = "a man on horseback near a few cars"
    answers[8] = "on a desk hat"
    answers[12] = "several people are waiting for the coach at a bus stop"
    answers[15] = "The cat is asleep on a laptop"
    meteor = Meteor()
    try:
        metrics, notes = caption_metrics({"other": noisy(6), "this": answers}, REFERENCES)
        assert (notes, capfd.readouterr()) == ([], ("", ""))

        texts = [[text] for text in answers]
        texts[4] = ["two canine are playing with balls in the $ park"]
        truth, guess = (
            PTBTokenizer().tokenize({item: [{"caption": text} for text in some] for item, some in enumerate(corpus)})
            for corpus in (REFERENCES, [[text[0] or "."] for text in texts])
        )
        expected = [*Bleu(4).compute_score(truth, guess, verbose=0)[0]]
        expected += [scorer.compute_score(truth, guess)[0] for scorer in (Rouge(), Cider(), meteor)]
    finally:
        for pipe in (meteor.meteor_p.stdout, meteor.meteor_p.stderr):
            pipe.close()
    found = figures(metrics["this"])
    assert found == pytest.approx(dict(zip([*PLAIN, "METEOR"], expected, strict=True)), rel=0, abs=1e-9)
    # Of single items, too: both ends of the scale among them.
    last = metrics["this"][-1]
    assert last.value(last.statistics)[[0, 1, 7]].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'no runtime' >&2\necho and more >&2\nexit 3", "ended with exit status 3: no runtime"),
        ("exit 1", "ended with exit status 1"),
        ("echo a line", "answered 1 lines to"),
        ("", "answered 0 lines to"),
    ],
)
def test_a_java_that_fails_is_no_java(fake_java, capfd, script, reason):
    fake_java(script)
    metrics, notes = caption_metrics({"this": noisy(0)}, REFERENCES)
    assert [metric.name for metric in metrics["this"]] == PLAIN
    assert len(notes) == 1
    assert "\n" not in notes[0]
    assert reason in notes[0]
    assert capfd.readouterr() == ("", "")


def test_a_java_that_does_not_start_is_no_java(fake_java, tmp_path):
    fake_java("")
    (tmp_path / "java").write_bytes(b"\0")
    _, notes = caption_metrics({"this": noisy(0)}, REFERENCES)
    assert len(notes) == 1
    assert "does not start" in notes[0]


@pytest.mark.process
@needs_java
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "METEOR is left out: .* ended with exit status 3"),
        (
            "while read -r line; do echo 1.0 nonsense; done; exit 0",
            "METEOR is left out: METEOR answered '1.0 nonsense', which is no line",
        ),
        (
            "while read -r line; do echo 1.0; done; exit 0",
            "METEOR is left out: METEOR answered '1.0', which is no line",
        ),
    ],
)
def test_where_meteor_fails_the_others_stay(fake_java, monkeypatch, capfd, script, reason):
    monkeypatch.setenv("LC_ALL", "C")
    fake_java(f'case "$*" in *meteor*) {script};; esac\nexec @java "$@"')
    # U+FFFD is what the tokeniser complains of on stderr; è and é would be equal, were they read as ASCII.
    metrics, notes = caption_metrics({"this": ["a cafè", "don't \ufffd stop"]}, [["a café"], ["Do n't stop."]])
    assert len(notes) == 1
    assert re.match(reason, notes[0])
    assert capfd.readouterr() == ("", "")
    by_name = {metric.name: metric for metric in metrics["this"]}
    assert list(by_name) == PLAIN
    assert by_name["BLEU-1"].statistics[:, 0].tolist() == [1, 3]
