"""Caption metrics as functions of sums over items, so that a resampled corpus costs a sum and not another scoring."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from birnn_decode.captions.vocabulary import words_of

BLEU_ORDER = 4

# Of METEOR 1.5 for English (Denkowski and Lavie, WMT 2014), as in the jar that pycocoevalcap brings.
METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA, METEOR_DELTA = 0.85, 0.2, 0.6, 0.75
METEOR_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # of exact, stem, synonym and paraphrase matches


@dataclass(frozen=True, eq=False)
class Metric:
    """A figure of a corpus, and what each item puts into it.

    Attributes:
        name: of the metric.
        statistics: float64 [items, k].
        value: from sums of statistics over items, [..., k], to the figure, [...]; NaN where it is undefined.
    """

    name: str
    statistics: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]


def mean_metric(name: str, values: Sequence[float] | np.ndarray) -> Metric:
    """The mean over items of ``values``; NaN is an item that has none, and does not count."""
    array = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(array)
    return Metric(name, np.stack([np.where(there, array, 0.0), there], axis=-1), _mean)


def caption_metrics(
    answers: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]
) -> tuple[dict[str, list[Metric]], list[str]]:
    """BLEU-1 to BLEU-4, ROUGE-L, CIDEr and METEOR of each method's answers, as captioning papers report them.

    Scores and the tokeniser are those of pycocoevalcap. BLEU (nearest reference length) and METEOR are figures of the
    corpus; ROUGE-L and CIDEr are means over the items, CIDEr with the document frequencies of all items given here. An
    answer without words scores 0. The tokeniser and METEOR are Java programs: where Java is missing or fails, texts are
    split by `words_of` instead, or METEOR is left out, and a note says so.

    Args:
        answers: for each method, its answer to every item; "" is none.
        references: for each item, the captions to compare with. One without a word in it is passed over.

    Returns:
        for each method, its metrics; and notes of one line each on what is missing or different, none if all went well.

    Raises:
        ModuleNotFoundError: pycocoevalcap is not installed; it is in the extra ``evaluation``.
        ValueError: no items, other numbers of answers and of items, or an item whose references have no words.
    """
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test  # type: ignore[import-untyped]
    from pycocoevalcap.cider.cider import Cider  # type: ignore[import-untyped]
    from pycocoevalcap.rouge.rouge import Rouge  # type: ignore[import-untyped]

    if not references:
        raise ValueError("references is empty: give the captions of at least one item")
    for method, own in answers.items():
        if len(own) != len(references):
            raise ValueError(f"{method}: {len(own)} answers and references for {len(references)} items: give one each")
    for item, captions in enumerate(references):
        if isinstance(captions, str):
            raise ValueError(f"the references of item {item} are one text: give a list of texts")

    notes = []
    texts = list(dict.fromkeys(chain(*answers.values(), *references)))
    try:
        tokenised = _ptb_tokenised(texts)
        java_works = True
    except _JavaError as error:
        tokenised = {text: " ".join(words_of(text)) for text in texts}
        java_works = False
        notes.append(f"METEOR is left out and words are split without the PTB tokeniser, as both need Java: {error}")
    known = [[tokenised[text] for text in captions if tokenised[text]] for captions in references]
    for item, captions in enumerate(known):
        if not captions:
            raise ValueError(f"item {item} has no reference with a word in it: give it one, or leave the item out")
    guesses = {method: [tokenised[text] for text in own] for method, own in answers.items()}

    # Methods often give the same answer, and an answer is scored against its own item's references alone.
    cooked = [cook_refs(captions, n=BLEU_ORDER) for captions in known]
    pairs = list(dict.fromkeys((item, guess) for own in guesses.values() for item, guess in enumerate(own)))
    bleu, rouge = {}, {}
    for item, guess in pairs:
        counts = cook_test(guess, cooked[item], eff="closest", n=BLEU_ORDER)
        bleu[item, guess] = [*counts["correct"], *counts["guess"], counts["reflen"]]
        rouge[item, guess] = Rouge().calc_score([guess], known[item])
    meteor = None
    if java_works:
        try:
            meteor = dict(zip(pairs, _meteor_statistics([(guess, known[item]) for item, guess in pairs]), strict=True))
        except _JavaError as error:
            notes.append(f"METEOR is left out: {error}")

    metrics = {}
    for method, own in guesses.items():
        counts = np.array([bleu[pair] for pair in enumerate(own)], dtype=np.float64)
        _, cider = Cider().compute_score(dict(enumerate(known)), {item: [guess] for item, guess in enumerate(own)})
        metrics[method] = [
            *(_bleu_metric(counts, order) for order in range(1, BLEU_ORDER + 1)),
            mean_metric("ROUGE-L", [rouge[pair] for pair in enumerate(own)]),
            mean_metric("CIDEr", cider),
        ]
        if meteor is not None:
            metrics[method].append(Metric("METEOR", np.stack([meteor[pair] for pair in enumerate(own)]), _meteor))
    return metrics, notes


class _JavaError(Exception):
    """Java is not there, or did not do what it was asked to."""


def _mean(sums: np.ndarray) -> np.ndarray:
    total, count = sums[..., 0], sums[..., 1]
    mean: np.ndarray = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return mean


def _bleu_metric(counts: np.ndarray, order: int) -> Metric:
    """BLEU of an order, out of the counts [items, 2 BLEU_ORDER + 1] of the highest."""
    columns = [*range(order), *range(BLEU_ORDER, BLEU_ORDER + order), 2 * BLEU_ORDER]
    return Metric(f"BLEU-{order}", counts[:, columns], _bleu)


def _bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU of order n from sums [..., 2 n + 1]: n-grams that are right, n-grams guessed, length of the references."""
    order = sums.shape[-1] // 2
    right, guessed, reference_length = sums[..., :order], sums[..., order:-1], sums[..., -1]
    small, tiny = 1e-9, 1e-15  # pycocoevalcap's, and what makes a corpus without any match 0 and not undefined
    precision = np.prod((right + tiny) / (guessed + small), axis=-1) ** (1 / order)
    ratio = (guessed[..., 0] + tiny) / (reference_length + small)
    bleu: np.ndarray = precision * np.exp(np.minimum(1 - 1 / ratio, 0.0))
    return bleu


def _meteor(sums: np.ndarray) -> np.ndarray:
    """METEOR 1.5 from the sums [..., 6] of `_meteor_statistics`."""
    guess_length, reference_length, guess_matches, reference_matches, chunks, words = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = guess_matches / guess_length
        recall = reference_matches / reference_length
        mean = 1 / ((1 - METEOR_ALPHA) / precision + METEOR_ALPHA / recall)
        score = mean * (1 - METEOR_GAMMA * (chunks / words) ** METEOR_BETA)
    return np.where(words > 0, score, 0.0)


def _java(arguments: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The lines that a Java program answers to ``lines``, one for each.

    Raises:
        _JavaError: no Java, an exit status other than 0, or another number of lines.
    """
    java = shutil.which("java")
    if java is None:
        raise _JavaError("there is no java on the PATH")
    try:
        # Before Java 18 the encoding would be the locale's.
        ended = subprocess.run(
            [java, "-Dfile.encoding=UTF-8", *arguments],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise _JavaError(f"{java} does not start: {error}") from error
    if ended.returncode != 0:
        said = (ended.stderr.strip() or ended.stdout.strip()).split("\n")[0]
        raise _JavaError(f"{java} ended with exit status {ended.returncode}" + (f": {said}" if said else ""))
    answered = ended.stdout.splitlines()
    if len(answered) != len(lines):
        raise _JavaError(f"{java} answered {len(answered)} lines to {len(lines)}")
    return answered


def _ptb_tokenised(texts: Iterable[str]) -> dict[str, str]:
    """Text to its words with spaces between them, by the PTB tokeniser, punctuation dropped.

    The jar is started here and not by pycocoevalcap, which writes a file next to it, prints, and would hand out the
    lines that came, be they as many as asked for or not.

    Raises:
        _JavaError: see `_java`.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer  # type: ignore[import-untyped]

    # Whatever else ends a line would put all later texts on other lines than those they were sent on.
    lines = {text: " ".join(text.split()) for text in texts}
    sent = list(dict.fromkeys(lines.values()))
    jar = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    program = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    answered = _java([*program, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"], sent)
    words = {
        line: " ".join(word for word in answer.split(" ") if word and word not in ptbtokenizer.PUNCTUATIONS)
        for line, answer in zip(sent, answered, strict=True)
    }
    return {text: words[line] for text, line in lines.items()}


def _meteor_statistics(pairs: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
    """What each guess puts into METEOR, against the one of its references that METEOR likes best.

    Args:
        pairs: tokenised guesses, each with its tokenised references.

    Returns:
        for each pair, float64 [6]: weighted lengths of guess and of reference, weighted matches in guess and in
        reference, chunks, matched words.

    Raises:
        _JavaError: see `_java`; or an answer that is no statistics.
    """
    from pycocoevalcap.meteor import meteor  # type: ignore[import-untyped]

    # The separator cannot be in a text: the tokeniser takes "|||" apart.
    lines = [" ||| ".join(["SCORE", *references, guess]) for guess, references in pairs]
    sent = list(dict.fromkeys(lines))
    jar = Path(meteor.__file__).parent / meteor.METEOR_JAR
    answered = _java(["-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"], sent)
    statistics = {line: _meteor_numbers(answer) for line, answer in zip(sent, answered, strict=True)}
    return [statistics[line] for line in lines]


def _meteor_numbers(answer: str) -> np.ndarray:
    """The statistics of a segment out of METEOR's 23: lengths, function words, matches of each module, chunks, words.

    Raises:
        _JavaError: it is no line of 23 numbers.
    """
    try:
        numbers = np.array([float(number) for number in answer.split()])
    except ValueError:
        numbers = np.empty(0)
    if numbers.shape != (23,):
        raise _JavaError(f"METEOR answered {answer!r}, which is no line of statistics")
    lengths, function_words = numbers[0:2], numbers[2:4]
    content, function = numbers[4:20].reshape(4, 2, 2).swapaxes(0, 1)
    chunks, guess_words, reference_words = numbers[20:]
    # METEOR has no penalty for a guess that is its reference; in the sum over a corpus its one chunk is not counted.
    same = chunks == 1 and np.array_equal((content + function).sum(axis=0), lengths)
    return np.array(
        [
            *(METEOR_DELTA * (lengths - function_words) + (1 - METEOR_DELTA) * function_words),
            *(METEOR_WEIGHTS @ (METEOR_DELTA * content + (1 - METEOR_DELTA) * function)),
            0.0 if same else chunks,
            (guess_words + reference_words) / 2,
        ]
    )
