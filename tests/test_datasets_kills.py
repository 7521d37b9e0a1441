"""Programs that are killed, and disks that are full: nothing complete is lost, and each answer is there once.

``make kills`` kills the command itself fifty times over a run of 2,000 pictures, with one process and two workers.
"""

import json
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tiny_pair import many_questions, program, tiny_pair, write_lines

from birnn_decode import BeamSearch
from birnn_decode.datasets import decode_dataset, parts

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and limits are those of Unix"),
]
FORWARD = BeamSearch("forward")

LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = sys.argv[1:]
runpy.run_path("tests/tiny_pair.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_lines(tmp_path_factory.mktemp("questions") / "questions.jsonl", many_questions(300))


@pytest.fixture(scope="module")
def undisturbed(questions, tmp_path_factory):
    output = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    decode_dataset(tiny_pair(), questions, FORWARD, output, batch_size=8, beam_size=2)
    return output.read_bytes()


def test_five_kills(questions, undisturbed, tmp_path):
    """A run is killed a few batches after its start, at a random moment: in a search, in a part, between two parts."""
    draw, output = np.random.default_rng(0), tmp_path / "answers.jsonl"
    killed = 0
    for _ in range(5):
        with program(questions, output) as run:
            for _ in zip(range(int(draw.integers(1, 8))), run.stdout, strict=False):
                pass
            threading.Event().wait(float(draw.random()) * 0.02)
            run.kill()
        killed += run.returncode == -signal.SIGKILL
    assert killed == 5
    assert not output.exists()
    assert 5 <= len([*parts.Run(output).parts.glob("part-*")]) < 38
    with program(questions, output) as last:
        _, errors = last.communicate()
    assert (last.returncode, errors) == (0, "")
    assert output.read_bytes() == undisturbed


def test_a_kill_at_every_step_of_the_end(questions, undisturbed, tmp_path, monkeypatch):
    """The answers are written, then the manifest, then the parts are deleted; a kill may come before any of them."""
    steps = ("_write_durably", "write_whole", "os.replace")
    output = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        decode_dataset(tiny_pair(), questions, FORWARD, output, batch_size=8, beam_size=2, save_every=0, advance=_stop)
    for step in steps:

        class Killed(BaseException):
            pass

        def kill(*arguments, killed=Killed):
            raise killed

        with monkeypatch.context() as patched:
            # Parts are written by then.
            patched.setattr(parts.Run, "finish", _with(parts.Run.finish, patched, step, kill))
            with pytest.raises(Killed):
                decode_dataset(tiny_pair(), questions, FORWARD, output, batch_size=8, beam_size=2)
        assert [*parts.Run(output).parts.glob("part-*")]
    again = decode_dataset(tiny_pair(), questions, FORWARD, output, batch_size=8, beam_size=2)
    assert (again.answers, again.decoded) == (300, 0)
    assert output.read_bytes() == undisturbed


def _stop(done, errors, total):
    if done >= 100:
        signal.raise_signal(signal.SIGINT)


def _with(finish, patched, step, kill):
    def finish_until(*arguments):
        patched.setattr(f"birnn_decode.datasets.parts.{step}", kill)
        return finish(*arguments)

    return finish_until


def test_ctrl_c_finishes_the_batch(questions, undisturbed, tmp_path):
    output = tmp_path / "answers.jsonl"
    with program(questions, output, "--save-every", 1000) as run:
        for _ in zip(range(6), run.stdout, strict=False):
            pass
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate()
    assert (run.returncode, errors) == (130, "")
    (part,) = parts.Run(output).parts.glob("part-*")
    assert len(json.loads(part.read_bytes().splitlines()[0])["batches"]) >= 5
    decode_dataset(tiny_pair(), questions, FORWARD, output, batch_size=8, beam_size=2)
    assert output.read_bytes() == undisturbed


def test_a_full_disk_is_one_line_and_the_rest_is_done_when_there_is_room(tmp_path):
    """A limit on the size of a file stands for the disk: of parts first, then of the merged file."""
    questions = write_lines(tmp_path / "questions.jsonl", many_questions(100))
    once, output = tmp_path / "once.jsonl", tmp_path / "answers.jsonl"
    decode_dataset(tiny_pair(), questions, FORWARD, once, batch_size=8, beam_size=2)
    for limit in (2000, once.stat().st_size // 2):
        with program(limit, questions, output, code=LIMITED) as run:
            _, errors = run.communicate()
        assert run.returncode == 1
        (line,) = errors.splitlines()
        assert line.startswith(f"cannot write the answers of {output}: File too large. What is complete is kept")
        assert not output.exists()
        assert not [*tmp_path.rglob(f"*{parts.TEMPORARY}")]
    assert len([*parts.Run(output).parts.glob("part-*")]) == 13
    with program(questions, output) as run:
        counts, errors = run.communicate()
    assert (run.returncode, errors, counts.split()) == (0, "", [])
    assert output.read_bytes() == once.read_bytes()


# ------------------------------------------------------------------------------------------------------ the long test

KILLS, PICTURES, BATCH = 50, 2000, 16


@pytest.mark.kills
@pytest.mark.parametrize("workers", [0, 2])
def test_fifty_kills_of_the_command(tmp_path, workers):
    """The moments are drawn at random: in the start of the program, in a search, in a part."""
    pytest.importorskip("torch")
    if workers:
        pytest.importorskip("ray")
    from command import command_line, heed_interrupts

    def started(*arguments):
        given = [part for part in command_line(*arguments) if part not in ("-W", "error")]
        return subprocess.Popen(given, stdout=subprocess.DEVNULL, preexec_fn=heed_interrupts)

    pictures, once, output = tmp_path / "pictures", tmp_path / "once.jsonl", tmp_path / "answers.jsonl"
    assert started("scenes", pictures, "--count", PICTURES, "--seed", 7, "--sentences", 1).wait() == 0
    began = time.monotonic()
    asked = ["decode", pictures / "questions.jsonl", "--batch-size", BATCH, "-o"]
    assert started(*asked, once).wait() == 0
    seconds = time.monotonic() - began
    given = [*asked, output, "--workers", workers, "--save-every", 0]
    draw, kills, folder = np.random.default_rng(workers), 0, parts.Run(output).parts
    while kills < KILLS and not output.exists():
        run = started(*given)
        # Half of the kills fall into the start, the others after some more batches.
        if draw.random() < 0.5:
            threading.Event().wait(float(draw.uniform(0, 15 if workers else 5)))
        else:
            goal = len([*folder.glob("part-*")]) + int(draw.integers(1, 3))
            while run.poll() is None and len([*folder.glob("part-*")]) < goal:
                threading.Event().wait(0.05)
            threading.Event().wait(float(draw.uniform(0, 0.3)))
        run.kill()
        kills += run.wait() == -signal.SIGKILL
        print(f"{kills} kills, {len([*folder.glob('part-*')])} parts", flush=True)
    assert started(*given).wait() == 0
    assert output.read_bytes() == once.read_bytes()
    print(f"{kills} kills; undisturbed in {seconds:.0f} s")
    assert kills == KILLS
