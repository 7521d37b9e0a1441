"""Time BSCD with the models of `test_floor.py` in an earlier commit and now, by turns: before.py REV MODEL ITEMS.

For example, ``python benchmarks/before.py HEAD~1 lstm-256 1``. Each version runs in a process of its own. Prints its
calls into the models, its rows, the median of its milliseconds, and the ratio of the present version to the earlier one
with the quartiles of the single turns.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measuring import Times
from search import HERE, PRESENT, Version, unpacked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rev", metavar="REV", help="an earlier commit")
    parser.add_argument("model", metavar="MODEL", choices=("lstm-256", "lstm-512", "gpt2"))
    parser.add_argument("items", metavar="ITEMS", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    asked = [given.model, str(given.items), str(given.threads)]
    with tempfile.TemporaryDirectory() as name:
        checkout = unpacked(given.rev, Path(name).resolve() / "rev")
        versions = {
            one: Version(where, asked, "one_floor.py") for one, where in ((given.rev, checkout), (PRESENT, HERE.parent))
        }
        times = Times({one: [] for one in versions})
        for turn in range(1 + given.turns):
            order = list(versions) if turn % 2 else list(reversed(versions))
            replies = {one: versions[one].answer({}) for one in order}
            for one, reply in replies.items() if turn else ():  # the first turn takes longer and does not count
                times[one].append(reply["seconds"])
        for one in versions:
            reply = replies[one]
            ratio = times.ratio(one, given.rev)
            print(
                f"{one}: {reply['calls']} calls, {reply['rows']} rows, {1000 * times.median(one):.1f} ms, "
                f"ratio {ratio['ratio']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
            )
        for version in versions.values():
            version.close()


if __name__ == "__main__":
    main()
