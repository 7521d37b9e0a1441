"""Molecules: what is one, the pair that comes with the package, the picture and the demo."""

import io
import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("click")
pytest.importorskip("rdkit")

from command import output_of, refusal_of, run_here
from PIL import Image
from rdkit import Chem, RDLogger, rdBase

from birnn_decode import Template, decode
from birnn_decode.cli.demo import MOLECULE
from birnn_decode.models import LSTMCaptioner, default_pair, molecule_pair, save_pair
from birnn_decode.molecules import is_molecule
from birnn_decode.show.molecules import HEIGHT, KNOWN, MARGIN, WIDTH, _known_atoms, draw_molecules, written
from birnn_decode.vocabularies import CharacterVocabulary

METHODS = ["urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "bscd"]


@pytest.mark.parametrize("smiles", ["C", "CC(=O)Oc1ccccc1C(=O)O", "c1cc[nH]c1", "C[N+](C)(C)C", "F/C=C\\F"])
def test_molecules(smiles):
    assert is_molecule(smiles)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "C1CC",  # a ring that does not close
        "CC(=O",
        "CC)C",
        "FC(F)(F)(F)F",  # five bonds at a carbon
        "c1ccc1c",
        "a red circle",
        "C benzene",  # RDKit would take the second word for a name
        "C\n",
    ],
)
def test_no_molecules(text):
    assert not is_molecule(text)


def test_rdkit_says_nothing_and_its_log_stays_as_it_was(capfd):
    before = rdBase.LogStatus()
    try:
        RDLogger.DisableLog("rdApp.warning")
        RDLogger.EnableLog("rdApp.info")
        changed = rdBase.LogStatus()
        assert not is_molecule("C1CC")
        draw_molecules({"one": [("C1CC", True)]})
        assert rdBase.LogStatus() == changed
    finally:
        RDLogger.EnableLog("rdApp.warning")
        RDLogger.DisableLog("rdApp.info")
    assert rdBase.LogStatus() == before
    assert not is_molecule("FC(F)(F)(F)F")
    assert capfd.readouterr() == ("", "")
    Chem.MolFromSmiles("C1CC")
    assert "unclosed ring" in capfd.readouterr().err  # there would be something to say


def test_importing_needs_no_rdkit():
    code = "import sys; sys.modules['rdkit'] = None\n"
    code += "import birnn_decode.molecules, birnn_decode.show.molecules; birnn_decode.molecules.is_molecule('C')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")
    assert "is_molecule('C')" not in done.stdout
    assert "from rdkit" in done.stderr


def test_the_pair_completes_molecules():
    models = molecule_pair()
    assert isinstance(models.forward.vocabulary, CharacterVocabulary)
    result = decode(models, None, "CC(=O)N{3-9}c1ccccc1")
    for one in result.hypotheses:
        assert one.text.startswith("CC(=O)N")
        assert one.text.endswith("c1ccccc1")
    assert is_molecule(result.best.text)


# ---- the picture ----


def opened(data):
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
    return picture


def colours(picture, number=0):
    """The colours in one of the drawings, each with the number of its pixels."""
    left, top = MARGIN + number % 4 * (WIDTH + MARGIN), MARGIN
    return {colour: count for count, colour in picture.crop((left, top, left + WIDTH, top + HEIGHT)).getcolors(2**20)}


def test_what_was_known():
    characters = CharacterVocabulary("CON")
    template = Template.from_text("CC__O_", characters)
    assert written(template, [characters.encode("NN"), characters.encode("C")], characters) == [
        ("CC", True),
        ("NN", False),
        ("O", True),
        ("C", False),
    ]


@pytest.mark.parametrize(
    ("pieces", "atoms"),
    [
        ([("CC", True), ("=", False), ("O", True)], [[0, 1], [2]]),
        ([("C", True), ("l", False), ("CO", True)], [[], [1, 2]]),  # C becomes Cl, which is not known
        ([("c1cc[n", True), ("H", False), ("]c1Br", True)], [[0, 1, 2], [4, 5]]),
        ([("C[N+](C)(C)C", False)], []),
        ([("[H]", True), ("OC", True)], []),  # RDKit leaves this hydrogen out
    ],
)
def test_known_atoms(pieces, atoms):
    molecule = Chem.MolFromSmiles("".join(text for text, _ in pieces))
    assert _known_atoms(molecule, pieces) == atoms


def test_atoms_are_counted_as_rdkit_counts_them():
    """In every kind of SMILES: brackets, charges, isotopes, two letters, stereochemistry, rings above nine."""
    for smiles in (MOLECULE, "[13CH3][C@@H](Br)c1ccc2[nH]ccc2c1", "C%10CCCC%10[N+](=O)[O-]", "OB(O)c1sc(Cl)c(I)c1P"):
        molecule = Chem.MolFromSmiles(smiles)
        (atoms,) = _known_atoms(molecule, [(smiles, True)])
        assert atoms == list(range(molecule.GetNumAtoms()))


def test_the_known_part_is_in_colour():
    known, mixed, unknown = (
        colours(opened(draw_molecules({"one": [("CCN", first), ("c1ccccc1", second)]}))).get(KNOWN, 0)
        for first, second in ((True, True), (True, False), (False, False))
    )
    assert known > mixed > 100
    assert unknown == 0


def test_a_text_that_is_no_molecule_is_written_out():
    picture = opened(draw_molecules({"one": [("CC", True), ("(", False)], "two": [("CC", True), ("O", False)]}))
    assert colours(picture, 0)[KNOWN] > 2 * 10 * 10  # two characters
    assert colours(picture, 0) != colours(picture, 1)
    nothing = opened(draw_molecules({"one": [("", True)]}))
    assert KNOWN not in colours(nothing)


def test_all_drawings_have_the_same_size():
    sizes = [opened(draw_molecules({str(n): [("CCO", False)] for n in range(count)})).size for count in (1, 4, 5, 8)]
    assert sizes[1][0] == MARGIN + 4 * (sizes[0][0] - MARGIN)
    assert sizes[1][0] == sizes[2][0] == sizes[3][0]
    assert sizes[0][1] == sizes[1][1] < sizes[2][1] == sizes[3][1]


def test_a_picture_is_drawn_alike_each_time():
    pieces = {"one": [("CC(=O)Nc1", True), ("ccccc1", False)], "two": [("CC(=O)Nc1", True), ("ccncc1", False)]}
    assert draw_molecules(pieces) == draw_molecules(pieces)


# ---- the demo ----


def rows_of(printed):
    return {line.split()[0]: line for line in printed.splitlines() if line.split(" ")[0] in METHODS}


@pytest.mark.process
def test_demo(tmp_path):
    printed = output_of("demo", "--molecule", folder=tmp_path)
    facts = dict(line.split(maxsplit=1) for line in printed.splitlines()[:3])
    assert facts["picture"] == "molecule.png"
    assert facts["molecule"] == MOLECULE
    assert f"{{{round(len(MOLECULE) / 2)}}}" in facts["template"]
    assert "right  molecule  rows" in printed
    assert list(rows_of(printed)) == METHODS
    assert "✓" in rows_of(printed)["bscd"]
    with Image.open(tmp_path / "molecule.png") as drawn:
        assert drawn.size[0] == MARGIN + 4 * (WIDTH + MARGIN)
    assert [path.name for path in tmp_path.iterdir()] == ["molecule.png"]


def test_the_marks_of_the_demo_are_those_of_rdkit(tmp_path):
    begin, end = len(MOLECULE) // 4, 3 * len(MOLECULE) // 4
    template = f"{MOLECULE[:begin]}{{{end - begin}}}{MOLECULE[end:]}"
    arguments = ["demo", "--molecule", template, "--out", "x.png", "--top", "2"]
    answer = json.loads(output_of(*arguments, "--json", folder=tmp_path, runner=run_here))
    assert "molecule" not in answer
    printed = output_of(*arguments, folder=tmp_path, runner=run_here)
    assert "right" not in printed
    assert (tmp_path / "x.png").is_file()
    texts = [one["text"] for method in METHODS for one in answer["methods"][method]["hypotheses"][:2]]
    lines = printed.splitlines()
    begin = 1 + next(number for number, line in enumerate(lines) if line.startswith("method"))
    assert ["✓" in line for line in lines[begin : begin + len(texts)]] == [is_molecule(text) for text in texts]
    assert lines[begin + len(texts)] == ""
    assert len({*map(is_molecule, texts)}) == 2  # both are there


def test_a_molecule_of_ones_own(tmp_path):
    answer = json.loads(
        output_of("demo", "--molecule", "CC(=O)Nc1ccc(O)cc1", "--json", folder=tmp_path, runner=run_here)
    )
    assert answer["molecule"] == "CC(=O)Nc1ccc(O)cc1"
    for result in answer["methods"].values():
        for one in result["hypotheses"]:
            assert one["text"].startswith("CC(=")
            assert one["text"].endswith("O)cc1")
            assert len(one["text"]) == len("CC(=O)Nc1ccc(O)cc1")


def test_a_pair_of_ones_own(tmp_path):
    characters = CharacterVocabulary("CO")
    sizes = {"feature_size": 0, "hidden_size": 4, "embedding_size": 4}
    save_pair(
        *(LSTMCaptioner(characters, direction=way, **sizes) for way in ("forward", "backward")),
        tmp_path / "own.safetensors",
    )
    arguments = ["demo", "--model", "own.safetensors", "--molecule"]
    answer = json.loads(output_of(*arguments, "C__O", "--json", folder=tmp_path, runner=run_here))
    assert {*answer["methods"]["bscd"]["hypotheses"][0]["text"]} <= {*"CO"}
    assert "the vocabulary lacks the character 'N'" in refusal_of(*arguments, "CN_", folder=tmp_path, runner=run_here)


@pytest.mark.process
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_demo_without_rdkit(more, tmp_path):
    arguments = ["birnn-decode", "demo", "--molecule", *more]
    code = f"import sys; sys.modules['rdkit'] = None; sys.argv = {arguments!r}\n"
    code += "from birnn_decode.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
    if more:
        assert "picture" not in json.loads(done.stdout)
        return
    assert list(rows_of(done.stdout)) == METHODS
    header = next(line for line in done.stdout.splitlines() if line.startswith("method"))
    assert header.split()[-3:] == ["right", "rows", "ms"]
    last = "There is no picture, because rdkit is missing; the extra birnn_decode[molecules] brings it."
    assert done.stdout.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scene", "4"], "--scene chooses a scene: leave out --scene or --molecule"),
        (["--seed", "2"], "--seed chooses a scene"),
        (["--out", "nowhere/x.png"], "cannot write nowhere/x.png: there is no folder nowhere"),
        (["--molecule", "CC?"], "the vocabulary lacks the character '?'"),
        (["--molecule", "C{3-1}C"], "low <= high"),
        (["--model", "SCENES"], "the vocabulary lacks"),
    ],
)
def test_refusals(arguments, message, tmp_path):
    models = default_pair()
    save_pair(models.forward, models.backward, tmp_path / "SCENES")
    assert message in refusal_of("demo", "--molecule", *arguments, folder=tmp_path, runner=run_here)
    assert [path.name for path in tmp_path.iterdir()] == ["SCENES"]
