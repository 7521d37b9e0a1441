"""Rendered scenes: pictures of two or three coloured shapes, and what three people might write about them.

A scene is drawn and described by this module alone, so that a pair of captioners can be trained and shown at work
without downloading anything. Which shapes a caption speaks of, in which order and in which of its author's words, the
picture leaves open; a gap in the middle of a caption is decided by what stands on both sides of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS = {
    "red": (214, 48, 49),
    "blue": (41, 98, 204),
    "green": (46, 157, 80),
    "yellow": (246, 201, 45),
    "purple": (134, 72, 178),
    "black": (45, 45, 50),
}
BACKGROUNDS = ((250, 246, 238), (238, 244, 250), (240, 248, 240), (247, 240, 247))
RADII = {"small": 0.12, "large": 0.2}  # of the picture's width
MARGIN = 0.03
CLEARLY = 2.0  # how many times further along one axis than along the other, for one relation to be the right one
EDGES = {"square": 4, "triangle": 3, "star": 10}
KINDS = ("circle", *EDGES)
SUPERSAMPLING = 4


@dataclass(frozen=True)
class Author:
    """How one person writes.

    Attributes:
        sizes: the words for small and large.
        verb: in "a circle is above a square".
        relations: the words for each relation.
    """

    sizes: dict[str, str]
    verb: str
    relations: dict[str, str]


AUTHORS = (
    Author(
        {"small": "small", "large": "large"},
        "is",
        {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"},
    ),
    Author(
        {"small": "little", "large": "big"},
        "sits",
        {"left": "left of", "right": "right of", "above": "over", "below": "under"},
    ),
    Author(
        {"small": "tiny", "large": "huge"},
        "stands",
        {"left": "on the left side of", "right": "on the right side of", "above": "higher than", "below": "lower than"},
    ),
)
SAYS_SIZE = 0.7  # how often an author mentions a shape's size


@dataclass(frozen=True)
class Shape:
    """One shape; places and radii are fractions of the picture's width, y counts downwards."""

    kind: str
    colour: str
    size: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        """Of the circle that it is drawn in."""
        return RADII[self.size]


@dataclass(frozen=True)
class Scene:
    """Some shapes on a plain background.

    Attributes:
        shapes: no two of one kind, and no two of one colour.
        background: red, green and blue, 0 to 255.
        captions: true sentences about it.
    """

    shapes: tuple[Shape, ...]
    background: tuple[int, int, int]
    captions: tuple[str, ...]

    def picture(self, pixels: int = 256) -> Image:
        """The scene as an RGB picture of ``pixels`` by ``pixels``."""
        from PIL import Image, ImageDraw

        fine = pixels * SUPERSAMPLING
        canvas = Image.new("RGB", (fine, fine), self.background)
        draw = ImageDraw.Draw(canvas)
        for shape in self.shapes:
            x, y, radius = shape.x * fine, shape.y * fine, shape.radius * fine
            if shape.kind == "circle":
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[shape.colour])
            else:
                draw.polygon(_corners(shape.kind, x, y, radius), fill=COLOURS[shape.colour])
        return canvas.resize((pixels, pixels), Image.Resampling.BOX)


def make_scenes(count: int, seed: int, captions: int = 5) -> list[Scene]:
    """Scenes drawn at random; the first scenes of a seed are the same, however many are asked for.

    Args:
        count: how many.
        seed: other seeds give other scenes.
        captions: how many sentences each scene gets; some may be equal.
    """
    return [make_scene(seed, number, captions) for number in range(count)]


def make_scene(seed: int, number: int, captions: int = 5) -> Scene:
    """The scene of the given number among those that `make_scenes` draws from a seed."""
    random = np.random.default_rng([seed, number])
    background = BACKGROUNDS[random.integers(len(BACKGROUNDS))]
    shapes = _place_shapes(random)
    return Scene(shapes, background, tuple(_describe(shapes, random) for _ in range(captions)))


def _place_shapes(random: np.random.Generator) -> tuple[Shape, ...]:
    count = 2 if random.random() < 0.25 else 3
    while True:
        shapes = []
        kinds, colours = random.permutation(KINDS), random.permutation(list(COLOURS))
        for kind, colour in zip(kinds[:count].tolist(), colours[:count].tolist(), strict=True):
            size = ("small", "large")[random.integers(2)]
            low = RADII[size] + MARGIN
            x, y = random.uniform(low, 1 - low, size=2)
            shapes.append(Shape(kind, colour, size, float(x), float(y)))
        sizes_differ = len({shape.size for shape in shapes}) == 2
        if sizes_differ and all(_apart(one, two) for one, two in itertools.combinations(shapes, 2)):
            return tuple(shapes)


def _apart(one: Shape, two: Shape) -> bool:
    """Whether two shapes do not touch, and one is clearly beside or above the other."""
    across, down = abs(one.x - two.x), abs(one.y - two.y)
    distance = math.hypot(across, down)
    return distance > one.radius + two.radius + MARGIN and max(across, down) > CLEARLY * min(across, down)


def relation(one: Shape, two: Shape) -> str:
    """Where the first shape is, seen from the second: left, right, above or below."""
    across, down = one.x - two.x, one.y - two.y
    if abs(across) > abs(down):
        return "left" if across < 0 else "right"
    return "above" if down < 0 else "below"


def _describe(shapes: Sequence[Shape], random: np.random.Generator) -> str:
    """A true sentence about two or three of the shapes."""
    author = AUTHORS[random.integers(len(AUTHORS))]
    is_, words = author.verb, author.relations

    def name(shape: Shape) -> str:
        size = f"{author.sizes[shape.size]} " if random.random() < SAYS_SIZE else ""
        return f"a {size}{shape.colour} {shape.kind}"

    mentioned = [shapes[number] for number in random.permutation(len(shapes))]
    if len(mentioned) == 2 or random.random() < 0.25:
        first, second = mentioned[:2]
        a, b, where = name(first), name(second), words[relation(first, second)]
        forms = [f"{a} {is_} {where} {b}", f"there is {a} {where} {b}", f"{where} {b} there is {a}"]
        return forms[random.integers(len(forms))]
    first, second, third = mentioned
    a, b, c = name(first), name(second), name(third)
    to_second, to_third, onward = relation(first, second), relation(first, third), relation(second, third)
    forms = [
        f"{a} {is_} {words[to_second]} {b} and {words[to_third]} {c}",
        f"{a} {is_} {words[to_second]} {b} which {is_} {words[onward]} {c}",
        f"there is {a} {words[to_second]} {b} which {is_} {words[onward]} {c}",
        f"{words[to_second]} {b} and {words[to_third]} {c} there is {a}",
    ]
    if to_third == onward:
        forms.append(f"{a} and {b} are both {words[onward]} {c}")
    return forms[random.integers(len(forms))]


def _corners(kind: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    edges = EDGES[kind]
    turn = math.pi / 4 if kind == "square" else 0.0
    corners = []
    for corner in range(edges):
        angle = turn + 2 * math.pi * corner / edges - math.pi / 2
        reach = radius * 0.45 if kind == "star" and corner % 2 else radius
        corners.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return corners
