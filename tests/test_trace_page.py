"""The trace page in a real browser: stepping, keys, hints, every method, hostile words, and no request to a network."""

import json
import re
import shutil

import pytest
from tables import pair

from birnn_decode import (
    BSCD,
    BeamSearch,
    Exact,
    Gibbs,
    JointModel,
    Objective,
    Pair,
    Rerank,
    Template,
    compare,
    decode,
)

pytest.importorskip("jinja2", reason="the extra birnn_decode[cli] is not installed")
from birnn_decode.show import trace_page
from birnn_decode.show.trace_page import MOST_SPLICES
from birnn_decode.show.trace_page import page as page_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
V = 30
BLANK = Template.BLANK


TEXTS = ["<s>", "</s>", "a", "<script>window.hacked = 1</script>", "\"quoted\" & 'both'", "</script><b>bold"]


class Vocabulary:
    """Words of many lengths; some of them are pieces of scripts."""

    def encode(self, text):
        return [int(one) for one in text.split()]

    def decode(self, ids):
        return " ".join(TEXTS[one] if one < len(TEXTS) else "w" + "o" * (one % 7) + str(one) for one in ids)


WORDS = Vocabulary()
TEMPLATE = Template.from_tokens([2, BLANK, BLANK, 3, BLANK, frozenset([4, 5, 7]), 6])


def models(seed=1):
    return Pair(*pair(seed, V, sharpness=2.0))


METHODS = BeamSearch("forward"), Rerank(), BSCD()


def results(template=TEMPLATE, methods=METHODS, seed=1, **options):
    return compare(models(seed), 0, template, list(methods), vocabulary=WORDS, record=True, **options)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra birnn_decode[browser] is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: make browser installs it")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """A page in the browser, with what it wrote to the console and asked the network for."""

    def __init__(self, browser, path, **context):
        self.page = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context}).new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.path = path

    @property
    def step(self):
        return int(self.page.locator("#count").text_content().split()[0])

    @property
    def steps(self):
        return int(self.page.locator("#count").text_content().split()[-1])

    def walk(self):
        """Step through the whole search, and return the heading of every step."""
        self.page.locator("#first").evaluate("button => button.click()")
        headings = [self.page.locator("#heading").text_content()]
        while self.step < self.steps:
            before = self.step
            self.page.keyboard.press("ArrowRight")
            assert self.step == before + 1
            headings.append(self.page.locator("#heading").text_content())
        return headings

    def check(self):
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith("data:")] == [self.path.as_uri()]


@pytest.fixture
def opened(browser, tmp_path):
    pages = []

    def open_page(found, **context):
        path = tmp_path / f"{len(pages)}.html"
        trace_page(found, path, title=context.pop("title", "A <b>title</b>"), picture=context.pop("picture", None))
        pages.append(Opened(browser, path, **context))
        return pages[-1]

    yield open_page
    for one in pages:
        one.check()
        one.page.context.close()


def test_buttons_keys_slider_and_chapters(opened):
    one = opened(results())
    page = one.page
    assert one.step == 1
    assert page.locator("#first").is_disabled()
    page.locator("#next").click()
    page.keyboard.press("ArrowRight")
    assert one.step == 3
    page.keyboard.press("ArrowLeft")
    page.locator("#back").click()
    assert one.step == 1
    page.keyboard.press("End")
    assert one.step == one.steps
    assert page.locator("#heading").text_content() == "The answer"
    assert page.locator("#next").is_disabled()
    page.keyboard.press("Home")
    assert one.step == 1
    page.locator("#slider").fill("4")
    assert one.step == 5
    assert "step 5 of" in page.locator("#slider").get_attribute("aria-valuetext")
    page.get_by_role("button", name="round 1 →").click()
    assert page.locator("[aria-current=step]").text_content() == "round 1 →"
    assert page.locator("#heading").text_content().startswith("Round 1, left to right: missing word 1 of 4")


def test_play_and_pause(opened):
    one = opened(results())
    page = one.page
    page.clock.install()
    page.locator("#play").click()
    page.clock.run_for(3 * 1400 + 100)
    assert one.step == 4
    page.keyboard.press("Tab")
    page.locator("#play").click()
    page.clock.run_for(5000)
    assert one.step == 4
    page.locator("#heading").click()
    page.keyboard.press(" ")
    page.clock.run_for(1500)
    assert one.step == 5
    page.clock.run_for(1400 * one.steps)  # at the end it stops by itself
    assert one.step == one.steps
    assert page.locator("#play").get_attribute("aria-label") == "Play"


def test_the_numbers_are_those_of_the_record(opened):
    found = results()
    one = opened(found)
    page = one.page
    search = found["bscd"].record.searches[0]
    sweep = next(step for step in search.steps if step.kind == "sweep" and step.looks_ahead)
    page.get_by_role("button", name="round 1 →").click()
    for choice in sweep.choices:
        rows = page.locator("#detail .row")
        assert rows.count() == len(choice.candidates)
        for row, candidate in zip(rows.all(), choice.candidates, strict=True):
            assert number(row.locator(".total").text_content()) == pytest.approx(candidate.total, abs=0.006)
            assert row.locator("b").text_content() == WORDS.decode([candidate.words[-1]])
            assert ("out" in row.get_attribute("class").split()) == (not candidate.kept)
            label = row.get_attribute("aria-label")
            whole = WORDS.decode((*candidate.words, *candidate.rest))
            assert label.startswith(f"{'kept' if candidate.kept else 'dropped'}: {whole}. ")
            numbers = candidate.prefix, candidate.log_prob, candidate.look_ahead, candidate.total
            said = re.findall(r"(?:so far|this word|look-ahead|total) (\S+?)(?:,| nats$)", label)
            assert [number(one) for one in said] == pytest.approx(numbers, abs=0.006)
        page.keyboard.press("ArrowRight")
    splices = next(step for step in search.steps if step.kind == "splices").splices
    page.get_by_role("button", name="first joins").click()
    said = page.locator("#says").text_content()
    assert f"the {min(len(splices), MOST_SPLICES)} most promising joins" in said
    assert f"{sum(one.score is not None for one in splices)} were read to the end" in said
    best = found["bscd"].best
    assert page.locator("#differences tr.best td").nth(1).text_content() == f"{best.joint:.2f}".replace("-", "−")
    first = page.locator("#ranking .heat").first
    assert first.locator(".spoken").text_content() == WORDS.decode(best.tokens)
    cells = first.locator("tbody tr").first.locator("td").all_text_contents()
    assert [number(cell) for cell in cells[1:]] == pytest.approx(best.token_log_probs_forward, abs=0.06)
    spans = page.locator("#sure ol").first.locator("li").all_text_contents()
    assert len(spans) == len(found["bscd"].posterior.spans[0])


def test_bars_have_one_scale(opened):
    one = opened(results())
    scales = set()
    while one.step < one.steps - 1:
        one.page.keyboard.press("ArrowRight")
        rows = one.page.locator("#detail .row:not(.out)").evaluate_all(
            """rows => rows.map(row => [
                [...row.querySelectorAll("rect")].reduce((sum, part) => sum + Number(part.getAttribute("width")), 0),
                row.querySelector(".total").textContent
            ])"""
        )
        scales.update(round(width / number(total), 1) for width, total in rows)
    assert len(scales) == 1


@pytest.mark.parametrize("width", [390, 1200])
def test_the_diagram_stays_where_it_is(width, opened):
    one = opened(results(), viewport={"width": width, "height": 900})
    places = set()
    while one.step < one.steps:
        places.add(round(one.page.evaluate("board.getBoundingClientRect().top - step.getBoundingClientRect().top")))
        one.page.keyboard.press("ArrowRight")
    assert len(places) == 1


def words_of_path(page):
    """Return the words between the beams, and those of the bold path, by their positions."""
    return page.evaluate(
        """() => [
            Object.fromEntries(
                [...document.querySelectorAll("[data-guess]")].map(one => [one.dataset.guess, one.textContent])
            ),
            [...document.querySelectorAll(".chip.lit")].map(one => [one.dataset.x, one.textContent])
        ]"""
    )


def test_the_sentence_is_that_of_the_bold_path(opened):
    one = opened(results(), viewport={"width": 1200, "height": 3000})
    page = one.page
    bold = 0
    while one.step < one.steps:
        page.keyboard.press("ArrowRight")
        for row in [None, *page.locator("#detail .row, #detail tbody tr").all()[1::3]]:
            if row is not None:
                row.focus()
            between, path = words_of_path(page)
            assert [word for _, word in path] == [between[at] for at, _ in path]
            bold += len(path)
    assert bold > 100


@pytest.mark.parametrize("seed", [1, 2, 9])
def test_the_answer_says_where_it_comes_from(seed, opened):
    found = compare(models(seed), 0, TEMPLATE, list(METHODS), vocabulary=WORDS, record=True)
    one = opened(found)
    page = one.page
    for name, result in found.items():
        page.locator("#methods button", has_text=name).click()
        best = result.best
        assert page.locator("#question .gap").count() == sum(map(len, best.blanks))
        page.keyboard.press("End")
        assert page.locator("#question").text_content() == WORDS.decode(best.tokens)
        between, path = words_of_path(page)
        blank = [WORDS.decode([best.tokens[at]]) for run in best.runs for at in range(*run)]
        assert list(between.values()) == [word if len(word) <= 18 else f"{word[:17]}…" for word in blank]
        assert path
        said = page.locator("#says").text_content()
        (search,) = result.record.searches
        for step in search.steps:
            if step.kind == "splices" and best.tokens in [one.words for one in step.splices if one.score is not None]:
                where = f"by a join {f'after round {step.round}' if step.round else 'of the first two searches'}:"
                break
            if step.kind == "sweep" and not step.repeated:
                ends = [one.words for one in step.choices[-1].candidates if one.kept]
                ranked = [whole(words, step, search.template) for words in ends]
                if best.tokens in ranked:
                    rank = ranked.index(best.tokens)
                    way = "left to right" if step.direction == "forward" else "right to left"
                    sweep = f"round {step.round}, {way}" if step.looks_ahead else f"the {step.direction} beam search"
                    where = f"by {sweep}, where it was {f'number {rank + 1}' if rank else 'the best sentence'}."
                    break
        assert f"It was found {where}" in said
    assert page.locator("#results").get_attribute("open") is not None


def test_why_a_search_without_gain_ended(opened):
    for seed in (7, 8, 9):
        found = decode(models(seed), 0, TEMPLATE, vocabulary=WORDS, record=True)
        (search,) = found.record.searches
        last = [step for step in search.steps if step.kind == "splices"][-1]
        one = opened(found)
        one.page.keyboard.press("End")
        said = one.page.locator("#says .note").text_content()
        if found.stop != "no_gain":
            assert said == found.stop.advice
        elif len(last.splices) > 5:
            assert "its last rounds found nothing better" in said
        else:
            count = f"only {len(last.splices)} new sentence" if last.splices else "no new sentence"
            assert f"ended after round {found.rounds} because {count}" in said
            worse = bool(last.splices) and found.best.tokens not in [one.words for one in last.splices]
            assert ("better" in said.split(".")[0]) == worse


def known_scores(found):
    """Return J of each sentence that is known to methods. Only BSCD has joins."""
    known = {one.tokens: one.joint for result in found.values() for one in result.hypotheses}
    joins = [step for step in found["bscd"].record.searches[0].steps if step.kind == "splices"]
    return known | {one.words: one.score for step in joins for one in step.splices if one.score is not None}


def met(step, template):
    """Return the sentences of a step."""
    if step.kind == "splices":
        return [one.words for one in step.splices]
    return [whole(one.words, step, template) for one in step.choices[-1].candidates if one.kept]


@pytest.mark.parametrize(
    "seed", [2, 4, 8]
)  # bscd finds the sentence of the rerank, that of the first joins, or a later one
def test_who_found_the_best(seed, opened):
    found = results(seed=seed)
    top = max((result.best for result in found.values()), key=lambda one: one.joint)
    finders = [name for name, result in found.items() if result.best.tokens == top.tokens]
    assert len(finders) == (2 if seed == 2 else 1)
    one = opened(found)
    page = one.page
    assert page.locator("#differences tr.best th").all_text_contents() == finders
    said = page.locator("#differences .note").text_content()
    assert said.startswith(
        f"{'Both ' if seed == 2 else ''}{' and '.join(finders)} found the sentence with the highest J."
    )
    for name, result in found.items():
        page.locator("#methods button", has_text=name).click()
        page.keyboard.press("End")
        said = page.locator("#says").text_content()
        same = [other for other, own in found.items() if other != name and own.best.tokens == result.best.tokens]
        assert ("found the same sentence" in said) == bool(same)
        if same:
            assert f"{' and '.join(same)} found the same sentence." in said
        better = f"{' and '.join(finders)} found a sentence with a better J, {signed(top.joint)}: "
        assert (better in said) == (name not in finders)
        assert ("No method on this page found a better one." in said) == (name in finders)
        assert ("Here the rounds found nothing better." in said) == (name == "bscd" and seed != 8)


@pytest.mark.parametrize(("seed", "unread"), [(2, 0), (4, 2), (8, 4)])
def test_what_follows_a_sweep_and_what_becomes_of_its_sentence(seed, unread, opened):
    found = results(seed=seed)
    (search,) = found["bscd"].record.searches
    known, steps = known_scores(found), search.steps
    looks = [number for number, step in enumerate(steps) if step.kind == "sweep" and step.looks_ahead]
    page = opened(found).page
    said = []
    while page.locator("#next").is_enabled():
        page.keyboard.press("ArrowRight")
        if page.locator("#heading").text_content().endswith("the sweep is complete"):
            said.append(page.locator("#says").text_content())
    candidates = 0
    for number, text in zip(looks, said, strict=True):
        assert ("The next sweep runs the other way" in text) == (number != looks[-1])
        assert (" No sweep follows. The search ended after round" in text) == (number == looks[-1])
        score = known.get(met(steps[number], search.template)[0])
        assert ("It is only a candidate: it was not among the best joins" in text) == (score is None)
        candidates += score is None
        before = [known.get(words) for step in steps[:number] for words in met(step, search.template)]
        best = max(one for one in before if one is not None)
        if score is not None:
            compared = f"worse than the best so far, {signed(best)}" if score < best else "the best so far"
            assert f"its J is {signed(score)}, {compared}." in text
    assert candidates == unread


@pytest.mark.parametrize("seed", [2, 8, 9, 13])
def test_joins_tell_what_is_best_and_where_they_come_from(seed, opened):
    found = results(seed=seed)
    (search,) = found["bscd"].record.searches
    known, steps = known_scores({"bscd": found["bscd"]}), search.steps
    page = opened(found).page
    frontiers, green, sources = {}, [], 0
    for number, step in enumerate(steps):
        if step.kind == "sweep":
            frontiers[step.direction] = {choice.position: choice.candidates for choice in step.choices}
        if step.kind != "splices" or not step.splices:
            continue
        page.get_by_role("button", name=f"joins of round {step.round}" if step.round else "first joins").click()
        before = [known.get(words) for earlier in steps[:number] for words in met(earlier, search.template)]
        best = max(one for one in before if one is not None)
        top = max(one.score for one in step.splices if one.score is not None)
        green.append(top >= best)
        assert page.locator("#detail tr.best").count() == green[-1]
        said = page.locator("#says").text_content()
        assert (f"worse than the best so far, {signed(best)}." in said) == (not green[-1])
        assert (f"The best so far, {signed(top)}, is in green." in said) == green[-1]
        joins = {WORDS.decode(one.words): one for one in step.splices}
        for row in page.locator("#detail tbody tr").all():
            text, *note = row.locator("td").first.text_content().split(" (")
            one, halves = joins[text], []
            for direction, name in (("forward", "the beginning"), ("backward", "the ending")):
                beyond = [
                    at for at in frontiers[direction] if (at < one.position if name[4] == "b" else at > one.position)
                ]
                if beyond:
                    beams = frontiers[direction][max(beyond) if direction == "forward" else min(beyond)]
                    ends = [own.words for own in beams if own.kept]
                    whole_words = [
                        one.words[: len(own)] if direction == "forward" else one.words[-len(own) :] for own in ends
                    ]
                    if not any(own == part for own, part in zip(ends, whole_words, strict=True)):
                        halves.append(name)
            assert note == ([f"{' and '.join(halves)} of a sentence found before)"] if halves else [])
            sources += len(halves)
    assert not all(green)
    assert sources or seed == 2


def signed(value):
    return f"{value:.2f}".replace("-", "−")


def whole(words, sweep, template):
    """Return the whole sentence of a candidate at the end of a sweep: known words may follow what it has read."""
    left = len(template) - len(words)
    return (*words, *template[len(words) :]) if sweep.direction == "forward" else (*template[:left], *words)


def number(text):
    return float(text.replace("−", "-"))


def test_hover_and_focus_tell_the_numbers(opened):
    one = opened(results())
    page = one.page
    page.get_by_role("button", name="round 1 ←").click()
    tip = page.locator("#tip")
    assert tip.is_hidden()
    page.locator("#detail .row").nth(1).hover()
    assert re.search(r"kept, rank 2\nwords so far .*\nthis word .*\nlook-ahead .*\ntotal", tip.text_content())
    lit = page.locator(".chip.lit").count()
    assert lit > 1
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.locator("#detail .row").nth(0).focus()
    assert "rank 1" in tip.text_content()
    # One stop of the Tab key leads into the board, and the arrow keys move there without stepping.
    step = one.step
    stops = page.locator("#board [tabindex='0']")
    assert stops.count() == 1
    stops.first.focus()
    before = page.evaluate("document.activeElement.dataset.key")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.key") != before
    assert "nats so far" in tip.text_content()
    assert one.step == step
    page.locator("#board .chip").last.hover(force=True)
    assert "rank" in tip.text_content()


OTHERS = {
    "urnn-b": lambda: decode(models(), 0, TEMPLATE, BeamSearch("backward"), vocabulary=WORDS, record=True),
    "gibbs": lambda: decode(models(), 0, TEMPLATE, Gibbs(sweeps=6), vocabulary=WORDS, record=True),
    "exact": lambda: decode(models(), 0, TEMPLATE, Exact(max_rows=300), vocabulary=WORDS, record=True),
    "one model": lambda: decode(Pair(models().forward, None), 0, TEMPLATE, BeamSearch("forward"), record=True),
    "several widths": lambda: decode(models(), 0, Template.blank([2], (0, 3), [6]), vocabulary=WORDS, record=True),
    "whole": lambda: decode(models(), 0, max_length=5, vocabulary=WORDS, record=True),
    "prior": lambda: decode(models(), 0, TEMPLATE, BSCD(1, [-3.0] * V, 0.5), vocabulary=WORDS, record=True),
    "weight 0": lambda: decode(models(), 0, TEMPLATE, objective=Objective(1, 0), vocabulary=WORDS, record=True),
    "joint": lambda: decode(JointModel(*pair(1, V)), 0, TEMPLATE, vocabulary=WORDS, record=True),
    "impossible": lambda: decode(
        Pair(*pair(3, V, minus_inf=0.9)), 0, Template.from_tokens([2, *[BLANK] * 4, 3]), beam_size=1, record=True
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_method(name, opened):
    found = OTHERS[name]()
    one = opened(found)
    headings = one.walk()
    assert headings[0] == "The question"
    assert headings[-1] == ("The answer" if found.hypotheses else "No answer")
    if name == "gibbs":
        assert sum(heading.startswith("Sweep") for heading in headings) == 6
    if name == "exact":
        assert "How good can any other sentence be?" in headings
    if name == "several widths":
        options = one.page.locator("#lengths option")
        assert options.count() == len(found.record.searches) == 4
        one.page.locator("#lengths select").select_option(index=3)
        one.walk()
    if name == "prior":
        assert "constraints" in one.page.locator("#detail").text_content() or one.steps
    assert "undefined" not in one.page.locator("body").inner_text()
    assert "NaN" not in one.page.locator("body").inner_text()


def test_thirty_words_twenty_beams_and_a_phone(opened):
    template = Template.from_tokens([2, *[BLANK] * 14, 3, *[BLANK] * 14])
    found = results(template, (BeamSearch("backward"), BSCD(max_rounds=1)), beam_size=20)
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    one = opened(found, **phone)
    assert one.path.stat().st_size <= 10**6
    page = one.page
    page.get_by_role("button", name="round 1 →").click()
    assert page.locator("#detail .row").count() == 23
    for _ in range(3):
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_tables_fit_on_a_phone_and_leave_no_room_behind(opened):
    one = opened(results(), viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = one.page
    page.get_by_role("button", name="first joins").click()
    assert page.locator("#detail .scroll").evaluate("host => host.scrollWidth <= host.clientWidth")
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail").evaluate("host => host.getBoundingClientRect().bottom") == pytest.approx(
        page.locator("#detail .rows").evaluate("rows => rows.getBoundingClientRect().bottom"), abs=2
    )
    # No word is cut at the left edge of the diagram.
    scrolled = 0
    while one.step < one.steps:
        left = page.locator(".scroller").evaluate("host => host.getBoundingClientRect().left")
        edges = page.locator(".known rect, .blank rect").evaluate_all(
            "all => all.map(one => [one.getBoundingClientRect().left, one.getBoundingClientRect().right])"
        )
        assert not [edge for edge in edges if edge[0] < left < edge[1]]
        scrolled += min(edges)[0] < left
        page.keyboard.press("ArrowRight")
    assert scrolled > 3
    assert page.locator("#differences .scroll").evaluate("host => host.scrollWidth <= host.clientWidth")


def test_the_first_view_leads_to_the_words_of_the_page(opened):
    page = opened(results()).page
    assert not page.locator("#glossary dl").is_visible()
    page.get_by_role("link", name="Words used on this page").click()
    terms = page.locator("#glossary dt").all_text_contents()
    assert page.locator("#glossary dl").is_visible()
    assert {"model", "join", "score", "look-ahead", "provisional", "urnn-f, urnn-b", "coordinate descent"} < set(terms)


def test_words_are_never_executed(opened):
    hostile = Template.from_tokens([3, BLANK, frozenset([3, 5]), BLANK, 4])
    one = opened(results(hostile), title="</title><script>window.hacked = 1</script>")
    one.walk()
    assert one.page.evaluate("window.hacked") is None
    assert TEXTS[3] in one.page.locator("#ranking").text_content()
    assert one.page.locator("b b").count() == 0
    assert one.page.title() == "</title><script>window.hacked = 1</script>"


def test_a_picture_dark_mode_and_names_for_screen_readers(opened):
    pytest.importorskip("PIL")
    from birnn_decode.captions import make_scene

    backgrounds = []
    for scheme in ("light", "dark"):
        one = opened(results(), picture=make_scene(2, 4).picture(), color_scheme=scheme)
        page = one.page
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.locator("img").evaluate("img => img.complete && img.naturalWidth > 0 && img.alt !== ''")
        for button in page.locator("button").all():
            assert button.get_attribute("aria-label") or button.text_content().strip()
        assert page.locator("[aria-live=polite] #says").text_content()
        page.locator("#slider").fill("3")
        assert all(
            page.locator("#board .chip").evaluate_all("chips => chips.map(chip => chip.getAttribute('aria-label'))")
        )
    assert backgrounds[0] != backgrounds[1]


def test_paper(opened):
    one = opened(results())
    page = one.page
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(".panel").count() == one.steps
    assert page.locator(".panel h3").last.text_content() == f"{one.steps}. The answer"
    assert not page.locator("#player").is_visible()
    assert page.locator(".panel").first.is_visible()
    assert page.pdf()[:4] == b"%PDF"


def test_every_method_can_be_chosen(opened):
    one = opened(results())
    names = one.page.locator("#methods button")
    assert names.locator("strong").all_text_contents() == ["urnn-f", "rerank", "bscd"]
    assert names.locator("small").count() == 3
    assert names.nth(2).get_attribute("aria-pressed") == "true"
    names.nth(0).click()
    assert one.page.locator("#ranking h2").text_content() == "The sentences of urnn-f, word by word"
    assert one.walk()[1].startswith("Forward beam search: missing word 1 of 4")


# ------------------------------------------------------------------------------------------------- without a browser


def test_the_page_is_one_file_without_links(tmp_path):
    trace_page(results(), tmp_path / "trace.html")
    text = (tmp_path / "trace.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["trace.html"]
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    assert {method["name"] for method in json.loads(data)["methods"]} == {"urnn-f", "rerank", "bscd"}


def test_what_it_refuses(tmp_path):
    plain = decode(models(), 0, TEMPLATE)
    with pytest.raises(
        ValueError, match=r"^the result of bscd has no record\. Call decode or compare with record=True\.$"
    ):
        page_of(plain)
    with pytest.raises(ValueError, match="no results"):
        page_of({})
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        trace_page(results(), tmp_path / "nowhere" / "trace.html")


def test_characters_are_written_without_spaces():
    class Letters(Vocabulary):
        def decode(self, ids):
            return "".join(chr(90 + one) for one in ids)

    found = decode(models(), 0, TEMPLATE, vocabulary=Letters(), record=True)
    assert '"space":""' in page_of(found)
    assert '"space":" "' in page_of(results())
