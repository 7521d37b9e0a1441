"""Vocabularies of words, characters, bytes and subwords: round trips, what they lack, files, and templates in them."""

import functools
import importlib.util
import json
import sys

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from birnn_decode import Pair, StepScorer, Template, decode
from birnn_decode.spelling import spell
from birnn_decode.template import Gap
from birnn_decode.vocabularies import (
    FORMS,
    KINDS,
    SPECIAL,
    UNK,
    ByteVocabulary,
    CharacterVocabulary,
    Normalisation,
    SpacedVocabulary,
    SubwordVocabulary,
    WordVocabulary,
    vocabulary_of,
)

if importlib.util.find_spec("tokenizers") is not None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

needs_tokenizers = pytest.mark.skipif("tokenizers" not in sys.modules, reason="the package tokenizers is not installed")

SENTENCES = [
    "A girl and a boy are holding a wind board.",
    "unable to undo it, she is winding and unwinding the wind",
    "they get it, she gets it, the gadget is a widget",
    "two surfers are surfing and boarding on 12 boards",
    "a boat, a boating boy and the boldest surfer",
]
MARKS = ["[PAD]", "[CLS]", "[SEP]"]


def byte_level():
    """As GPT-2: no token for unknown text, because there is none."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return made, trainers.BpeTrainer(
        vocab_size=350, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False
    )


def metaspace():
    """As sentencepiece."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    return made, trainers.BpeTrainer(vocab_size=120, special_tokens=[*MARKS, "<unk>"], show_progress=False)


def word_piece():
    """As BERT, lower-casing, with a post-processor."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(cleanup=False)
    return made, trainers.WordPieceTrainer(vocab_size=120, special_tokens=[*MARKS, "[UNK]"], show_progress=False)


def unigram():
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    return made, trainers.UnigramTrainer(
        vocab_size=90, special_tokens=[*MARKS, "<unk>"], unk_token="<unk>", show_progress=False
    )


@functools.cache
def trained(make):
    made, trainer = make()
    made.train_from_iterator(SENTENCES * 3, trainer)
    ends = [(mark, made.token_to_id(mark)) for mark in MARKS[1:]]
    if make is not byte_level:
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return SubwordVocabulary(made.to_str())


every = pytest.mark.parametrize("make", [byte_level, metaspace, word_piece, unigram])
LISTS = [
    WordVocabulary(["a", "cat", "sleeps"]),
    SpacedVocabulary(["Ein", "Hund", "schläft", "."]),
    CharacterVocabulary("CO=()\\ "),
]
lists = pytest.mark.parametrize("vocabulary", LISTS, ids=lambda one: one.kind)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
normalisations = st.builds(Normalisation, st.booleans(), st.sampled_from([None, *FORMS]))


def same(one, other):
    return one == other and hash(one) == hash(other) and one.words == other.words


@given(any_text, normalisations)
def test_characters_and_bytes_give_back_what_was_encoded(text, normalisation):
    normal = normalisation(text)
    for vocabulary in (CharacterVocabulary(sorted({*normal}), normalisation), ByteVocabulary(normalisation)):
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == normal
        assert vocabulary.join(vocabulary.split(text)) == normal
        assert [vocabulary.words[token] for token in ids] == vocabulary.split(text)
        assert not vocabulary.lacking(text)
        assert not {*range(len(SPECIAL))} & {*ids}
        assert same(vocabulary_of(json.loads(json.dumps(vocabulary.config))), vocabulary)
    assert [token - len(SPECIAL) for token in ByteVocabulary().encode(text)] == list(text.encode())


@lists
@given(st.data())
def test_lists_of_tokens(vocabulary, data):
    tokens = data.draw(st.lists(st.sampled_from(vocabulary.words[len(SPECIAL) :]), max_size=6))
    text = vocabulary.join(tokens)
    ids = vocabulary.encode(text)
    assert vocabulary.split(text) == tokens == [vocabulary.words[token] for token in ids]
    assert vocabulary.decode(ids) == text
    assert same(vocabulary_of(json.loads(json.dumps(vocabulary.config))), vocabulary)
    counts = {token: number for number, token in enumerate(vocabulary.words[len(SPECIAL) :])}
    assert type(vocabulary).from_counts(counts, 1).words[len(SPECIAL) :] == tuple(
        sorted(token for token in counts if counts[token])
    )


@lists
@given(any_text)
def test_what_a_list_lacks(vocabulary, text):
    lacking = vocabulary.lacking(text)
    tokens = vocabulary.split(text)
    assert lacking == [token for token in tokens if token not in vocabulary.words]
    ids = vocabulary.encode(text, unknown=UNK)
    assert len(ids) == len(tokens)
    assert [token for token, one in zip(tokens, ids, strict=True) if one == UNK] == lacking
    if lacking:
        with pytest.raises(ValueError, match="the vocabulary lacks") as error:
            vocabulary.encode(text)
        assert repr(lacking[0]) in str(error.value)
        assert "\n" not in str(error.value)
    else:
        assert vocabulary.encode(text) == ids


def test_messages_name_what_is_lacking():
    with pytest.raises(ValueError, match=r"lacks the character 'é' \(U\+00E9; it has 7 characters\)"):
        LISTS[2].encode("Cé")
    with pytest.raises(ValueError, match="lacks 'Hand'; near it: Hund"):
        LISTS[1].encode("Ein Hand .")


def test_names_of_special_tokens_in_a_text_are_no_special_tokens():
    vocabulary = SpacedVocabulary.from_counts({"a": 5, "<unk>": 4, "<end>": 1})
    assert vocabulary.words == (*SPECIAL, "a")
    assert vocabulary.lacking("a <end> <unk>") == ["<end>", "<unk>"]
    assert vocabulary.encode("a <end> <pad>", unknown=UNK) == [4, UNK, UNK]
    with pytest.raises(ValueError, match="'<end>' is the name of a special token"):
        SpacedVocabulary(["a", "<end>"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CharacterVocabulary(["ab"]), "'ab' is not a single character"),
        (lambda: CharacterVocabulary(""), None),
        (lambda: CharacterVocabulary("aba"), "the vocabulary has 'a' twice"),
        (lambda: SpacedVocabulary(["a b"]), "'a b' is not a word"),
        (lambda: SpacedVocabulary([""]), "'' is not a word"),
        (lambda: WordVocabulary(["A"]), "'A' is not a word"),
        (lambda: Normalisation(unicode_form="NFX"), "unicode_form must be 'NFC'"),
    ],
)
def test_what_is_no_token(make, message):
    if message is None:
        assert len(make()) == len(SPECIAL)
        return
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@given(any_text, normalisations)
@example("ℌ\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", Normalisation(True, "NFKC"))
def test_a_normalised_text_stays_as_it_is(text, normalisation):
    normal = normalisation(text)
    assert normalisation(normal) == normal
    if normalisation.lower_case:
        assert normal.lower() == normal
    if normalisation == Normalisation():
        assert normal == text


def test_vocabularies_differ_in_every_setting():
    different = [*LISTS, CharacterVocabulary("CO"), ByteVocabulary(), CharacterVocabulary("CO", Normalisation(True))]
    different += [ByteVocabulary(Normalisation(unicode_form=form)) for form in FORMS]
    assert all((one == other) is (one is other) for one in different for other in different)
    assert LISTS[0] != "a cat"
    assert {*KINDS} == {"captions", "words", "characters", "bytes", "subwords"}
    assert repr(ByteVocabulary()) == "ByteVocabulary of 260 ids"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"kind": "runes"}, LookupError),
        ({"unicode_form": "X"}, ValueError),
        ({"tokens": "aa"}, ValueError),
        ({"colour": 1}, TypeError),
    ],
)
def test_settings_that_are_none(change, error):
    config = {**CharacterVocabulary("CO").config, **change}
    with pytest.raises(error):
        vocabulary_of(config)


@pytest.mark.parametrize("name", ["kind", "tokens", "lower_case", "unicode_form"])
def test_settings_that_are_missing(name):
    config = CharacterVocabulary("CO").config
    assert name in config
    del config[name]
    with pytest.raises((LookupError, TypeError)):
        vocabulary_of(config)


def test_bytes_that_are_no_text():
    vocabulary = ByteVocabulary()
    assert vocabulary.decode([*vocabulary.encode("é")[:1], *vocabulary.encode("a")]) == "\ufffda"
    assert vocabulary.decode([0, 2, *vocabulary.encode("a")]) == "<pad><end>a"


def models_of(vocabulary, seed=0):
    """A pair of random bigram tables over the ids of a vocabulary."""
    random = np.random.default_rng(seed)

    def scorer(start, end):
        table = random.normal(size=(len(vocabulary), len(vocabulary))) * 2
        return StepScorer(
            step=lambda tokens, state: (table[tokens], state),
            start=lambda context: None,
            select=lambda state, rows: None,
            vocab_size=len(vocabulary),
            start_token=start,
            end_token=end,
            never={0, UNK},
            vocabulary=vocabulary,
        )

    return Pair(scorer(1, 2), scorer(2, 1))


@pytest.mark.parametrize("vocabulary", [LISTS[2], ByteVocabulary()], ids=lambda one: one.kind)
def test_answers_in_characters_and_bytes(vocabulary):
    result = decode(models_of(vocabulary), None, r" C\\{1-2}( {0-1} =", beam_size=3)
    assert result.hypotheses
    for one in result.hypotheses:
        assert one.text == vocabulary.decode(one.tokens)
        first, second = map(vocabulary.decode, one.blanks)
        assert one.text == f" C\\{first}( {second} ="


words = st.sampled_from([word for sentence in SENTENCES for word in sentence.replace(",", "").replace(".", "").split()])
texts = st.lists(words, min_size=1, max_size=5).map(" ".join)


def spans(vocabulary, text):
    """Where each token stands in a text, white space in front of it left out."""
    offsets = vocabulary.tokenizer.tokenizer.encode(text, add_special_tokens=False).offsets
    return [(end - len(text[begin:end].lstrip()), end) for begin, end in offsets]


@needs_tokenizers
@every
@given(st.data())
def test_a_sentence_cut_between_two_tokens_is_accepted(make, data):
    vocabulary = trained(make)
    text = data.draw(texts)
    ids, at = vocabulary.encode(text), spans(vocabulary, text)
    begin = data.draw(st.integers(0, len(ids) - 1))
    end = data.draw(st.integers(begin + 1, len(ids)))
    first, last = at[begin][0], at[end - 1][1]
    assume(first < at[begin][1])  # white space alone goes with the blank, or with what is known
    assume(all(stop <= first for _, stop in at[:begin]) and all(start >= last for start, _ in at[end:]))
    # As long as the next token is unknown, the space in front of it is taken for a part of it.
    assume(not begin or vocabulary.words[ids[begin - 1]] not in ("▁", "Ġ"))
    template = Template.from_text(f"{text[:first]}{{{end - begin}}}{text[last:]}", vocabulary)
    assert template == Template((*ids[:begin], Gap(end - begin, end - begin), *ids[end:]))
    assert spell(template, ids, template.fixed()[0].runs, vocabulary).lower() == text.lower()
    assert Template.from_text(template.to_text(vocabulary), vocabulary) == template


PROTEINS = ["MKVLAAGIVGLLLAGCSS", "MSTNPKPQRKTKRNTNRRPQDVKF", "AAGIVMKVLNPKPQRLLAG", "GGDVKFPGGGQIVGGVYLLPRR"]


@functools.cache
def of_proteins(make):
    made, trainer = make()
    made.normalizer = None
    made.train_from_iterator(PROTEINS * 3, trainer)
    return SubwordVocabulary(made.to_str())


@needs_tokenizers
@every
@given(st.data())
def test_a_cut_word_is_not_taken_for_two_words(make, data):
    """None of the usual texts beside a piece has tokens here: letters of the tokenizer's own are used."""
    vocabulary = of_proteins(make)
    text = data.draw(st.text("MKVLAGSTNPQRDFIYC", min_size=2, max_size=12))
    assume(not vocabulary.lacking(text))
    ids, at = vocabulary.encode(text), spans(vocabulary, text)
    begin = data.draw(st.integers(0, len(ids) - 1))
    first, last = at[begin]
    assume(all(stop <= first for _, stop in at[:begin]) and all(start >= last for start, _ in at[begin + 1 :]))
    assume(first < last)
    template = Template.from_text(f"{text[:first]}_{text[last:]}", vocabulary)
    assert template == Template((*ids[:begin], Gap(1, 1), *ids[begin + 1 :]))


@needs_tokenizers
@every
@given(texts)
def test_subwords_of_a_text(make, text):
    vocabulary = trained(make)
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids).lower() == text.lower()
    assert vocabulary.join(vocabulary.split(text)) == vocabulary.decode(ids)
    assert not vocabulary.lacking(text)
    assert not vocabulary.special_ids & {*ids}
    assert ids == vocabulary.encode(text, unknown=UNK)
    assert [vocabulary.words[token] for token in ids] == vocabulary.tokenizer.tokenizer.encode(
        text, add_special_tokens=False
    ).tokens
    assert ids == [
        token + len(SPECIAL) for token in vocabulary.tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    ]


@needs_tokenizers
@every
def test_subwords_are_saved(make):
    vocabulary = trained(make)
    config = json.loads(json.dumps(vocabulary.config))
    assert same(vocabulary_of(config), vocabulary)
    other = vocabulary_of({**config, "lower_case": True})
    assert other != vocabulary
    assert other.encode("A BOY") == other.encode("a boy") == vocabulary.encode("a boy")
    assert repr(vocabulary) == f"SubwordVocabulary of {len(vocabulary)} ids"


@needs_tokenizers
@every
def test_no_special_token_fills_a_blank(make):
    vocabulary = trained(make)
    special = [token for token, word in enumerate(vocabulary.words) if word[:1] + word[-1:] in ("[]", "<>")]
    assert {*SPECIAL, *MARKS} <= {vocabulary.words[token] for token in special}
    assert vocabulary.special_ids == {*special}
    for template in ("a {1-2} boy", "{2}", None):
        result = decode(models_of(vocabulary), None, template, beam_size=20, max_length=3 if template is None else None)
        assert result.hypotheses
        assert not any(vocabulary.special_ids & {*one.tokens} for one in result.hypotheses)


def drops():
    """A BPE model without a token for unknown text drops such text."""
    made = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def fails():
    """The token for unknown text is not in the list: the model fails."""
    return Tokenizer(models.WordPiece({"ab": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))


def fails_too():
    return Tokenizer(models.Unigram([("a", -1.0), ("b", -1.0), ("ab", -1.5)]))


def by_number():
    """The token for unknown text is given by its number."""
    return Tokenizer(models.Unigram([("a", -1.0), ("?", 0.0), ("b", -1.0), ("ab", -1.5)], 1))


@needs_tokenizers
@pytest.mark.parametrize("make", [drops, fails, fails_too, by_number])
@pytest.mark.parametrize("added", [False, True])
def test_unknown_text_is_never_dropped(make, added):
    made = make()
    if added:
        made.add_tokens(["zz"])
    vocabulary = SubwordVocabulary(made.to_str())
    own = made.get_vocab()
    assert {text: token - len(SPECIAL) for token, text in enumerate(vocabulary.words) if text and token > UNK} == own
    assert [vocabulary.words[token] for token in vocabulary.encode("ab")] == ["ab"]
    assert not vocabulary.lacking("ab")
    assert vocabulary.lacking("aqb") == ["aqb"]
    assert UNK in vocabulary.encode("aqb", unknown=UNK)
    assert 99 in vocabulary.encode("q", unknown=99)
    with pytest.raises(ValueError, match=r"^the tokenizer has no token for 'aqb', in 'aqb'[^\n]*$"):
        vocabulary.encode("aqb")
    if added:
        assert vocabulary.encode("zz") == [len(SPECIAL) + own["zz"]]
        assert vocabulary.encode("zz")[0] not in vocabulary.special_ids
    assert ("?" in own) == ({*range(len(SPECIAL))} != vocabulary.special_ids)


@needs_tokenizers
def test_ids_without_a_token_fill_no_blank():
    made = Tokenizer(models.WordLevel({"a": 0, "b": 3, "<unk>": 5}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = SubwordVocabulary(made.to_str())
    assert vocabulary.words == (*SPECIAL, "a", "", "", "b", "", "<unk>")
    assert vocabulary.special_ids == {*range(10)} - {4, 7}
    assert vocabulary.encode("b a") == [7, 4]
    assert vocabulary.decode([7, 5, 4]).split() == ["b", "a"]
    assert vocabulary.encode("c", unknown=UNK) == [UNK]
    result = decode(models_of(vocabulary), None, "a {2} b", beam_size=9)
    assert {token for one in result.hypotheses for token in one.tokens} == {4, 7}


@needs_tokenizers
def test_a_tokenizer_that_cuts_and_pads_does_neither_here():
    made = Tokenizer.from_str(trained(word_piece).tokenizer.tokenizer.to_str())
    made.enable_truncation(2)
    made.enable_padding(length=8)
    vocabulary = SubwordVocabulary(made.to_str())
    assert vocabulary.encode("a boy and a girl") == trained(word_piece).encode("a boy and a girl")
    assert vocabulary == trained(word_piece)


@needs_tokenizers
def test_marks_around_a_text_are_special_even_if_the_tokenizer_does_not_say_so():
    made = Tokenizer(models.WordLevel({"a": 0, "(": 1, ")": 2, "?": 3}, unk_token="?"))
    made.post_processor = processors.TemplateProcessing(single="( $A )", special_tokens=[("(", 1), (")", 2)])
    vocabulary = SubwordVocabulary(made.to_str())
    assert vocabulary.encode("a") == [4]
    assert vocabulary.special_ids == {0, 1, 2, 3, 5, 6, 7}


@needs_tokenizers
def test_files_that_are_no_tokenizers(tmp_path):
    good = tmp_path / "tokenizer.json"
    good.write_text(trained(word_piece).tokenizer.tokenizer.to_str(), encoding="utf-8")
    assert SubwordVocabulary.read(good) == trained(word_piece)
    assert SubwordVocabulary.read(str(good), Normalisation(True)).normalisation == Normalisation(True)
    bad = tmp_path / "bad.json"
    for data in (b"", b"{}", b"a b\n", b"[1]", good.read_bytes()[:-20], good.read_text("utf-8").encode("utf-16")):
        bad.write_bytes(data)
        with pytest.raises(
            ValueError, match=r"^[^\n]*bad\.json is not a tokenizer file: give a tokenizer\.json[^\n]*$"
        ):
            SubwordVocabulary.read(bad)
    with pytest.raises(FileNotFoundError, match=r"^there is no tokenizer file .*none\.json$"):
        SubwordVocabulary.read(tmp_path / "none.json")
    with pytest.raises(IsADirectoryError, match="is a folder, not a tokenizer file"):
        SubwordVocabulary.read(tmp_path)
    with pytest.raises(ValueError, match=r"^this is not a tokenizer of the package tokenizers: [^\n]*$"):
        SubwordVocabulary("{}")


@needs_tokenizers
@pytest.mark.parametrize(
    ("make", "text", "tokens"),
    [
        (word_piece, "un{2}ab it", ["un", 2, "##ab", "it"]),
        (word_piece, "ge{1-3}t", ["g", "##e", 3, "##t"]),
        (byte_level, "a wind_ surf", ["a", "Ġwind", 1, "Ġsurf"]),
        (byte_level, "a wind _ surf", ["a", "Ġwind", 1, "Ġsurf"]),
        (metaspace, "a wind_ surf", ["▁a", "▁wind", 1, "▁surf"]),
        (metaspace, "_ing a", [1, "ing", "▁a"]),
        (unigram, "_ing a", [1, "in", "g", "▁a"]),
    ],
)
def test_what_stands_beside_a_blank(make, text, tokens):
    vocabulary = trained(make)
    parts = Template.from_text(text, vocabulary).parts
    assert [part.high if isinstance(part, Gap) else vocabulary.words[part] for part in parts] == tokens
