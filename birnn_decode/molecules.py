"""Molecules as text (SMILES), checked with RDKit."""

from __future__ import annotations

__all__ = ["is_molecule"]


def is_molecule(smiles: str) -> bool:
    """Return whether RDKit can read a text as a molecule.

    RDKit checks that brackets and rings close, that each atom has a possible number of bonds, and that aromatic rings
    can be aromatic. It prints nothing. A text that is empty or has white space is no molecule.

    Args:
        smiles: the text.

    Returns:
        Whether the text is a molecule.

    Raises:
        ModuleNotFoundError: RDKit is not installed. The extra ``birnn_decode[molecules]`` brings it.

    Example:
        >>> from birnn_decode.molecules import is_molecule
        >>> is_molecule("c1ccccc1")
        True
        >>> is_molecule("c1ccccc")  # the ring does not close
        False
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        # RDKit reads what follows white space as a name.
        return smiles.split() == [smiles] and Chem.MolFromSmiles(smiles) is not None
