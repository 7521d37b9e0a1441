"""A picture of molecules: what was known in colour, and what a method wrote that is no molecule as text."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from birnn_decode.template import Template, Vocabulary

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Written: TypeAlias = Sequence[tuple[str, bool]]
"""The pieces of a SMILES in order, each with whether it was known."""

COLUMNS = 4
WIDTH, HEIGHT, CAPTION = 320, 210, 60  # pixels of a drawing, and of the two lines below it
MARGIN, INSET = 12, 4
CELL = 14, 30  # pixels of a written character
BOND = 26.0  # largest length of a bond, in pixels, so that small and large molecules look alike
KNOWN = (255, 200, 87)
INK, GREY, GREEN, RED = (20, 20, 20), (215, 215, 215), (24, 128, 56), (190, 30, 45)
# Each match is an atom, in the order in which RDKit numbers them.
ATOM = re.compile(r"\[[^\]]*\]|Br|Cl|[BCNOPSFIbcnops*]")


def written(template: Template, blanks: Sequence[Sequence[int]], vocabulary: Vocabulary) -> list[tuple[str, bool]]:
    """Return the pieces of a sentence, each with whether the template has it.

    Args:
        template: the template.
        blanks: ids that fill its blanks, as in ``Hypothesis.blanks``.
        vocabulary: the vocabulary of the sentence.

    Returns:
        The pieces, in order.

    Example:
        >>> from birnn_decode.vocabularies import CharacterVocabulary
        >>> characters = CharacterVocabulary("CO")
        >>> written(Template.from_text("C_C", characters), [characters.encode("O")], characters)
        [('C', True), ('O', False), ('C', True)]
    """
    fills = iter(blanks)
    pieces = []
    for known, parts in itertools.groupby(template.parts, key=lambda part: isinstance(part, int)):
        ids = [part for part in parts if isinstance(part, int)] if known else list(next(fills))
        pieces.append((vocabulary.decode(ids), known))
    return pieces


def draw_molecules(molecules: Mapping[str, Written]) -> bytes:
    """Draw molecules side by side, and mark those that are none.

    All drawings have the same size. Atoms and bonds that were known have a coloured background, and the longest known
    piece points the same way in all drawings. A SMILES that is no molecule is written out.

    Args:
        molecules: what stands below each drawing, to what is drawn there.

    Returns:
        The picture as a PNG file.

    Raises:
        ModuleNotFoundError: RDKit is not installed. The extra ``birnn_decode[molecules]`` brings it.

    Example:
        >>> drawn = draw_molecules({"ether": [("C", True), ("O", False), ("C", True)], "nothing": [("C(", False)]})
        >>> drawn.startswith(bytes([0x89]) + b"PNG")
        True
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = -(-len(molecules) // COLUMNS)
    columns = min(COLUMNS, len(molecules))
    size = MARGIN + columns * (WIDTH + MARGIN), MARGIN + rows * (HEIGHT + CAPTION + MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    name_font, text_font = (ImageFont.load_default(size) for size in (20, 16))
    reference: Any = None
    for number, (name, pieces) in enumerate(molecules.items()):
        row, column = divmod(number, COLUMNS)
        left, top = MARGIN + column * (WIDTH + MARGIN), MARGIN + row * (HEIGHT + CAPTION + MARGIN)
        draw.rounded_rectangle((left, top, left + WIDTH, top + HEIGHT + CAPTION), radius=8, outline=GREY)
        molecule = _molecule(pieces)
        if molecule is None:
            _write(draw, pieces, left, top)
        else:
            reference = reference or (molecule, pieces)
            picture.paste(_drawing(molecule, pieces, *reference), (left + INSET, top + INSET))
        said, colour = ("no molecule", RED) if molecule is None else ("a molecule", GREEN)
        middle = left + WIDTH / 2
        draw.text((middle, top + HEIGHT + 16), name, INK, name_font, anchor="mm")
        draw.text((middle, top + HEIGHT + 40), said, colour, text_font, anchor="mm")
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _molecule(pieces: Written) -> Any:
    """Return RDKit's molecule, with positions for its atoms; None if the text is no molecule."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor

    from birnn_decode.molecules import is_molecule

    smiles = "".join(text for text, _ in pieces)
    if not is_molecule(smiles):
        return None
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        rdDepictor.Compute2DCoords(molecule)
    return molecule


def _drawing(molecule: Any, pieces: Written, reference: Any, reference_pieces: Written) -> Image.Image:
    """Draw a molecule. Its longest known piece is turned as that of the reference."""
    from PIL import Image
    from rdkit.Chem import rdMolAlign
    from rdkit.Chem.Draw import rdMolDraw2D

    groups, others = _known_atoms(molecule, pieces), _known_atoms(reference, reference_pieces)
    longest = max(zip(groups, others, strict=False), key=lambda pair: len(pair[0]), default=([], []))
    if molecule is not reference and len(longest[0]) > 1:
        # The last atom of a piece may be part of another one: C becomes Cl.
        rdMolAlign.AlignMol(molecule, reference, atomMap=list(zip(*longest, strict=False)))
    atoms = [atom for group in groups for atom in group]
    bonds = [
        bond.GetIdx()
        for bond in molecule.GetBonds()
        if any({bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} <= {*group} for group in groups)
    ]
    drawer = rdMolDraw2D.MolDraw2DCairo(WIDTH - 2 * INSET, HEIGHT - 2 * INSET)
    options: Any = drawer.drawOptions()
    options.useBWAtomPalette()
    options.fixedBondLength = BOND
    options.highlightBondWidthMultiplier = 14
    options.highlightRadius = 0.28
    options.setHighlightColour(tuple(part / 255 for part in KNOWN))
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, molecule, highlightAtoms=atoms, highlightBonds=bonds)
    drawer.FinishDrawing()
    return Image.open(io.BytesIO(drawer.GetDrawingText()))


def _known_atoms(molecule: Any, pieces: Written) -> list[list[int]]:
    """Return the numbers of the atoms of each known piece."""
    matches = list(ATOM.finditer("".join(text for text, _ in pieces)))
    if len(matches) != molecule.GetNumAtoms():  # RDKit leaves [H] out
        return []
    groups, begin = [], 0
    for text, known in pieces:
        end = begin + len(text)
        if known:
            groups.append([n for n, atom in enumerate(matches) if begin <= atom.start() and atom.end() <= end])
        begin = end
    return groups


def _write(draw: ImageDraw.ImageDraw, pieces: Written, left: int, top: int) -> None:
    """Write a SMILES in lines, with the known characters on the colour of the known atoms."""
    from PIL import ImageFont

    font = ImageFont.load_default(20)
    characters = [(character, known) for text, known in pieces for character in text]
    line_count = -(-len(characters) * CELL[0] // (WIDTH - 2 * MARGIN)) or 1
    a_line = -(-len(characters) // line_count) or 1
    lines = [characters[begin : begin + a_line] for begin in range(0, len(characters), a_line)]
    y = top + (HEIGHT - len(lines) * CELL[1]) // 2
    for line in lines:
        x = left + (WIDTH - len(line) * CELL[0]) // 2
        for character, known in line:
            if known:
                draw.rectangle((x, y, x + CELL[0] - 1, y + CELL[1] - 4), KNOWN)
            draw.text((x + CELL[0] / 2, y + CELL[1] / 2 - 2), character, INK, font, anchor="mm")
            x += CELL[0]
        y += CELL[1]
