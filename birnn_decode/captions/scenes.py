"""Draw scenes: pictures of two or three coloured shapes, with captions as three authors would write them.

This module draws and describes the scenes itself, so that a pair of captioners can be trained without downloading
anything. The picture does not determine which shapes a caption mentions, in which order and in which author's words.
The words on both sides of a blank do, so a blank in the middle of a caption needs both directions.
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
CLEARLY = 2.0  # one shape is "left of" another if it is at least this many times further left than up or down
EDGES = {"square": 4, "triangle": 3, "star": 10}
KINDS = ("circle", *EDGES)
SUPERSAMPLING = 4


@dataclass(frozen=True)
class Author:
    """The words that one author uses.

    Attributes:
        sizes: the words for small and large.
        verb: the verb of "a circle is above a square".
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
SAYS_SIZE = 0.7  # probability that an author mentions the size of a shape


@dataclass(frozen=True)
class Shape:
    """One shape of a scene.

    Attributes:
        kind: "circle", "square", "triangle" or "star".
        colour: name of its colour.
        size: "small" or "large".
        x: place of its middle from the left, as a fraction of the picture's width.
        y: place of its middle from the top, as a fraction of the picture's width.
    """

    kind: str
    colour: str
    size: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        """Radius of the circle around the shape, as a fraction of the picture's width."""
        return RADII[self.size]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the circle around the shape, as fractions of the picture's width."""
        return self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius


@dataclass(frozen=True)
class Scene:
    """Two or three shapes on a plain background, with captions.

    Attributes:
        shapes: the shapes; no two have the same kind, and no two have the same colour.
        background: red, green and blue, each from 0 to 255.
        captions: true sentences about the scene.

    Example:
        >>> from birnn_decode.captions import make_scene
        >>> scene = make_scene(seed=0, number=0, captions=1)
        >>> scene.captions
        ('there is a small blue triangle to the right of a red square which is below a large yellow circle',)
        >>> scene.picture(32).size
        (32, 32)
    """

    shapes: tuple[Shape, ...]
    background: tuple[int, int, int]
    captions: tuple[str, ...]

    def picture(self, pixels: int = 256) -> Image:
        """Draw the scene.

        Args:
            pixels: width and height of the picture (default: 256).

        Returns:
            An RGB picture of Pillow.
        """
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
    """Make random scenes.

    The same seed always gives the same scenes: a larger ``count`` only adds scenes at the end.

    Args:
        count: number of scenes.
        seed: seed of the random numbers; another seed gives other scenes.
        captions: number of captions of each scene; some may be equal (default: 5).

    Returns:
        The scenes.

    Example:
        >>> from birnn_decode.captions import make_scenes
        >>> make_scenes(3, seed=1)[:2] == make_scenes(2, seed=1)
        True
    """
    return [make_scene(seed, number, captions) for number in range(count)]


def make_scene(seed: int, number: int, captions: int = 5) -> Scene:
    """Make one of the scenes that `make_scenes` makes.

    Args:
        seed: seed of the random numbers.
        number: index of the scene among the scenes of this seed, from 0.
        captions: number of captions; some may be equal (default: 5).

    Returns:
        The scene.

    Example:
        >>> from birnn_decode.captions import make_scene, make_scenes
        >>> make_scene(seed=1, number=2) == make_scenes(3, seed=1)[2]
        True
    """
    random = np.random.default_rng([seed, number])
    background = BACKGROUNDS[random.integers(len(BACKGROUNDS))]
    shapes = _place_shapes(random)
    return Scene(shapes, background, tuple(_describe(shapes, random) for _ in range(captions)))


def _place_shapes(random: np.random.Generator) -> tuple[Shape, ...]:
    """Draw shapes until they are clearly apart and both sizes occur."""
    count = 2 if random.random() < 0.25 else 3
    while True:
        shapes = []
        kinds, colours = random.permutation(KINDS), random.permutation(list(COLOURS))
        for kind, colour in zip(kinds[:count].tolist(), colours[:count].tolist(), strict=True):
            size = ("small", "large")[random.integers(2)]
            low = RADII[size] + MARGIN
            x, y = random.uniform(low, 1 - low, size=2)
            shapes.append(Shape(kind, colour, size, float(x), float(y)))
        apart = itertools.starmap(_apart, itertools.combinations(shapes, 2))
        if {shape.size for shape in shapes} == {*RADII} and all(apart):
            return tuple(shapes)


def _apart(one: Shape, two: Shape) -> bool:
    """Whether two shapes do not touch and one is clearly beside or above the other."""
    across, down = abs(one.x - two.x), abs(one.y - two.y)
    beside = max(across, down) > CLEARLY * min(across, down)
    return beside and math.hypot(across, down) > one.radius + two.radius + MARGIN


def relation(one: Shape, two: Shape) -> str:
    """Where the first shape is, relative to the second: left, right, above or below."""
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
    else:
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
    """The corners of a square, triangle or star."""
    edges = EDGES[kind]
    turn = math.pi / 4 if kind == "square" else 0.0
    angles = [turn + 2 * math.pi * corner / edges - math.pi / 2 for corner in range(edges)]
    reaches = [radius * 0.45 if kind == "star" and corner % 2 else radius for corner in range(edges)]
    return [
        (x + reach * math.cos(angle), y + reach * math.sin(angle)) for angle, reach in zip(angles, reaches, strict=True)
    ]
