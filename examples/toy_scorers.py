"""Fill a blank with two models written by hand: with each of them alone, and with both together."""

import numpy as np

from birnn_decode import Pair, StepScorer, Template, compare

SENTENCES = """a girl and a dog run on the beach
a girl and a dog run in the park
a girl and her mother ride a horse
a girl and a boy are holding a wind board
two men carry a wind board
the men carry a wind board""".splitlines()
WORDS = ["START", "END", *sorted({word for sentence in SENTENCES for word in sentence.split()})]


def ids(text):
    return [WORDS.index(word) for word in text.split()]


def bigram_scorer(sentences, start, end):
    counts = np.full((len(WORDS), len(WORDS)), 0.01)  # [last word, next word]
    for sentence in sentences:
        np.add.at(counts, ([start, *sentence], [*sentence, end]), 1)
    return StepScorer(
        step=lambda tokens, state: (np.log(counts)[tokens], None),  # the last word is enough: no state
        start=lambda images: None,
        select=lambda state, rows: None,
        vocab_size=len(WORDS),
        start_token=start,
        end_token=end,
    )


if __name__ == "__main__":
    forward = bigram_scorer([ids(sentence) for sentence in SENTENCES], start=0, end=1)
    backward = bigram_scorer([ids(sentence)[::-1] for sentence in SENTENCES], start=1, end=0)
    template = Template.blank(ids("a girl and"), 4, ids("a wind board"))
    for method, result in compare(Pair(forward, backward), None, template, beam_size=3).items():
        print(f"{method:11}{' '.join(WORDS[token] for token in result.best.tokens):45}J = {result.best.joint:6.2f}")
