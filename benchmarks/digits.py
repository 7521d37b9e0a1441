"""Write pictures of handwritten digits as lines of characters: digits.py OUT.

The pictures are the 1,797 of scikit-learn's ``load_digits`` (E. Alpaydin and C. Kaynak, Optical Recognition of
Handwritten Digits, UCI Machine Learning Repository, 1998): 8 × 8 pixels of 17 levels. A pixel is a letter, ``a`` for
level 0 to ``q`` for level 16, and a picture is one line of 64 letters, row by row. OUT gets train.txt, val.txt and
test.txt with 1,297, 200 and 300 pictures. This script needs scikit-learn, which the extra
``inpainting`` installs.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

PARTS = {"train.txt": 1297, "val.txt": 200, "test.txt": 300}


def main(out):
    pictures = load_digits().images.astype(int).reshape(-1, 64)
    pictures = np.random.default_rng(0).permutation(pictures)
    Path(out).mkdir(parents=True, exist_ok=True)
    begin = 0
    for name, count in PARTS.items():
        lines = ["".join(chr(ord("a") + level) for level in picture) for picture in pictures[begin : begin + count]]
        Path(out, name).write_text("\n".join(lines) + "\n")
        begin += count


if __name__ == "__main__":
    main(*sys.argv[1:])
