"""Hugging Face tokenizers as vocabularies: real ones of every common kind, trained here on a few sentences."""

import gc
import re
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from birnn_decode import (
    BSCD,
    AllowAt,
    BanWords,
    Gibbs,
    MustAppear,
    Pair,
    StepScorer,
    Template,
    bscd_decode,
    compare,
    decode,
    score_sentences,
)
from birnn_decode.captions import WordVocabulary
from birnn_decode.spelling import spell
from birnn_decode.template import BLANK, Gap
from birnn_decode.tokenizers import TokenizerVocabulary, as_vocabulary

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

SENTENCES = [
    "A girl and a boy are holding a wind board.",
    "a big dog, and a small red cat!",
    "The man's hat isn't red; it is (mostly) blue - and old",
    "two surfers are surfing at 10 o'clock, with 12 boards",
    "a boat, a boating boy and the boldest surfer",
    "Don't hold the wind-board: rewinding, reholding and boarding",
]
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def _wrapped(tokenizer, trainer, **special):
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(special or SPECIAL))


def byte_level():
    """As GPT-2."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=380,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    end = "<|endoftext|>"
    return _wrapped(made, trainer, unk_token=end, bos_token=end, eos_token=end)


def word_piece():
    """As BERT, lower-casing."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=130, special_tokens=marks, show_progress=False)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = _wrapped(made, trainer, **special)
    tokens = [(mark, made.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=tokens
    )
    return tokenizer


def metaspace_bpe():
    """As Llama, with bytes for what it does not know."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    marks = [*SPECIAL.values()]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=190,
        special_tokens=marks,
        initial_alphabet=[f"{chr(one)}" for one in range(33, 127)],
        show_progress=False,
    )
    return _wrapped(made, trainer)


def unigram():
    """As T5."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    )
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=120, special_tokens=[*SPECIAL.values()], unk_token="<unk>", show_progress=False
    )
    return _wrapped(made, trainer)


MADE = {make.__name__: make() for make in (byte_level, word_piece, metaspace_bpe, unigram)}
MADE["byt5"] = transformers.ByT5Tokenizer()
every = pytest.mark.parametrize("name", MADE)
subword = pytest.mark.parametrize("name", [name for name in MADE if name != "byt5"])


def bigram_pair(tokenizer, seed=0, **members):
    """A forward and a backward scorer of random bigram tables over a tokenizer's ids, START and END added to them."""
    size = len(TokenizerVocabulary(tokenizer))
    random = np.random.default_rng(seed)
    special = tokenizer.all_special_ids

    def scorer(start, end):
        table = random.normal(size=(size + 2, size + 2)) * 2
        return StepScorer(
            step=lambda tokens, state: (table[tokens], state),
            start=lambda context: None,
            select=lambda state, rows: None,
            vocab_size=size + 2,
            start_token=start,
            end_token=end,
            never=special,
            **members,
        )

    return scorer(size, size + 1), scorer(size + 1, size)


def spans(tokenizer, text):
    """Where each token stands in a text, white space in front of it left out: (begin, end)."""
    if isinstance(tokenizer, transformers.ByT5Tokenizer):
        return [(at, at + 1) for at in range(len(text))]
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    trimmed = []
    for begin, end in encoding.offsets:
        token = text[begin:end]
        trimmed.append((end - len(token.lstrip()), end))
    return trimmed


WORDS = ["a", "A", "girl", "boy", "dog", "surfing", "boldest", "10", "man's", "isn't", "re-winding", "cat!", "(blue)"]
words = st.sampled_from(WORDS)
texts = st.lists(st.tuples(words, st.sampled_from([" ", " ", " ", ", ", "  ", ". "])), min_size=2, max_size=6).map(
    lambda pairs: "".join(word + mark for word, mark in pairs).rstrip()
)


@every
@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(st.data())
def test_known_ids_are_those_of_the_whole_sentence(name, data):
    """A span of a sentence's own tokens is taken out: what is left keeps its ids."""
    tokenizer = MADE[name]
    text = data.draw(st.one_of(texts, st.sampled_from(SENTENCES)))
    ids = tokenizer.encode(text, add_special_tokens=False)
    at = spans(tokenizer, text)
    assert len(at) == len(ids)
    begin = data.draw(st.integers(0, len(ids) - 1))
    end = data.draw(st.integers(begin + 1, len(ids)))
    (first, _), (_, last) = at[begin], at[end - 1]
    if name != "byt5":
        assume(first < at[begin][1])  # white space alone goes with the blank, or with what is known
        # As long as the next token is unknown, the space in front of it is taken for a part of it.
        marked = [token[:1] in "Ġ▁" for token in tokenizer.convert_ids_to_tokens(ids)]
        alone = [token in ("Ġ", "▁") for token in tokenizer.convert_ids_to_tokens(ids)]
        assume(not begin or not alone[begin - 1] or marked[begin])
    assume(all(stop <= first for _, stop in at[:begin]) and all(start >= last for start, _ in at[end:]))
    # What is left of a word may be made of other tokens, unless a token is the same wherever it stands.
    whole = first == 0 or not (text[first - 1].isalnum() and text[first].isalnum())
    whole &= last == len(text) or not text[last].isalnum()
    assume(whole or name in ("byte_level", "byt5"))
    template = Template.from_text(f"{text[:first]}{{{end - begin}}}{text[last:]}", tokenizer)
    assert template == Template((*ids[:begin], Gap(end - begin, end - begin), *ids[end:]))
    (fixed,) = template.fixed()
    shown = spell(template, ids, fixed.runs, tokenizer)
    assert shown.startswith(text[:first])
    assert shown.endswith(text[last:])
    if name == "byt5" or text[first:last].isalnum():
        assert shown.lower() == text.lower()


blanks = st.sampled_from(["_", "{2}", "{0-2}", "{0}", "_ _", "{1-2}"])
pieces = st.lists(st.one_of(words, st.sampled_from(["a  red", ", and", "don't  hold"])), min_size=1, max_size=2).map(
    " ".join
)


@every
@given(st.data())
def test_what_was_known_stands_in_the_text_as_it_was_written(name, data):
    tokenizer = MADE[name]
    known = data.draw(st.lists(pieces, min_size=2, max_size=3))
    joints = [data.draw(st.tuples(st.sampled_from([" ", ""]), blanks, st.sampled_from([" ", ""]))) for _ in known[1:]]
    text = known[0] + "".join("".join(joint) + piece for joint, piece in zip(joints, known[1:], strict=True))
    template = Template.from_text(text, tokenizer)
    size = len(TokenizerVocabulary(tokenizer))
    free = sorted({*range(size)} - {*tokenizer.all_special_ids})
    for fixed in template.fixed():
        sentence = [
            data.draw(st.sampled_from(free)) if fixed.undecided(at) else fixed.positions[at] for at in range(len(fixed))
        ]
        shown = spell(template, sentence, fixed.runs, tokenizer)
        at = 0
        for piece in known:
            assert piece in shown[at:], (text, shown)
            at = shown.index(piece, at) + len(piece)
        assert shown.startswith(known[0])
        assert shown.endswith(known[-1])
        for (begin, end), (before, _, behind), left, right in zip(
            fixed.runs, joints, known[:-1], known[1:], strict=True
        ):
            if begin == end and before and behind:
                assert f"{left} {right}" in shown


@pytest.mark.parametrize(
    ("name", "text", "fill", "shown"),
    [
        ("byte_level", "a girl and _ a wind board", " red", "a girl and red a wind board"),
        ("byte_level", "A  girl, and {0-9}a wind", " red", "A  girl, and reda wind"),
        ("byte_level", "a {1-9}, and", " big dog", "a big dog, and"),
        ("byte_level", "a {1-9}s", " board", "a boards"),
        ("byte_level", "a ({1-9}) dog", "red", "a (red) dog"),
        ("byte_level", "a ({1-9}) dog", " red", "a ( red) dog"),  # the model does not write "(red)"
        ("byte_level", "a wind{1-9} dog", " red", "a wind red dog"),
        ("byte_level", "{1-9} dog", " red", "red dog"),
        ("byte_level", "{0-9} dog", "", "dog"),
        ("byte_level", "a {0-9} dog", "", "a dog"),
        ("byte_level", "a {0-9}, and", "", "a, and"),
        ("byte_level", "A dog {0-9}", "", "A dog"),
        ("byte_level", "A dog, {1-9}", " red!", "A dog, red!"),
        ("word_piece", "A GIRL and _ a wind", "red", "A GIRL and red a wind"),
        ("word_piece", "A {1-9}, and", "big dog", "A big dog, and"),
        ("word_piece", "A ({1-9}) dog", "red", "A (red) dog"),
        ("word_piece", "the wind-{1-9} dog", "red", "the wind-red dog"),
        ("word_piece", "Don't {0-9} hold", "", "Don't hold"),
        ("metaspace_bpe", "{1-9} and{0-2} a", "red", "red and a"),
        ("unigram", "a {1-9}, and", "big dog", "a big dog, and"),
        ("byt5", "a {1-9}, and", "big dog", "a big dog, and"),
        ("byt5", "a {1-9} and", " ", "a   and"),  # its spaces are tokens of their own, and so is this one
        ("byt5", "a {0-9} and", "", "a and"),
        ("byt5", "a {0-9}, and", "", "a , and"),
    ],
)
def test_white_space_around_what_fills_a_blank(name, text, fill, shown):
    tokenizer = MADE[name]
    filling = tokenizer.encode(fill, add_special_tokens=False)
    template = Template.from_text(text, tokenizer)
    ids, runs = [], []
    for part in template.parts:
        if isinstance(part, Gap):
            new = filling if part.high == 9 or part.low else []
            runs.append((len(ids), len(ids) + len(new)))
            ids += new
        else:
            ids.append(part)
    assert spell(template, ids, runs, tokenizer) == shown


def test_where_the_space_beside_a_blank_goes():
    def tokens(name):
        template = Template.from_text("a girl _ a boy", MADE[name])
        return [
            MADE[name].convert_ids_to_tokens(part) if isinstance(part, int) else part.high for part in template.parts
        ]

    assert tokens("byte_level")[-4:] != tokens("byte_level")[:4]
    assert "Ġa" in tokens("byte_level")
    assert tokens("byte_level")[0] == "a"
    assert "Ġ" not in tokens("byte_level")
    assert tokens("word_piece")[0] == tokens("word_piece")[tokens("word_piece").index(1) + 1] == "a"
    assert tokens("metaspace_bpe")[0] == tokens("metaspace_bpe")[tokens("metaspace_bpe").index(1) + 1] == "▁a"
    assert tokens("byt5") == [*"a girl ", 1, *" a boy"]


@subword
@pytest.mark.parametrize("text", ["a girl and {2 words} a boy", "{1 word} dog", "a {3 words}", "the { 1 words }, old"])
def test_a_blank_of_words_holds_so_many_words(name, text):
    tokenizer = MADE[name]
    vocabulary = TokenizerVocabulary(tokenizer)
    wanted = int(re.search(r"\{\s*(\d)", text)[1])
    before, behind = re.split(r"\{.*\}", text)
    template = Template.from_text(text, tokenizer)
    assert not template.width_known
    assert len(template.fixed()) == 4**wanted
    widths = set()
    for seed in range(2):
        models = Pair(*bigram_pair(tokenizer, seed))
        methods = ["urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", BSCD(max_rounds=3)]
        results = compare(models, None, text, methods, beam_size=4, vocabulary=tokenizer)
        results["gibbs"] = decode(models, None, text, Gibbs(sweeps=2), beam_size=1, vocabulary=tokenizer)
        for result in results.values():
            assert result.hypotheses
            for one in result.hypotheses:
                (blank,) = one.blanks
                assert len(one.text[len(before) : len(one.text) - len(behind)].split()) == wanted
                assert one.text.startswith(before)
                assert one.text.endswith(behind)
                assert wanted <= len(blank) <= 4 * wanted
                # The ids alone say the same: the text of the whole, less what is known, is so many words.
                known = [part for part in template.parts if isinstance(part, int)]
                assert len(vocabulary.decode(one.tokens).split()) == len(vocabulary.decode(known).split()) + wanted
                widths.add(len(blank))
    assert len(widths) > 1


def test_a_blank_of_words_as_positions():
    vocabulary = TokenizerVocabulary(MADE["byte_level"])
    classes = vocabulary.word_classes()
    template = Template.from_text("a {2 words} dog", vocabulary)
    begin, more = Gap(1, 1, classes.begin), Gap(0, 3, classes.go_on)
    a, dog = vocabulary.encode("a"), vocabulary.encode_pieces(["a", " dog"])[1]
    assert template == Template((*a, begin, more, begin, more, *dog))
    narrow, wide = template.fixed()[0], template.fixed()[-1]
    assert narrow.positions == (*a, classes.begin, classes.begin, *dog)
    assert wide.positions == (*a, *[classes.begin, *[classes.go_on] * 3] * 2, *dog)
    assert narrow.runs == ((1, 3),)
    assert wide.runs == ((1, 9),)
    mixed = Template.from_text("_ {1 word} {0-1} dog", vocabulary)
    assert mixed.parts[:4] == (Gap(1, 1), begin, more, Gap(0, 1))
    assert {len(one.runs) for one in mixed.fixed()} == {1}
    assert mixed.fixed()[0].positions[:2] == (BLANK, classes.begin)
    first = Template.from_text("{2 words} dog", vocabulary)
    assert first.parts[0] == Gap(1, 1, classes.begin | classes.open)
    assert first.parts[2] == begin
    assert Template.from_text("{0 words} dog", vocabulary).fixed()[0].runs == ()
    with pytest.raises(ValueError, match="no notation in text"):
        template.to_text(vocabulary)


def test_too_many_words():
    message = (
        "{4 words} may be 1 to 4 tokens each, 256 combinations; at most 3 words per template, or count tokens: {4-12}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        Template.from_text("a {4 words} dog", MADE["byte_level"])
    with pytest.raises(ValueError, match=re.escape("{2 words} and {2 words} may be 1 to 4 tokens each, 256 comb")):
        Template.from_text("a {2 words} dog {2 words}", MADE["byte_level"])
    with pytest.raises(ValueError, match=re.escape("4^99999 combinations")):
        Template.from_text("a {99999 words} dog", MADE["byte_level"])
    with pytest.raises(ValueError, match=r"no token that begins a word.*count tokens"):
        Template.from_text("a {1 word} dog", MADE["byt5"])


@subword
def test_classes_of_ids(name):
    vocabulary = TokenizerVocabulary(MADE[name])
    classes = vocabulary.word_classes()
    assert classes.begin
    assert classes.go_on
    assert not classes.begin & classes.go_on
    assert not (classes.begin | classes.go_on | classes.open) & vocabulary.special_ids
    assert classes.open <= classes.begin | classes.go_on
    marks = {"byte_level": ("Ġ", ""), "word_piece": ("", "##"), "metaspace_bpe": ("▁", ""), "unigram": ("▁", "")}[name]
    for token, word in enumerate(vocabulary.words):
        if token in vocabulary.special_ids:
            continue
        begins = marks[0] != "" if word.startswith(marks[0] or marks[1]) else marks[0] == ""
        bare = word.removeprefix(marks[0]).removeprefix(marks[1])
        if bare.isascii() and bare.isalnum():
            assert (token in classes.begin) == begins, word
            assert (token in classes.go_on) == (not begins), word
            assert (token in classes.open) == (not word.startswith("##")), word
        if bare.isascii() and not any(map(str.isalnum, bare)):
            assert token not in classes.begin | classes.go_on, word


def test_a_blank_of_words_takes_nothing_that_the_scorers_never_write():
    tokenizer = MADE["byte_level"]
    vocabulary = TokenizerVocabulary(tokenizer)
    classes = vocabulary.word_classes()
    forward, backward = bigram_pair(tokenizer)
    plain = bscd_decode(forward, backward, None, "a {1 word} dog", vocabulary=tokenizer, beam_size=1).best
    forward.never = frozenset({plain.blanks[0][0], *tokenizer.all_special_ids})
    other = bscd_decode(forward, backward, None, "a {1 word} dog", vocabulary=tokenizer, beam_size=50)
    assert all(plain.blanks[0][0] not in one.blanks[0] for one in other.hypotheses)
    # START may be an ordinary id; it is no answer, and no error either.
    forward.start_token = backward.end_token = min(classes.begin - forward.never)
    assert bscd_decode(forward, backward, None, "a {1 word} dog", vocabulary=tokenizer).hypotheses
    forward.never = backward.never = classes.go_on
    shorter = bscd_decode(forward, backward, None, "a {1 word} dog", vocabulary=tokenizer)
    assert {len(one.blanks[0]) for one in shorter.hypotheses} == {1}
    forward.never = classes.begin
    with pytest.raises(ValueError, match=r"allows no word: none of its .* ids is one that the scorers write"):
        bscd_decode(forward, backward, None, "a {1 word} dog", vocabulary=tokenizer)


@every
def test_a_tokenizer_is_a_vocabulary_everywhere(name):
    tokenizer = MADE[name]
    forward, backward = bigram_pair(tokenizer)
    result = bscd_decode(forward, backward, None, "a boy {0-2} dog", vocabulary=tokenizer)
    forward.vocabulary = tokenizer
    assert bscd_decode(forward, backward, None, "a boy {0-2} dog") == result
    assert Template.from_text("a boy {0-2} dog", tokenizer).fixed() is not None
    for one in result.hypotheses:
        assert one.text.startswith("a boy ")
        assert one.text.endswith(" dog")
    (scored,) = score_sentences(Pair(forward), None, ["a boy"])
    assert scored.tokens == tuple(tokenizer.encode("a boy", add_special_tokens=False))
    assert scored.text == "a boy"
    whole = bscd_decode(forward, backward, None, max_length=3)
    decode = TokenizerVocabulary(tokenizer).decode
    assert [one.text for one in whole.hypotheses] == [decode(one.tokens) for one in whole.hypotheses]
    by_ids = bscd_decode(forward, backward, None, Template.blank(scored.tokens, 1))
    assert [one.text for one in by_ids.hypotheses] == [decode(one.tokens) for one in by_ids.hypotheses]


@every
@given(st.data())
def test_to_text_and_back(name, data):
    tokenizer = MADE[name]
    texts = data.draw(st.lists(pieces, min_size=1, max_size=3))
    template = Template.from_text(" {1-2} ".join(texts), tokenizer)
    if name == "unigram" and any(token == tokenizer.unk_token_id for token in template.parts):
        return
    assert Template.from_text(template.to_text(tokenizer), tokenizer) == template


def test_what_the_tokenizer_has_no_token_for():
    with pytest.raises(ValueError, match=re.escape("the tokenizer has no token for '♥', in ' a ♥ boy'")):
        Template.from_text("the _ a ♥ boy", MADE["word_piece"])
    with pytest.raises(ValueError, match="the tokenizer has no token for 'Ω'"):
        TokenizerVocabulary(MADE["unigram"]).encode("a Ω")
    assert Template.from_text("a ♥ _", MADE["byte_level"]).parts[-1] == Gap(1, 1)
    assert Template.from_text("a ♥ _", MADE["byt5"]).fixed()
    # A BPE without an unknown token drops what it does not know.
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0}, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    dropping = transformers.PreTrainedTokenizerFast(tokenizer_object=made)
    with pytest.raises(ValueError, match="no token for 'b'"):
        Template.from_text("a b _", dropping)


def test_what_is_a_tokenizer():
    assert as_vocabulary(None) is None
    words = WordVocabulary(["a"])
    assert as_vocabulary(words) is words
    vocabulary = as_vocabulary(MADE["word_piece"])
    assert as_vocabulary(vocabulary) is vocabulary
    assert vocabulary == as_vocabulary(word_piece_again := MADE["word_piece"])
    assert hash(vocabulary) == hash(as_vocabulary(word_piece_again))
    assert vocabulary != as_vocabulary(MADE["unigram"])
    assert vocabulary != words
    assert len(vocabulary) == len(MADE["word_piece"]) == len(vocabulary.words)
    assert vocabulary.words[:4] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    assert vocabulary.special_ids == {0, 1, 2, 3}
    with pytest.raises(TypeError, match=r"a bare .*Tokenizer; wrap it: transformers.PreTrainedTokenizerFast"):
        as_vocabulary(MADE["word_piece"].backend_tokenizer)


def test_recognising_one_imports_nothing():
    code = (
        "import sys; from birnn_decode import Template; from birnn_decode.tokenizers import as_vocabulary\n"
        "class T:\n  all_special_ids = [0]\n  unk_token_id = None\n"
        "  def __len__(self): return 9\n"
        "  def convert_ids_to_tokens(self, ids): return [str(one) for one in ids]\n"
        "  def encode(self, text, add_special_tokens): return [len(word) for word in text.split()]\n"
        "  def decode(self, ids, **options): return ' '.join('x' * one for one in ids)\n"
        "print(Template.from_text('a bb _', T()).parts)\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1, 2, Gap(")


def test_the_classes_of_a_large_vocabulary_are_found_at_once_and_once():
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = [f"{mark}{one:x}q" for one in range(25_000) for mark in ("", "Ġ")]
    made = tokenizers.Tokenizer(tokenizers.models.BPE({word: at for at, word in enumerate([*alphabet, *words])}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made)
    began = time.perf_counter()
    classes = TokenizerVocabulary(tokenizer).word_classes()
    assert time.perf_counter() - began < 10
    assert len(classes.begin) == 25_000
    assert TokenizerVocabulary(tokenizer).word_classes() is classes
    tokenizer.add_tokens(["surfed"])
    assert len(TokenizerVocabulary(tokenizer).word_classes().go_on) == len(classes.go_on) + 1
    alive = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert alive() is None


class TestVocabulariesOfAPair:
    """What is said where the models of a pair do not have the same words."""

    def pair(self, one, two):
        forward, backward = bigram_pair(MADE["byte_level"])
        forward.vocabulary, backward.vocabulary = one, two
        return forward, backward

    def test_the_same(self):
        again = byte_level()
        assert again is not MADE["byte_level"]
        assert bscd_decode(*self.pair(MADE["byte_level"], again), None, "a _").hypotheses
        assert bscd_decode(*self.pair(MADE["byte_level"], TokenizerVocabulary(again)), None, "a _").hypotheses

    def test_another_order(self):
        for one, two in (
            (WordVocabulary(["a", "dog"]), WordVocabulary(["dog", "a"])),
            (self.of("a", "dog"), self.of("dog", "a")),
        ):
            with pytest.raises(ValueError, match="the same words in another order") as error:
                bscd_decode(*self.pair(one, two), None, "a _")
            assert "birnn_decode.scorers.in_vocabulary(model_b, model_f.vocabulary)" in str(error.value)

    def test_others(self):
        for one, two in (
            (WordVocabulary(["a", "dog"]), WordVocabulary(["a", "cat"])),
            (self.of("a", "dog"), self.of("a", "cat")),
        ):
            with pytest.raises(ValueError, match="only the forward one has 'dog'; only the backward one has 'cat'"):
                bscd_decode(*self.pair(one, two), None, "a _")
        with pytest.raises(ValueError, match=r" of 360 ids.*differs from the vocabulary of the backward model"):
            bscd_decode(*self.pair(MADE["byte_level"], WordVocabulary(["a"])), None, "a _")

    def of(self, *words):
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: at for at, word in enumerate(words)}, words[0]))
        return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token=words[0])


@pytest.mark.parametrize("text", ["a girl  _", "a  _  dog", "a _ dog  {0-2} cat!", "_  dog", "a _ _  dog {2-3}"])
@every
def test_double_spaces_read_back(name, text):
    template = Template.from_text(text, MADE[name])
    assert Template.from_text(template.to_text(MADE[name]), MADE[name]) == template


def test_ids_that_no_text_gives():
    ids = MADE["byte_level"].encode("a girl", add_special_tokens=False)
    split = [
        *MADE["byte_level"].encode("g", add_special_tokens=False),
        *MADE["byte_level"].encode("i", add_special_tokens=False),
    ]
    with pytest.raises(ValueError, match="no text reads back as this template"):
        Template.from_tokens([*ids, Template.BLANK, *split]).to_text(MADE["byte_level"])


def test_two_blanks_with_nothing_between_them_are_one():
    """A character that the tokenizer drops stands between them: each takes no more than was asked of it."""
    template = Template.from_text("a {0-1} \u200b {0-2} dog", MADE["word_piece"])
    girl = MADE["word_piece"].encode("girl", add_special_tokens=False)
    a, dog = (MADE["word_piece"].encode(word, add_special_tokens=False) for word in ("a", "dog"))
    for fixed in template.fixed():
        words = [*a, *(girl * len(fixed))[: len(fixed) - len(a) - len(dog)], *dog]
        shown = spell(template, words, fixed.runs, MADE["word_piece"])
        before, _, after = shown.partition("\u200b")
        assert before.count("girl") <= 1
        assert after.count("girl") <= 2
        assert shown.count("girl") == len(fixed) - len(a) - len(dog)


@every
def test_words_of_constraints_are_those_within_a_sentence(name):
    """As in a template: behind a space; at position 0 those of the beginning; and where words are banned, both."""
    tokenizer = MADE[name]
    vocabulary = TokenizerVocabulary(tokenizer)

    def readings(word):
        return vocabulary.encode_pieces(["", f" {word} ", ""])[1], vocabulary.encode_pieces([f"{word} ", ""])[0]

    words = [vocabulary.decode_behind([token]).strip() for token in range(len(vocabulary))]
    single = [one for one in words if one.isascii() and one.isalpha() and [*map(len, readings(one))] == [1, 1]]

    def found(template, *constraints):
        models = bigram_pair(tokenizer)
        return bscd_decode(
            *models, None, template, vocabulary=tokenizer, beam_size=20, constraints=constraints
        ).hypotheses

    with pytest.raises(ValueError, match=r"'zzqqj' is \d+ tokens, not one\. Give|no token for 'zzqqj'"):
        found("a {3} dog", MustAppear(["zzqqj"]))
    if name == "byt5":  # white space is a token there, and no word is a single one
        assert not single
        return
    word = single[0]
    (inside,), (first,) = readings(word)
    assert all(inside in one.blanks[0] for one in found("a {3} dog", MustAppear([word])))
    other = next(iter(vocabulary.word_classes().open - {inside, first}))
    for ban in (BanWords([f" {word}"]), BanWords([word])):
        assert not any({inside, first} & set(one.blanks[0]) for one in found("a {2} dog", ban))
        assert {one.tokens[0] for one in found("{2} dog", ban, AllowAt([inside, first, other], 0))} == {other}
    assert {one.tokens[0] for one in found("{2} dog", AllowAt([word], 0))} == {first}
    assert {one.tokens[1] for one in found("{2} dog", AllowAt([word], 1))} == {inside}
