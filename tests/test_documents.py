"""README, CONTRIBUTING and the pages under docs: their Python blocks and commands run and print what the pages show."""

import collections
import csv
import shlex

import pytest
from documents import PAGES, ROOT, blocks_of, commands_of, run_command, run_page, same

torch = pytest.importorskip("torch")
pytest.importorskip("click")

from command import output_of, run_here  # noqa: E402
from PIL import Image  # noqa: E402

from birnn_decode import DecodeResult  # noqa: E402

# Blocks that a comment above them exempts: a page with a new one is entered here.
SKIPPED = {
    "CONTRIBUTING.md": 1,
    "docs/birnns.md": 1,
    "docs/datasets.md": 1,
    "docs/inpainting.md": 1,
    "docs/lines.md": 3,
    "docs/molecules.md": 1,
    "docs/results-search.md": 1,
    "docs/trace.md": 1,
    "docs/tutorial.md": 7,
}
# Every recipe of these pages has models of its own in test_wrapping.py and test_recipes.py.
ELSEWHERE = {"docs/wrapping.md", "docs/recipes.md"}
# Numbers of pictures and epochs that take long. The test uses others in their place.
SMALLER = {
    "docs/ranking.md": {"20": "3"},
    "docs/tutorial.md": {"2000": "100", "1600": "80", "200": "10"},
}


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """METEOR, which is tested where it is computed, takes seconds to start."""
    monkeypatch.setenv("PATH", "/nowhere")


class Words:
    """A vocabulary as small as the texts of the pages allow."""

    words = ("<pad>", "<start>", "<end>", "<unk>", "a", "girl", "and", "boy", "on", "wind", "board", "are", "holding")

    def encode(self, text):
        return [self.words.index(word) for word in text.split()]

    def decode(self, ids):
        return " ".join(self.words[token] for token in ids)

    def __len__(self):
        return len(self.words)


class Captioner(torch.nn.Module):
    """A reader's captioner, with random weights."""

    def __init__(self):
        super().__init__()
        self.cnn = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5), torch.nn.Flatten(), torch.nn.Linear(4 * 12**2, 6))
        self.h0, self.c0 = torch.nn.Linear(6, 8), torch.nn.Linear(6, 8)
        self.embedding = torch.nn.Embedding(len(Words.words), 8)
        self.lstm = torch.nn.LSTM(8, 8, batch_first=True)
        self.project = torch.nn.Linear(8, len(Words.words))


def captioner_scorer(model, start_token, end_token):
    from birnn_decode.scorers.recurrent import RecurrentScorer

    return RecurrentScorer(
        embed=model.embedding,
        recurrent=model.lstm,
        project=model.project,
        start=lambda features: (model.h0(features)[None], model.c0(features)[None]),
        encode=lambda images: model.cnn(torch.stack(images)),
        vocab_size=len(Words.words),
        start_token=start_token,
        end_token=end_token,
        never={0, 3},
        vocabulary=Words(),
        model=model,
    )


def readers_own():
    """What a reader has: two captioners, their scorers, a vocabulary and images."""
    torch.manual_seed(0)
    images = [torch.rand(3, 16, 16) for _ in range(2)]
    captioners = [Captioner() for _ in range(2)]
    return {
        "captioner_f": captioners[0],
        "captioner_b": captioners[1],
        "model_f": captioner_scorer(captioners[0], 1, 2),
        "model_b": captioner_scorer(captioners[1], 2, 1),
        "words": Words(),
        **{"PAD": 0, "START": 1, "END": 2, "UNK": 3},
        "image": images[0],
        "images": images,
        "templates": ["a _ on a board", "a girl {0-2} board"],
    }


def check_readme(names, folder):
    assert len(names["results"]) == 2
    assert names["results"][0].best.text.startswith("a ")
    assert names["result"].best.tokens[0] == 4
    for result in (*names["results"], names["result"]):
        assert not {0, 3} & {*result.best.tokens}
        assert result.best.text == names["words"].decode(result.best.tokens)
    with Image.open(folder / "scene.png") as drawn, Image.open(ROOT / "docs" / "scene.png") as shown:
        assert drawn.tobytes() == shown.tobytes()


def check_constraints(names, folder):
    results = [result for result in names.values() if isinstance(result, DecodeResult)]
    assert results
    assert all(one.penalty <= 0 == len(one.broken) for result in results for one in result.hypotheses)


def check_joint(names, folder):
    assert 0 < len(names["cycles"]) <= 5


def check_molecules(names, folder):
    """The picture is that of the last command, so the first one is drawn again."""
    run_command("birnn-decode demo --molecule", folder)
    with Image.open(folder / "molecule.png") as drawn, Image.open(ROOT / "docs" / "molecule.png") as shown:
        assert drawn.tobytes() == shown.tobytes()


def check_lines(names, folder):
    """BSCD is far better than beams and the rerank. What the page does not run works with smaller models and files."""
    with (folder / "results" / "figures.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "valid" and not row["minus"]]
    valid = {row["method"]: float(row["value"]) for row in rows}
    assert valid["bscd"] > 0.1 + max(share for method, share in valid.items() if method not in ("bscd", "gibbs"))
    assert valid["bscd"] > 2 * valid["urnn-f"]
    some = {name: (folder / name).read_text().splitlines()[:300] for name in ("expressions.txt", "sentences.de")}
    some["sentences.en"] = (folder / "sentences.en").read_text().splitlines()[:300]
    some |= dict.fromkeys(("lines.txt", "train.txt", "val.txt", "test.txt"), some["expressions.txt"])
    for number, block in enumerate(one for one in blocks_of("docs/lines.md") if one.skip is not None):
        own = folder / f"small-{number}"
        own.mkdir()
        (own / "examples").symlink_to(ROOT / "examples")
        for name, lines in some.items():
            (own / name).write_text("".join(f"{line}\n" for line in lines))
        for command, _ in commands_of(block):
            program, *arguments = shlex.split(command)
            if program == "birnn-decode":
                small = {"train": ["--hidden-size", "8", "--epochs", "1"], "evaluate": ["--limit", "2"]}
                output_of(*arguments, *small.get(arguments[0], []), folder=own, runner=run_here)
            else:
                run_command(command, own)


# What is true after the last block of a page, beside what the page prints.
CHECKS = {
    "README.md": check_readme,
    "docs/constraints.md": check_constraints,
    "docs/birnns.md": check_joint,
    "docs/lines.md": check_lines,
    "docs/molecules.md": check_molecules,
}


def pages():
    for page in PAGES:
        blocks = blocks_of(page)
        if blocks and page not in ELSEWHERE:
            starts_programs = any(block.is_console and block.skip is None for block in blocks)
            yield pytest.param(page, id=page, marks=[pytest.mark.process] if starts_programs else [])


@pytest.mark.parametrize("page", list(pages()))
def test_a_page_runs_and_prints_what_it_shows(page, tmp_path, monkeypatch):
    if page == "docs/molecules.md":
        pytest.importorskip("rdkit")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page}
    run_page(page, tmp_path, names, readers_own, SMALLER.get(page, {}))
    if page in CHECKS:
        CHECKS[page](names, tmp_path)


def test_blocks_that_are_not_run_are_counted():
    skipped = collections.Counter(block.page for page in PAGES for block in blocks_of(page) if block.skip is not None)
    assert skipped == SKIPPED


def test_the_first_example_of_the_readme_is_ten_lines():
    first = next(block for block in blocks_of("README.md") if block.is_python)
    assert len(first.text.splitlines()) <= 10
    assert first.printed is not None


@pytest.mark.parametrize(
    "command", ["birnn-decode demo", "birnn-decode demo --molecule", "python examples/toy_scorers.py"]
)
def test_a_page_shows_what_a_program_prints(command):
    shown = {
        asked.partition("#")[0].strip().removeprefix(".venv/bin/"): lines
        for page in PAGES
        for block in blocks_of(page)
        if block.is_console and block.skip is None
        for asked, lines in commands_of(block)
    }
    assert "".join(shown[command]).strip()


@pytest.mark.parametrize(
    ("printed", "shown", "alike"),
    [
        ("loss 1.25 (saved)", "loss 0.5 (saved)", True),
        ("bscd  f(x,2)  -3.5  -1", "bscd  x[1]  2", True),
        ("loss 1.25 (saved)", "loss 1.25", False),
        ("bscd 1", "rerank 1", False),
    ],
)
def test_figures_may_vary(printed, shown, alike):
    assert same(printed, shown, vary=True) is alike
    assert not same(printed, shown)


@pytest.mark.parametrize(
    ("printed", "shown", "alike"),
    [
        ("a  b\n", "a b", True),
        ("a\nb\nc\n", "a\n…\nc", True),
        ("a\nc\n", "a\n…\nc", False),
        ("took 12 ms", "took 9 ms", True),
        ("rows 12", "rows 9", False),
        ("x  rows ms\na  3  12", "x rows ms\na  3  9", True),
        ("x  rows ms\na  3  12", "x rows ms\na  4  12", False),
    ],
)
def test_outputs_are_compared_but_for_spaces_and_times(printed, shown, alike):
    assert same(printed, shown) is alike
