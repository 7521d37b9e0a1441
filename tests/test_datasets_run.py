"""Decoding a data set: answers, faults of questions, parts, and what happens when a run ends early."""

import json
import signal
import threading
from pathlib import Path

import pytest
from tiny_pair import VOCABULARY, many_questions, tiny_pair, write_lines

from birnn_decode import BSCD, BanWords, BeamSearch, Exact, decode
from birnn_decode.datasets import decode_dataset, parts, read_answers
from birnn_decode.datasets.columns import COLUMNS
from birnn_decode.datasets.going import Going, _ahead
from birnn_decode.datasets.questions import read_questions

QUICK = {"batch_size": 4, "beam_size": 2}
FORWARD = BeamSearch("forward")
PAIR = tiny_pair()


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """150 questions, a window of 64 at a time with batches of 4; the third has a fault."""
    asked = many_questions(150)
    asked[2]["template"] = "a zebra _"
    return write_lines(tmp_path_factory.mktemp("questions") / "questions.jsonl", asked)


@pytest.fixture(scope="module")
def undisturbed(questions, tmp_path_factory):
    output = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    done = decode_dataset(PAIR, questions, FORWARD, output, **QUICK)
    assert (done.answers, done.decoded) == (150, 150)
    assert done.errors > 0
    return output


@pytest.fixture
def output(tmp_path):
    return tmp_path / "answers.jsonl"


def again(questions, output, **options):
    return decode_dataset(PAIR, questions, FORWARD, output, **{**QUICK, **options})


def stop_after(count):
    """A callback that presses Ctrl-C, as it were, when so many answers are there."""

    def advance(done, errors, total):
        if done >= count:
            signal.raise_signal(signal.SIGINT)

    return advance


@pytest.fixture
def begun(questions, output):
    """A run that was interrupted after 40 answers, with a part for each batch."""
    with pytest.raises(KeyboardInterrupt):
        again(questions, output, save_every=0, advance=stop_after(40))
    assert len([*parts.Run(output).parts.glob("part-*")]) in range(10, 13)
    return output


def refusal(function):
    with pytest.raises((ValueError, OSError, TypeError)) as caught:
        function()
    (line,) = str(caught.value).splitlines()
    return line


# ------------------------------------------------------------------------------------------------------------- answers


def test_answers_are_those_of_decode(questions, undisturbed):
    """On the same batches, bit for bit; and each question by itself within rounding."""
    asked = read_questions(questions, 4)
    answers = {one["id"]: one for one in read_answers(undisturbed)}
    for window in range(asked.windows):
        for batch in asked.batches(window):
            good = [one for one in batch.questions if answers[one.id]["error"] is None]
            sources, templates = ([one.fields[name] for one in good] for name in ("source", "template"))
            for one, result in zip(good, decode(PAIR, sources, templates, FORWARD, beam_size=2), strict=True):
                own, best = answers[one.id], result.best
                assert own["text"] == best.text
                assert own["score"] == own["hypotheses"][0]["score"] == best.score
                assert own["log_prob_forward"] == best.log_prob_forward
                assert [found["tokens"] for found in own["hypotheses"]] == [[*h.tokens] for h in result.hypotheses]
                assert (own["stop"], own["rounds"], own["rows"]) == (result.stop, result.rounds, result.rows_evaluated)
                assert own["signature"] == result.signature
                assert own["width"] == sum(map(len, best.blanks)) == one.width


def test_columns_are_stable_and_fields_are_carried(questions, undisturbed):
    asked = [json.loads(line) for line in questions.read_text().splitlines()]
    answers = list(read_answers(undisturbed))
    assert [one["id"] for one in answers] == list(range(1, 151))
    for question, answer in zip(asked, answers, strict=True):
        assert list(answer) == [*COLUMNS, *question]
        assert {name: answer[name] for name in question} == question
        assert (answer["text"] is None) == (answer["error"] is not None)


def test_every_fault_of_a_question_is_its_answer(tmp_path, output):
    good = {"source": "1", "template": "a _ ball"}
    faults = [
        ({"template": "a _ ball"}, "must be"),
        ({**good, "template": "a zebra _"}, "zebra"),
        ({**good, "template": "a {9-3} ball"}, "3"),
        ({**good, "template": "a {1-70} ball"}, "at most 64"),
        ({**good, "template": 5}, "the template must be text"),
        ({**good, "template": ""}, "the template must be text"),
        ({"source": 5}, "source must be text, got 5"),
        ({**good, "image": "a.png"}, "give one of them"),
        ({"features": ["a"]}, "features must be a list of finite numbers"),
        ({"features": [1e99]}, "features must be a list of finite numbers"),
        ({"features": "a"}, "no file of features was given"),
        ({"source": "no number"}, "no number"),
    ]
    asked = [good]
    for question, _ in faults:
        asked += [question, good]
    done = decode_dataset(PAIR, asked, FORWARD, output, **QUICK)
    answers = list(read_answers(output))
    assert (done.answers, done.errors) == (len(asked), len(faults))
    assert {one["text"] for one in answers[::2]} == {answers[0]["text"]}
    for answer, (question, message) in zip(answers[1::2], faults, strict=True):
        assert answer["error"] is not None, question
        assert message in answer["error"] or message == "must be", answer
        assert "\n" not in answer["error"]


def test_a_template_that_constraints_forbid_is_an_error_and_the_others_are_not(output):
    asked = [{"source": str(number), "template": "a _ ball"} for number in range(5)]
    asked[3]["template"] = "a {0} ball"
    everything = [BanWords(VOCABULARY.decode(range(4, len(VOCABULARY))).split())]
    done = decode_dataset(PAIR, asked, BSCD(), output, constraints=everything, **QUICK)
    errors = [one["error"] for one in read_answers(output)]
    assert done.errors == 4
    assert errors.pop(3) is None
    assert all("satisfies these constraints" in error for error in errors)


def test_strict_stops_at_the_first_fault_and_keeps_the_answers(questions, output):
    assert refusal(lambda: again(questions, output, strict=True)).startswith("question 3: ")
    assert not output.exists()
    assert again(questions, output).decoded < 150


def test_models_may_come_from_a_function(questions, undisturbed, output):
    decode_dataset(tiny_pair, questions, FORWARD, output, **QUICK)
    assert output.read_bytes() == undisturbed.read_bytes()


def test_other_formats(questions, undisturbed, tmp_path):
    pytest.importorskip("pyarrow")
    answers = list(read_answers(undisturbed))
    again(questions, tmp_path / "coco.json", form="coco")
    expected = [{"image_id": one["id"], "caption": one["text"] or ""} for one in answers]
    assert json.loads((tmp_path / "coco.json").read_text()) == expected
    again(questions, tmp_path / "answers.parquet")
    assert list(read_answers(tmp_path / "answers.parquet")) == answers
    again(questions, tmp_path / "again.parquet", save_every=0)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "answers.parquet").read_bytes()


def test_parquet_holds_fields_of_several_types(tmp_path):
    pytest.importorskip("pyarrow")
    asked = [
        {"id": "a", "source": "1", "template": "a _", "more": {"x": 1}, "tags": ["x"], "size": 1},
        {"id": 2, "source": "2", "template": "a _", "more": "text", "tags": [], "size": 1.5},
        {"id": "c", "source": "3", "template": "a _", "more": None, "large": 2**70},
    ]
    decode_dataset(PAIR, asked, Exact(), tmp_path / "answers.parquet", **QUICK)
    answers = list(read_answers(tmp_path / "answers.parquet"))
    assert [one["id"] for one in answers] == ["a", "2", "c"]
    assert [one["more"] for one in answers] == [{"x": 1}, "text", None]
    assert [one["tags"] for one in answers] == [["x"], [], None]
    assert [one["size"] for one in answers] == [1.0, 1.5, None]
    assert answers[2]["large"] == 2**70
    assert all(one["proved"] for one in answers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bscd"}, "method must be a Method"),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0."),
        ({"threads": 0}, "threads must be a positive integer, got 0."),
        ({"workers": -1}, "workers must be"),
        ({"save_every": -1}, "save_every must be"),
        ({"beams": 3}, "unknown keywords: beams."),
        ({"form": "csv"}, "form must be 'jsonl' or"),
        ({"address": "localhost:1"}, "address is that of a Ray cluster: say how many workers"),
        ({"output": "answers.csv"}, "answers.csv must end in .jsonl or .parquet"),
        ({"output": "answers.parquet", "form": "jsonl"}, "answers.parquet does not go with the format jsonl"),
        ({"images": "nowhere"}, "there is no folder nowhere for the images"),
    ],
)
def test_wrong_settings_are_one_clear_line(questions, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    asked = {"method": FORWARD, "output": "answers.jsonl", **QUICK, **options}
    assert refusal(lambda: decode_dataset(PAIR, questions, **asked)).startswith(message)
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------- never lost, and never twice


def test_an_interrupted_run_goes_on_where_it_was(begun, questions, undisturbed):
    before = {path.name: path.read_bytes() for path in parts.Run(begun).parts.glob("part-*")}
    seen = []
    done = again(questions, begun, advance=lambda *counts: seen.append(counts))
    there = 150 - done.decoded
    assert 40 <= there <= 48
    assert len(before) == there // 4
    assert seen[0][0] == there
    assert seen[-1] == (150, done.errors, 150)
    assert begun.read_bytes() == undisturbed.read_bytes()
    assert sorted(path.name for path in begun.parent.iterdir()) == ["answers.jsonl", "answers.jsonl.manifest.json"]


def test_a_complete_run_is_left_as_it_is(questions, output):
    first = again(questions, output)
    time = output.stat().st_mtime_ns
    second = again(questions, output)
    assert (second.answers, second.errors, second.decoded) == (150, first.errors, 0)
    assert output.stat().st_mtime_ns == time


def test_the_manifest_says_what_the_answers_are_of(questions, undisturbed):
    manifest = json.loads(parts.Run(undisturbed).manifest.read_text())
    assert manifest["questions"]["count"] == manifest["answers"]["count"] == 150
    assert manifest["settings"]["method"] == repr(FORWARD)
    assert manifest["answers"]["images"] == str(questions.parent)
    assert parts.images_of(undisturbed) == questions.parent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beam_size": 3}, 'beam_size was "2" and is now "3"'),
        ({"batch_size": 5}, "batch_size was 4 and is now 5"),
        ({"method": BSCD()}, 'method was "BeamSearch('),
        ({"constraints": [BanWords(["a"])]}, 'constraints was "[]" and is now'),
        ({"threads": 2}, "threads was 1 and is now 2"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_other_settings_are_refused_and_nothing_is_lost(questions, begun, undisturbed, change, message, complete):
    if complete:
        again(questions, begun)
    asked = {"method": FORWARD, **QUICK, **change}
    line = refusal(lambda: decode_dataset(PAIR, questions, output=begun, **asked))
    assert message in line
    assert "delete" in line
    again(questions, begun)
    assert begun.read_bytes() == undisturbed.read_bytes()


def test_other_questions_and_other_models_are_refused(begun, tmp_path, questions):
    asked = many_questions(150)
    line = refusal(lambda: again(write_lines(tmp_path / "others.jsonl", asked), begun))
    assert line.startswith(f"{begun} was begun with other settings: sha256 was ")
    assert "count was 150 and is now 140" in refusal(
        lambda: again(write_lines(tmp_path / "fewer.jsonl", asked[:140]), begun)
    )


def test_weights_are_part_of_the_settings():
    torch = pytest.importorskip("torch")
    from birnn_decode.datasets.decoder import fingerprint
    from birnn_decode.models import default_pair
    from birnn_decode.request import Models

    models = default_pair()
    before = fingerprint(Models.wrap(models, None))
    assert before == fingerprint(Models.wrap(default_pair(), None))
    with torch.no_grad():
        models.backward.output.bias[3] += 1e-3
    assert fingerprint(Models.wrap(models, None)) != before


def test_half_a_part_is_decoded_again(begun, questions, undisturbed):
    found = sorted(parts.Run(begun).parts.glob("part-*"))
    found[0].write_bytes(found[0].read_bytes()[:-30])
    found[1].write_bytes(b"")
    text = found[2].read_bytes()
    found[2].write_bytes(text.replace(b'"score": -', b'"score": -1', 1))
    found[3].with_name(f"{found[3].name}{parts.TEMPORARY}").write_bytes(found[3].read_bytes()[:50])
    done = again(questions, begun)
    assert done.damaged == 3
    assert begun.read_bytes() == undisturbed.read_bytes()


def test_a_batch_that_two_parts_have_is_there_once(begun, questions, undisturbed):
    first = min(parts.Run(begun).parts.glob("part-*"))
    first.with_name(first.name.replace("part-", "part-9")).write_bytes(first.read_bytes())
    again(questions, begun)
    assert begun.read_bytes() == undisturbed.read_bytes()


def test_files_of_others_are_not_touched(questions, output):
    output.write_text("mine")
    assert refusal(lambda: again(questions, output)).endswith("is not of this command: name another output")
    assert output.read_text() == "mine"
    parts.Run(output).manifest.write_text("{}")
    assert "is no manifest of this command" in refusal(lambda: again(questions, output))
    assert output.read_text() == "mine"


def test_answers_that_were_changed_are_said_to_be(questions, output, undisturbed):
    again(questions, output)
    output.write_bytes(output.read_bytes() + b"{}\n")
    assert "was changed after it was written" in refusal(lambda: again(questions, output))
    output.unlink()
    again(questions, output)
    assert output.read_bytes() == undisturbed.read_bytes()


def test_two_runs_cannot_write_one_file(questions, output):
    with parts.Run(output).locked():
        assert "another run writes" in refusal(lambda: again(questions, output))
    again(questions, output)


def test_answers_have_their_name_when_they_are_complete(questions, output, undisturbed, monkeypatch):
    class Killed(BaseException):
        pass

    def half(file, lines, form, asked):
        file.write(next(lines))
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(parts, "write_answers", half)
        with pytest.raises(Killed):
            again(questions, output)
    assert not output.exists()
    assert again(questions, output).decoded == 0
    assert output.read_bytes() == undisturbed.read_bytes()


def test_where_nothing_can_be_written(questions, tmp_path):
    assert "is a folder" in refusal(lambda: again(questions, _folder(tmp_path / "folder.jsonl")))
    assert "there is no folder" in refusal(lambda: again(questions, tmp_path / "none" / "answers.jsonl"))
    if Path("/proc/self").exists():
        assert refusal(lambda: again(questions, Path("/proc/self/answers.jsonl"))).startswith(
            "cannot write the answers"
        )


def _folder(path):
    path.mkdir()
    return path


def test_a_run_in_a_thread_leaves_signals_alone(questions, undisturbed, output):
    done = []
    thread = threading.Thread(target=lambda: done.append(again(questions, output)))
    thread.start()
    thread.join()
    assert done[0].answers == 150
    assert output.read_bytes() == undisturbed.read_bytes()


def test_an_error_of_the_models_ends_the_run_and_keeps_what_is_complete(questions, output, undisturbed, monkeypatch):
    batches = []
    from birnn_decode.datasets import decoder

    def failing(*arguments, **options):
        batches.append(arguments)
        if len(batches) == 6:
            raise MemoryError("too much")
        return decode(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(decoder, "decode", failing)
        with pytest.raises(MemoryError) as kept:  # with its traceback, which holds what ran
            again(questions, output)
        assert not reading_threads(), kept
    assert again(questions, output).decoded == 150 - 5 * 4
    assert output.read_bytes() == undisturbed.read_bytes()


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("reading")]


def test_batches_are_read_while_another_one_is_decoded():
    """The next two are read in one thread, in order; what it raises arrives where the batch would."""
    read, seen = [], []

    def items():
        for number in range(6):
            read.append((number, threading.current_thread().name))
            yield number
        raise OSError("the disk is gone")

    def use():
        for one in _ahead(items()):
            seen.append(one)
            assert len(read) <= len(seen) + 2

    with pytest.raises(OSError, match="the disk is gone"):
        use()
    assert seen == [0, 1, 2, 3, 4, 5]
    assert [number for number, _ in read] == seen
    assert len({thread for _, thread in read}) == 1
    assert read[0][1].startswith("reading")
    assert not reading_threads()


def test_parts_are_closed_after_their_time_or_size(questions, output, monkeypatch):
    written = []
    monkeypatch.setattr(parts.Run, "write_part", lambda self, answered: written.append(len(answered)))
    clock = iter(range(1000))
    monkeypatch.setattr("birnn_decode.datasets.going.time.monotonic", lambda: next(clock))
    going = Going(parts.Run(output), read_questions(questions, 4), frozenset(), save_every=3, strict=False)
    batches = going.batches(0)[:8]
    going.take(parts.Answered(batch, [b"{}\n"] * 4, 0, 0.1) for batch in batches)
    assert sum(written) == 8
    assert len(written) > 2
    written.clear()
    monkeypatch.setattr("birnn_decode.datasets.going.LARGEST_PART", 12)
    going.save_every = 1e9
    going.take(parts.Answered(batch, [b"{}\n"] * 4, 0, 0.1) for batch in batches)
    assert written == [3, 3, 2]
