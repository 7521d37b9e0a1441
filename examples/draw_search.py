"""Draw how Beam-Search Coordinate Descent works, with the beams of a real search: draw_search.py [PNG]."""

import os
import sys
from itertools import pairwise
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.bezier import BezierSegment
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from toy_scorers import SENTENCES, WORDS, bigram_scorer, ids

from birnn_decode import Template, score_sentences
from birnn_decode.search.bscd import bscd
from birnn_decode.search.problem import Direction, Problem, branching_depths
from birnn_decode.search.sweep import look_ahead, sweep
from birnn_decode.search.tree import PrefixTree

NEIGHBOURS = {pair for sentence in SENTENCES for pair in pairwise(sentence.split())}
BEGINNING, MISSING, ENDING = "a girl and", 4, "a wind board"
AT = 1  # the missing word, counted from 0, that the second panel looks at
BLUE, AMBER, GREY, RED = "#0072B2", "#946200", "#57606A", "#C1003B"
PALE = {BLUE: "#DDECF8", AMBER: "#FBEFD0", GREY: "#E6E9ED"}

figure = Figure(figsize=(10, 13.55), dpi=140)
axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(13.55, 0))  # in inches, y downwards
axes.axis("off")


def bigram_direction(template, reverse):
    start, end = (1, 0) if reverse else (0, 1)
    scorer = bigram_scorer([ids(sentence)[:: -1 if reverse else 1] for sentence in SENTENCES], start, end)
    branching = [branching_depths([template], reverse)]
    tree = PrefixTree(scorer, scorer.encode([None]), [0], 1, branching, "backward" if reverse else "forward")
    return Direction(tree, weight=1.0, reverse=reverse, banned=(start, end))


def nats(log_prob, space=""):
    return f"−{space}{-log_prob:.1f}"


def write(x, y, text, size=10.5, **style):
    axes.text(x, y, text, **{"fontsize": size, "va": "center", "zorder": 4} | style)


def box(x, y, text, color, width=0.85, strong=False, below="", **style):
    """Draw words, and a number below them; returns what `edge` joins."""
    height = 0.41 if below else 0.28
    shape = FancyBboxPatch((x - width / 2, y - height / 2), width, height, "round,pad=0,rounding_size=0.06", zorder=3)
    shape.set(**{"fc": color if strong else PALE[color], "ec": color, "lw": 1.2} | style)
    axes.add_patch(shape)
    ink = {"ha": "center", "color": "white" if strong else "black"}
    write(x, y - 0.08 if below else y, text, 11, weight="bold" if strong else "normal", **ink)
    write(x, y + 0.11, below, 9, **ink)
    return x, y, width / 2, text.split()


def edge(one, other, color, strong=False):
    """Join two boxes; where no sentence has their words side by side, the join is broken, close to the other."""
    (x, y, half, words), (x_end, y_end, half_end, words_end) = sorted((one, other))
    x, x_end, middle = x + half, x_end - half_end, (x + half + x_end - half_end) / 2
    curve = Curve([(x, y), (middle, y), (middle, y_end), (x_end, y_end)], [Curve.MOVETO] + 3 * [Curve.CURVE4])
    broken = (words[-1], words_end[0]) not in NEIGHBOURS
    style = {"ec": RED, "ls": (0, (3, 2))} if broken else {"ec": color}
    axes.add_patch(PathPatch(curve, fc="none", lw=4 if strong else 1.4, **style))
    if broken:
        axes.plot(*BezierSegment(curve.vertices)(0.66 if one < other else 0.34), "X", color=RED, ms=10, mec="white")


def draw_beams(direction, frontier, top, label, pitch=0.4, best=()):
    """Draw beams as the tree that they are, from the known words to those that they run into once they are full."""
    known = tuple((x, top + pitch, text, GREY, 1.3) for x, text in ((0.8, BEGINNING), (9.2, ENDING)))
    start, end = known[::-1] if direction.reverse else known
    tree = direction.tree
    color, x, side = (AMBER, 9.85, "right") if direction.reverse else (BLUE, 0.15, "left")
    write(x, top, label, 11, ha=side, color=color, weight="bold")
    reading = direction.words_in_reading_order(best)
    every = frontier[frontier >= 0]
    on_best = {node for node, words in zip(every, tree.words(every), strict=True) if words == reading[: len(words)]}
    boxes = {(direction, frontier[0, 0]): box(*start)}
    for beam in frontier[1:]:
        for rank, node in enumerate(beam[beam >= 0]):
            x = COLUMNS[direction.position(tree.depths[node] - 1, len(TEMPLATE))]
            own = box(x, top + rank * pitch, WORDS[tree.tokens[node]], color, strong=node in on_best)
            edge(boxes[direction, tree.parents[node]], own, color, node in on_best)
            boxes[direction, node] = own
    if len(frontier) > MISSING:
        arrival = box(*end)
        for node in frontier[-1][frontier[-1] >= 0]:
            edge(arrival, boxes[direction, node], color, node in on_best)
    return boxes


def title(y, text, caption):
    axes.axhline(y - 0.3, color=PALE[GREY], lw=1.5)
    write(0.15, y, text, 15, weight="bold")
    write(0.15, y + 0.25, fill(caption, 126), va="top", linespacing=1.4)


(TEMPLATE,) = Template.blank(ids(BEGINNING), MISSING, ids(ENDING)).fixed()
COLUMNS = {TEMPLATE.runs[0][0] + number: 2.45 + 1.7 * number for number in range(MISSING)}  # by position
problem = Problem(0, TEMPLATE)
forward, backward = bigram_direction(TEMPLATE, reverse=False), bigram_direction(TEMPLATE, reverse=True)
# Both searches read the same trees, so that a prefix is the same node in either.
((alone,), _), ((done,), _) = (bscd(forward, backward, [problem], 3, rounds) for rounds in (0, 10))
(swept,) = sweep(forward, [problem], 3, backward, [alone.beams[backward][0]])
met = [words for new in done.met for words in new]
scored = score_sentences(forward.tree.scorer, backward.tree.scorer, None, met)
best, best_alone = (max(some, key=lambda one: one.score) for some in (scored, scored[: len(done.met[0])]))

write(0.15, 0.3, "Two models fill a blank together: Beam-Search Coordinate Descent", 17, weight="bold")
for x, text in ((0.8, BEGINNING), (9.2, ENDING)):
    box(x, 0.75, text, GREY, 1.3)
for x in COLUMNS.values():
    box(x, 0.75, "?", GREY, fc="white", ls="--")
write(0.15, 1.15, "All that the two models know is which words stand side by side in six sentences:")
for number, sentence in enumerate(SENTENCES):
    write(0.3 + 3.2 * (number // 2), 1.39 + 0.2 * (number % 2), sentence, 9.5, color=GREY)
edge((0.15, 1.87, 0, [None]), (0.75, 1.87, 0, [None]), RED)
write(0.85, 1.87, "marks two words that stand side by side in none of them", color=RED)

title(
    2.4,
    "1  Two beam searches, blind to each other",
    "Word by word, a beam search keeps its three best ways to go on, best on top. The forward beams start from the "
    "known beginning, the backward beams from the known end, and nothing that they write fits where they arrive.",
)
beams = {direction: frontier for direction, (frontier, _) in alone.beams.items()}
draw_beams(forward, beams[forward], 3.35, "forward beams →")
draw_beams(backward, beams[backward], 4.7, "← backward beams")

# What one model alone likes best shows what the look-ahead is for.
tempting, fitting = beams[forward][AT + 1, 0], swept[AT + 1, 0]
tempting_word, fitting_word = (WORDS[forward.tree.tokens[node]] for node in (tempting, fitting))
title(
    6.1,
    "2  A left-to-right sweep looks ahead through the backward beams",
    "A word $v$ at place $t$ is worth the log-probability of a beginning $b$ with it, plus the best that an ending "
    f"$b'$ gives it, read backwards; the three best stay. Alone, the forward model prefers “{tempting_word}”, "
    f"which no ending takes; “{fitting_word}” fits on both sides.",
)
top, middle, behind = 7.4, COLUMNS[TEMPLATE.runs[0][0] + AT], beams[backward][: MISSING - AT]
axes.fill_between((middle - 0.8, middle + 0.8), top - 0.5, top + 2.2, fc="#F0F2F4", zorder=0)
write(middle, top - 0.36, "words $v$ at $t$", 11, ha="center", color=BLUE, weight="bold")
boxes = draw_beams(forward, swept[: AT + 1], top, "beginnings $b$\nof this sweep", pitch=0.5)
boxes |= draw_beams(backward, behind, top, "endings $b'$ of the\nbackward beams", pitch=0.5)
for rank, node in enumerate((*swept[AT + 1], tempting)):
    token, log_prob = forward.tree.tokens[node], forward.tree.log_probs[node]
    ahead = {ending: float(look_ahead(backward, np.array([[ending]]))[0][token]) for ending in behind[-1]}
    taken = max(ahead, key=ahead.get)
    sums = f"{nats(log_prob)} {nats(ahead[taken], ' ')} = {nats(log_prob + ahead[taken])}"
    style = {"fc": "white", "ls": "--"} if node == tempting else {"strong": True}
    word = box(middle, top + rank * 0.5, WORDS[token], BLUE, 1.4, below=sums, **style)
    edge(boxes[forward, forward.tree.parents[node]], word, BLUE)
    edge(boxes[backward, taken], word, AMBER)
write(middle - 0.9, top + 1.5, "dropped", color=GREY, ha="right")
formula = {"y": top + 2, "size": 15, "va": "baseline"}
write(middle - 0.15, text=r"$s_b + \log\,p_\rightarrow(v \mid b)$", color=BLUE, ha="right", **formula)
write(middle, text="+", ha="center", **formula)
write(middle + 0.15, text=r"$\max_{b'}\,[\,s'_{b'} + \log\,p_\leftarrow(v \mid b')\,]$", color=AMBER, **formula)
write(9.85, top + 2, "$s$, $s'$: log-probability so far", va="baseline", ha="right", color=GREY)

title(
    10.1,
    "3  Sweeps take turns until nothing changes",
    "A round is one sweep from left to right and one back, each through the newest beams of the other; round "
    f"{done.rounds} changes nothing. Bold: the most probable of all sentences met; the log-probabilities of both "
    f"models sum to {nats(best.score)}; in panel 1, at best to {nats(best_alone.score)}.",
)
draw_beams(forward, done.beams[forward][0], 11.05, "forward sweep →", best=best.tokens)
draw_beams(backward, done.beams[backward][0], 12.4, "← backward sweep", best=best.tokens)

path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/search.png")
path.parent.mkdir(parents=True, exist_ok=True)
unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
figure.savefig(unfinished, format="png", pil_kwargs={"optimize": True})
unfinished.replace(path)
print(f"{path}: {' '.join(WORDS[token] for token in best.tokens)}")
