"""Write small files of lines to practise with: random expressions of Python, and German sentences with translations."""

import ast
import random
from pathlib import Path

import click

NOUNS = {"Hund": "dog", "Mann": "man", "Junge": "boy", "Vogel": "bird", "Affe": "monkey", "Koch": "cook"}
ADJECTIVES = {"kleiner": "small", "großer": "big", "alter": "old", "junger": "young", "müder": "tired"}
VERBS = {"läuft": "runs", "schläft": "sleeps", "sitzt": "sits", "spielt": "plays", "wartet": "waits"}
PLACES = {"im Park": "in the park", "am Strand": "on the beach", "vor dem Haus": "in front of the house"}
PLACES |= {"auf der Straße": "on the street", "unter einem Baum": "under a tree", "am Fenster": "at the window"}


def parses(text):
    """Return whether Python can read a text as an expression."""
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


def expression(draw, depth=3):
    """Draw an expression with at most ``depth`` brackets inside each other."""
    kind = draw.choice(["name", "number", "sum", "call", "index"] if depth else ["name", "number"])
    if kind == "name":
        return draw.choice("xyz")
    if kind == "number":
        return draw.choice("123456789")
    if kind == "index":
        return f"{draw.choice('xyz')}[{expression(draw, depth - 1)}]"
    first, second = expression(draw, depth - 1), expression(draw, depth - 1)
    if kind == "sum":
        return f"({first}{draw.choice('+-*/')}{second})"
    return f"{draw.choice('fgh')}({first},{second})"


def sentence(draw):
    """Draw a German sentence and its translation."""
    words = [draw.choice(list(kind.items())) for kind in (ADJECTIVES, NOUNS, VERBS, PLACES)]
    (old, noun, verb, place), (adjective, *english) = zip(*words, strict=True)
    article = "an" if adjective == "old" else "a"
    return f"Ein {old} {noun} {verb} {place} .", f"{article} {adjective} {' '.join(english)} ."


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=4000, show_default=True, help="Number of expressions.")
def main(count):
    """Write expressions.txt, and sentences.de with sentences.en."""
    draw, expressions = random.Random(0), []
    while len(expressions) < count:
        drawn = expression(draw)
        if 12 <= len(drawn) <= 30:
            expressions.append(drawn)
    german, english = zip(*(sentence(draw) for _ in range(count // 2)), strict=True)
    for name, lines in (("expressions.txt", expressions), ("sentences.de", german), ("sentences.en", english)):
        Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        click.echo(f"{name}: {len(lines)} lines, for example {lines[0]}")


if __name__ == "__main__":
    main()
