"""The reference captioners, the Bi-RNN, the translator, the alignment model, image encoders, and model files."""

from birnn_decode.models.alignment import AlignmentModel, ranking_loss
from birnn_decode.models.birnn import BiRNN
from birnn_decode.models.captioner import Captioner, GRUCaptioner, LSTMCaptioner, MultimodalRNN
from birnn_decode.models.encoder import ImageEncoder, SmallCNN, open_picture
from birnn_decode.models.files import (
    default_pair,
    load_alignment,
    load_birnn,
    load_pair,
    molecule_pair,
    save_alignment,
    save_birnn,
    save_pair,
)
from birnn_decode.models.pretrained import EfficientNetLite0, TorchvisionEncoder
from birnn_decode.models.regions import region_boxes, region_features
from birnn_decode.models.translator import Translator

__all__ = [
    "AlignmentModel",
    "BiRNN",
    "Captioner",
    "EfficientNetLite0",
    "GRUCaptioner",
    "ImageEncoder",
    "LSTMCaptioner",
    "MultimodalRNN",
    "SmallCNN",
    "TorchvisionEncoder",
    "Translator",
    "default_pair",
    "load_alignment",
    "load_birnn",
    "load_pair",
    "molecule_pair",
    "open_picture",
    "ranking_loss",
    "region_boxes",
    "region_features",
    "save_alignment",
    "save_birnn",
    "save_pair",
]
