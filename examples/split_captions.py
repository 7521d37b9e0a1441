"""Mark the last images of a caption file as its splits val and test: split_captions.py FILE VAL TEST.

FILE has the layout of Karpathy's caption data sets; VAL and TEST are numbers of images. All other images become train.
"""

import json
import sys
from collections import Counter
from pathlib import Path


def split_captions(path, val, test):
    dataset = json.loads(path.read_text(encoding="utf-8"))
    images = dataset["images"]
    for number, image in enumerate(images):
        left = len(images) - number
        image["split"] = "test" if left <= test else "val" if left <= test + val else "train"
    path.write_text(json.dumps(dataset), encoding="utf-8")
    return Counter(image["split"] for image in images)


if __name__ == "__main__":
    counts = split_captions(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    print(", ".join(f"{split}: {counts[split]} images" for split in ("train", "val", "test")))
