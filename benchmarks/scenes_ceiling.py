"""How often could a perfect ranker of drawn scenes put the right answer first? `python benchmarks/scenes_ceiling.py`

Scenes of seed 2 have one sentence each, as in `docs/ranking.md`. A sentence is often true of several of 1,000 pictures.

- "knows what is true": all pictures that a sentence is true of are tied, and so are all sentences that are true of a
  picture.
- "knows how sentences are drawn, too": pictures are ranked by the probability of the sentence, and sentences by the
  probability that they were drawn for this picture. This is the most that any ranker can expect, but for the choice of
  the form of a sentence, which is left out.
"""

import argparse
import re

import numpy as np

from birnn_decode.captions import make_scenes
from birnn_decode.captions.scenes import AUTHORS, COLOURS, KINDS, SAYS_SIZE, relation
from birnn_decode.evaluation import Ranks

SIZES = {word: size for author in AUTHORS for size, word in author.sizes.items()}
RELATIONS = {word: name for author in AUTHORS for name, word in author.relations.items()}
SHAPE = re.compile(rf"\ba (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(KINDS)})\b")
PLACE = re.compile(rf"\b({'|'.join(sorted(RELATIONS, key=len, reverse=True))})\b")
# For each form of a sentence its relations: the numbers of two shapes in the order of the sentence.
FORMS = {
    "N N are both R N": ((0, 2), (1, 2)),
    "N R N and R N": ((0, 1), (0, 2)),
    "N R N which R N": ((0, 1), (1, 2)),
    "N R N": ((0, 1),),
    "R N and R N N": ((2, 0), (2, 1)),
    "R N N": ((1, 0),),
}
MENTIONS_TWO_OF_THREE = 0.25


def read(sentence):
    """The shapes that a sentence mentions, and their relations: (number, relation, number)."""
    places = [RELATIONS[word] for word in PLACE.findall(sentence)]
    shapes = [(SIZES.get(size), colour, kind) for size, colour, kind in SHAPE.findall(sentence)]
    form = SHAPE.sub("N", PLACE.sub("R", sentence))
    form = re.sub(r"\b(is|sits|stands|there)\b ?", "", form).strip().replace("N and N are", "N N are")
    between = FORMS[form]
    places = places * len(between) if "both" in form else places
    return shapes, [(one, place, other) for (one, other), place in zip(between, places, strict=True)]


def probability(meaning, scene):
    """How probable a sentence of this meaning is for a scene, but for its form; 0 if it is not true."""
    mentioned, places = meaning
    found = []
    for size, colour, kind in mentioned:
        fits = [one for one in scene.shapes if (one.colour, one.kind) == (colour, kind) and size in (None, one.size)]
        if not fits:
            return 0.0
        found += fits
    if any(relation(found[one], found[other]) != place for one, place, other in places):
        return 0.0
    orders = 2 if len(scene.shapes) == 2 else 6
    share = 1.0
    if len(scene.shapes) == 3:
        share = MENTIONS_TWO_OF_THREE if len(mentioned) == 2 else 1 - MENTIONS_TWO_OF_THREE
    sizes = [SAYS_SIZE if size else 1 - SAYS_SIZE for size, _, _ in mentioned]
    return share / orders * float(np.prod(sizes))


def ceilings(count):
    """R@1 of two perfect rankers, each for the sentences of a picture and for the pictures of a sentence."""
    scenes = make_scenes(count, seed=2, captions=1)
    meanings = [read(scene.captions[0]) for scene in scenes]
    drawn = np.array([[probability(meaning, scene) for meaning in meanings] for scene in scenes])
    right = np.eye(count, dtype=bool)

    def first(scores):
        return float(Ranks.find(scores, right).within(1).mean())

    true = (drawn > 0).astype(float)
    return {
        "knows what is true": (first(true), first(true.T)),
        "knows how sentences are drawn, too": (first(drawn / drawn.sum(axis=0)), first(drawn.T)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="number of scenes (default: 1000)")
    for name, (annotation, search) in ceilings(parser.parse_args().count).items():
        print(
            f"{name}: R@1 {annotation:.3f} for the sentences of a picture, {search:.3f} for the pictures of a sentence"
        )
