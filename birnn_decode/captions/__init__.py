"""Captions: their vocabulary, the scenes that the package draws, and blanks in the middle of them."""

from birnn_decode.captions.blanks import middle_blank
from birnn_decode.captions.scenes import Scene, make_scene, make_scenes
from birnn_decode.captions.vocabulary import WordVocabulary, words_of

__all__ = ["Scene", "WordVocabulary", "make_scene", "make_scenes", "middle_blank", "words_of"]
