"""How well methods do: blanks in captions, filled by each of them."""

from birnn_decode.evaluation.blanks import MethodFigures, fill_blanks, summarise

__all__ = ["MethodFigures", "fill_blanks", "summarise"]
