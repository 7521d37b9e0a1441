"""The example that fills holes in pictures: its layers and losses, its holes and templates, and a whole quick run."""

import csv
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
for needed in ("click", "rich", "matplotlib", "sklearn", "skimage"):
    pytest.importorskip(needed)

from PIL import Image  # noqa: E402

from birnn_decode import BSCD, check_scorer, decode, score_sentences  # noqa: E402
from birnn_decode.vocabularies import PAD  # noqa: E402
from examples.inpainting import __main__ as example  # noqa: E402
from examples.inpainting import context_encoder, data, filling, holes, measures, pixels, probe, training  # noqa: E402
from examples.inpainting.context_encoder import ChannelwiseLinear, ContextEncoder, Discriminator  # noqa: E402

SIZE = 8, 9
COLOURS = 3


def random_pictures(count, seed=0, size=SIZE, colours=COLOURS):
    return np.random.default_rng(seed).integers(colours, size=(count, *size))


def tiny_pair(size=SIZE, colours=COLOURS):
    torch.manual_seed(0)
    return pixels.new_pair(colours, size, embedding_size=5, hidden_size=6)


# Pixel models


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_pixel_model_is_a_scorer(direction):
    pair = tiny_pair()
    report = check_scorer(getattr(pair, direction), [None, None])
    assert report.ok, report


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_what_a_pixel_model_reads_written_out(direction, monkeypatch):
    model = getattr(tiny_pair(), direction)
    picture = random_pictures(1)[0]
    height, width = SIZE
    turned = picture if direction == "forward" else picture[::-1, ::-1]
    (sentence,) = pixels.sentences(picture[None])
    line = sentence if direction == "forward" else sentence[::-1]
    monkeypatch.setattr(model, "recur", lambda vectors, memory: (vectors, memory))
    read, _ = model.read(torch.tensor([[model.start_token, *line]]), model.start(torch.zeros(1, 0)))
    order = [(0, -2), *((up, across) for up in (1, 2) for across in range(-2, 3))]
    for place in range(height * width):
        row, column = divmod(place, width)
        expected = model.place.weight[place] + model.embedding.weight[line[place - 1] if place else model.start_token]
        for number, (up, across) in enumerate(order):
            inside = row - up >= 0 and 0 <= column + across < width
            token = turned[row - up, column + across] + 4 if inside else PAD
            expected = expected + model.beside.weight[number * model.vocab_size + token]
        torch.testing.assert_close(read[0, place], expected)


@settings(max_examples=15)
@given(st.data())
def test_known_pixels_are_kept_and_every_run_is_a_blank(drawn):
    size = drawn.draw(st.tuples(st.integers(3, 8), st.integers(3, 8)))
    hole = np.array(drawn.draw(st.lists(st.booleans(), min_size=math.prod(size), max_size=math.prod(size)))).reshape(
        size
    )
    picture = random_pictures(1, drawn.draw(st.integers(0, 99)), size)
    assert np.array_equal(pixels.pictures(pixels.sentences(picture), size), picture)
    (template,) = pixels.templates(picture, hole[None])
    flat = [False, *hole.ravel().tolist(), False]
    assert sum(part.__class__.__name__ == "Gap" for part in template.parts) == sum(np.diff(np.array(flat, int)) == 1)
    result = decode(tiny_pair(size), None, template, BSCD(max_rounds=1), beam_size=2)
    for hypothesis in result.hypotheses:
        filled = pixels.pictures([hypothesis.tokens], size)
        assert np.array_equal(filled[0][~hole], picture[0][~hole])
        assert ((filled >= 0) & (filled < COLOURS)).all()


def test_searches_fill_every_picture_with_its_own_best(tmp_path):
    pair, numbers = tiny_pair(), random_pictures(3)
    given_ = data.Pictures("some", np.eye(COLOURS), numbers, numbers, numbers, [], [])
    missing = np.stack([holes.centre(SIZE, side=side) for side in (1, 2, 3)])
    with example.Progress(disable=True) as progress:
        found = filling.search(pair, given_, numbers, missing, progress, beam_size=9)
    for filled in found.values():
        assert np.array_equal(filled.numbers[~missing], numbers[~missing])
        assert np.array_equal(filled.values, given_.values(filled.numbers))
        np.testing.assert_allclose(filled.joint, filling.joint(pair, filled.numbers), rtol=1e-5)
        assert np.array_equal(filled.beam[:, 0], filled.numbers)
        assert all(len(np.unique(own, axis=0)) == found_ for own, found_ in zip(filled.beam, (3, 9, 9), strict=True))
    # One pixel is missing in the first picture, so the best colour can be looked up.
    tried = np.repeat(numbers[:1], COLOURS, axis=0)
    tried[missing[:1].repeat(COLOURS, 0)] = range(COLOURS)
    assert np.array_equal(found["bscd"].numbers[0], tried[filling.joint(pair, tried).argmax()])
    scored = score_sentences(pair, None, pixels.sentences(tried))
    np.testing.assert_allclose(filling.joint(pair, tried), [one.joint for one in scored], rtol=1e-5)


# The Context Encoder


def test_a_channelwise_layer_connects_the_places_of_each_map_only():
    layer, maps = ChannelwiseLinear(3, 4), torch.randn(2, 3, 2, 2)
    assert sum(one.numel() for one in layer.parameters()) == 3 * (4 * 4 + 4)
    made = layer(maps)
    for item in range(2):
        for channel in range(3):
            expected = maps[item, channel].flatten() @ layer.weight[channel] + layer.bias[channel]
            torch.testing.assert_close(made[item, channel].flatten(), expected)


def test_the_losses_written_out():
    torch.manual_seed(0)
    painted, true = torch.rand(2, 3, 5, 5), torch.rand(2, 3, 5, 5)
    missing = torch.zeros(2, 5, 5, dtype=torch.bool)
    missing[0, 1:3, 1:4] = missing[1, 4, 4] = True
    around = torch.from_numpy(holes.ring(missing.numpy(), 1))
    total, count = 0.0, 0
    for item, channel, row, column in np.ndindex(2, 3, 5, 5):
        near = missing[item, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any()
        if near:
            weight = 1 if missing[item, row, column] else 10
            total += weight * (painted[item, channel, row, column] - true[item, channel, row, column]) ** 2
            count += 1
    torch.testing.assert_close(context_encoder.reconstruction_loss(painted, true, missing, around), total / count)

    right, wrong = torch.tensor([0.3, -1.0]), torch.tensor([2.0, -0.5])
    critic, deceiver = context_encoder.adversarial_losses(right, wrong)
    torch.testing.assert_close(critic, -right.sigmoid().log().mean() - (1 - wrong.sigmoid()).log().mean())
    torch.testing.assert_close(deceiver, -wrong.sigmoid().log().mean())


def test_the_gradients_of_losses_and_layer_are_those_of_finite_differences():
    torch.manual_seed(0)
    missing = torch.rand(2, 3, 3) < 0.5
    around = torch.from_numpy(holes.ring(missing.numpy(), 1))
    true = torch.rand(2, 1, 3, 3, dtype=torch.float64)
    layer = ChannelwiseLinear(1, 9).double()

    def loss(pictures):
        return context_encoder.reconstruction_loss(layer(pictures), true, missing, around)

    start = torch.rand(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, [start])
    logits = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda both: context_encoder.adversarial_losses(*both), [logits])


@pytest.mark.parametrize(("size", "maps"), [((8, 8), (96, 4, 4)), ((32, 32), (96, 4, 4)), ((16, 24), (96, 4, 6))])
def test_shapes_of_the_three_parts(size, maps):
    model, missing = ContextEncoder(3, size).eval(), torch.zeros(2, *size, dtype=torch.bool)
    pictures = torch.rand(2, 3, *size)
    assert model.encoder(pictures).shape == (2, *maps)
    assert model(pictures, missing).shape == pictures.shape
    assert Discriminator(3, size)(pictures).shape == (2,)


def test_a_context_encoder_does_not_see_the_hole_and_changes_nothing_else():
    torch.manual_seed(0)
    numbers = random_pictures(2, size=(8, 8))
    pictures = np.eye(COLOURS, dtype=np.float32)[numbers].transpose(0, 3, 1, 2).copy()
    missing = np.stack([holes.centre((8, 8))] * 2)
    other = np.where(missing[:, None], 1 - pictures, pictures)
    for sees_all in (False, True):
        model = ContextEncoder(COLOURS, (8, 8), sees_all)
        filled, again = model.fill(pictures, missing), model.fill(other, missing)
        assert np.array_equal(filled, again) is not sees_all
        assert np.array_equal(
            filled[~missing[:, None].repeat(COLOURS, 1)], pictures[~missing[:, None].repeat(COLOURS, 1)]
        )


@pytest.mark.parametrize("adversarial", [False, True])
def test_a_training_lowers_the_loss_and_can_be_repeated(adversarial):
    pictures = np.zeros((4, 1, 8, 8), dtype=np.float32)
    pictures[:2, :, :, 4:] = pictures[2:, :, 4:] = 1

    def run():
        torch.manual_seed(0)
        settings_ = {"kinds": ["centre"], "steps": 25, "adversarial": adversarial, "batch_size": 8}
        return list(context_encoder.train(ContextEncoder(1, (8, 8)), pictures, **settings_))

    losses = run()
    assert losses == run()
    assert losses[-1][0] < losses[0][0] / 2
    assert all((adv > 0) is adversarial for _, adv in losses)


def test_the_probe_reads_the_encoder():
    model = ContextEncoder(1, (8, 8))
    pictures = np.zeros((20, 1, 8, 8), dtype=np.float32)
    pictures[::2, :, :4] = 1
    labels = [0, 1] * 10
    features = probe.features(model, pictures)
    assert features.shape == (20, 96 * 4 * 4)
    assert probe.probe(features[:10], labels[:10], features[10:], labels[10:]).tolist() == [1.0] * 10
    assert probe.probe(features[:10], labels[:10], features[10:], labels[::-1][:10]).tolist() == [0.0] * 10


# Holes, pictures and measures


def test_the_three_kinds_of_holes():
    random = np.random.default_rng(0)
    middle = holes.centre((8, 10))
    assert middle.sum() == 16
    assert middle[2:6, 3:7].all()
    for _ in range(20):
        cut = holes.blocks((32, 32), random)
        assert 64 <= cut.sum() <= 256
        assert holes.regions((32, 32), random).sum() == 256
    drawn = holes.draw(["centre", "blocks"], 30, (8, 8), random)
    assert 0 < sum(np.array_equal(one, holes.centre((8, 8))) for one in drawn) < 30


def test_a_square_over_the_edge_is_cut_off():
    assert np.argwhere(holes.square((4, 4), 3, -2, 2)).tolist() == [[0, 2], [0, 3]]


def test_sharpness_psnr_and_error():
    flat, edge = np.full((1, 1, 4, 4), 0.5), np.zeros((1, 1, 4, 4))
    edge[..., 2:] = 1
    assert measures.gradient(flat).sum() == 0
    assert np.array_equal(np.argwhere(measures.gradient(edge)[0, 0] == 1)[:, 1], [2] * 4)
    task = measures.Task("centre", (edge[0, 0] * 2).astype(int)[None], holes.centre((4, 4))[None])
    made = data.Pictures("some", np.linspace(0, 1, 3)[:, None], *[task.numbers] * 3, [], [])
    painted, some = np.where(task.missing[:, None], flat, edge), np.ones((1, 4, 4), int)
    filled = filling.Filled(painted, some, np.zeros(1), some[:, None], np.zeros(1))
    assert measures.measure(filled, task, made, [])["squared error"] == pytest.approx(0.25)
    assert measures.measure(filled, task, made, [])["right"] == 0
    assert measures.psnr(filled, task, made) == pytest.approx(10 * math.log10(1 / 0.25))


def test_scenes_and_their_shapes():
    scenes = data.scenes(30, 5, 10)
    assert scenes.size == (32, 32)
    assert set(np.unique(scenes.train)) <= set(range(len(scenes.palette)))
    (task,) = measures.tasks(scenes, None, 0)
    assert all(shape.size == "large" for shape in task.labels)
    whole = filling.not_searched(tiny_pair((32, 32), colours=7), scenes.values(task.numbers), task.numbers)
    reader = measures.reader(scenes)
    assert measures.recognised(reader(whole, task.labels), task.labels).mean() > 0.6
    for shape, hole, numbers in zip(task.labels, task.missing, task.numbers, strict=True):
        assert hole.any()
        assert (numbers[hole] == scenes.colours[shape.colour]).any()


def test_quantised_digits():
    digits = data.digits()
    assert (len(digits.train), len(digits.val), len(digits.test)) == (1277, 160, 360)
    assert set(np.unique(digits.train)) == set(range(4))
    assert np.array_equal(data.nearest(np.moveaxis(digits.values(digits.test), 1, -1), digits.palette), digits.test)


# Whole runs


def run(arguments, capsys):
    """Run the command in this process; return its exit code, what it printed, and its errors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["inpainting", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            example.command()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def rows_of(folder):
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


def test_a_quick_run_and_its_repetition(tmp_path, capsys):
    arguments = ["--quick", "--hole", 3, "--out", tmp_path]
    code, printed, _ = run(arguments, capsys)
    assert not code, printed
    rows = rows_of(tmp_path)
    assert {row["pictures"] for row in rows} == {"digits", "scenes"}
    methods = {row["method"] for row in rows if row["hole"] == "shape"}
    assert methods == {*filling.SEARCHES, example.L2, example.JOINT, "truth"}
    true = {row["measure"]: float(row["value"]) for row in rows if row["method"] == "truth" and row["hole"] == "centre"}
    assert true["right"] == 1
    assert true["squared error"] == 0
    for sheet in ("digits/centre", "digits/blocks", "digits/regions", "scenes/shape"):
        with Image.open(tmp_path / f"{sheet}.png") as opened:
            assert opened.width > 500
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.pt")}
    assert len(before) == (3 + 1 + 4) + (3 + 1)
    again = run([*arguments, "--data", "digits"], capsys)
    assert not again[0]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.pt")} == before
    assert [row for row in rows if row["pictures"] == "digits"] == rows_of(tmp_path)


def test_an_interrupted_training_goes_on(tmp_path):
    digits = data.digits().first(64, 4)
    short = training.Settings(
        training.PixelSettings(6, 5, 0.1, training.Recipe(2, batch_size=16)), 5, kinds=("centre",)
    )

    def stop(*_, **__):
        raise KeyboardInterrupt

    with example.Progress(disable=True) as progress:
        whole = training.pixel_pair(digits, short, tmp_path / "whole.pt", progress)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(progress.console, "print", stop)  # after the first epoch was saved
            with pytest.raises(KeyboardInterrupt):
                training.pixel_pair(digits, short, tmp_path / "halves.pt", progress)
        halves = training.pixel_pair(digits, short, tmp_path / "halves.pt", progress)
    for one, other in zip(whole.forward.parameters(), halves.forward.parameters(), strict=True):
        assert torch.equal(one, other)


def folder_of(path, count=20, size=(16, 16), colours=2):
    path.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        values = random.integers(colours, size=(*size, 1)).repeat(3, 2) * (255 // max(colours - 1, 1))
        Image.fromarray(values.astype(np.uint8)).save(path / f"{number:02}.png")
    return path


def test_a_folder_of_pictures(tmp_path):
    found = data.folder(folder_of(tmp_path / "some"))
    assert (len(found.train), len(found.val), len(found.test)) == (16, 2, 2)
    assert found.palette.tolist() == [[0, 0, 0], [1, 1, 1]]
    with Image.open(tmp_path / "some" / "00.png") as first:
        assert np.array_equal(found.values(found.train)[0].transpose(1, 2, 0) * 255, np.asarray(first))
    many = folder_of(tmp_path / "many", colours=200)
    assert len(data.folder(many, colours=8).palette) <= 8


def make_bad(tmp_path):
    odd = folder_of(tmp_path / "odd")
    Image.new("RGB", (16, 24)).save(odd / "07.png")
    broken = folder_of(tmp_path / "broken")
    (broken / "03.png").write_bytes(b"no picture")
    kept = tmp_path / "kept" / "digits"
    kept.mkdir(parents=True)
    (kept / "pixels.pt").write_bytes(b"no checkpoint")
    return [
        (["--hole", "9"], "a hole of 9 × 9 pixels does not fit into a picture of 8 × 8; give a side from 1 to 7"),
        (["--data", odd], r"07.png has 16 × 24 pixels and 00.png has 16 × 16; give pictures of one size"),
        (["--data", folder_of(tmp_path / "large", size=(80, 80))], "have 80 × 80 pixels; .* sides from 8 to 64"),
        (["--data", folder_of(tmp_path / "thin", size=(16, 18))], "have 18 × 16 pixels; .* multiples of 4"),
        (["--data", folder_of(tmp_path / "many", colours=200)], "colours, and a palette has at most 64; .*--colours 8"),
        (["--data", folder_of(tmp_path / "few", count=3)], "has 3 pictures; give at least 20"),
        (["--data", broken], "03.png is no picture that Pillow can read"),
        (["--data", tmp_path / "nowhere"], "there is no folder .*nowhere; give digits, scenes or a folder"),
        (["--data", "digits", "--out", tmp_path / "kept"], "pixels.pt is damaged"),
        (["--hole", "0"], "0 is not in the range"),
    ]


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    for arguments, message in make_bad(tmp_path):
        code, printed, errors = run(["--quick", "--out", tmp_path / "out", *arguments], capsys)
        last = errors.strip().splitlines()[-1]
        assert code == 2, arguments
        assert last.startswith("inpainting: "), errors
        assert re.search(message, last), last
        assert "Traceback" not in errors
        assert not printed


def test_a_part_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "part.pt"
    assert training.kept(path, {"seed": 0}, lambda: {"a": torch.ones(1)}) == {"a": torch.ones(1)}
    assert training.kept(path, {"seed": 0}, pytest.fail) == {"a": torch.ones(1)}
    with pytest.raises(ValueError, match=r"part\.pt was made with other settings or pictures; remove it"):
        training.kept(path, {"seed": 1}, pytest.fail)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"part\.pt is damaged; remove it"):
        training.kept(path, {"seed": 0}, pytest.fail)
