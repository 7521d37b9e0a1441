"""Decode with many workers: questions are a data set of Ray, and each worker is an actor that loads the models once.

Reading and decoding are separate stages. A window of questions is read by a task, which gives its batches; an actor
decodes batches and writes them to parts itself. Only counts come back to this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from birnn_decode.datasets.decoder import Decoder, Job
from birnn_decode.datasets.going import BadQuestionError, Going, loaded
from birnn_decode.datasets.parts import Run
from birnn_decode.datasets.questions import QuestionFile

# What Ray reserves. If every worker reserved a whole CPU, none would be left for the tasks that read, and all would
# wait for each other for ever.
CPUS_OF_WORKER, CPUS_OF_READING = 0.5, 0.25
CALLS_OF_WORKER = 16  # a worker is called about this many times, or more often, so that all end at about the same time
BATCHES_OF_CALL = 16  # at most
STORE = 256 << 20  # bytes of Ray's object store on this machine; batches of questions are small


def decode_on_ray(going: Going, models: Any, job: Job, workers: int, address: str | None) -> None:
    """Decode what is missing of a run with workers of Ray.

    Args:
        going: the run.
        models: models, or a function that loads them.
        job: what is asked.
        workers: the number of workers.
        address: the address of a running cluster; None starts workers on this machine.

    Raises:
        ValueError: there are fewer CPUs than workers, or no GPU, or no cluster at this address.
        OSError: a worker failed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is an exception, too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own imports and threads
        with _quiet():
            import ray
            import ray.data

            logging.getLogger("ray.data").setLevel(logging.ERROR)
            _start(ray, address)
        try:
            resources = _resources(ray.cluster_resources(), workers, job.device, address)
            _decode(ray, going, models, job, workers, resources)
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what Ray's libraries in C++ print while they start, such as the level of their logs."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _start(ray: Any, address: str | None) -> None:
    """Start Ray on this machine, or join a cluster."""
    if address is None:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=STORE,
        )
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(f"there is no Ray cluster at {address} that this machine is part of: {error}") from None


def _resources(there: Mapping[str, float], workers: int, device: str | None, address: str | None) -> dict[str, float]:
    """What Ray reserves for a worker."""
    where = "this machine" if address is None else f"the cluster at {address}"
    cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    if workers > cpus:
        raise ValueError(f"{workers} workers are more than the {cpus} CPU cores of {where}: ask for fewer")
    if device is None or not device.startswith("cuda"):
        return {"num_cpus": CPUS_OF_WORKER}
    if not gpus:
        raise ValueError(f"the device is {device}, and {where} has no GPU")
    return {"num_cpus": CPUS_OF_WORKER, "num_gpus": gpu_share(workers, gpus)}


def gpu_share(workers: int, gpus: int) -> float:
    """Return the share of a GPU for each worker: 1, or as many equal shares as some GPU must have.

    Example:
        >>> from birnn_decode.datasets.cluster import gpu_share
        >>> gpu_share(2, 4), gpu_share(4, 3), gpu_share(12, 4)
        (1.0, 0.5, 0.3333)
    """
    on_one = -(-workers // gpus)
    return int(10_000 / on_one) / 10_000  # Ray takes four digits


def _decode(ray: Any, going: Going, models: Any, job: Job, workers: int, resources: Mapping[str, float]) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    missing = {window: going.missing_of(window) for window in going.missing()}
    at_once = max(1, min(BATCHES_OF_CALL, sum(map(len, missing.values())) // (workers * CALLS_OF_WORKER)))
    units = [
        {"window": window, "batches": batches[begin : begin + at_once]}
        for window, batches in missing.items()
        for begin in range(0, len(batches), at_once)
    ]
    data = ray.data.from_items(units, override_num_blocks=len(units))
    data = data.flat_map(_Reader(going.run, going.questions), num_cpus=CPUS_OF_READING)
    data = data.map_batches(
        _Worker,
        batch_size=None,  # all batches of a unit
        compute=ray.data.ActorPoolStrategy(size=workers),
        fn_constructor_args=(models, job, going.run, going.questions, going.save_every, going.strict),
        **resources,
    )
    going.advance(going.done, going.errors, going.questions.count)
    try:
        for row in data.iter_rows():
            if row["bad"]:
                raise BadQuestionError(str(row["bad"]))
            if row["failed"]:
                raise OSError(f"a worker failed: {row['failed']}")
            going.done += int(row["done"])
            going.errors += int(row["errors"])
            going.advance(going.done, going.errors, going.questions.count)
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise OSError(f"a worker failed: {lines[-1] if lines else type(error).__name__}") from None


class _Reader:
    """The task that reads the batches of a unit."""

    def __init__(self, run: Run, questions: QuestionFile):
        self.run, self.questions = run, questions

    def __call__(self, unit: Mapping[str, Any]) -> list[dict[str, bytes]]:
        if self.run.stop.exists():
            return []
        wanted = {*map(int, unit["batches"])}
        batches = self.questions.batches(int(unit["window"]))
        return [{"batch": pickle.dumps(one)} for one in batches if one.number in wanted]


class _Worker:
    """The actor that decodes batches and writes the answers.

    It returns what fails. If it raised an error, Ray would print pages about it, and hide the cause.
    """

    def __init__(self, models: Any, job: Job, run: Run, questions: QuestionFile, save_every: float, strict: bool):
        self.going = Going(run, questions, frozenset(), save_every, strict)
        self.decoder: Decoder | Exception
        try:
            self.decoder = Decoder(loaded(models), job)
            self.decoder.ready().__enter__()  # for the life of this process
        except Exception as error:
            self.decoder = error

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        before = self.going.done, self.going.errors
        bad = failed = ""
        try:
            self._decode(rows["batch"])
        except BadQuestionError as error:
            bad = str(error)
        except Exception as error:
            failed = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        done, errors = self.going.done - before[0], self.going.errors - before[1]
        counts = {"done": np.array([done]), "errors": np.array([errors])}
        return {**counts, "bad": np.array([bad]), "failed": np.array([failed])}

    def _decode(self, pickled: Sequence[bytes]) -> None:
        decoder = self.decoder
        if isinstance(decoder, Exception):
            raise decoder
        batches = map(pickle.loads, pickled)
        self.going.take(decoder.answer(decoder.prepare(batch)) for batch in batches)
