"""Captions: their vocabulary, the files that hold them, drawn scenes, and blanks in captions."""

from birnn_decode.captions.blanks import middle_blank
from birnn_decode.captions.datasets import CaptionedImage, CaptionFile, Region, encode_captions, merge, read_captions
from birnn_decode.captions.features import Features, read_features, read_regions
from birnn_decode.captions.scenes import Scene, make_scene, make_scenes
from birnn_decode.vocabularies import WordVocabulary, words_of

__all__ = [
    "CaptionFile",
    "CaptionedImage",
    "Features",
    "Region",
    "Scene",
    "WordVocabulary",
    "encode_captions",
    "make_scene",
    "make_scenes",
    "merge",
    "middle_blank",
    "read_captions",
    "read_features",
    "read_regions",
    "words_of",
]
