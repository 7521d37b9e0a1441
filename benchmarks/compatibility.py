"""Measure how compatible the conditionals of a joint model are: compatibility.py MODEL CAPTIONS [FEATURES].

MODEL is the file of a Bi-RNN, or of a pair, whose scores are then added. CAPTIONS is Karpathy's split JSON, or a folder
with Flickr8k's token file and lists. For captions of the split val, the program prints

- how far the conditionals are from those of one distribution (``birnn_decode.evaluation.joint_cycles``): the gap of
  random cycles through sentences that differ in two words, for neighbouring words and for others;
- the share of the blanks that are filled exactly right if only the words of the blank count, and if all words count;
  and for the other blanks, how often the model itself prefers its answer to the caption, which no search can change.
"""

import sys
from pathlib import Path

import numpy as np

from birnn_decode import Objective, decode, score_sentences
from birnn_decode.captions import read_captions, read_features
from birnn_decode.cli.common import Models
from birnn_decode.evaluation import blank_questions, joint_cycles
from birnn_decode.vocabularies import UNK

SENTENCES, CYCLES = 200, 20
QUESTIONS = 300


def main(model, captions, features=None):
    model = Models.load(None, Path(model), "cpu").birnn
    vocabulary = model.forward_half.vocabulary
    images, inputs = read(captions, features)
    random = np.random.default_rng(0)
    cycles(model, vocabulary, images, inputs, random)
    for fraction in (0.01, 0.25, 0.5, 0.75):
        questions, _ = blank_questions(images, inputs, vocabulary, fraction, min_words=6)
        questions = [questions[number] for number in random.permutation(len(questions))[:QUESTIONS]]
        given = [one.image for one in questions], [one.template for one in questions]
        words = sum(one.blank.stop - one.blank.start for one in questions) / len(questions)
        for scope in ("sentence", "blank"):
            found = decode(model, *given, objective=Objective(scope=scope))
            right = [one.best.tokens in question.truths for one, question in zip(found, questions, strict=True)]
            stops = [str(one.stop) for one in found]
            counts = ", ".join(f"{stop} {stops.count(stop)}" for stop in dict.fromkeys(stops))
            rounds = np.mean([one.rounds for one in found])
            scored = score_sentences(model, given[0], [list(one.truths) for one in questions])
            truths = [one.pseudo_log_prob for (one,) in scored]
            below = [
                truth < one.best.pseudo_log_prob
                for one, truth, hit in zip(found, truths, right, strict=True)
                if not hit and scope == "sentence"
            ]
            print(
                f"{words:4.1f} words missing, scope {scope:8}: {np.mean(right):.3f} of {len(right)} exactly right, "
                f"{rounds:.1f} rounds; {counts}"
                + (f"; of the others {np.mean(below):.2f} score above the caption" if below else "")
            )


def read(captions, features):
    """The images of the split val that there are features for, and these."""
    path = Path(captions)
    if path.is_dir():
        lists = {split: path / f"Flickr_8k.{name}Images.txt" for split, name in (("train", "train"), ("val", "dev"))}
        file = read_captions(path / "Flickr8k.token.txt", lists=lists)
    else:
        file = read_captions(path)
    images = file.of("val")
    if features is None:
        return images, {image.name: None for image in images}
    table = read_features(features)
    rows = table.rows(images)
    return images, {image.name: table.vectors[row] for image, row in zip(images, rows, strict=True) if row is not None}


def cycles(model, vocabulary, images, inputs, random):
    """Print the gaps of random cycles."""
    sentences = []
    for image in images:
        words = [vocabulary.encode(caption, unknown=UNK) for caption in image.captions]
        sentences += [(inputs[image.name], one) for one in words if UNK not in one and len(one) > 1]
    chosen = [sentences[number] for number in random.permutation(len(sentences))[:SENTENCES]]
    found = joint_cycles(model, [image for image, _ in chosen], [[words] for _, words in chosen], cycles=CYCLES)
    every = [one for (own,) in found for one in own]
    for name, near in (("neighbours", True), ("others", False)):
        gaps = np.abs([one.gap for one in every if (one.positions[1] - one.positions[0] == 1) is near])
        low, middle, high = np.quantile(gaps, [0.25, 0.5, 0.75])
        print(
            f"cycles at {name}: {len(gaps)}, |gap| mean {gaps.mean():.2f}, quartiles {low:.2f}, {middle:.2f}, "
            f"{high:.2f}, above 1 nat {np.mean(gaps > 1):.2f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
