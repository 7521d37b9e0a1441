"""Count the sentences that any proof has to read: undecided.py [DATA BLANK LIMIT ROWS].

The terms of the known words after a blank are at most 0, and a bound knows nothing more about them before they are
read. Take a sentence whose other terms, by both models, add up to more than the best J. Such a sentence is undecided: a
search can exclude it only after one model has read its last word, which takes a row of its own. If a question has more
undecided sentences than ``ROWS``, no search with bounds of this kind can prove its best sentence within that many rows.

All sentences are counted for blanks of two words. For longer blanks, the words that fit best are tried, so the true
number is at least as large.

Prints CSV. ``BIRNN_DECODE_DATA`` and ``BIRNN_DECODE_PAIRS`` name folders, as for the other benchmarks.
"""

import csv
import itertools
import sys

import torch
from questions import FLICKR, questions

from birnn_decode import BSCD, Exact, decode

FILLS = 2**21  # tried for a blank of more than two words
MANY = 100_000
BATCH = 4096
ROUNDING = 1e-3  # nats


@torch.no_grad()
def main(data=FLICKR, blank="0.25", limit="100", rows="20000"):
    pair, asked = questions(data, float(blank), int(limit))
    rows = int(rows)
    proved, lengths, counts = [], [], []
    for question in asked:
        best = decode(pair, question.image, question.template, BSCD(), beam_size=20).best
        sure = decode(pair, question.image, question.template, Exact(max_rows=rows), beam_size=1)
        joint, words = max((one.joint, one.tokens) for one in (best, sure.best))
        (template,) = question.template.fixed()
        blanks = [at for at in range(len(template)) if template.undecided(at)]
        proved.append(sure.proved)
        lengths.append(len(blanks))
        counts.append(undecided(pair, question.image, words, blanks, joint))
    of_two = [one for one, length in zip(proved, lengths, strict=True) if length == 2]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["blank", "method", "metric", "value", "questions"])
    for metric, values in {
        "proved": proved,
        "proved of blanks of two words": of_two,
        f"more than {rows} sentences undecided": [count > rows for count in counts],
        f"more than {MANY} sentences undecided": [count > MANY for count in counts],
        f"within reach of {rows} rows": [count <= rows for count in counts],
    }.items():
        writer.writerow([blank, "exact", metric, sum(values), len(values)])


def undecided(pair, image, words, blanks, joint):
    """How many fills have terms, up to their last word, that add up to more than J of the best ``words``."""
    before, after = words[: blanks[0]], words[blanks[-1] + 1 :]
    model = pair.forward
    usable = sorted(set(range(model.vocab_size)) - {model.start_token, model.end_token, *model.never})
    choices = [usable] * len(blanks)
    if len(blanks) > 2:
        most = int(FILLS ** (1 / len(blanks)))
        only = [[words[at]] for at in blanks]
        choices = [
            most_likely(pair, image, before, [*only[:number], usable, *only[number + 1 :]], after, most)
            for number in range(len(blanks))
        ]
    sums = of_both(pair, image, before, choices, after)
    return int((sums > joint + ROUNDING).sum())


def most_likely(pair, image, before, choices, after, most):
    """The words with the highest terms of both directions at the one position with several choices."""
    sums = of_both(pair, image, before, choices, after).flatten()
    several = max(choices, key=len)
    return [several[at] for at in sums.topk(min(most, len(sums))).indices.tolist()]


def of_both(pair, image, before, choices, after):
    """The sum of both models' terms of each fill and of the words that they read before it, [choices …]."""
    forward = log_probs(pair.forward, image, before, choices)
    backward = log_probs(pair.backward, image, after[::-1], choices[::-1])
    return forward + backward.permute(*reversed(range(len(choices))))


def log_probs(model, image, words, choices):
    """The log-probabilities of the words and every combination of choices after them, in reading order, [choices …]."""
    state = model.start(model.encode([image]))
    scores, state = model.step(torch.tensor([model.start_token]), state)
    sums = torch.zeros(1)
    for word in words:
        sums = sums + scores.log_softmax(dim=-1)[:, word]
        scores, state = model.step(torch.tensor([word]), state)
    sums = sums[:, None] + scores.log_softmax(dim=-1)[:, choices[0]]
    for here, following in itertools.pairwise(choices):
        parents = torch.arange(len(sums)).repeat_interleave(len(here))
        tokens = torch.tensor(here).repeat(len(sums))
        terms, states = [], []
        for some in torch.arange(len(parents)).split(BATCH):
            scores, read = model.step(tokens[some], model.select(state, parents[some]))
            terms.append(scores.log_softmax(dim=-1)[:, following])
            states.append(read)
        state = model.join(states)
        sums = sums.reshape(-1, 1) + torch.cat(terms)
    return sums.reshape([len(words) for words in choices])


if __name__ == "__main__":
    main(*sys.argv[1:])
