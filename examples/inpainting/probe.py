"""How good the features are that networks learned without labels: a linear classifier on top of each."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.inpainting.context_encoder import ContextEncoder


@torch.inference_mode()
def features(model: ContextEncoder, pictures: np.ndarray) -> np.ndarray:
    """Return what the decoder is given for whole pictures, float32 [N, features]."""
    return model.eval().code(torch.from_numpy(pictures)).flatten(1).numpy()


def probe(train: np.ndarray, labels: list, test: np.ndarray, test_labels: list) -> np.ndarray:
    """Return which test pictures a linear classifier on features recognises, float64 [N] of 0 and 1."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    return (classifier.fit(train, labels).predict(test) == np.array(test_labels)).astype(float)
