"""The app, asked over HTTP and in a browser: answers, errors as text, nothing of the machine, several users at once.

`make test-app` runs it in an environment of its own, because Gradio needs another version of Pillow than the rest.
`make crowd` measures the speed of the app, for one user and for a crowd.
"""

import html
import io
import json
import re
import shutil
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("gradio", reason="the extra birnn_decode[app] is not installed: make test-app")

import httpx
from tables import pair

from birnn_decode import BSCD, Pair, decode
from birnn_decode.app import CAPTION_BLANK, CHOSEN, MOST_BEAMS, Questions, make_app, serve
from birnn_decode.captions import make_scene, middle_blank
from birnn_decode.models import default_pair, molecule_pair

# Gradio leaves sockets and event loops to be closed by the interpreter. `make test-app` ignores ResourceWarning, too,
# because some of them are closed only after the last test.
pytestmark = [pytest.mark.app, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
TEMPLATE = "a small green circle _ _ _ _ above a large yellow star"
USERS, CROWD_SECONDS = 8, 60.0  # of the crowd
LEAST_ANSWERS = 3  # that each of them gets
ALONE_QUESTIONS, ALONE_SECONDS = 10, 1.0  # of one user, and the longest median
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def picture():
    return make_scene(2, 4).picture()


@pytest.fixture(scope="module")
def address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    app = make_app(default_pair())
    yield serve(app, port=port, wait=False)
    app.close()


def upload(address, picture):
    """Upload a picture as a browser does, and return what stands for it in a question."""
    data = io.BytesIO()
    picture.save(data, format="PNG")
    (path,) = httpx.post(f"{address}gradio_api/upload", files={"files": ("a.png", data.getvalue())}, timeout=60).json()
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def ask(address, *question):
    """Return the kind of the last event, and its data."""
    sent = httpx.post(f"{address}gradio_api/call/fill", json={"data": question}, timeout=60)
    event = sent.json()["event_id"]
    text = httpx.get(f"{address}gradio_api/call/fill/{event}", timeout=120).text
    kind, data = re.findall(r"event: (\w+)\ndata: (.*)", text)[-1]
    return kind, json.loads(data)


def test_a_question(address, picture):
    kind, (wrong, table, sure, trace) = ask(address, upload(address, picture), TEMPLATE, ["urnn-f", "bscd"], 4)
    expected = decode(default_pair(), picture, TEMPLATE, BSCD(), beam_size=4)
    assert (kind, wrong) == ("complete", "")
    assert f">{expected.best.joint:.2f}<" in table
    assert expected.posterior.spans[0][0].text in sure
    assert trace.startswith('<iframe title="The search, step by step" sandbox="allow-scripts"')
    assert '"name":"bscd"' in html.unescape(trace)


@pytest.mark.parametrize(
    ("template", "methods", "beams", "message"),
    [
        ("a smal _", ["bscd"], 5, "the vocabulary lacks 'smal'; near it: small"),
        ("a small circle", ["bscd"], 5, "has no blank"),
        ("a <script>{x}", ["bscd"], 5, "<script>"),
        ("a _", [], 5, "methods is empty"),
        ("a {0-99} _", ["bscd"], 5, "100 combinations of widths"),
        ("a {9000}", ["bscd"], 5, "more than 200 words"),
    ],
)
def test_errors_are_text(address, picture, template, methods, beams, message):
    kind, (wrong, *nothing) = ask(address, upload(address, picture), template, methods, beams)
    assert kind == "complete"
    assert message in html.unescape(wrong)
    assert "<script" not in wrong
    assert nothing == ["", "", ""]
    assert "there is no picture" in ask(address, None, "a _", ["bscd"], 5)[1][0]


def test_no_file_of_the_machine_is_read(address, picture, tmp_path, monkeypatch):
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    image = tmp_path / "secret.png"
    picture.save(image)
    monkeypatch.chdir(tmp_path)
    for path in (secret, "/etc/passwd", "secret.txt", __file__, image):
        for route in ("gradio_api/file=", "file=", "static/", "assets/", "gradio_api/file%3D", "gradio_api/file=../"):
            got = httpx.get(f"{address}{route}{path}", timeout=60)
            assert got.status_code in (403, 404), (route, path)
            assert "hidden" not in got.text
    for path in (image, secret):
        given = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        kind, _ = ask(address, given, TEMPLATE, ["bscd"], 5)
        assert kind == "error"
    given = {"url": image.as_uri(), "path": "", "meta": {"_type": "gradio.FileData"}}
    assert ask(address, given, TEMPLATE, ["bscd"], 5)[0] == "error"


def test_several_users_at_once(address, picture):
    given = upload(address, picture)
    templates = [f"a small green circle {{{count}}} a large yellow star" for count in range(2, 10)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda template: ask(address, given, template, ["bscd"], 3), templates))
    for template, (kind, answer) in zip(templates, found, strict=True):
        assert (kind, answer[0]) == ("complete", "")
        best = decode(default_pair(), picture, template, beam_size=3).best
        assert f">{best.joint:.2f}<" in answer[1]


def scene_questions(address, count):
    """Return questions like those of "Take a scene", and how the table of answers writes J of BSCD's answer."""
    words = default_pair().forward.vocabulary
    for number in range(count):
        scene = make_scene(2, number)
        template = middle_blank(words.encode(scene.captions[0]), CAPTION_BLANK).to_text(words)
        best = decode(default_pair(), scene.picture(), template, beam_size=5).best
        yield upload(address, scene.picture()), template, f">{best.joint:.2f}<"


def timed(address, given, template, expected):
    """Ask with the methods and the beam size that the app proposes. Return the seconds, and what went wrong or ""."""
    start = time.perf_counter()
    try:
        kind, answer = ask(address, given, template, CHOSEN, 5)
    except Exception as error:
        return time.perf_counter() - start, repr(error)
    seconds = time.perf_counter() - start
    if kind != "complete":
        return seconds, kind
    return seconds, answer[0] or ("" if expected in answer[1] else "another answer")


@pytest.mark.crowd
def test_one_user_waits_less_than_a_second(address):
    found = [timed(address, *question) for question in scene_questions(address, ALONE_QUESTIONS)]
    median = statistics.median(seconds for seconds, _ in found)
    print(f"\none user: {len(found)} questions, {median:.2f} s in the median")
    assert [wrong for _, wrong in found if wrong] == []
    assert median <= ALONE_SECONDS


@pytest.mark.crowd
def test_a_crowd_gets_no_error(address):
    questions = [*scene_questions(address, USERS)]
    end = time.perf_counter() + CROWD_SECONDS

    def user(number):
        found = []
        while time.perf_counter() < end:
            found.append(timed(address, *questions[(number + len(found)) % USERS]))
        return found

    with ThreadPoolExecutor(USERS) as pool:
        users = list(pool.map(user, range(USERS)))
    every = [one for found in users for one in found]
    errors = [wrong for _, wrong in every if wrong]
    median = statistics.median(seconds for seconds, _ in every)
    print(f"\n{USERS} users: {len(every) - len(errors)} answers, {len(errors)} errors, {median:.2f} s in the median")
    assert errors == []
    assert min(map(len, users)) >= LEAST_ANSWERS


def test_only_this_machine_and_no_telemetry():
    app = make_app(default_pair())
    assert app.analytics_enabled is False
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    address = serve(app, port=port, wait=False)
    assert address.startswith("http://127.0.0.1:")
    assert app.share_url is None
    app.close()


def test_the_time_of_a_question_is_limited(picture):
    slow = Questions(default_pair(), seconds=0.0)
    wrong, *nothing = slow.answer(picture, TEMPLATE, ["bscd"], 5)
    assert wrong == ('<p role="alert">This took more than 0 seconds. Ask for fewer words, methods or beams.</p>')
    assert nothing == ["", "", ""]
    assert Questions(default_pair()).answer(picture, TEMPLATE, ["bscd"], 5)[0] == ""


def test_what_it_refuses(picture):
    questions = Questions(default_pair())
    for beams in (0, MOST_BEAMS + 1):
        assert f"from 1 to {MOST_BEAMS}, got {beams}" in questions.answer(picture, TEMPLATE, ["bscd"], beams)[0]
    assert "not a method" in questions.answer(picture, TEMPLATE, ["nothing"], 5)[0]
    with pytest.raises(ValueError, match="no vocabulary"):
        Questions(Pair(*pair(1, 6)))


def test_molecules_are_drawn():
    pytest.importorskip("rdkit")
    questions = Questions(molecule_pair())
    wrong, table, _, _ = questions.answer(None, "CC(=O){3-6}c1ccccc1", ["bscd"], 3)
    assert wrong == ""
    assert 'alt="The answers as molecules" src="data:image/png;base64,' in table


def test_in_a_browser(address):
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: make browser installs it")
    outside = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        own = (address, "data:", "blob:", "about:")
        page.on("request", lambda request: request.url.startswith(own) or outside.append(request.url))
        page.goto(address)
        page.get_by_role("button", name="Take a scene").click()
        page.wait_for_function("[...document.querySelectorAll('textarea, input')].some(one => one.value.includes('_'))")
        page.get_by_role("button", name="Fill", exact=True).click()
        trace = page.frame_locator("iframe")
        trace.get_by_role("button", name="beam search →").click()
        assert trace.locator("#heading").text_content().startswith("Forward beam search: missing word")
        page.get_by_label("Template").fill("a smal _")
        page.get_by_role("button", name="Fill", exact=True).click()
        page.get_by_role("alert").wait_for()
        browser.close()
    assert outside == []
