"""Caption metrics as functions of sums over items.

The metric of a resampled corpus then needs only new sums. No text is scored a second time.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from birnn_decode.vocabularies import words_of

BLEU_ORDER = 4

# METEOR 1.5 for English (Denkowski and Lavie, WMT 2014), the version of the jar in pycocoevalcap.
METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA, METEOR_DELTA = 0.85, 0.2, 0.6, 0.75
METEOR_STATISTICS = 6
METEOR_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # of exact, stem, synonym and paraphrase matches


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric of a corpus, stored as statistics of its items.

    The value for any set of items is ``value(statistics[items].sum(axis=0))``.

    Attributes:
        name: name of the metric.
        statistics: what each item contributes, float64, shape [items, k].
        value: function from sums of statistics over items, shape [..., k], to values of the metric, shape [...]. It
            returns NaN where the metric is undefined.

    Example:
        >>> import numpy as np
        >>> from birnn_decode.evaluation import Metric
        >>> right_and_all = np.array([[1.0, 2.0], [3.0, 3.0]])
        >>> metric = Metric("words right", right_and_all, lambda sums: sums[..., 0] / sums[..., 1])
        >>> float(metric.value(metric.statistics.sum(axis=0)))
        0.8
    """

    name: str
    statistics: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]


def mean_metric(name: str, values: Sequence[float | None] | np.ndarray) -> Metric:
    """Make a metric of the mean over items.

    Args:
        name: name of the metric.
        values: value of each item. An item with NaN or None has no value and does not count.

    Returns:
        The metric. Its statistics are the value of each item, and 1 if the item counts or 0.

    Example:
        >>> from birnn_decode.evaluation import mean_metric
        >>> metric = mean_metric("J", [-1.0, float("nan"), -4.0])
        >>> float(metric.value(metric.statistics.sum(axis=0)))
        -2.5
    """
    array = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(array)
    return Metric(name, np.stack([np.where(there, array, 0.0), there], axis=-1), _mean)


def caption_metrics(
    answers: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]
) -> tuple[dict[str, list[Metric]], list[str]]:
    """Compute BLEU-1 to BLEU-4, ROUGE-L, CIDEr and METEOR for each method.

    Scores and tokeniser are those of pycocoevalcap, as in captioning papers. BLEU (with the nearest reference length)
    and METEOR are computed for the whole corpus. ROUGE-L and CIDEr are means over items, and CIDEr takes its document
    frequencies from all items given here. An answer without words scores 0. An item without a reference with words has
    no score and does not count.

    The tokeniser and METEOR are Java programs. If Java is missing or fails, METEOR is left out, or texts are split with
    ``words_of``, and a note says so.

    Args:
        answers: for each method, one answer per item; "" if there is no answer.
        references: for each item, the captions to compare with. Captions without words are ignored.

    Returns:
        The metrics of each method, and a list of one-line notes on what is missing or different.

    Raises:
        ModuleNotFoundError: pycocoevalcap is not installed; the extra ``evaluation`` installs it.
        ValueError: there are no items, or a method has another number of answers.

    Example:
        >>> from birnn_decode.evaluation import caption_metrics
        >>> metrics, notes = caption_metrics(  # doctest: +SKIP
        ...     {"bscd": ["a man on a horse"]}, [["a man rides a horse", "a man on a brown horse"]]
        ... )
        >>> for metric in metrics["bscd"]:  # doctest: +SKIP
        ...     print(f"{metric.name} {metric.value(metric.statistics.sum(axis=0)):.3f}")
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
    java = True
    texts = list(dict.fromkeys(chain(*answers.values(), *references)))
    try:
        tokenised = _ptb_tokenised(texts)
    except _JavaError as error:
        tokenised = {text: " ".join(words_of(text)) for text in texts}
        java = False
        notes.append(f"METEOR is left out, and words are split without the PTB tokeniser; both need Java: {error}")
    known = [[tokenised[text] for text in captions if tokenised[text]] for captions in references]
    counted = [item for item, captions in enumerate(known) if captions]
    if wordless := len(known) - len(counted):
        notes.append(f"BLEU, ROUGE-L, METEOR and CIDEr leave out {wordless} items whose references have no word")
    if not counted:
        return {method: [] for method in answers}, notes
    guesses = {method: {item: tokenised[own[item]] for item in counted} for method, own in answers.items()}

    # Methods often give the same answer to an item, so each pair of item and answer is scored once.
    cooked = {item: cook_refs(known[item], n=BLEU_ORDER) for item in counted}
    pairs = list(dict.fromkeys(pair for own in guesses.values() for pair in own.items()))
    bleu, rouge, meteor = {}, {}, {}
    for item, guess in pairs:
        counts = cook_test(guess, cooked[item], eff="closest", n=BLEU_ORDER)
        bleu[item, guess] = [*counts["correct"], *counts["guess"], counts["reflen"]]
        rouge[item, guess] = Rouge().calc_score([guess], known[item])
    if java:
        try:
            meteor = dict(zip(pairs, _meteor_statistics([(guess, known[item]) for item, guess in pairs]), strict=True))
        except _JavaError as error:
            notes.append(f"METEOR is left out: {error}")

    metrics = {}
    for method, guessed in guesses.items():
        counts = np.zeros((len(known), 2 * BLEU_ORDER + 1))
        counts[counted] = [bleu[pair] for pair in guessed.items()]
        means = np.full((2, len(known)), np.nan)
        means[0, counted] = [rouge[pair] for pair in guessed.items()]
        _, means[1, counted] = Cider().compute_score(
            {item: known[item] for item in counted}, {item: [guess] for item, guess in guessed.items()}
        )
        metrics[method] = [
            *(Metric(f"BLEU-{order}", counts, partial(_bleu, order)) for order in range(1, BLEU_ORDER + 1)),
            mean_metric("ROUGE-L", means[0]),
            mean_metric("CIDEr", means[1]),
        ]
        if meteor:
            statistics = np.zeros((len(known), METEOR_STATISTICS))
            statistics[counted] = [meteor[pair] for pair in guessed.items()]
            metrics[method].append(Metric("METEOR", statistics, _meteor))
    return metrics, notes


class _JavaError(Exception):
    """Java is missing, or it failed."""


def _mean(sums: np.ndarray) -> np.ndarray:
    count = sums[..., 1]
    return np.asarray(np.divide(sums[..., 0], count, out=np.full(count.shape, np.nan), where=count > 0))


def _bleu(order: int, sums: np.ndarray) -> np.ndarray:
    """BLEU of one order from sums [..., 2 BLEU_ORDER + 1]: n-grams right, n-grams guessed, length of the references."""
    small, tiny = 1e-9, 1e-15  # as in pycocoevalcap; a corpus without any match has BLEU 0 instead of NaN
    precisions = (sums[..., :BLEU_ORDER] + tiny) / (sums[..., BLEU_ORDER:-1] + small)
    precision = np.prod(precisions[..., :order], axis=-1) ** (1 / order)
    ratio = (sums[..., BLEU_ORDER] + tiny) / (sums[..., -1] + small)
    return np.asarray(precision * np.exp(np.minimum(1 - 1 / ratio, 0.0)))


def _meteor(sums: np.ndarray) -> np.ndarray:
    """METEOR 1.5 from sums [..., 6] of ``_meteor_statistics``."""
    guess_length, reference_length, guess_matches, reference_matches, chunks, words = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = guess_matches / guess_length
        recall = reference_matches / reference_length
        mean = 1 / ((1 - METEOR_ALPHA) / precision + METEOR_ALPHA / recall)
        score = mean * (1 - METEOR_GAMMA * (chunks / words) ** METEOR_BETA)
    return np.where(words > 0, score, 0.0)


def _java(arguments: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Send each different line to a Java program, and return its answer to every line.

    Raises:
        _JavaError: there is no Java, its exit status is not 0, or it answers another number of lines.
    """
    java = shutil.which("java")
    if java is None:
        raise _JavaError("there is no java on the PATH")
    sent = list(dict.fromkeys(lines))
    try:
        ended = subprocess.run(
            [java, "-Dfile.encoding=UTF-8", *arguments],  # before Java 18, the default is the locale's encoding
            input="".join(f"{line}\n" for line in sent),
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
    if len(answered) != len(sent):
        raise _JavaError(f"{java} answered {len(answered)} lines to {len(sent)}")
    answers = dict(zip(sent, answered, strict=True))
    return [answers[line] for line in lines]


def _ptb_tokenised(texts: Iterable[str]) -> dict[str, str]:
    """Tokenise each text with the PTB tokeniser: words with spaces between them, without punctuation.

    The jar is started here, because pycocoevalcap writes a file beside it, prints, and does not check the number of
    lines in the answer.

    Raises:
        _JavaError: see ``_java``.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer  # type: ignore[import-untyped]

    # Any other line break in a text would shift all later answers by a line.
    lines = {text: " ".join(text.split()) for text in texts}
    jar = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    options = ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    answers = _java(["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", *options], list(lines.values()))
    return {
        text: " ".join(word for word in answer.split(" ") if word and word not in ptbtokenizer.PUNCTUATIONS)
        for text, answer in zip(lines, answers, strict=True)
    }


def _meteor_statistics(pairs: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
    """Compute the statistics of each guess against the reference for which METEOR is highest.

    Args:
        pairs: tokenised guesses, each with its tokenised references.

    Returns:
        For each pair, float64 [6]: weighted lengths of guess and of reference, weighted matches in guess and in
        reference, chunks, matched words.

    Raises:
        _JavaError: see ``_java``, or an answer is not a line of statistics.
    """
    from pycocoevalcap.meteor import meteor  # type: ignore[import-untyped]

    jar = Path(meteor.__file__).parent / meteor.METEOR_JAR
    # No text contains the separator, because the tokeniser splits "|||".
    lines = [" ||| ".join(["SCORE", *references, guess]) for guess, references in pairs]
    answers = _java(["-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"], lines)
    return [_meteor_numbers(answer) for answer in answers]


def _meteor_numbers(answer: str) -> np.ndarray:
    """Reduce the 23 numbers that METEOR prints for a segment to statistics.

    The numbers are lengths, function words, matches of each module, chunks and matched words.

    Raises:
        _JavaError: the answer is not a line of 23 numbers.
    """
    try:
        numbers = np.array(answer.split(), dtype=np.float64).reshape(23)
    except ValueError:
        raise _JavaError(f"METEOR answered {answer!r}, which is no line of statistics") from None
    lengths, function_words = numbers[0:2], numbers[2:4]
    content, function = numbers[4:20].reshape(4, 2, 2).swapaxes(0, 1)
    chunks, guess_words, reference_words = numbers[20:]
    # METEOR has no penalty for a guess that equals its reference. The corpus sum leaves out its one chunk.
    same = chunks == 1 and np.array_equal((content + function).sum(axis=0), lengths)
    return np.array(
        [
            *(METEOR_DELTA * (lengths - function_words) + (1 - METEOR_DELTA) * function_words),
            *(METEOR_WEIGHTS @ (METEOR_DELTA * content + (1 - METEOR_DELTA) * function)),
            0.0 if same else chunks,
            (guess_words + reference_words) / 2,
        ]
    )
