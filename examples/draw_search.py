"""Draw how Beam-Search Coordinate Descent works, with the beams of a real search: draw_search.py [PNG].

The script looks inside the search, so it uses modules that are no part of the public interface.
"""

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

from birnn_decode import Pair, Template, score_sentences
from birnn_decode.request import ask
from birnn_decode.search.bscd import bscd
from birnn_decode.search.sweep import Ahead, look_ahead, sweep

NEIGHBOURS = {pair for sentence in SENTENCES for pair in pairwise(sentence.split())}
BEGINNING, MISSING, ENDING = "a girl and", 4, "a wind board"
BEAM_SIZE = 3
AT = 1  # the missing word of the second panel, counted from 0
BLUE, AMBER, GREY, RED = "#0072B2", "#946200", "#57606A", "#C1003B"
PALE = {BLUE: "#DDECF8", AMBER: "#FBEFD0", GREY: "#E6E9ED"}

figure = Figure(figsize=(10, 13.55), dpi=140)
axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(13.55, 0))  # in inches, y downwards
axes.axis("off")


def model(reverse):
    start, end = (1, 0) if reverse else (0, 1)
    return bigram_scorer([ids(sentence)[:: -1 if reverse else 1] for sentence in SENTENCES], start, end)


def nats(log_prob, space=""):
    return f"−{space}{-log_prob:.1f}"


def write(x, y, text, size=10.5, **style):
    axes.text(x, y, text, **{"fontsize": size, "va": "center", "zorder": 4} | style)


def box(x, y, text, color, width=0.85, strong=False, below="", **style):
    """Draw words and the text below them. Returns the place of the box for ``edge``."""
    height = 0.41 if below else 0.28
    shape = FancyBboxPatch((x - width / 2, y - height / 2), width, height, "round,pad=0,rounding_size=0.06", zorder=3)
    shape.set(**{"fc": color if strong else PALE[color], "ec": color, "lw": 1.2} | style)
    axes.add_patch(shape)
    ink = {"ha": "center", "color": "white" if strong else "black"}
    write(x, y - 0.08 if below else y, text, 11, weight="bold" if strong else "normal", **ink)
    write(x, y + 0.11, below, 9, **ink)
    return x, y, width / 2, text.split()


def edge(one, other, color, strong=False):
    """Join two boxes. If their words are neighbours in no sentence, the line is broken and marked."""
    (x, y, half, words), (x_end, y_end, half_end, words_end) = sorted((one, other))
    x, x_end, middle = x + half, x_end - half_end, (x + half + x_end - half_end) / 2
    curve = Curve([(x, y), (middle, y), (middle, y_end), (x_end, y_end)], [Curve.MOVETO] + 3 * [Curve.CURVE4])
    broken = (words[-1], words_end[0]) not in NEIGHBOURS
    style = {"ec": RED, "ls": (0, (3, 2))} if broken else {"ec": color}
    axes.add_patch(PathPatch(curve, fc="none", lw=4 if strong else 1.4, **style))
    if broken:
        axes.plot(*BezierSegment(curve.vertices)(0.66 if one < other else 0.34), "X", color=RED, ms=10, mec="white")


def draw_beams(direction, frontier, top, label, pitch=0.4, best=()):
    """Draw beams as a tree that starts at the known words of one side and ends at those of the other side."""
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


models = Pair(model(reverse=False), model(reverse=True))
request = ask(models, None, Template.blank(ids(BEGINNING), MISSING, ids(ENDING)), {"beam_size": BEAM_SIZE})
problems = request.problems()
TEMPLATE = problems[0].template
COLUMNS = {TEMPLATE.runs[0][0] + number: 2.45 + 1.7 * number for number in range(MISSING)}  # by position
# One coupling has one tree of prefixes for each direction, so a prefix is the same node in all three searches.
coupling = request.coupling()
forward, backward = coupling.directions
((alone,), _), ((done,), _) = (bscd(coupling, problems, BEAM_SIZE, rounds, splices=False) for rounds in (0, 10))
(swept,) = sweep(forward, problems, BEAM_SIZE, Ahead(backward, [alone.beams[backward][0]]))
met = [words for new in done.met for words in new]
scored = score_sentences(models, None, met)
best, best_alone = (max(some, key=lambda one: one.score) for some in (scored, scored[: len(done.met[0])]))

write(0.15, 0.3, "Two models fill a blank together: Beam-Search Coordinate Descent", 17, weight="bold")
for x, text in ((0.8, BEGINNING), (9.2, ENDING)):
    box(x, 0.75, text, GREY, 1.3)
for x in COLUMNS.values():
    box(x, 0.75, "?", GREY, fc="white", ls="--")
write(0.15, 1.15, "The two models only know which words are neighbours in these six sentences:")
for number, sentence in enumerate(SENTENCES):
    write(0.3 + 3.2 * (number // 2), 1.39 + 0.2 * (number % 2), sentence, 9.5, color=GREY)
edge((0.15, 1.87, 0, [None]), (0.75, 1.87, 0, [None]), RED)
write(0.85, 1.87, "marks two words that are neighbours in none of them", color=RED)

title(
    2.4,
    "1  Two beam searches that do not see each other",
    "A beam search goes word by word and keeps the three best prefixes, the best one on top. The forward beams start "
    "at the known beginning, the backward beams at the known end. Where they arrive, their words do not fit.",
)
beams = {direction: frontier for direction, (frontier, _) in alone.beams.items()}
draw_beams(forward, beams[forward], 3.35, "forward beams →")
draw_beams(backward, beams[backward], 4.7, "← backward beams")

# The first choice of one model alone shows why the look-ahead helps.
tempting, fitting = beams[forward][AT + 1, 0], swept[AT + 1, 0]
tempting_word, fitting_word = (WORDS[forward.tree.tokens[node]] for node in (tempting, fitting))
title(
    6.1,
    "2  A left-to-right sweep looks ahead through the backward beams",
    "The score of a word $v$ at $t$: the log-probability of a beginning $b$ followed by $v$, plus the best "
    f"of $v$ followed by an ending $b'$. The forward model alone prefers “{tempting_word}”, which fits no ending. "
    f"“{fitting_word}” fits both sides.",
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
    "3  Sweeps alternate until nothing changes",
    "A round is one sweep from left to right and one back. Each looks ahead through the newest beams of the other "
    f"direction. Round {done.rounds} changes nothing. Bold: the best sentence, with a total log-probability of "
    f"{nats(best.score)}. The best sentence of panel 1 has {nats(best_alone.score)}.",
)
draw_beams(forward, done.beams[forward][0], 11.05, "forward sweep →", best=best.tokens)
draw_beams(backward, done.beams[backward][0], 12.4, "← backward sweep", best=best.tokens)

path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/search.png")
path.parent.mkdir(parents=True, exist_ok=True)
unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
figure.savefig(unfinished, format="png", pil_kwargs={"optimize": True})
unfinished.replace(path)
print(f"{path}: {' '.join(WORDS[token] for token in best.tokens)}")
