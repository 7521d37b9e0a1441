"""How many sentences any proof has to read: undecided.py [DATA BLANK LIMIT ROWS].

The known words behind a blank have terms of at most 0, and more than that no bound knows of them before they are read.
So a sentence whose terms of the blank's words and of those before it, by both models, add up to more than the best J
there is cannot be excluded before its last word is read by one of them, which is a row of its own. Counted are these
sentences: all of them for blanks of two words, and for longer ones those of the words that fit best, so that there are
at least as many. A question with more of them than ``ROWS`` cannot be proved with so many rows by any search whose
bounds are of this kind.

``BIRNN_DECODE_DATA`` and ``BIRNN_DECODE_PAIRS`` are as for the other benchmarks.
"""

import itertools
import sys

import torch
from questions import FLICKR, questions

from birnn_decode import bscd_decode, exact_decode

FILLS = 2**21  # that are looked at for a blank of more than two words
BATCH = 4096
ROUNDING = 1e-3  # nats


@torch.no_grad()
def main(data=FLICKR, blank="0.25", limit="100", rows="20000"):
    pair, asked = questions(data, float(blank), int(limit))
    proved = within_reach = 0
    for question in asked:
        best = bscd_decode(*pair, question.image, question.template, beam_size=20).best
        sure = exact_decode(*pair, question.image, question.template, beam_size=1, max_rows=int(rows))
        joint, words = max((one.joint, one.tokens) for one in (best, sure.best))
        (template,) = question.template.fixed()
        blanks = [at for at in range(len(template)) if template.undecided(at)]
        fills, count = undecided(pair, question.image, words, blanks, joint)
        proved += sure.proved
        within_reach += count <= int(rows)
        print(
            f"{len(blanks)} of {len(template)} words missing: best J {joint:.1f}, {count} of {fills} fills undecided, "
            f"{'proved' if sure.proved else 'not proved'} with {sure.rows_evaluated} rows",
            flush=True,
        )
    print(f"{proved} of {len(asked)} proved with {rows} rows; no more than {within_reach} can be")


def undecided(pair, image, words, blanks, joint):
    """The fills looked at of a blank, and those whose terms up to their last word are above J of the best ``words``."""
    before, after = words[: blanks[0]], words[blanks[-1] + 1 :]
    usable = sorted(set(range(pair[0].vocab_size)) - {pair[0].start_token, pair[0].end_token, *pair[0].never})
    choices = [usable] * len(blanks)
    if len(blanks) > 2:
        most = int(FILLS ** (1 / len(blanks)))
        only = [[words[at]] for at in blanks]
        choices = [
            most_likely(pair, image, before, [*only[:number], usable, *only[number + 1 :]], after, most)
            for number in range(len(blanks))
        ]
    sums = of_both(pair, image, before, choices, after)
    return sums.numel(), int((sums > joint + ROUNDING).sum())


def most_likely(pair, image, before, choices, after, most):
    """Of the position that has several choices, the words with the highest terms of both directions."""
    sums = of_both(pair, image, before, choices, after).flatten()
    several = max(choices, key=len)
    return [several[at] for at in sums.topk(most).indices.tolist()]


def of_both(pair, image, before, choices, after):
    """For every fill, what both models give to its words and to those that they read before it, [choices …]."""
    forward = log_probs(pair[0], image, before, choices)
    backward = log_probs(pair[1], image, after[::-1], choices[::-1])
    return forward + backward.permute(*reversed(range(len(choices))))


def log_probs(model, image, words, choices):
    """The log-probability of words and one of each of the choices behind them, in reading order, [choices …]."""
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
