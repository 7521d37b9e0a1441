"""Does an alignment model help decoding? Fill blanks with BSCD, and rank the sentences found by J plus its score.

The weight of the score is chosen on the split "val": the one that fills most blanks exactly right. Then "test" is
decoded, and its answers are compared with those of J alone.
"""

from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from birnn_decode import BSCD
from birnn_decode.captions import read_captions, read_features, read_regions
from birnn_decode.evaluation import ask, blank_questions, mean_metric, paired_difference
from birnn_decode.evaluation.bootstrap import interval
from birnn_decode.models import default_pair, load_alignment, load_pair, region_features
from birnn_decode.vocabularies import UNK

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@click.command()
@click.option("--captions", required=True, help="Karpathy's split file, with the splits val and test.")
@click.option("--alignment", required=True, help="File of an alignment model.")
@click.option("--model", default="scenes", show_default=True, help="File of a pair; scenes: the pair of the package.")
@click.option("--features", help="File of feature vectors, for the pair, and for a model of whole pictures.")
@click.option("--regions", help="File of features of regions, for a model of these.")
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of the pictures, in place of files of features."
)
@click.option("--blank", default=0.5, show_default=True, help="Share of the words that are missing.")
@click.option("--beam-size", default=5, show_default=True)
@click.option("--limit", default=1000, show_default=True, help="Number of questions of each split, at most.")
def main(captions, alignment, model, features, regions, images, blank, beam_size, limit):
    """Compare BSCD with and without the score of an alignment model as a third term."""
    file = read_captions(captions)
    pair = default_pair() if model == "scenes" else load_pair(model)
    aligner = load_alignment(alignment)

    def measured(split):
        """The questions of a split, and for each its hypotheses: (right or not, J, score)."""
        shown = file.of(split)
        if images is not None:
            sources = {image.name: images / image.name for image in shown}
            kind = aligner.config["regions"]
            boxes = [[[region.box for region in image.regions]] for image in shown]
            seen = {
                image.name: region_features(aligner.encoder, [images / image.name], kind, own)[0]
                for image, own in zip(track(shown, "regions", console=Console(stderr=True)), boxes, strict=True)
            }
        else:
            sources = read_features(features).of(file.images)
            seen = sources if regions is None else read_regions(regions).of(file.images)
        questions, _ = blank_questions(shown, sources, pair.forward.vocabulary, blank)
        drawn = np.random.default_rng(0).permutation(len(questions))[:limit]
        questions = [questions[number] for number in sorted(drawn.tolist())]
        batches = ask({"bscd": (pair, BSCD())}, questions, beam_size=beam_size)
        total = -(-len(questions) // 64)  # batches, of the default size
        shown_batches = track(batches, f"decoding {split}", console=Console(stderr=True), total=total)
        answers = [one for batch in shown_batches for one in batch]
        found = []
        for question, answer in zip(questions, answers, strict=True):
            own = answer["bscd"].hypotheses
            vectors = torch.as_tensor(seen[question.source.name])
            vectors = vectors[None] if vectors.ndim == 1 else vectors
            scores = aligner.score(vectors[None], [aligner.vocabulary.encode(one.text, unknown=UNK) for one in own])[0]
            right = [one.tokens in question.truths for one in own]
            found.append((np.array(right), np.array([one.joint for one in own]), scores.double().numpy()))
        return questions, found

    _, validation = measured("val")
    weight = max(WEIGHTS, key=lambda one: np.mean(best(validation, one)))
    questions, test = measured("test")
    groups = [question.source.name for question in questions]
    alone, both, oracle = (
        mean_metric("exactly right", values)
        for values in (best(test, 0.0), best(test, weight), [float(right.any()) for right, _, _ in test])
    )
    print(f"{len(questions)} questions; weight of the score, chosen on {len(validation)} questions of val: {weight:g}")
    for name, metric in (("J", alone), ("J + score", both), ("any of the beam", oracle)):
        one = interval(metric, groups)
        print(f"{name:16} exactly right {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]")
    lead = paired_difference(both, alone, groups)
    print(f"J + score minus J: {lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]")


def best(found, weight):
    """Whether the best sentence of each question is the right one, by J plus a weighted score."""
    return [float(right[np.argmax(joint + weight * score)]) for right, joint, score in found]


if __name__ == "__main__":
    main()
