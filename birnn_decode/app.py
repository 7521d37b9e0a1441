"""An app to try a pair of models in a browser: ask a question, choose methods, and watch the search."""

from __future__ import annotations

import base64
import html
import importlib.util
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from birnn_decode import Pair, Template, compare
from birnn_decode.request import BACKWARD, FORWARD
from birnn_decode.result import DecodeResult
from birnn_decode.scorers.protocol import as_scorer
from birnn_decode.show.trace_page import page

if TYPE_CHECKING:
    import gradio

METHODS = ("urnn-f", "urnn-b", "urnn-f+end", "urnn-b+end", "rerank", "bscd", "bscd-paper", "gibbs")
CHOSEN = ("urnn-f", "urnn-b", "rerank", "bscd")
MOST_BEAMS = 20
MOST_WORDS = 200  # of a template
SECONDS = 20.0  # that a question may take
WAITING, AT_ONCE = 32, 2  # questions in the queue, and answered side by side
LARGEST_FILE = "5mb"
FONTS = ("system-ui", "sans-serif")  # of the reader's machine; Gradio's own come from a network
SCENES, CAPTION_BLANK = 10_000, 0.5


class TooSlowError(Exception):
    """A question has taken longer than it may."""


class _Timed:
    """A scorer that refuses to read on after a time, which each thread has for itself."""

    def __init__(self, scorer: Any, until: threading.local):
        self._scorer, self._until = scorer, until

    def __getattr__(self, name: str) -> Any:
        if name in ("step", "steps", "score") and time.perf_counter() > getattr(self._until, "time", float("inf")):
            raise TooSlowError
        return getattr(self._scorer, name)


class Questions:
    """What answers the questions of an app.

    Args:
        models: the pair.
        seconds: the seconds that a question may take.
    """

    def __init__(self, models: Pair, seconds: float = SECONDS):
        self._until = threading.local()
        forward, backward = as_scorer(models.forward, FORWARD), as_scorer(models.backward, BACKWARD)
        self.pair = Pair(_Timed(forward, self._until), _Timed(backward, self._until))
        self.vocabulary: Any = getattr(forward, "vocabulary", None)
        self.seconds = seconds
        self.reads_text = getattr(forward, "source_vocabulary", None) is not None
        self.sees = not self.reads_text and bool(getattr(forward, "feature_size", 0))
        if self.vocabulary is None:
            raise ValueError("the models have no vocabulary, so they cannot read a template. Give them one.")
        if self.sees and getattr(forward, "encoder", None) is None:
            raise ValueError("the models have no image encoder, so the app cannot show them pictures.")

    def answer(self, source: Any, template: str, methods: Sequence[str], beam_size: float) -> tuple[str, str, str, str]:
        """Answer a question.

        Args:
            source: a picture of Pillow, a text, or None, as the models want it.
            template: the template.
            methods: names of methods.
            beam_size: B.

        Returns:
            What went wrong, the table of answers, how sure they are, and the trace page: HTML, empty for nothing.
        """
        try:
            results = self._results(source, template, methods, beam_size)
        except TooSlowError:
            return _failed(f"This took more than {self.seconds:g} seconds. Ask for fewer words, methods or beams.")
        except (ValueError, TypeError) as error:
            return _failed(str(error))
        traced = html.escape(page(results, picture=source if self.sees else None))
        frame = f'<iframe title="The search, step by step" sandbox="allow-scripts" srcdoc="{traced}"></iframe>'
        return "", results._repr_html_() + self._molecules(template, results), _sure(results), frame

    def _results(self, source: Any, template: str, methods: Sequence[str], beam_size: float) -> Any:
        if self.sees and source is None:
            raise ValueError("there is no picture. Upload one, or take a scene.")
        if self.reads_text and not source:
            raise ValueError("there is no source text. Write the sentence that the models are to read.")
        if unknown := [name for name in methods if name not in METHODS]:
            raise ValueError(f"{unknown[0]!r} is not a method. Choose from {', '.join(METHODS)}.")
        if not 1 <= beam_size <= MOST_BEAMS:
            raise ValueError(f"the beam size must be from 1 to {MOST_BEAMS}, got {beam_size:g}.")
        parsed = Template.from_text(template, self.vocabulary)
        if not parsed.gaps:
            raise ValueError("the template has no blank. Write _ for a missing word, or {1-6} for one to six.")
        if max(map(len, parsed.fixed())) > MOST_WORDS:
            raise ValueError(f"the template has more than {MOST_WORDS} words.")
        self._until.time = time.perf_counter() + self.seconds
        source = source if self.sees or self.reads_text else None
        return compare(self.pair, source, parsed, list(methods), beam_size=int(beam_size), record=True)

    def _molecules(self, template: str, results: Mapping[str, DecodeResult]) -> str:
        """Draw the answers, if they are molecules."""
        if self.sees or self.reads_text or importlib.util.find_spec("rdkit") is None:
            return ""
        from birnn_decode.molecules import is_molecule
        from birnn_decode.show.molecules import draw_molecules, written

        found = {name: result.best for name, result in results.items() if result.hypotheses}
        if not any(is_molecule(one.text) for one in found.values() if one.text):
            return ""
        parsed = Template.from_text(template, self.vocabulary)
        drawn = draw_molecules({name: written(parsed, one.blanks, self.vocabulary) for name, one in found.items()})
        return f'<img alt="The answers as molecules" src="data:image/png;base64,{base64.b64encode(drawn).decode()}">'


def _failed(why: str) -> tuple[str, str, str, str]:
    return f'<p role="alert">{html.escape(why)}</p>', "", "", ""


def _sure(results: Mapping[str, DecodeResult]) -> str:
    """Write the best words of each blank, by the method with the highest J."""
    found = [result for result in results.values() if result.posterior is not None]
    if not found:
        return ""
    best = max(found, key=lambda result: result.best.joint or 0.0)
    assert best.posterior is not None
    lists = ""
    for own in best.posterior.spans:
        spans = (f"{html.escape(one.text or str(one.tokens))} ({one.probability.estimate:.2f})" for one in own)
        lists += f"<li>{'; '.join(spans)}</li>"
    return f"<p>The best words of each blank, with their probability among the sentences found:</p><ol>{lists}</ol>"


def make_app(models: Pair, seconds: float = SECONDS) -> gradio.Blocks:
    """Make an app to try a pair.

    Args:
        models: a pair whose models have a vocabulary, such as `load_pair` returns.
        seconds: the seconds that a question may take (default: 20).

    Returns:
        The app of Gradio, which ``serve`` starts.

    Raises:
        ValueError: The models have no vocabulary, or want feature vectors.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # also what Gradio asks its network for when it is imported
    import gradio

    questions = Questions(models, seconds)
    with gradio.Blocks(analytics_enabled=False, title="birnn_decode") as app:
        gradio.Markdown(
            "# Fill the blank\nTwo models, one that reads forward and one that reads backward, fill a blank."
        )
        with gradio.Row():
            source: Any
            if questions.sees:
                source = gradio.Image(
                    type="pil", sources=["upload", "clipboard"], label="Picture", height=256, format="png"
                )
            else:
                source = gradio.Textbox(label="Source", visible=questions.reads_text)
            with gradio.Column():
                template = gradio.Textbox(
                    label="Template", info="_ is one missing word, {1-6} is one to six.", max_length=2000
                )
                wrong = gradio.HTML()
                methods = gradio.CheckboxGroup(list(METHODS), value=list(CHOSEN), label="Methods")
                beams = gradio.Slider(1, MOST_BEAMS, value=5, step=1, label="Beam size")
                with gradio.Row():
                    ask = gradio.Button("Fill", variant="primary")
                    scene = gradio.Button("Take a scene", visible=questions.sees)
        table, sure, trace = (
            gradio.HTML(),
            gradio.HTML(),
            gradio.HTML(css_template="iframe {width: 100%; height: 60rem; border: 0}"),
        )
        asked = [source, template, methods, beams]
        shown = [wrong, table, sure, trace]
        gradio.on(
            [ask.click, template.submit], questions.answer, asked, shown, api_name="fill", concurrency_limit=AT_ONCE
        )
        if questions.sees:
            scene.click(_scene, None, [source, template], api_name="scene")
    return app.queue(max_size=WAITING)


def _scene() -> tuple[Any, str]:
    """Return a picture, and its caption with a blank."""
    from birnn_decode.captions import make_scene, middle_blank
    from birnn_decode.models import default_pair

    scene = make_scene(0, random.randrange(SCENES))
    vocabulary: Any = default_pair().forward.vocabulary
    return scene.picture(), middle_blank(vocabulary.encode(scene.captions[0]), CAPTION_BLANK).to_text(vocabulary)


def serve(app: gradio.Blocks, host: str = "127.0.0.1", port: int = 7860, wait: bool = True) -> str:
    """Start an app.

    Nothing but the app's own files can be read through it. It tells nobody that it runs, and makes no public link.

    Args:
        app: what `make_app` returned.
        host: the address to listen at (default: the local machine only).
        port: the port (default: 7860).
        wait: whether to wait until the app is stopped (default: True).

    Returns:
        The address of the app.
    """
    import gradio

    _, address, _ = app.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=not wait,
        allowed_paths=[],
        max_file_size=LARGEST_FILE,
        ssr_mode=False,
        footer_links=[],
        theme=gradio.themes.Base(font=list(FONTS), font_mono=["monospace"]),
    )
    return address
