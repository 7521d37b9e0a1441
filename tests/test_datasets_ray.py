"""Decoding with workers of Ray on this machine: the same bytes, also if a worker is killed."""

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("pyarrow")

from tiny_pair import many_questions, program, tiny_pair, write_lines

from birnn_decode import BeamSearch
from birnn_decode.datasets import cluster, decode_dataset, parts

FORWARD = BeamSearch("forward")
ENOUGH = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need two CPU cores")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_lines(tmp_path_factory.mktemp("questions") / "questions.jsonl", many_questions(400))


@pytest.fixture(scope="module")
def undisturbed(questions, tmp_path_factory):
    output = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    decode_dataset(tiny_pair(), questions, FORWARD, output, batch_size=8, beam_size=2)
    return output.read_bytes()


def workers_of(run):
    """The process ids of the workers of a run that decode: processes whose ancestor is the run."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            names[int(path.name)] = (path / "cmdline").read_bytes().split(b"\0")[0].decode()
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    found = []
    for one, name in names.items():
        above = one
        while above and above != run.pid:
            above = parents.get(above, 0)
        if above == run.pid and name.startswith("ray::") and "_Worker" in name:
            found.append(one)
    return found


@pytest.mark.process
@ENOUGH
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in Linux's /proc")
def test_workers_that_are_killed_and_a_run_that_is_interrupted(questions, undisturbed, tmp_path):
    """Warnings are errors in the main process, and it prints nothing but counts. One process does the rest."""
    output = tmp_path / "answers.jsonl"
    with program(questions, output, "--workers", 2) as run:
        assert run.stdout.readline() == "0\n"
        first = int(run.stdout.readline())
        workers = workers_of(run)
        os.kill(workers[0], signal.SIGKILL)
        lines = iter(run.stdout.readline, "")
        then = [int(next(line for line in lines if line.strip().isdecimal())) for _ in range(4)]  # Ray says it, too
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate()
    assert len(workers) == 2
    assert 0 < first < then[0] < then[-1] < 400
    assert (run.returncode, errors) == (130, "")
    there = {key for path in parts.Run(output).parts.glob("part-*") for key in parts._read_part(path)}
    assert 8 * len(there) >= then[-1]
    done = decode_dataset(tiny_pair(), questions, FORWARD, output, batch_size=8, beam_size=2)
    assert done.decoded == 400 - 8 * len(there)
    assert output.read_bytes() == undisturbed


@pytest.mark.process
def test_what_fails_in_a_worker_is_one_line(questions, undisturbed, tmp_path):
    """Loading the models first, then a search. What was complete by then is kept, and the rest can follow."""
    output = tmp_path / "answers.jsonl"
    for failing, said in (("load", ": too much to load"), ("decode", "")):
        with program(questions, output, "--workers", 1, "--failing", failing) as run:
            _, errors = run.communicate()
        assert run.returncode == 1
        assert errors.splitlines() == [f"a worker failed: MemoryError{said}"]
        assert not output.exists()
    there = {key for path in parts.Run(output).parts.glob("part-*") for key in parts._read_part(path)}
    assert there
    done = decode_dataset(tiny_pair(), questions, FORWARD, output, batch_size=8, beam_size=2)
    assert done.decoded == 400 - 8 * len(there)
    assert output.read_bytes() == undisturbed


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "device", "message"),
    [
        (4, 0, 5, None, "5 workers are more than the 4 CPU cores of the cluster at here:1: ask for fewer"),
        (4, 0, 2, "cuda", "the device is cuda, and the cluster at here:1 has no GPU"),
    ],
)
def test_more_than_there_is_is_one_line(cpus, gpus, workers, device, message):
    with pytest.raises(ValueError, match=message):
        cluster._resources({"CPU": cpus, "GPU": gpus}, workers, device, "here:1")


def test_more_workers_than_cores_are_refused_before_ray_starts(questions, tmp_path):
    many = 1 + (os.cpu_count() or 1)
    with pytest.raises(ValueError, match=f"{many} workers are more than the {many - 1} CPU cores of this machine"):
        decode_dataset(tiny_pair(), questions, FORWARD, tmp_path / "answers.jsonl", workers=many)
    assert not [*tmp_path.iterdir()]


def test_reading_always_finds_a_cpu():
    """Workers that reserved all CPUs would starve the tasks that read, and wait for them for ever."""
    for cpus in range(1, 65):
        for workers in range(1, cpus + 1):
            reserved = workers * cluster._resources({"CPU": cpus}, workers, None, None)["num_cpus"]
            assert cpus - reserved >= cluster.CPUS_OF_READING


@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8, 24])
def test_workers_share_gpus(workers, gpus):
    share = cluster.gpu_share(workers, gpus)
    assert 0 < share <= 1
    assert gpus * int(1 / share + 1e-9) >= workers  # as many workers on a GPU as have room
    assert round(share, 4) == share
