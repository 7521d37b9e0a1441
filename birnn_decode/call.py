"""What the front doors share: the arguments of a call, checked, and its items, searched in groups and parts."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from birnn_decode import backend
from birnn_decode.constraints import ClashError, Constraint, Diversity, Hook, OfWords, Words, clash
from birnn_decode.objective import Objective
from birnn_decode.result import DecodeResult, Hypothesis, Round, StopReason
from birnn_decode.scorers import as_scorer, eval_mode, never_of, room_of
from birnn_decode.search.bscd import Search
from birnn_decode.search.finalists import Finalist
from birnn_decode.search.gibbs import SCANS, Conditional, gibbs
from birnn_decode.search.holding import Demands, name_of
from birnn_decode.search.memory import Memory, OverLimitError
from birnn_decode.search.problem import Direction, Problem, branching_depths
from birnn_decode.search.tree import PrefixTree
from birnn_decode.spelling import spell
from birnn_decode.template import MAX_WIDTH, FixedTemplate, Template, Vocabulary, check_against_vocabulary
from birnn_decode.tokenizers import TokenizerVocabulary, as_vocabulary, no_words
from birnn_decode.version import __version__

Constraints: TypeAlias = "Sequence[Constraint | Hook]"
Templates: TypeAlias = "Template | str | Sequence[Template | str | None] | None"
Sampled = TypeVar("Sampled")

FORWARD, BACKWARD = "forward", "backward"
DEFAULT_MAX_LENGTH = 30
SWEEPS = 100  # of Gibbs sampling
_SETTLED = (  # reasons to stop, those first that leave most open
    StopReason.INTERRUPTED,
    StopReason.BUDGET,
    StopReason.MAX_ROUNDS,
    StopReason.CYCLE,
    StopReason.DEAD_END,
    StopReason.CONVERGED,
    StopReason.SINGLE_SWEEP,
    StopReason.PROVED,
)


@dataclass(frozen=True)
class Lengths:
    """How long a whole caption may be."""

    widths: Collection[int] | None = None
    min_length: int = 0
    max_length: int = DEFAULT_MAX_LENGTH

    def __post_init__(self) -> None:
        check_count("min_length", self.min_length, least=0)
        check_count("max_length", self.max_length, least=0)
        if self.min_length > self.max_length:
            raise ValueError(f"min_length={self.min_length} is more than max_length={self.max_length}")
        if self.widths is None:
            return
        try:
            widths = sorted({operator.index(width) for width in self.widths})
        except TypeError:
            raise TypeError(f"widths={self.widths!r}: give a list of whole numbers") from None
        if not widths or widths[0] < self.min_length or widths[-1] > self.max_length:
            named = "" if self.max_length == MAX_WIDTH else " (min_length, max_length)"
            raise ValueError(
                f"widths={list(self.widths)}: give at least one length, all from {self.min_length} to "
                f"{self.max_length} words{named}"
            )
        object.__setattr__(self, "widths", tuple(widths))

    def up_to(self, most_words: float) -> Lengths:
        """What the models can read of it."""
        least = max(self.min_length, *(self.widths or (0,)))
        if least > most_words:
            raise ValueError(
                f"a caption of {least} words is asked for, and the models read at most {most_words} (their max_tokens, "
                "START being one): ask for a shorter one"
            )
        return replace(self, max_length=int(min(self.max_length, most_words)))

    def __str__(self) -> str:
        if self.widths is None:
            return f"{self.min_length}-{self.max_length}"
        return ",".join(str(width) for width in self.widths)


@dataclass(frozen=True)
class Sampling:
    """How Gibbs sampling goes on, and for how long; see `gibbs_decode`."""

    sweeps: int = SWEEPS
    rows: Sequence[int] | None = None
    scan: str = "ordered"
    restart_after: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("sweeps", 1), ("restart_after", 1), ("seed", 0)):
            check_count(name, getattr(self, name), least)
        if self.scan not in SCANS:
            raise ValueError(f'scan={self.scan!r}: use "ordered" or "random"')

    def share(self, number: int, groups: int) -> float:
        """The rows that each group of an item may take."""
        return math.inf if self.rows is None else max(self.rows[number] // groups, 1)

    def told(self, number: int) -> list[str]:
        """The rows that an item may take, for its signature."""
        return [] if self.rows is None else [f"rows:{self.rows[number]}"]

    def __str__(self) -> str:
        return f"gibbs|scan:{self.scan}|sweeps:{self.sweeps}|restart:{self.restart_after}|seed:{self.seed}"


class Call:
    """One call of a front door: its arguments, checked, its images, encoded, and what all searches over them share.

    Attributes:
        items: how many (image, template) pairs there are.
        batch: whether the caller gave a list and gets one.
        templates: for each item its template; None for a whole caption.
        fixed: for each item its template at every choice of widths; None for a whole caption written freely.
        choices: for each item how many choices of widths there are; 0 for a whole caption written freely.
        lengths: what a whole caption may be; None where nothing is searched, because the sentences are given.
        widths: for each item what is known of its width; see `Objective.length_rule`.
        rules: for each item the length rule in force, for J.
        numbers: for each item its number in the whole call, of which this may be a part.
        demands: what is asked of sentences besides their templates.
        diversity: of the hypotheses; None: nothing but that no sentence comes twice.
        gradients: whether a graph is recorded and the models stay in the mode they are in.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        image: Any,
        template: Templates,
        beam_size: int,
        objective: Objective,
        vocabulary: Vocabulary | None,
        lengths: Lengths | None,
        memory_limit: int | None = None,
        constraints: Constraints = (),
        diversity: Diversity | None = None,
        gradients: bool = False,
    ):
        check_count("beam_size", beam_size, least=1)
        if memory_limit is not None:
            check_count("memory_limit", memory_limit, least=1)
        self.memory_limit = memory_limit
        self.gradients = gradients
        self.scorers = {name: as_scorer(model, name) for name, model in models.items()}
        sizes = {name: scorer.vocab_size for name, scorer in self.scorers.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"the forward model has {sizes[FORWARD]} ids and the backward model {sizes[BACKWARD]}; both must share "
                "one vocabulary"
            )
        self.vocab_size = next(iter(sizes.values()))
        self.boundaries = {
            token for scorer in self.scorers.values() for token in (scorer.start_token, scorer.end_token)
        }
        self.never = frozenset[int]().union(*(never_of(scorer) for scorer in self.scorers.values()))
        self.beam_size = beam_size
        self.diversity = _checked_diversity(diversity, beam_size)
        self.objective = checked_objective(objective)
        self.vocabulary = vocabulary
        for scorer in self.scorers.values():
            if self.vocabulary is None:
                self.vocabulary = getattr(scorer, "vocabulary", None)
        self.vocabulary = as_vocabulary(self.vocabulary)
        self.never |= no_words(self.vocabulary, self.vocab_size)
        for member in ("encode", "decode"):
            if self.vocabulary is not None and not hasattr(self.vocabulary, member):
                raise TypeError(
                    f"the vocabulary is a {type(self.vocabulary).__name__} without {member}; it needs "
                    "encode(text) -> ids and decode(ids) -> text"
                )
        self._check_same_words()

        self.batch, images, self.image_of, templates = _items(image, template)
        self.items = len(self.image_of)
        self.numbers: Sequence[int] = range(self.items)
        self.image_count = len(images)
        self.templates = [self._template(one, item) for item, one in enumerate(templates)]
        if lengths not in (None, Lengths()) and self.templates and None not in self.templates:
            raise ValueError(
                "widths, min_length and max_length are for whole captions (template=None); a template says its own "
                "widths, as in {1-6}"
            )
        self.demands = self._demands(constraints)
        self.fixed = [
            None if one is None else self._possible(one.fixed(), item) for item, one in enumerate(self.templates)
        ]
        with self._inference():
            self.contexts = {name: scorer.encode(images) for name, scorer in self.scorers.items() if images}
        self.most_words = self._most_words()
        self.lengths = (lengths or Lengths()).up_to(self.most_words)
        if lengths is not None and None in self.fixed:
            self.lengths = self._possible_lengths()
        for item, fixed in enumerate(self.fixed):
            self._check_length(max(map(len, fixed or ((),))), self._name_of(item))
        self.choices = [len(fixed if fixed is not None else self.lengths.widths or ()) for fixed in self.fixed]
        self.widths = [
            "known" if lengths is None or number == 1 else "whole" if fixed is None else "range"
            for number, fixed in zip(self.choices, self.fixed, strict=True)
        ]
        self.rules = self._rules()

    @property
    def groups(self) -> int:
        """Among how many searches what an item may take is divided."""
        return 1 if self.diversity is None else self.diversity.groups

    def _most_words(self) -> float:
        """The most words of a sentence that every model can read, START being one token more."""
        rooms = [room_of(self.scorers[name], context) for name, context in self.contexts.items()]
        return min(rooms, default=math.inf) - 1

    def _demands(self, given: Any) -> Demands:
        if isinstance(given, (str, Constraint)) or not isinstance(given, Sequence):
            raise TypeError(f"constraints={given!r}: give a list of constraints and score hooks")
        for one in given:
            if isinstance(one, type) or not (isinstance(one, Constraint) or callable(one)):
                raise TypeError(f"constraints has {one!r}: give BanWords, MustAppear, ..., or a function: a score hook")
        return Demands(
            [one.resolved(self._ids) for one in given if isinstance(one, Constraint)],
            [one for one in given if not isinstance(one, Constraint)],
            frozenset(range(self.vocab_size)) - self.never if given else frozenset(),
            strength=0.0 if self.diversity is None else self.diversity.strength,
        )

    def _ids(self, constraint: OfWords, words: Words) -> frozenset[int]:
        """The ids of a constraint's words."""
        ids = set[int]()
        for word in words:
            if isinstance(word, str):
                ids.update(self._tokens(constraint, word))
                continue
            try:
                ids.add(operator.index(word))
            except TypeError:
                raise TypeError(f"{constraint}: {word!r} is no word; give an id, or a text") from None
        for token in sorted(ids):
            check_against_vocabulary(Template((token,)), self.vocab_size, self.boundaries, self.never, str(constraint))
        return frozenset(ids)

    def _tokens(self, constraint: OfWords, word: str) -> set[int]:
        """The ids that a word of a constraint has where the constraint means it."""
        vocabulary = self._needed_vocabulary(f"the word {word!r} of a constraint")
        inside = first = list(vocabulary.encode(word))
        if isinstance(vocabulary, TokenizerVocabulary):
            inside = vocabulary.encode_pieces(["", f" {word.strip()} ", ""])[1]
            first = vocabulary.encode_pieces([f"{word.strip()} ", ""])[0]
        meant = inside if constraint.inside else first
        if len(meant) != 1:
            raise ValueError(f"{constraint}: {word!r} is {len(meant)} tokens, not one; give its tokens by ids")
        return {*meant, *(first if constraint.first and len(first) == 1 else ())}

    def _possible(self, templates: Sequence[FixedTemplate], item: int) -> Sequence[FixedTemplate]:
        """The templates of an item that constraints leave, of which there must be one; see `Demands.possible`."""
        kept = self.demands.possible(templates)
        if templates and not kept:
            name = "caption" if self.templates[item] is None else self._name_of(item)
            clashing = "; ".join(clash(self.demands.constraints, templates, self.demands.everything))
            raise ClashError(f"no sentence fills the {name} and satisfies the constraints on it: {clashing}", item)
        return kept

    def _possible_lengths(self) -> Lengths:
        """The lengths of a whole caption that some sentence can satisfy the constraints with."""
        asked = self.lengths.widths or range(self.lengths.min_length, self.lengths.max_length + 1)
        if not self.demands.constraints:
            return self.lengths
        item = self.fixed.index(None)
        kept = [len(one) for one in self._possible([FixedTemplate.all_blank(width) for width in asked], item)]
        return replace(
            self.lengths,
            widths=None if self.lengths.widths is None else tuple(kept),
            min_length=min(kept),
            max_length=max(kept),
        )

    def in_parts(self, search: Callable[[Any], list[DecodeResult]]) -> list[DecodeResult]:
        """What a search finds; one that holds too much at a time is made of each half of the items by itself."""
        try:
            return search(self)
        except OverLimitError:
            middle = self.items // 2
        return self._part(slice(0, middle)).in_parts(search) + self._part(slice(middle, None)).in_parts(search)

    def in_groups(self, search: Callable[[Any], list[DecodeResult]]) -> list[DecodeResult]:
        """What a search finds for each group by itself, each with its share of the beam; see `Diversity`."""
        if self.groups == 1:
            return self.in_parts(search)
        group = copy.copy(self)
        group.beam_size //= self.groups
        found: list[list[DecodeResult]] = [[] for _ in range(self.items)]
        for _ in range(self.groups):
            avoided = [[one.tokens for result in own for one in result.hypotheses] for own in found]
            group.demands = replace(self.demands, avoided=avoided if any(avoided) else ())
            for own, result in zip(found, group.in_parts(search), strict=True):
                own.append(result)
        return [_of_groups(own) for own in found]

    def _part(self, some: slice) -> Call:
        """The same call for some of its items; images are not encoded again."""
        part = copy.copy(self)
        part.demands = replace(self.demands, avoided=self.demands.avoided[some])
        for name in ("numbers", "image_of", "templates", "fixed", "choices", "widths", "rules"):
            setattr(part, name, getattr(self, name)[some])
        part.items = len(part.numbers)
        return part

    def answer(self, results: Sequence[Any]) -> Any:
        """What the caller gets: a list for a list, else the only result."""
        return list(results) if self.batch else results[0]

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        """Where the models are called: in eval mode and without a graph, unless gradients were asked for."""
        if self.gradients:
            yield
            return
        with backend.no_graph(), eval_mode(self._modules()):
            yield

    def _modules(self) -> Collection[Any]:
        """What is put in eval mode."""
        return self.scorers.values()

    def _ends(
        self, searches: Sequence[Search], rows: Sequence[Sequence[int]], rerank: bool = False
    ) -> list[tuple[StopReason, list[Round]]]:
        """Why the search of each item ended, and its rounds; a rerank was to have none, and has ended as it should."""
        searches_of: list[list[Search]] = [[] for _ in range(self.items)]
        for search in searches:
            searches_of[search.problem.item].append(search)
        ends = []
        for item, own in enumerate(searches_of):
            stop = _least_settled(own)
            if rerank and stop != StopReason.DEAD_END:
                stop = StopReason.SINGLE_SWEEP
            ends.append((stop, _trace(own, [by_item[item] for by_item in rows])))
        return ends

    def sampled(
        self,
        directions: Sequence[Direction],
        problems: Sequence[Problem],
        sampling: Sampling,
        new: Callable[[int, FixedTemplate, tuple[int, ...]], Sampled],
        take: Callable[[list[Sampled], Sequence[bool]], None],
        conditional: Conditional | None = None,
    ) -> tuple[list[dict[tuple[FixedTemplate, tuple[int, ...]], Sampled]], list[list[Round]]]:
        """Run Gibbs sampling, and keep its books.

        Args:
            directions: both, opened.
            problems: whose blanks are drawn.
            sampling: how, and for how long.
            new: a sentence that was drawn: of its item, its template and its words.
            take: called after each sweep with the sentences that were drawn for the first time, and with whether each
                item's rows are used up.
            conditional: see `birnn_decode.search.gibbs.gibbs`.

        Returns:
            for each item all sentences that were drawn, and its rounds.
        """
        seen: list[dict[tuple[FixedTemplate, tuple[int, ...]], Sampled]] = [{} for _ in range(self.items)]
        traces = [[Round(self._rows(directions, item), 0)] for item in range(self.items)]
        # An item that nothing could be written for has no chains, and no sweeps.
        possible = {problem.item for problem in problems}
        spent = [item not in possible for item in range(self.items)]
        budgets = [sampling.share(number, self.groups) for number in self.numbers]

        def met(sentences: Sequence[tuple[Problem, tuple[int, ...]]]) -> list[bool]:
            fresh = []
            counts = [0] * self.items
            for problem, words in sentences:
                key = (problem.template, words)
                if key not in seen[problem.item]:
                    fresh.append(new(problem.item, problem.template, words))
                    seen[problem.item][key] = fresh[-1]
                    counts[problem.item] += 1
            take(fresh, spent)
            for item, trace in enumerate(traces):
                if not spent[item]:
                    rows = self._rows(directions, item)
                    trace.append(Round(rows - sum(one.rows for one in trace), counts[item]))
                    spent[item] = rows >= budgets[item]
            return [not one for one in spent]

        gibbs(
            directions,
            problems,
            self.beam_size,
            scan=sampling.scan,
            sweeps=sampling.sweeps,
            restart_after=sampling.restart_after,
            seed=sampling.seed,
            met=met,
            conditional=conditional,
        )
        return seen, traces

    def words_of_items(self, sentences: Sequence[Any]) -> list[list[tuple[int, ...]]]:
        """The words of given sentences, one list of sentences per item."""
        if len(sentences) != self.items:
            raise ValueError(
                f"{self.items} images and {len(sentences)} lists of sentences: give one list for each image"
            )
        found = []
        for given in sentences:
            if isinstance(given, str) or not isinstance(given, Sequence):
                raise TypeError(f"the sentences of an image are a list, even a single one; got {given!r}")
            found.append([self._words(sentence) for sentence in given])
        return found

    def _check_same_words(self) -> None:
        """Check that models that bring vocabularies which can be compared bring the same."""
        forward, backward = (
            as_vocabulary(getattr(self.scorers.get(name), "vocabulary", None)) for name in (FORWARD, BACKWARD)
        )
        comparable = type(forward).__eq__ is not object.__eq__  # type: ignore[comparison-overlap]
        if None not in (forward, backward) and comparable and forward != backward:
            raise ValueError(
                f"the forward model's vocabulary ({forward!r}) is not the backward model's ({backward!r}); both must "
                f"have the same words at the same ids{_difference(forward, backward)}"
            )

    def _template(self, given: Any, item: int) -> Template | None:
        name = self._name_of(item)
        if given is None:
            return None
        if isinstance(given, str):
            given = Template.from_text(given, self._needed_vocabulary("a template in text"))
        if not isinstance(given, Template):
            raise TypeError(
                f"the {name} is {given!r}; give a text, a Template (from ids: Template.from_tokens), or None for a "
                "whole caption; a list is one template for each image"
            )
        check_against_vocabulary(given, self.vocab_size, self.boundaries, self.never, name)
        template: Template = given.within(self.vocab_size, self.never | self.boundaries)
        return template

    def _name_of(self, item: int) -> str:
        return f"template of item {item}" if self.batch else "template"

    def _words(self, given: Any) -> tuple[int, ...]:
        ids = self._needed_vocabulary("a sentence in text").encode(given) if isinstance(given, str) else given
        try:
            words = tuple(operator.index(word) for word in ids)
        except TypeError:
            raise TypeError(f"the sentence is {given!r}; give a text or a sequence of ids") from None
        check_against_vocabulary(Template(words), self.vocab_size, self.boundaries, self.never, "sentence")
        self._check_length(len(words), "sentence")
        return words

    def _check_length(self, longest: int, name: str) -> None:
        if longest > self.most_words:
            raise ValueError(
                f"the {name} has {longest} words at its widest, and the models read at most {self.most_words} "
                "(their max_tokens, START being one): shorten it, or narrow its blanks"
            )

    def _needed_vocabulary(self, what: str) -> Vocabulary:
        if self.vocabulary is None:
            raise TypeError(
                f"{what} needs a vocabulary with encode(text) and decode(ids): pass vocabulary=, or give the model a "
                "`vocabulary`"
            )
        return self.vocabulary

    def _directions(
        self, sweeps: int | None = None, every_score: bool = False, every_state: bool = False
    ) -> list[Direction]:
        """Every direction that there is a model for, nothing read yet.

        Args:
            sweeps: how many each makes, if known.
            every_score: whether the scores at known words are asked for, too.
            every_state: whether the states there are.
        """
        weights = {FORWARD: self.objective.weight_forward, BACKWARD: self.objective.weight_backward}
        directions = []
        memory = Memory(self.memory_limit if self.items > 1 else None)  # one item has no halves
        for name, scorer in self.scorers.items():
            reverse = name == BACKWARD
            branching = [
                None if fixed is None or every_score else branching_depths(fixed, reverse) for fixed in self.fixed
            ]
            # Choices of widths share prefixes, each of which is asked for by as many as share it; and what hooks do to
            # the score of a word is asked once more when sentences are ranked.
            asked_again = sweeps != 1 or any(number > 1 for number in self.choices) or bool(self.demands.hooks)
            tree = PrefixTree(
                scorer,
                self.contexts[name],
                self.image_of,
                self.image_count,
                branching,
                name,
                asked_again,
                memory,
                self.numbers,
                every_state,
            )
            directions.append(Direction(tree, weights[name], reverse, tuple(sorted(self.never))))
        return directions

    def _problems(self, written: Sequence[Sequence[Finalist]]) -> list[Problem]:
        """Every item at every choice of widths; a whole caption at the widths asked for, or else written freely."""
        widths: list[set[int]] = [set(self.lengths.widths or ()) for _ in range(self.items)]
        if self.lengths.widths is None:
            for one in itertools.chain(*written):
                widths[one.item].add(len(one.words))
        return [
            Problem(item, template, self.demands.hold(item, template))
            for item, fixed in enumerate(self.fixed)
            for template in (
                self.demands.possible([FixedTemplate.all_blank(width) for width in sorted(widths[item])])
                if fixed is None
                else fixed
            )
        ]

    def _rules(self, weight: float | None = None) -> list[str | float]:
        return [self.objective.length_rule(width, weight) for width in self.widths]

    @staticmethod
    def _rows(directions: Sequence[Direction], item: int) -> int:
        """What has gone through the models for an item so far."""
        return sum(int(direction.tree.rows[item]) for direction in directions)

    def _made(
        self,
        item: int,
        hypotheses: Sequence[Hypothesis],
        directions: Sequence[Direction],
        stop: StopReason,
        trace: Sequence[Round],
        settings: Sequence[str],
        seconds: float,
        rule: str | float | None = None,
    ) -> DecodeResult:
        """The result of an item; ``rule`` is the length rule where it is not that of the objective."""
        rule = self.rules[item] if rule is None else rule
        settings = [
            *settings,
            f"beams:{self.beam_size * self.groups}",
            f"length:{rule if isinstance(rule, str) else format(rule, 'g')}",
        ]
        settings += self._demanded(item)
        return DecodeResult(
            hypotheses=tuple(hypotheses),
            stop=stop,
            rounds=len(trace) - 1,
            rows_evaluated=self._rows(directions, item),
            signature="|".join([*settings, f"version:{__version__}"]),
            trace=tuple(trace),
            seconds=seconds,
            length_rule=rule,
        )

    def _demanded(self, item: int) -> list[str]:
        """What was asked of an item's sentences, for the signature."""
        settings = [f"lengths:{self.lengths}"] if self.fixed[item] is None else []
        settings += [str(one) for one in self.demands.constraints]
        settings += [f"hook:{name_of(one)}" for one in self.demands.hooks]
        return settings if self.diversity is None else [*settings, str(self.diversity)]

    def _text(self, finalist: Any, vocabulary: Vocabulary) -> str:
        template = self.templates[finalist.item]
        if template is None:
            return vocabulary.decode(list(finalist.words))
        return spell(template, finalist.words, finalist.template.runs, vocabulary)


def _items(image: Any, template: Any) -> tuple[bool, list[Any], list[int], list[Any]]:
    """Whether it is a batch, the images to encode, and for each item the number of its image and its template."""
    if isinstance(image, list) and isinstance(template, list) and len(image) != len(template):
        raise ValueError(
            f"{len(image)} images and {len(template)} templates: give one template for each image, or a single one"
        )
    if isinstance(image, list):
        templates = template if isinstance(template, list) else [template] * len(image)
        return True, image, list(range(len(image))), templates
    if isinstance(template, list):
        return True, [image] if template else [], [0] * len(template), template
    return False, [image], [0], [template]


def _difference(forward: Any, backward: Any) -> str:
    """Where two vocabularies differ, and what helps, for an error; nothing where their words are not known."""
    words = [list(getattr(vocabulary, "words", ())) for vocabulary in (forward, backward)]
    if not all(words):
        return ""
    cure = "birnn_decode.scorers.in_vocabulary(model_b, model_f.vocabulary)"
    if sorted(words[0]) == sorted(words[1]):
        return f". They have the same words in another order: give {cure} as the backward model"
    found = [
        f"the {name} one alone has {', '.join(map(repr, sorted(alone)[:2]))}"
        for name, alone in ((FORWARD, {*words[0]} - {*words[1]}), (BACKWARD, {*words[1]} - {*words[0]}))
        if alone
    ]
    return f": {'; '.join(found)}" if found else ""


def _trace(searches: Sequence[Search], rows: Sequence[int]) -> list[Round]:
    """The rounds of an item: of all its widths together; ``rows`` are those pushed up to the end of each round."""
    rounds = max((search.rounds for search in searches), default=0)
    return [
        Round(after - before, sum(len(search.met[number]) for search in searches if number <= search.rounds))
        for number, (before, after) in enumerate(itertools.pairwise([0, *rows[: rounds + 1]]))
    ]


def _least_settled(searches: Sequence[Search]) -> StopReason:
    """Why the search of an item ended, of all its widths: it has converged only where all of them have."""
    reasons = {search.stop for search in searches}
    for reason in _SETTLED:
        if reason in reasons:
            return reason
    return StopReason.DEAD_END  # neither direction could write a caption at all


def _of_groups(found: Sequence[DecodeResult]) -> DecodeResult:
    """The results of an item's groups as one; what breaks constraints is left out where a group found what does not."""
    hypotheses = {one.tokens: one for result in reversed(found) for one in result.hypotheses}
    if not all(one.broken for one in hypotheses.values()):
        hypotheses = {tokens: one for tokens, one in hypotheses.items() if not one.broken}
    rounds = itertools.zip_longest(*(result.trace for result in found), fillvalue=Round(0, 0))
    first = found[0]
    return replace(
        first,
        hypotheses=tuple(sorted(hypotheses.values(), key=lambda one: (-one.score, one.tokens))),
        stop=min((result.stop for result in found), key=_SETTLED.index),
        rounds=max(result.rounds for result in found),
        rows_evaluated=sum(result.rows_evaluated for result in found),
        trace=tuple(Round(sum(one.rows for one in same), sum(one.new_sentences for one in same)) for same in rounds),
        seconds=sum(result.seconds for result in found),
        proved=all(result.proved for result in found),
    )


def check_count(name: str, value: Any, least: int) -> None:
    """Check that an argument is a whole number, and large enough."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}: it is a whole number, {least} or larger") from None
    if count < least:
        raise ValueError(f"{name}={value!r}: it is a whole number, {least} or larger")


def check_methods(methods: Any, known: Sequence[str]) -> None:
    """Check that some of the known methods are named, each once."""
    named = isinstance(methods, Collection) and not isinstance(methods, str) and len(methods) > 0
    if not named or len(set(methods)) < len(methods) or set(methods) - set(known):
        raise ValueError(f"methods={methods!r}: give some of {', '.join(known)}, each once")


def checked_rows(rows: Any, items: int) -> Sequence[int] | None:
    """The rows that each item may take."""
    if rows is None:
        return None
    budgets = list(rows) if isinstance(rows, Sequence) else [rows] * items
    if len(budgets) != items:
        raise ValueError(f"rows has {len(budgets)} numbers for {items} items: give one for each, or a single one")
    for budget in budgets:
        check_count("rows", budget, least=1)
    return budgets


def _checked_diversity(diversity: Any, beam_size: int) -> Diversity | None:
    if diversity is None:
        return None
    if not isinstance(diversity, Diversity):
        raise TypeError(f"diversity={diversity!r}: give a Diversity, such as Diversity(groups=5, strength=0.5)")
    if beam_size % diversity.groups:
        raise ValueError(
            f"diversity has {diversity.groups} groups and beam_size={beam_size}: each group has an equal share of the "
            "beam, so that beam_size is a multiple of their number"
        )
    return diversity


def checked_objective(objective: Any) -> Objective:
    """An argument that is an objective."""
    if not isinstance(objective, Objective):
        raise TypeError(f"objective={objective!r}: give an Objective, such as Objective(length='average')")
    return objective
