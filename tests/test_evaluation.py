"""Questions put to every method, and what is said of the answers."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tables import pair

from birnn_decode import (
    BSCD,
    BeamSearch,
    DecodeResult,
    Exact,
    Gibbs,
    Hypothesis,
    JointModel,
    NoRepeatedNgram,
    Objective,
    Pair,
    Rerank,
    StopReason,
    Template,
    compare,
    score_sentences,
)
from birnn_decode.captions import CaptionedImage, WordVocabulary, middle_blank
from birnn_decode.evaluation import (
    Question,
    ask,
    asked,
    blank_questions,
    caption_questions,
    interval,
    joint_cycles,
    mean_metric,
    paired_difference,
    report,
    reports_csv,
    reports_json,
)
from birnn_decode.evaluation.curves import BEAM, LEAD, ROUNDS, ROWS, curve, measure, points_csv, steps
from birnn_decode.vocabularies import (
    ByteVocabulary,
    CharacterVocabulary,
    Normalisation,
    SpacedVocabulary,
    SubwordVocabulary,
)

WORDS = WordVocabulary(["a", "dog", "runs", "here", "cat"])
IMAGES = [
    CaptionedImage("one.png", 11, "test", ("A dog runs here.", "a zebra runs", "a dog zebra here now", "Runs!")),
    CaptionedImage("two.png", 12, "test", ("a cat",)),
    CaptionedImage("three.png", 13, "test", ("dog the",)),
]
INPUTS = {"one.png": "first", "three.png": "third"}


def test_questions_are_captions_without_their_middle():
    questions, left_out = blank_questions(IMAGES, INPUTS, WORDS, 0.5, min_words=2)
    assert [question.template.to_text(WORDS) for question in questions] == ["a _ _ here", "_ <unk>"]
    assert questions[0].truths == ((4, 5, 6, 7),)
    assert questions[0].image == "first"
    assert questions[0].source == IMAGES[0]
    assert questions[1].truths == ((5, 3),)  # UNK is context, and no answer
    assert left_out == {
        "captions of images without features": 1,
        "sentences of fewer than 2 words": 1,
        "sentences with a word in the blank that the vocabulary lacks": 2,
    }
    unknown, _ = blank_questions(IMAGES, INPUTS, WORDS, 0.5, min_words=2, widths=(1, 3))
    assert [question.template.to_text(WORDS) for question in unknown] == ["a {1-3} here", "{1-3} <unk>"]
    assert [question.truths for question in unknown] == [question.truths for question in questions]


def test_whole_captions_are_asked_for_once_an_image():
    questions, left_out = caption_questions(IMAGES, INPUTS, WORDS)
    assert [question.image for question in questions] == ["first", "third"]
    assert all(question.template is None for question in questions)
    assert questions[0].truths == ((4, 5, 6, 7), (4, 3, 6), (4, 5, 3, 7, 3), (6,))
    assert left_out == {"captions of images without features": 1}
    wordless = CaptionedImage("first", 1, "test", (".", "!"))
    assert caption_questions([wordless], {"first": None}, WORDS) == ([], {"sources whose sentences have no word": 1})


def test_answers_keep_the_words_of_the_caption():
    """Those around the blank that the vocabulary lacks are no <unk> in what is compared and written."""
    image = CaptionedImage("x", 1, "test", ("A zebra, dog runs here: now",))
    ((question,), _) = blank_questions([image], {"x": None}, WORDS, 0.4)
    assert question.template.to_text(WORDS) == "a <unk> _ _ here <unk>"
    found = Hypothesis((4, 3, 8, 8, 7, 3), WORDS.decode([4, 3, 8, 8, 7, 3]), ((8, 8),), 0, 0, 0, 0, None, None)
    assert question.text(found) == "a zebra cat cat here now"
    ((question,), _) = blank_questions([image], {"x": None}, WORDS, 0.4, widths=(0, 3))
    shorter = Hypothesis((4, 3, 8, 7, 3), WORDS.decode([4, 3, 8, 7, 3]), ((8,),), 0, 0, 0, 0, None, None)
    assert question.text(shorter) == "a zebra cat here now"
    assert question.text(None) == ""


def subwords():
    tokenizers = pytest.importorskip("tokenizers")
    pieces = ["[UNK]", "a", "dog", "sleep", "##s", "cat", "run", "here"]
    model = tokenizers.models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    return SubwordVocabulary(tokenizer.to_str())


@pytest.mark.parametrize(
    ("make", "line", "missing", "answer", "expected"),
    [
        (lambda: CharacterVocabulary("CO=()"), "ßC(=O)Oß", "C(=O)O", "CC==OO", "ßCC==OOß"),
        (lambda: CharacterVocabulary("ab ", Normalisation(lower_case=True)), "%A B%", "a b", " bb", "% bb%"),
        (lambda: SpacedVocabulary(["Ein", "Hund", "läuft", "."]), "?  Ein Hund !", "Ein Hund", "Hund .", "? Hund . !"),
        (ByteVocabulary, "aéb", "é", "ô", "aôb"),
        (subwords, "a dogs cat", "dogs", "runs", "a runs cat"),
    ],
)
def test_answers_of_any_vocabulary(make, line, missing, answer, expected):
    """The missing tokens are those of ``missing``, and the answer has the tokens of ``answer`` in their place."""
    vocabulary = make()
    source = CaptionedImage("line 3", 3, "test", (line,))
    share = len(vocabulary.split(missing)) / len(vocabulary.split(line))
    ((question,), _) = blank_questions([source], {"line 3": None}, vocabulary, share)
    words = list(question.truths[0])
    assert words[question.blank] == vocabulary.encode(missing)
    blank = tuple(vocabulary.encode(answer))
    words[question.blank] = blank
    found = Hypothesis(tuple(words), vocabulary.decode(words), (blank,), 0.0)
    assert question.text(found) == expected
    assert question.truth == vocabulary.join(vocabulary.split(line))
    ((whole,), _) = caption_questions([source], {"line 3": None}, vocabulary)
    assert whole.text(found) == found.text


@pytest.mark.parametrize(("vocabulary", "unit"), [(CharacterVocabulary("ab "), "character"), (WORDS, "word")])
def test_what_is_left_out_is_counted_in_the_units_of_the_vocabulary(vocabulary, unit):
    lines = [CaptionedImage(f"{number}", number, "test", (text,)) for number, text in enumerate(("a", "a zebra ! a"))]
    _, left_out = blank_questions(lines, {"0": None, "1": None}, vocabulary, 0.5, min_words=2)
    assert left_out == {
        f"sentences of fewer than 2 {unit}s": 1,
        f"sentences with a {unit} in the blank that the vocabulary lacks": 1,
    }


def test_a_check_is_asked_of_the_answers_texts():
    """It is asked once per text, and a question without an answer has no valid one."""
    ((question,), _) = blank_questions([IMAGES[1]], {"two.png": None}, WORDS, 0.5)
    texts = ["runs cat", "dog cat", "here cat"]
    asked_of = []

    def passes(text):
        asked_of.append(text)
        return text in texts[1:]

    found = [Hypothesis((one, 8), "", ((one,),), 0.0) for one in (6, 5, 7)]
    orders = [found, [found[1], found[0]], [found[0]], []]
    results = [DecodeResult(tuple(own), StopReason.CONVERGED, 1, 10, "x", (), 0.0, "none") for own in orders]
    made = report("", [question] * 4, [[{"bscd": one} for one in results]], captioning=False, check=passes)
    figures = made.figures["bscd"]
    assert (figures["valid"].value, figures["valid in B"].value) == (1 / 4, 2 / 4)
    assert len(asked_of) == len(set(asked_of)) <= 3


CAPTIONS = [[2, 3, 4, 5], [5, 5], [3, 2, 4], [4, 4, 4, 2, 3], [2]]
MODELS = Pair(*pair(3, 6))
COMPARED = ["urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "bscd"]


def questions_of(captions, fraction=0.5, widths=None):
    made = []
    for number, caption in enumerate(captions):
        template = middle_blank(caption, fraction)
        if widths:
            ((begin, end),) = template.fixed()[0].runs
            known = [*caption[:begin]], [*caption[end:]]
            template = Template.blank(known[0], widths, known[1])
        source = CaptionedImage(f"{number // 2}.png", 7, "test", ("a b",))  # ids of several files may be the same
        made.append(Question(number, source, template, (tuple(caption),), tuple(map(str, caption))))
    return made


def test_every_question_is_put_whatever_the_batches():
    questions = questions_of(CAPTIONS)
    given = [one.image for one in questions], [one.template for one in questions]
    expected = compare(
        MODELS, *given, methods=("rerank", "gibbs", "bscd"), beam_size=2, objective=Objective(length=1.0)
    )
    for batch_size in (1, 2, 64):
        settings = {"beam_size": 2, "objective": Objective(length=1.0)}
        batches = list(ask(asked(["rerank", "gibbs", "bscd"], MODELS), questions, batch_size=batch_size, **settings))
        assert [len(batch) for batch in batches] == {1: [1] * 5, 2: [2, 2, 1], 64: [5]}[batch_size]
        assert [result for batch in batches for result in batch] == expected


def test_questions_that_no_answer_satisfies_are_left_out():
    questions = questions_of(CAPTIONS)
    methods = asked(["rerank", "bscd"], MODELS)
    plain = [one for batch in ask(methods, questions, beam_size=30) for one in batch]
    for batch_size in (1, 2, 64):
        batches = ask(methods, questions, batch_size=batch_size, constraints=[NoRepeatedNgram(1)], beam_size=30)
        held = [one for batch in batches for one in batch]
        # 4 4 4 2 3 with its middle missing repeats a word already.
        assert [bool(one) for one in held] == [True, True, True, False, True]
        for question, own, before in zip(questions, held, plain, strict=True):
            tokens = own["bscd"].best.tokens if own else ()
            assert len(set(tokens)) == len(tokens)
            if tokens and len(set(before["bscd"].best.tokens)) == len(question.truths[0]):
                assert tokens == before["bscd"].best.tokens


def test_a_pair_and_a_birnn_are_asked_together():
    """Each method searches with its own models, and every best answer has the scores of both."""
    birnn = JointModel(*pair(4, 6))
    questions = questions_of(CAPTIONS)
    given = [one.image for one in questions], [one.template for one in questions]
    names = ["birnn-bscd", "urnn-f", "birnn-f", "gibbs", "birnn-gibbs", "bscd", "birnn-rerank", "birnn-b"]
    batches = list(ask(asked(names, MODELS, birnn, max_rounds=2), questions, batch_size=2, beam_size=3))
    answers = [answer for batch in batches for answer in batch]
    assert [list(answer) for answer in answers] == [names] * 5
    methods = [BeamSearch("forward"), BSCD(2), Gibbs(rows=BSCD(2)), BeamSearch("backward"), Rerank()]
    expected = [
        {**by_pair, "birnn-f": by_birnn.pop("urnn-f"), "birnn-b": by_birnn.pop("urnn-b")}
        | {f"birnn-{name}": result for name, result in by_birnn.items()}
        for by_pair, by_birnn in zip(
            *(compare(models, *given, methods, beam_size=3) for models in (MODELS, birnn)), strict=True
        )
    ]
    for question, answer, alone in zip(questions, answers, expected, strict=True):
        for name, result in answer.items():
            assert [one.tokens for one in result.hypotheses] == [one.tokens for one in alone[name].hypotheses]
            assert [one.score for one in result.hypotheses] == [one.score for one in alone[name].hypotheses]
            assert result.rows_evaluated == alone[name].rows_evaluated
            (by_pair,) = score_sentences(MODELS, question.image, [result.best.tokens])
            (by_birnn,) = score_sentences(birnn, question.image, [result.best.tokens])
            assert result.best.joint == pytest.approx(by_pair.joint)
            assert result.best.log_prob_forward == pytest.approx(by_pair.log_prob_forward)
            assert result.best.pseudo_log_prob == pytest.approx(by_birnn.pseudo_log_prob)
            assert result.best.token_conditionals == pytest.approx(by_birnn.token_conditionals)


def test_only_the_models_that_are_asked_score_the_answers():
    questions = questions_of(CAPTIONS[:1])
    ((by_pair,),) = ask(asked(["bscd"], MODELS), questions)
    ((by_birnn,),) = ask(asked(["birnn-bscd"], birnn=JointModel(*pair(4, 6))), questions)
    assert by_pair["bscd"].best.pseudo_log_prob is None
    assert by_birnn["birnn-bscd"].best.joint is None


def test_answers_that_a_constraint_leaves_none_are_left_out_of_both():
    birnn = JointModel(*pair(4, 6))
    batches = ask(
        asked(["bscd", "birnn-bscd"], MODELS, birnn), questions_of(CAPTIONS), constraints=[NoRepeatedNgram(1)]
    )
    answers = [answer for batch in batches for answer in batch]
    assert [bool(answer) for answer in answers] == [True, True, True, False, True]
    assert [list(answer) for answer in answers if answer] == [["bscd", "birnn-bscd"]] * 4


def test_methods_by_name():
    birnn = JointModel(MODELS.forward, MODELS.backward)
    found = asked(["gibbs", "exact", "birnn-f"], MODELS, birnn, max_rounds=3, max_rows=77)
    assert found["gibbs"] == (MODELS, Gibbs(rows=BSCD(3)))
    assert found["exact"] == (MODELS, Exact(3, 77))
    assert found["birnn-f"] == (birnn, BeamSearch("forward"))
    with pytest.raises(ValueError, match=r"names has 'bsdc', which is no method\. The names are urnn-f, .*-bscd"):
        asked(["bsdc"], MODELS, birnn)
    with pytest.raises(ValueError, match=r"names has 'birnn-b'\. Give birnn"):
        asked(["bscd", "birnn-b"], MODELS)
    with pytest.raises(ValueError, match=r"names has 'bscd'\. Give pair"):
        asked(["birnn-b", "bscd"], birnn=birnn)


def test_a_pair_has_no_cycles():
    with pytest.raises(
        TypeError, match="model must be a JointModel or another JointScorer: a Pair has no conditional probabilities"
    ):
        joint_cycles(MODELS, None, [[2, 3]])


def test_a_top_b_that_was_to_differ_is_told_by_how_much_it_does():
    questions = questions_of([[2, 3, 4, 5], [3, 2, 4, 2]])

    def result(*blanks, broken=()):
        found = [
            Hypothesis((2, *blank, 5), None, (blank,), 0, -1.0, -1.0, 0.0, None, None, broken=broken)
            for blank in blanks
        ]
        return DecodeResult(tuple(found), StopReason.CONVERGED, 1, 10, "bscd|diversity:2,1", (), 0.0, "none")

    batches = [[{"bscd": result((4, 4), (3, 4))}, {"bscd": result((4, 4), (4, 4), broken=("no repeated 1-gram",))}]]
    figures = report("blanks", questions, batches, captioning=False).figures["bscd"]
    assert figures["exactly right"].value == 0
    assert figures["right in Top-B"].value == 0.5
    assert figures["distinct"].value == pytest.approx((2 / 2 + 1 / 2) / 2)
    assert figures["broken"].value == 0.5


def test_the_figures_are_what_they_say():
    questions = questions_of(CAPTIONS)
    batches = list(ask(asked(COMPARED, MODELS, max_rounds=1), questions, batch_size=2))
    results = [result for batch in batches for result in batch]
    found = [result["bscd"].best.tokens for result in results]
    truths = [found[0], found[1], *(tuple(caption) for caption in CAPTIONS[2:])]
    known = [
        Question(one.image, one.source, one.template, (truth,), one.words)
        for one, truth in zip(questions, truths, strict=True)
    ]
    right = [float(one == truth) for one, truth in zip(found, truths, strict=True)]
    assert 2 <= sum(right) < 5
    made = report("half", known, batches, captioning=False, notes=["a note"])
    assert (made.name, made.questions, made.notes) == ("half", 5, ["a note"])
    assert list(made.figures) == list(results[0])
    figures = made.figures["bscd"]
    images = [0, 0, 1, 1, 2]
    assert figures["exactly right"] == interval(mean_metric("", right), images)
    blanks = [one.template.fixed()[0].runs[0] for one in known]
    placed = [
        [word == other for word, other in zip(one[begin:end], truth[begin:end], strict=True)]
        for one, truth, (begin, end) in zip(found, truths, blanks, strict=True)
    ]
    assert figures["words right"].value == pytest.approx(np.mean([hit for hits in placed for hit in hits]))
    joints = {
        method: [
            score_sentences(MODELS, one.image, [result[method].best.tokens])[0].joint
            for one, result in zip(known, results, strict=True)
        ]
        for method in results[0]
    }
    assert figures["J"].value == pytest.approx(np.mean(joints["bscd"]))
    assert figures["rows"].value == np.mean([result["bscd"].rows_evaluated for result in results])
    for method in joints:
        if method != "bscd":
            expected = paired_difference(mean_metric("", joints["bscd"]), mean_metric("", joints[method]), images)
            assert made.differences[method]["J"].value == pytest.approx(expected.value)
            assert made.differences[method]["J"].low == pytest.approx(expected.low)
    assert "bscd" not in made.differences
    seconds = sum(batch[0]["rerank"].seconds for batch in batches)
    assert made.milliseconds["rerank"] == pytest.approx(1000 * seconds / 5)
    assert made.signatures["bscd"].startswith("bscd|rounds:1|")
    assert made.answers["bscd"] == [  # without a vocabulary there is no text
        {"image_id": 7, "caption": "", "signature": result["bscd"].signature} for result in results
    ]
    assert not report(
        "half", known, [[{"rerank": result["rerank"]} for result in results]], captioning=False
    ).differences


def test_words_are_right_at_their_own_place():
    def answered(*blank):
        words = (2, *blank, 5)
        return DecodeResult((Hypothesis(words, None, (blank,), 0, 0, 0, 0, None, None),), "", 0, 0, "", (), 1.0, "none")

    (question,) = questions_of([[2, 3, 4, 5]], widths=(0, 3))
    for blank, right in (((3, 4), 1), ((4, 3), 0), ((3, 3), 0.5), ((3, 2, 4), 0.5), ((), 0)):
        figures = report("", [question], [[{"bscd": answered(*blank)}]], captioning=False).figures["bscd"]
        assert figures["words right"].value == right


def test_widths_that_were_to_be_found():
    questions = questions_of([[2, 3, 4, 5], [2, 3, 4, 4, 5, 5]], widths=(1, 3))
    batches = list(ask(asked(["bscd"], MODELS), questions))
    figures = report("", questions, batches, captioning=False).figures["bscd"]
    found = [result["bscd"].best.blanks[0] for result in batches[0]]
    assert figures["words too many"].value == (len(found[0]) - 2 + len(found[1]) - 3) / 2
    overlap = [
        2 * sum(min(one.count(word), truth.count(word)) for word in set(one)) / (len(one) + len(truth))
        for one, truth in zip(found, [(3, 4), (3, 4, 4)], strict=True)
    ]
    assert figures["word F1"].value == pytest.approx(np.mean(overlap))


def test_search_errors_by_hand():
    """Of three questions the best sentence is proved of two; one method misses one of them, by 3 nats."""

    def answered(joint, *, bound=None, proved=False):
        one = Hypothesis((2, 3, 5), None, ((3,),), 0.0, joint, 0.0, 0.0, None, None)
        found = () if joint is None else (replace(one, score=joint),)
        return DecodeResult(found, "", 0, 40, "x", (), 1.0, "none", proved, bound)

    questions = questions_of([[2, 3, 5]] * 3)
    exact = [answered(-4.0, bound=-4.0, proved=True), answered(-6.0, bound=-6.0), answered(-9.0, bound=-7.0)]
    others = [answered(-4.0 - 1e-6), answered(-9.0), answered(-10.0)]
    results = [{"bscd": one, "exact": best} for one, best in zip(others, exact, strict=True)]
    made = report("", questions, [results], captioning=False)
    told = {
        method: [figures[name].value for name in ("search errors", "score lost", "below the bound")]
        for method, figures in made.figures.items()
    }
    assert told == {"bscd": [0.5, 1.5, 2.0], "exact": [0, 0, pytest.approx(2 / 3)]}
    assert made.notes == [
        "exact: the best sentence is proved of 66.7% of the questions, and all returned sentences of 33.3%; 40 rows in "
        "the median"
    ]
    better = answered(-3.0)
    results[0]["bscd"] = replace(better, hypotheses=(replace(better.best, broken=("no repeated 1-gram",)),))
    made = report("", questions, [results], captioning=False)
    assert made.figures["bscd"]["search errors"].value == 1, "what breaks a constraint is not as good as the best"
    results[0]["bscd"] = answered(None)
    made = report("", questions, [results], captioning=False)
    assert made.figures["bscd"]["search errors"].value == 1
    assert made.figures["bscd"]["score lost"].value == 3


def test_scores_of_unknown_widths_are_compared_under_their_rule():
    questions = questions_of([[2, 3, 4, 5]], widths=(1, 2))
    objective = Objective(length=2.0)
    results = compare(
        MODELS, 0, questions[0].template, methods=["urnn-f", "bscd", "exact"], beam_size=1, objective=objective
    )
    made = report("", questions, [[results]], captioning=False)
    for method, result in results.items():
        score = result.best.joint + 2.0 * len(result.best.tokens)
        assert made.figures[method]["score lost"].value == pytest.approx(results["exact"].best.score - score, abs=1e-3)


def test_a_whole_caption_is_right_if_it_is_any_of_the_images():
    template = None
    results = [compare(MODELS, 0, template, methods=["bscd"])]
    best = results[0]["bscd"].best.tokens
    for truths, right in (((best,), 1), (((5,), best), 1), (((5, 5, 5, 5),), 0)):
        source = CaptionedImage("x", 0, "test", ("a",))
        figures = report("", [Question(0, source, None, truths)], [results], captioning=False).figures["bscd"]
        assert figures["exactly right"].value == right
        assert "words right" not in figures


def test_a_search_that_found_nothing_is_not_right():
    nothing = DecodeResult((), StopReason.DEAD_END, 1, 7, "bscd|x", (), 0.5, "none")
    (question,) = questions_of([[2, 3]])
    made = report("", [question], [[{"bscd": nothing}]], captioning=False)
    figures = made.figures["bscd"]
    assert [figures[name].value for name in ("exactly right", "words right", "rows")] == [0, 0, 7]
    assert math.isnan(figures["J"].value)
    assert made.to_dict()["figures"]["bscd"]["J"] == {"value": None, "low": None, "high": None}
    assert made.answers["bscd"][0]["caption"] == ""


def test_the_metrics_of_captions_are_there_when_asked_for(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", "/nowhere")
    questions = questions_of(CAPTIONS)
    batches = list(ask(asked(["rerank", "bscd"], MODELS), questions))
    made = report("", questions, batches)
    for figures in (*made.figures.values(), *made.differences.values()):
        assert {"BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"} <= set(figures)
    assert any("Java" in note for note in made.notes)


def test_files_of_figures():
    questions = questions_of(CAPTIONS)
    batches = list(ask(asked(["rerank", "bscd"], MODELS), questions))
    reports = [report(name, questions, batches, captioning=False) for name in ("half, known", "again")]
    rows = list(csv.DictReader(io.StringIO(reports_csv(reports))))
    assert {row["blank"] for row in rows} == {"half, known", "again"}
    one = next(row for row in rows if (row["method"], row["minus"], row["metric"]) == ("bscd", "rerank", "J"))
    difference = reports[0].differences["rerank"]["J"]
    assert [float(one[name]) for name in ("value", "low", "high")] == [
        difference.value,
        difference.low,
        difference.high,
    ]
    assert one["signature"] == f"{reports[0].signatures['bscd']} minus {reports[0].signatures['rerank']}"
    assert {row["signature"] for row in rows if row["method"] == "rerank"} == {reports[0].signatures["rerank"]}
    data = json.loads(reports_json(reports, {"beam_size": 5}))
    assert data["beam_size"] == 5
    assert data["reports"] == [made.to_dict() for made in reports]


def test_curves_are_measured_as_the_methods_are():
    questions = questions_of(CAPTIONS)
    settings = {"beam_sizes": [1, 3], "fixed_beam": 2, "rounds": 2, "budgets": [1, 3]}
    parts = list(measure(MODELS, questions, batch_size=2, **settings))
    assert len(parts) == steps([1, 3], 2, [1, 3]) == 7
    points = [point for part in parts for point in part]
    given = [one.image for one in questions], [one.template for one in questions]
    beams = curve(points, BEAM)
    assert list(beams) == COMPARED
    expected = [result["urnn-b"].best.joint for result in compare(MODELS, *given, beam_size=3)]
    assert beams["urnn-b"][1].setting == 3
    assert beams["urnn-b"][1].figures["J"].value == pytest.approx(np.mean(expected))
    rounds = curve(points, ROUNDS)["bscd"]
    assert [point.setting for point in rounds] == [0, 1, 2]
    rerank = [result["rerank"].best.joint for result in compare(MODELS, *given, beam_size=2)]
    for point in points:
        assert point.figures[LEAD].value == pytest.approx(point.figures["J"].value - np.mean(rerank))
    assert (rounds[0].figures[LEAD].low, rounds[0].figures[LEAD].high) == (0, 0)
    assert rounds[0].figures["J"].value == pytest.approx(np.mean(rerank))
    joints = [point.figures["J"].value for point in rounds]
    assert joints == sorted(joints)
    (low, high) = curve(points, ROWS)["gibbs"]
    assert (low.setting, high.setting) == (1, 3)
    assert low.figures["rows"].value <= high.figures["rows"].value
    rows = list(csv.DictReader(io.StringIO(points_csv(points))))
    assert {row["along"] for row in rows} == {BEAM, ROUNDS, ROWS}
    assert len(rows) == sum(len(point.figures) for point in points)
