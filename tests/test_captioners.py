"""The reference captioners: as scorers, in training, on file, and on pictures."""

from itertools import chain

import numpy as np
import pytest
from test_bscd import assert_same, hypotheses

from birnn_decode import BeamSearch, Pair, StepScorer, Template, bscd_decode, decode, score_sentences

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from birnn_decode.captions import WordVocabulary, make_scene  # noqa: E402
from birnn_decode.models import (  # noqa: E402
    GRUCaptioner,
    LSTMCaptioner,
    MultimodalRNN,
    SmallCNN,
)

KINDS = [MultimodalRNN, LSTMCaptioner, GRUCaptioner]
WORDS = WordVocabulary(["a", "girl", "and", "wind", "board"])
FEATURES = 6
TEMPLATES = ["a _ _ board", "{0-2} a", "_ _ _"]


def captioner(kind, direction="forward", seed=0, **settings):
    torch.manual_seed(seed)
    sizes = {"feature_size": FEATURES, "embedding_size": 5, "hidden_size": 8}
    model = kind(WORDS, direction=direction, **{**sizes, **settings}).double()
    with torch.no_grad():
        model.output.weight *= 5
    return model.eval()


def pair(kind, **settings):
    return captioner(kind, "forward", 1, **settings), captioner(kind, "backward", 2, **settings)


def images(count=3):
    return list(np.random.default_rng(0).normal(size=(count, FEATURES)))


def cnn_pair(dtype=torch.float64):
    torch.manual_seed(5)
    encoder = SmallCNN(pixels=16, channels=(8, FEATURES // 3))
    return tuple(
        captioner(LSTMCaptioner, direction, encoder=encoder).to(dtype) for direction in ("forward", "backward")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_stepping_equals_one_pass(kind):
    model = captioner(kind)
    tokens = torch.tensor([[1, 4, 5, 6], [1, 8, 7, 4], [1, 5, 5, 5]])
    with torch.no_grad():
        context = model.encode(images())
        whole = model(context, tokens)  # [rows, tokens, vocab]
        state = model.start(context)
        for at in range(tokens.shape[1]):
            scores, state = model.step(tokens[:, at], state)
            assert torch.allclose(scores, whole[:, at])
        rows = np.array([2, 0])
        state = model.select(model.start(context), rows)
        several, state = model.steps(tokens[rows].numpy(), state)
        assert torch.allclose(several, whole[rows])
        scores, _ = model.step(torch.tensor([4, 6]), state)
        longer = torch.cat([tokens[rows], torch.tensor([[4], [6]])], dim=1)
        assert torch.allclose(scores, model(context[rows], longer)[:, -1])


@pytest.mark.parametrize("kind", KINDS)
def test_optional_members_change_no_answer(kind):
    """`steps`, `score` and `join` are faster ways to what stepping alone gives."""
    models = pair(kind)

    def stepping(model):
        members = ("step", "start", "select", "encode", "vocab_size", "start_token", "end_token", "never", "vocabulary")
        return StepScorer(**{name: getattr(model, name) for name in members})

    quick = bscd_decode(*models, images(), TEMPLATES)
    slow = bscd_decode(*map(stepping, models), images(), TEMPLATES)
    for one, two in zip(quick, slow, strict=True):
        assert_same(hypotheses(one), hypotheses(two))
    sentences = [hypothesis.tokens for hypothesis in quick[1].hypotheses]  # of several lengths
    assert len({len(words) for words in sentences}) > 1
    for one, two in zip(
        score_sentences(Pair(*models), images()[1], sentences),
        score_sentences(Pair(*map(stepping, models)), images()[1], sentences),
        strict=True,
    ):
        assert one.token_log_probs_forward == pytest.approx(two.token_log_probs_forward)
        assert one.token_log_probs_backward == pytest.approx(two.token_log_probs_backward)


def test_nothing_is_started_in_vain():
    """Known words are read in one call and given sentences are scored, each from one start."""
    models = pair(GRUCaptioner)
    started = []
    for model in models:
        start = model.start
        model.start = lambda context, start=start, model=model: started.append(model.direction) or start(context)
    score_sentences(Pair(*models), images()[0], ["a girl"])
    assert started == ["forward", "backward"]
    started.clear()
    bscd_decode(*models, images()[0], "a _ board")
    assert started == ["forward", "backward"]


def test_a_beam_search_reads_nothing_twice():
    """START and two words, two prefixes at each of seven positions, and two times the last word and those behind it."""
    words = WordVocabulary([f"w{number}" for number in range(20)])
    model = LSTMCaptioner(words, direction="forward", feature_size=0, hidden_size=8)
    template = Template.blank([5, 6], 8, [7, 8])
    result = decode(Pair(model), None, template, BeamSearch("forward"), beam_size=2)
    assert result.rows_evaluated == 3 + 2 * 7 + 2 * 3


def test_half_precision_scores_as_searches_do():
    models = [model.to(torch.bfloat16) for model in pair(LSTMCaptioner)]
    result = bscd_decode(*models, images()[0], "a _ _ _ board")
    for searched, scored in zip(
        result.hypotheses,
        score_sentences(Pair(*models), images()[0], [one.tokens for one in result.hypotheses]),
        strict=True,
    ):
        assert scored.joint == pytest.approx(searched.joint, rel=0.02)
        assert scored.log_prob_forward != round(scored.log_prob_forward, 2)


def test_the_multimodal_rnn_is_that_of_the_paper():
    """Eq. 13-15 of Karpathy and Fei-Fei (CVPR 2015), transcribed."""
    model = captioner(MultimodalRNN)
    weight = {name: value.numpy() for name, value in model.state_dict().items()}
    image = images(1)[0]
    tokens = [1, 4, 5, 6]
    b_v = weight["image_to_hidden.weight"] @ image  # (13)
    h = np.zeros(8)
    for t, token in enumerate(tokens, start=1):
        x = weight["embedding.weight"][token]
        recurrent = weight["hidden_to_hidden.weight"] @ h
        h = weight["word_to_hidden.weight"] @ x + recurrent + weight["word_to_hidden.bias"] + (t == 1) * b_v
        h = np.maximum(h, 0)  # (14)
        y = np.exp(weight["output.weight"] @ h + weight["output.bias"])
        y /= y.sum()  # (15)
        with torch.no_grad():
            ours = model(model.encode([image]), torch.tensor([tokens[:t]]))[0, -1].softmax(-1)
        assert np.allclose(ours, y)


@pytest.mark.parametrize("kind", KINDS)
def test_directions(kind):
    forward, backward = pair(kind)
    assert (forward.start_token, forward.end_token) == (backward.end_token, backward.start_token)
    with pytest.raises(ValueError, match="direction must be 'forward' or 'backward', got 'sideways'"):
        captioner(kind, "sideways")
    with pytest.raises(ValueError, match="the model given as the forward one reads backward: are the two models swap"):
        bscd_decode(backward, forward, images()[0], "a _")
    other = kind(WordVocabulary(["a", "girl", "und", "wind", "board"]), direction="backward", feature_size=FEATURES)
    with pytest.raises(ValueError, match="Both must have the same words at the same ids"):
        bscd_decode(forward, other, images()[0], "a _")

    class Inheriting(WordVocabulary):
        pass

    forward.vocabulary = Inheriting(WORDS.words[4:])
    other.vocabulary = Inheriting(reversed(WORDS.words[4:]))
    with pytest.raises(ValueError, match="Both must have the same words at the same ids"):
        bscd_decode(forward, other, images()[0], "a _")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_flow_through_scores(kind):
    models = pair(kind)
    sentences = ["a girl", "wind and board a"]
    scored = score_sentences(Pair(*models), images()[0], sentences, gradients=True)
    plain = score_sentences(Pair(*models), images()[0], sentences)
    for with_graph, without in zip(scored, plain, strict=True):
        assert float(with_graph.score.detach()) == pytest.approx(without.score)
        assert with_graph.to_dict()["token_log_probs_backward"] == pytest.approx(list(without.token_log_probs_backward))
        assert with_graph.to_dict()["joint"] == pytest.approx(without.joint)
    sum(one.joint for one in scored).backward()
    for model in models:
        ours = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        features = model.encode(images()[:1])
        for sentence in sentences:
            words = WORDS.encode(sentence)[:: 1 if model.direction == "forward" else -1]
            logits = model(features, torch.tensor([[model.start_token, *words]]))[0]
            torch.nn.functional.cross_entropy(
                logits, torch.tensor([*words, model.end_token]), reduction="sum"
            ).neg().backward()
        for one, two in zip(ours, model.parameters(), strict=True):
            assert one.abs().sum() > 0
            assert torch.allclose(one, two.grad)


def test_an_impossible_word_spoils_no_gradient():
    """A row of -inf alone has no distribution: its sentence has probability 0, and the others their gradients."""
    logits = torch.zeros(9, 9, dtype=torch.float64, requires_grad=True)
    dead = torch.zeros(9, 1, dtype=torch.float64)
    dead[5] = -torch.inf  # nothing follows "girl"
    scorer = StepScorer(
        lambda tokens, state: ((logits + dead)[torch.as_tensor(tokens)], None),
        lambda context: None,
        lambda state, rows: None,
        vocab_size=9,
        start_token=1,
        end_token=2,
    )
    good, bad = score_sentences(Pair(scorer), None, [[4, 6], [4, 5]], gradients=True)
    assert bad.score == -torch.inf
    good.score.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0


def test_gradients_need_torch_and_leave_the_mode():
    table = np.zeros((9, 9))
    bigram = StepScorer(
        lambda tokens, state: (table[tokens], None), lambda context: None, lambda state, rows: None,
        vocab_size=9, start_token=1, end_token=2,
    )  # fmt: skip
    with pytest.raises(TypeError, match="gradients=True needs PyTorch models; the forward scorer's scores are numpy"):
        score_sentences(Pair(bigram), None, [[4]], gradients=True)
    model = captioner(LSTMCaptioner, dropout=0.5).train()
    scored = [score_sentences(Pair(model), images()[0], ["a girl"], gradients=True)[0] for _ in range(5)]
    assert len({float(one.score.detach()) for one in scored}) == 5  # dropout was on
    assert model.training


def test_decoding_is_in_eval_mode_and_back():
    forward, backward = pair(GRUCaptioner, dropout=0.5)
    expected = bscd_decode(forward, backward, images()[0], "a _ _ _")
    forward.train()
    forward.output.eval()  # somebody has frozen a part
    assert bscd_decode(forward, backward, images()[0], "a _ _ _") == expected
    assert forward.training
    assert forward.dropout.training
    assert not forward.output.training
    assert not backward.training
    with pytest.raises(ValueError, match="lacks 'gril'"):
        bscd_decode(forward, backward, images()[0], "a gril _")
    with pytest.raises(ValueError, match="got 7"):
        bscd_decode(forward, backward, np.zeros(7), "a _")
    assert forward.dropout.training


@pytest.mark.parametrize("kind", KINDS)
def test_without_images(kind):
    """A language model is a captioner, too: of the same size as one that sees nothing, and given None."""
    models = pair(kind, feature_size=0)
    results = bscd_decode(*models, [None, None], "a _ _ board")
    assert_same(hypotheses(results[0]), hypotheses(bscd_decode(*models, None, "a _ _ board")))
    blind = pair(kind)
    assert sum(one.numel() for one in models[0].parameters()) < sum(one.numel() for one in blind[0].parameters())
    tokens = torch.tensor([[1, 4, 5]])
    state = models[0].start(models[0].encode([None]))
    with torch.no_grad():
        for at in range(3):
            scores, state = models[0].step(tokens[:, at], state)
        assert torch.allclose(scores, models[0](torch.zeros(1, 0), tokens)[:, -1])
    with pytest.raises(ValueError, match="trained without images: give None as the image"):
        bscd_decode(*models, images()[0], "a _")


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_brought_to_one_scale(kind):
    """Features in other units, with an offset, give the same scores as long as the captioner was told of both."""
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(50, FEATURES)))
    features[:, 0] = 3.0  # tells nothing
    plain, told = captioner(kind), captioner(kind)
    plain.standardise(features)
    units = torch.tensor([1.0, 10.0, 0.1, 2.0, 100.0, 1.0])
    told.standardise(7 + units * features)
    tokens = torch.tensor([[1, 4, 5]] * 50)
    with torch.no_grad():
        expected = plain(features, tokens)
        assert torch.allclose(told(7 + units * features, tokens), expected)
        other = features.clone()
        other[:, 0] += 1
        assert torch.allclose(plain(other, tokens), expected)
        other[:, 1] += 1
        assert not torch.allclose(plain(other, tokens), expected)
        assert not torch.allclose(captioner(kind)(features, tokens), expected)
    standard = (features - plain.feature_mean) / plain.feature_scale
    assert torch.allclose(standard.mean(dim=0), torch.zeros(FEATURES).double(), atol=1e-9)
    assert torch.allclose(standard[:, 1:].std(dim=0, unbiased=False), torch.ones(FEATURES - 1).double())


def test_a_picture_may_come_in_any_form(tmp_path):
    models = cnn_pair()
    picture = make_scene(0, 3).picture(40)
    path = tmp_path / "scene.png"
    picture.save(path)
    transparent = picture.convert("RGBA")
    forms = [
        picture,
        path,
        str(path),
        np.asarray(picture),
        np.asarray(picture) / 255,
        torch.from_numpy(np.array(picture)),
        transparent,
    ]
    expected = bscd_decode(*models, picture, TEMPLATES[0])
    for result in bscd_decode(*models, forms, TEMPLATES[0]):
        assert_same(hypotheses(result), hypotheses(expected))
    with torch.no_grad():
        features = models[0].encode([picture])[0]
    unwritable = features.numpy().copy()
    unwritable.setflags(write=False)
    mixed = bscd_decode(*models, [path, unwritable, features], TEMPLATES[0])
    for result in mixed:
        assert_same(hypotheses(result), hypotheses(expected))
    other = bscd_decode(*models, make_scene(0, 4).picture(40), TEMPLATES[0])
    assert other.best.score != pytest.approx(expected.best.score)


def test_pictures_are_upright_and_on_white(tmp_path):
    encoder = cnn_pair()[0].encoder
    picture = make_scene(0, 3).picture(40)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown turned by 90 degrees
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(encoder.prepare(tmp_path / "turned.png"), encoder.prepare(picture))
    with Image.open(tmp_path / "turned.png") as opened:
        assert torch.equal(encoder.prepare(opened), encoder.prepare(picture))
    deep = Image.fromarray(np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16))
    shallow = Image.fromarray(np.linspace(0, 255, 400).reshape(20, 20).round().astype(np.uint8))
    assert (encoder.prepare(deep).int() - encoder.prepare(shallow).int()).abs().max() <= 1
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert torch.equal(encoder.prepare(clear), encoder.prepare(Image.new("RGB", (20, 20), "white")))
    assert torch.equal(encoder.prepare(Image.new("L", (20, 10), 7)), encoder.prepare(np.full((9, 9), 7, np.uint8)))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("nowhere.png", OSError, "there is no picture nowhere.png"),
        (__file__, OSError, "cannot read the picture .*: it is not in an image format that Pillow reads"),
        (
            np.zeros((3, 8, 8)),
            ValueError,
            r"shape \(3, 8, 8\) is not a picture.*permute\(1, 2, 0\) to move the colours",
        ),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r"shape \(8, 8, 4\) is not a picture"),
        (np.full((8, 8, 3), 255.0), ValueError, "the values of a picture of floats must be from 0 to 1"),
        (np.full((8, 8, 3), np.nan), ValueError, "the values of a picture of floats must be from 0 to 1"),
        (np.zeros((8, 8, 3), np.int32), ValueError, "uint8, or of floats from 0 to 1, got int32"),
        (np.zeros(5), ValueError, "a feature vector of this captioner has 6 numbers; got 5"),
        (np.full(6, np.nan), ValueError, "the image's feature vector has NaN"),
        (np.full(6, 1e300), ValueError, r"NaN or infinite values \(as torch.float32\)"),
        (Image.new("F", (8, 8)), ValueError, "the range of a picture of mode F is unknown"),
        (None, TypeError, "None is not a picture: give a PIL image, a path"),
        (7, TypeError, "7 is not a picture"),
    ],
)
def test_what_is_no_picture(image, error, message):
    with pytest.raises(error, match=message):
        bscd_decode(*cnn_pair(torch.float32), image, "a _")


def test_where_things_are_is_seen():
    """Moving a thing moves what the encoder says of its place along the same axis, and of nothing else's."""
    torch.manual_seed(0)
    encoder = SmallCNN(32, (4, 6)).double().eval()
    canvas = np.full((32, 32, 3), 1.0)

    def features(left, top):
        picture = canvas.copy()
        picture[top : top + 8, left : left + 8] = (1.0, 0.0, 0.0)
        with torch.no_grad():
            return encoder(encoder.prepare(picture)[None])[0].reshape(3, -1)  # [how strongly, x, y]

    middle, right, below = features(8, 8), features(16, 8), features(8, 16)
    _, *moved = (right - middle).abs().sum(dim=1)
    assert moved[0] > 2 * moved[1]
    _, *moved = (below - middle).abs().sum(dim=1)
    assert moved[1] > 2 * moved[0]


def test_many_pictures_and_sentences_are_read_in_parts(monkeypatch):
    models = cnn_pair()
    pictures = [make_scene(0, number).picture(16) for number in range(5)]
    sentences = [["a girl", "wind"], ["a"], ["board and a"], ["girl"], ["a girl and wind"]]
    whole = score_sentences(Pair(*models), pictures, sentences)
    monkeypatch.setattr("birnn_decode.models.captioner.PICTURES_AT_A_TIME", 2)
    monkeypatch.setattr("birnn_decode.scorers.reader.LARGEST_BLOCK", 10 * len(WORDS))
    parts = score_sentences(Pair(*models), pictures, sentences)
    for one, two in zip(chain(*whole), chain(*parts), strict=True):
        assert one.token_log_probs_forward == pytest.approx(two.token_log_probs_forward)
        assert one.token_log_probs_backward == pytest.approx(two.token_log_probs_backward)
    for picture, given, together in zip(pictures, sentences, whole, strict=True):
        for one, two in zip(score_sentences(Pair(*models), picture, given), together, strict=True):
            assert one.token_log_probs_forward == pytest.approx(two.token_log_probs_forward)
            assert one.token_log_probs_backward == pytest.approx(two.token_log_probs_backward)
    assert whole[0][0].joint != pytest.approx(score_sentences(Pair(*models), pictures[1], ["a girl"])[0].joint)


def test_a_broken_picture(tmp_path):
    path = tmp_path / "scene.png"
    make_scene(0, 0).picture().save(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(OSError, match=r"scene\.png"):
        bscd_decode(*cnn_pair(), path, "a _")


def test_a_picture_needs_an_encoder():
    with pytest.raises(ValueError, match=r"no image encoder: give one feature vector of 6 numbers.*got \'x\.png\'"):
        bscd_decode(*pair(GRUCaptioner), "x.png", "a _")
    with pytest.raises(ValueError, match=r"per image, several in a list; got an array of shape \(2, 6\)"):
        bscd_decode(*pair(GRUCaptioner), np.zeros((2, 6)), "a _")
    with pytest.raises(ValueError, match="feature_size must be that of the encoder, 24 numbers, got 6"):
        captioner(GRUCaptioner, encoder=SmallCNN(16, (8,)))


def test_a_template_of_ids_and_a_free_caption():
    models = pair(LSTMCaptioner)
    result = bscd_decode(*models, images()[0], Template.from_tokens([4, Template.BLANK, {5, 6}]))
    assert result.best.text.startswith("a ")
    caption = bscd_decode(*models, images()[0], max_length=6)
    assert not set(caption.best.tokens) & {0, 1, 2, 3}
