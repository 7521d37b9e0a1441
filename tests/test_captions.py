"""Vocabularies, blanks, and rendered scenes, whose captions must be true."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birnn_decode.captions import WordVocabulary, make_scene, make_scenes, middle_blank, words_of
from birnn_decode.captions.scenes import AUTHORS, BACKGROUNDS, COLOURS, KINDS
from birnn_decode.template import Template


def test_words_are_cut_as_karpathy_does():
    assert words_of("A man's Hat, 2-tone;  -- (blue)!") == ["a", "mans", "hat", "2tone", "blue"]
    assert words_of("Ein großer Hut.") == ["ein", "großer", "hut"]
    assert words_of("…") == []


def test_a_vocabulary_of_captions():
    words = WordVocabulary.from_captions(["a dog", "A dog runs.", "a cat"], min_count=2)
    assert words.words == ("<pad>", "<start>", "<end>", "<unk>", "a", "dog")
    assert len(words) == 6
    assert words.encode("A dog!") == [4, 5]
    assert words.decode([4, 5]) == "a dog"
    assert words == WordVocabulary(["a", "dog"])
    assert words != WordVocabulary(["dog", "a"])
    assert hash(words) == hash(WordVocabulary(["a", "dog"]))


def test_words_that_a_vocabulary_lacks():
    words = WordVocabulary(["circle", "square", "red"])
    with pytest.raises(ValueError, match="the vocabulary lacks 'sqare'; near it: square"):
        words.encode("red sqare")
    with pytest.raises(ValueError, match=r"the vocabulary lacks 'zzz' \(it has 3 words\)"):
        words.encode("zzz")
    with pytest.raises(ValueError, match="has 'red' twice"):
        WordVocabulary(["red", "blue", "red"])
    for word in ("Red", "two words", "", "<pad>"):
        with pytest.raises(ValueError, match="is not a word: a word consists of lower-case"):
            WordVocabulary([word])


@given(st.lists(st.integers(4, 9), min_size=1, max_size=30), st.floats(0.01, 1))
def test_the_middle_is_taken_out(tokens, fraction):
    (fixed,) = middle_blank(tokens, fraction).fixed()
    ((begin, end),) = fixed.runs
    assert end - begin == max(1, round(fraction * len(tokens)))
    assert len(fixed) == len(tokens)
    assert 0 <= (len(tokens) - end) - begin <= 1
    assert all(known in (token, Template.BLANK) for known, token in zip(fixed.positions, tokens, strict=True))


def test_nothing_to_take_out():
    with pytest.raises(ValueError, match="no words"):
        middle_blank([], 0.5)
    for fraction in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"fraction must be above 0 and at most 1, got {fraction}"):
            middle_blank([4], fraction)


SIZES = {word: size for author in AUTHORS for size, word in author.sizes.items()}
RELATIONS = {words: name for author in AUTHORS for name, words in author.relations.items()}
A = rf"a (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(KINDS)})"
R = f"({'|'.join(RELATIONS)})"
IS = f"(?:{'|'.join(author.verb for author in AUTHORS)})"
# form: the pairs of shapes, numbered as they are mentioned, that its relations are about
FORMS = {
    f"{A} {IS} {R} {A}": [(0, 1)],
    f"there is {A} {R} {A}": [(0, 1)],
    f"{R} {A} there is {A}": [(1, 0)],
    f"{A} {IS} {R} {A} and {R} {A}": [(0, 1), (0, 2)],
    f"{A} {IS} {R} {A} which {IS} {R} {A}": [(0, 1), (1, 2)],
    f"there is {A} {R} {A} which {IS} {R} {A}": [(0, 1), (1, 2)],
    f"{R} {A} and {R} {A} there is {A}": [(2, 0), (2, 1)],
    f"{A} and {A} are both {R} {A}": [(0, 2), (1, 2)],
}


def where(one, two):
    """The relation of one shape to another, from their coordinates."""
    across, down = one.x - two.x, one.y - two.y
    names = ("left", "right") if abs(across) > abs(down) else ("above", "below")
    return names[(across if abs(across) > abs(down) else down) > 0]


def check(caption, scene):
    """Which form a caption has; every claim in it must be true."""
    (form,) = [form for form in FORMS if re.fullmatch(form, caption)]
    mentioned = []
    for size, colour, kind in re.findall(A, caption):
        (shape,) = [shape for shape in scene.shapes if (shape.colour, shape.kind) == (colour, kind)]
        assert size == "" or SIZES[size] == shape.size
        mentioned.append(shape)
    relations = [RELATIONS[words] for words in re.findall(R, caption)]
    claims = FORMS[form]
    relations *= len(claims) if len(relations) == 1 else 1
    for (one, two), relation in zip(claims, relations, strict=True):
        assert where(mentioned[one], mentioned[two]) == relation, caption
    return form


def test_every_caption_is_true_and_every_form_occurs():
    scenes = make_scenes(300, seed=5)
    assert {check(caption, scene) for scene in scenes for caption in scene.captions} == set(FORMS)


def test_scenes_are_clear():
    for scene in make_scenes(200, seed=6, captions=1):
        assert 2 <= len(scene.shapes) <= 3
        assert len({shape.size for shape in scene.shapes}) == 2
        for shape in scene.shapes:
            assert shape.radius < min(shape.x, shape.y, 1 - shape.x, 1 - shape.y)
        for one, two in itertools.combinations(scene.shapes, 2):
            assert one.colour != two.colour
            assert one.kind != two.kind
            across, down = abs(one.x - two.x), abs(one.y - two.y)
            assert across**2 + down**2 > (one.radius + two.radius) ** 2
            assert max(across, down) >= 2 * min(across, down)


def test_scenes_of_a_seed_are_the_same_however_many():
    assert make_scenes(3, seed=1) == make_scenes(5, seed=1)[:3]
    assert make_scene(1, 2) == make_scenes(3, seed=1)[2]
    assert make_scene(1, 2) != make_scene(2, 2)


def test_pictures_show_the_shapes():
    pytest.importorskip("PIL")
    for scene in make_scenes(30, seed=7, captions=1):
        picture = scene.picture(100)
        assert picture.size == (100, 100)
        assert scene.background in BACKGROUNDS
        assert picture.getpixel((0, 0)) == scene.background
        for shape in scene.shapes:
            assert picture.getpixel((int(100 * shape.x), int(100 * shape.y))) == COLOURS[shape.colour]
        coloured = (np.asarray(picture) != scene.background).any(axis=-1).mean()
        assert coloured < sum(3.3 * shape.radius**2 for shape in scene.shapes)
