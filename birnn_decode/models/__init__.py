"""The reference captioners, their image encoder, and the files that they are kept in."""

from birnn_decode.models.captioner import Captioner, GRUCaptioner, LSTMCaptioner, MultimodalRNN
from birnn_decode.models.encoder import SmallCNN, open_picture
from birnn_decode.models.files import default_pair, load_captioner, save_captioner

__all__ = [
    "Captioner",
    "GRUCaptioner",
    "LSTMCaptioner",
    "MultimodalRNN",
    "SmallCNN",
    "default_pair",
    "load_captioner",
    "open_picture",
    "save_captioner",
]
