"""Captioners of every family in docs/wrapping.md, wrapped by the recipe of the family."""

import contextlib
import copy
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import standins  # noqa: E402
from documents import blocks_of  # noqa: E402
from PIL import Image  # noqa: E402
from tiny_models import V, blip, git, gpt2, pixels, project, vit_bert, vit_gpt2  # noqa: E402

from birnn_decode import (  # noqa: E402
    BeamSearch,
    Pair,
    Template,
    as_scorer,
    bscd_decode,
    check_scorer,
    decode,
    score_sentences,
)
from birnn_decode.captions import WordVocabulary  # noqa: E402
from birnn_decode.scorers import PrefixScorer, never_of  # noqa: E402
from birnn_decode.scorers.torch import BufferScorer  # noqa: E402

RECIPES = {
    section: [block.text for block in blocks if block.is_python]
    for section, blocks in itertools.groupby(blocks_of("docs/wrapping.md"), key=lambda block: block.section)
}
SHARED = "What every wrapper needs to know"
DOUBLE = {"dtype": torch.float64}


class Words:
    """Vocabulary that writes ids as words."""

    def encode(self, text):
        return [int(word[1:]) for word in text.split()]

    def decode(self, ids):
        return " ".join(f"w{token}" for token in ids)


def names(start, end, pad):
    """Run the first block of the page, and set the ids to those of a captioner."""
    found = {}
    exec(RECIPES[SHARED][0], found)
    found |= {"START": start, "END": end, "PAD": pad, "words": Words()}
    found["ids"] |= {"start_token": start, "end_token": end, "never": {pad}, "vocabulary": Words()}
    return found


COOKED = set()


def cook(recipe, model=None, start=1, end=2, pad=0, number=0, **more):
    """Run a recipe and return its names."""
    found = {**names(start, end, pad), "model": model, **more}
    exec(RECIPES[recipe][number], found)
    COOKED.add((recipe, number))
    return found


@dataclass
class Kind:
    """A captioner of each direction and its scorers.

    ``whole(images, captions [N, T], backward) -> scores [N, T, V]`` is the models' own pass over captions that begin
    with START.
    """

    forward: Any
    backward: Any
    whole: Any
    images: list


def pair(kind, recipe, start=1, end=2, pad=0, **more):
    """Make two captioners of a kind. The backward one reads sentences reversed with START and END."""
    models = [kind(V, seed=seed).double().eval() for seed in (1, 2)]
    scorers = [
        cook(recipe, models[0], start, end, pad, **more)["scorer"],
        cook(recipe, models[1], end, start, pad, **more)["scorer"],
    ]
    return Kind(
        *scorers, lambda images, captions, back: models[back].teacher_forced(images, captions), kind.pictures(**DOUBLE)
    )


def virtex():
    model = standins.Virtex(V, seed=1).double().eval()
    found = cook("Both directions in one module, without a cache", model)
    return Kind(found["forward"], found["backward"], model.teacher_forced, model.pictures(**DOUBLE))


def hugging_face(build, whole):
    """Make two models. The backward one reads reversed sentences between the same START and END."""
    models = [build(seed) for seed in (1, 2)]
    scorers = [as_scorer(model, direction) for model, direction in zip(models, ("forward", "backward"), strict=True)]
    return Kind(*scorers, lambda images, captions, back: whole(models[back], torch.stack(images), captions), pixels())


def gpt2_with(make):
    models = [gpt2(seed) for seed in (1, 2)]

    def whole(images, captions, back):
        model = models[back]
        prefix = project(model)(torch.stack(images))
        embeddings = torch.cat([prefix, model.transformer.wte(captions)], dim=1)
        return model(inputs_embeds=embeddings, use_cache=False).logits[:, prefix.shape[1] :]

    return Kind(*map(make, models), whole, pixels())


def gpt2_by_hand(model):
    ids = {"vocab_size": V, "start_token": 0, "end_token": 0, "never": {0}}
    return cook("Hugging Face", model, number=2, ids=ids, project=project(model))["scorer"]


def gpt2_recognised(model):
    return cook("Hugging Face", model, number=1, project=project(model), tokenizer=Words())["scorer"]


def clip_cap():
    """Make two models whose first word follows the image directly."""
    models = [gpt2(seed) for seed in (1, 2)]
    scorers = [
        as_scorer(model, encode=lambda images, model=model: project(model)(torch.stack(images)), reads_start=False)
        for model in models
    ]

    def whole(images, captions, back):
        model = models[back]
        embeddings = torch.cat([project(model)(torch.stack(images)), model.transformer.wte(captions[:, 1:])], dim=1)
        return model(inputs_embeds=embeddings, use_cache=False).logits[:, 3:]

    return Kind(*scorers, whole, pixels())


def functions():
    models = [standins.ShowAttendTell(V, seed=seed).double().eval() for seed in (1, 2)]
    recipe = "Any function of images and prefixes"
    scorers = [cook(recipe, models[0], 1, 2)["scorer"], cook(recipe, models[1], 2, 1)["scorer"]]
    images = models[0].pictures(**DOUBLE)
    return Kind(*scorers, lambda images, captions, back: models[back].teacher_forced(images, captions), images)


def ensembles():
    """Mix two kinds of captioners, with a temperature and no word twice."""
    kinds = [KINDS["attention over regions"](), KINDS["function"]()]

    def mixed(scorers):
        one, two = scorers
        found = cook("Ensembles, temperatures and hooks", one=one, two=two)
        return found["scorer"]

    def whole(images, captions, back):
        one, two = (kind.whole(images, captions, back).log_softmax(-1) for kind in kinds)
        scores = (
            torch.logaddexp(one + torch.tensor(2 / 3).double().log(), two + torch.tensor(1 / 3).double().log()) / 0.8
        )
        for place in range(1, captions.shape[1]):
            read = captions[:, 1 : place + 1]
            scores[:, place] = scores[:, place].scatter(1, read, -torch.inf)
        return scores

    forward, backward = (mixed([getattr(kind, side) for kind in kinds]) for side in ("forward", "backward"))
    return Kind(forward, backward, whole, kinds[0].images)


KINDS = {
    "attention over regions": lambda: pair(standins.ShowAttendTell, "An LSTM cell with attention over image regions"),
    "image first": lambda: pair(standins.ShowTell, "An image vector as the first input of an LSTM"),
    **{
        f"get_logprobs_state {kind.__name__}": lambda kind=kind: pair(kind, "Models with `get_logprobs_state`", 0, 0)
        for kind in (standins.NewFC, standins.Att2in, standins.TransformerLike)
    },
    "get_logprobs_state FC": lambda: pair(standins.FC, "Models with `get_logprobs_state`", 0, 0, number=1),
    "both directions in one": virtex,
    "own buffers": lambda: pair(standins.MeshedMemory, "A decoder that keeps its state in its own buffers"),
    "ViT and GPT-2": lambda: hugging_face(
        vit_gpt2, lambda model, images, captions: model(images, captions, use_cache=False).logits
    ),
    "ViT and BERT": lambda: hugging_face(
        vit_bert, lambda model, images, captions: model(images, captions, use_cache=False).logits
    ),
    "BLIP": lambda: hugging_face(blip, lambda model, images, captions: model(images, captions).logits),
    "GIT": lambda: hugging_face(
        git, lambda model, images, captions: model(captions, pixel_values=images, use_cache=False).logits[:, 5:]
    ),
    "GPT-2 with a prefix": lambda: gpt2_with(gpt2_recognised),
    "GPT-2 with a prefix, by hand": lambda: gpt2_with(gpt2_by_hand),
    "GPT-2 as in ClipCap": clip_cap,
    "function": functions,
    "ensemble": ensembles,
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return KINDS[request.param]()


def own_terms(kind, image, sentences, back):
    """Compute log-probabilities [K, words + 1] by the model's own pass, for sentences of one length."""
    scorer = kind.backward if back else kind.forward
    read = torch.tensor([words[::-1] if back else words for words in sentences], dtype=torch.int64)
    begin = torch.full((len(read), 1), scorer.start_token)
    with torch.no_grad():
        scores = kind.whole([image] * len(read), torch.cat([begin, read], dim=1), back)
    targets = torch.cat([read, torch.full((len(read), 1), scorer.end_token)], dim=1)
    terms = scores.log_softmax(-1).gather(2, targets[..., None])[..., 0]
    return torch.cat([terms[:, :-1].flip(1), terms[:, -1:]], dim=1) if back else terms


def words_of(kind):
    return sorted(set(range(V)) - never_of(kind.forward) - never_of(kind.backward))


def test_scores_are_those_of_the_models_own_pass(kind):
    a, b, c, d, *_ = words_of(kind)
    for sentences in ([()], [(a,), (d,)], [(a, b, c, d), (d, a, b, a)]):
        given = [[list(words) for words in sentences] for _ in kind.images]
        for image, found in zip(
            kind.images, score_sentences(Pair(kind.forward, kind.backward), kind.images, given), strict=True
        ):
            for back, name in enumerate(("token_log_probs_forward", "token_log_probs_backward")):
                own = own_terms(kind, image, sentences, bool(back)).tolist()
                for one, terms in zip(found, own, strict=True):
                    assert getattr(one, name) == pytest.approx(terms, abs=1e-4)


def test_answers_are_those_of_enumeration(kind):
    """Two missing words, three templates in one batch; a beam that holds every sentence, and a small one."""
    words = words_of(kind)
    a, b, c, d, *_ = words
    blank = Template.BLANK
    templates = [[a, blank, blank, b], [blank, blank, c], [d, b, blank, a, blank]]
    given = [Template.from_tokens(template) for template in templates]
    everything = len(words) ** 2 + 1
    models = Pair(kind.forward, kind.backward)
    beams = {
        direction: decode(models, kind.images, given, BeamSearch(direction, rank="sentence"), beam_size=everything)
        for direction in ("forward", "backward")
    } | {
        "both": decode(models, kind.images, given, beam_size=everything),
        "small": decode(models, kind.images, given, beam_size=3),
    }
    for item, (image, template) in enumerate(zip(kind.images, templates, strict=True)):
        fills = [iter(fill) for fill in itertools.product(words, repeat=2)]
        sentences = [tuple(next(fill) if word is blank else word for word in template) for fill in fills]
        terms = [own_terms(kind, image, sentences, back).sum(dim=1) for back in (False, True)]
        own = {"forward": terms[0], "backward": terms[1], "both": terms[0] + terms[1]}
        for name, results in beams.items():
            values = dict(zip(sentences, own["both" if name == "small" else name].tolist(), strict=True))
            best = sorted(values, key=lambda words: (-values[words], words))
            found = results[item].hypotheses
            assert found
            if name == "small":
                assert found[0].score <= values[best[0]] + 1e-6
            else:
                possible = [words for words in best if values[words] > -torch.inf]
                assert [one.tokens for one in found] == possible[: len(found)]
                assert len(found) >= min(20, len(possible))
            for one in found:
                assert one.score == pytest.approx(values[one.tokens], abs=1e-4)


def test_a_whole_caption_is_what_the_slow_way_writes(kind):
    """Compare free search, where finished hypotheses leave the batch, with a scorer that reads whole prefixes."""
    slow = [slow_way(kind, back) for back in (False, True)]
    fast = bscd_decode(kind.forward, kind.backward, kind.images, max_length=5, beam_size=4)
    for one, other in zip(fast, bscd_decode(*slow, kind.images, max_length=5, beam_size=4), strict=True):
        assert [hypothesis.tokens for hypothesis in one.hypotheses] == [h.tokens for h in other.hypotheses]
        assert [h.score for h in one.hypotheses] == pytest.approx([h.score for h in other.hypotheses], abs=1e-6)


def slow_way(kind, back):
    scorer = kind.backward if back else kind.forward

    def function(images, prefixes):
        return kind.whole(images, torch.as_tensor(prefixes), back)[:, -1]

    return PrefixScorer(
        function,
        vocab_size=V,
        start_token=scorer.start_token,
        end_token=scorer.end_token,
        never=scorer.never,
        max_tokens=scorer.max_tokens,
    )


@pytest.mark.parametrize("seed", range(2))
def test_the_wrapping_is_found_sound(kind, seed):
    """The captions are random. They cause no finding, because the reference agrees with the scorer."""
    drawn = np.random.default_rng(seed).choice(words_of(kind), (len(kind.images), 4)).tolist()
    for back, scorer in enumerate((kind.forward, kind.backward)):
        direction = "backward" if back else "forward"
        given = {"reference": slow_way(kind, bool(back)), "captions": drawn, "direction": direction}
        report = check_scorer(scorer, kind.images, seed=seed, **given)
        assert report.ok, report


def test_one_decoder_with_buffers_serves_both_directions():
    """Each search keeps its own copies of the buffers."""
    recipe = "A decoder that keeps its state in its own buffers"
    model = standins.MeshedMemory(V, seed=1).double().eval()
    shared = [cook(recipe, model, 1, 2)["scorer"], cook(recipe, model, 2, 1)["scorer"]]
    twins = [cook(recipe, copy.deepcopy(model), *ends)["scorer"] for ends in ((1, 2), (2, 1))]
    templates = [Template.blank([4], 3, [5]), Template.blank([], (1, 3), [6]), None]
    images = model.pictures(**DOUBLE)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    results = [bscd_decode(*models, images, templates, max_length=8) for models in (shared, twins)]
    for one, two in zip(*results, strict=True):
        assert one.hypotheses == two.hypotheses
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


class Always(torch.nn.Module):
    """A module whose state is always on: the sum of the tokens that it has read."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.tensor([7, 8]))

    @contextlib.contextmanager
    def anew(self, rows):
        self.total = torch.zeros(rows, dtype=torch.int64)
        yield

    def step(self, tokens, memory):
        self.total += tokens
        return torch.nn.functional.one_hot((self.total + memory) % V, V).double()


def test_what_a_decoder_was_doing_is_not_disturbed():
    model = Always()
    scorer = BufferScorer(
        model.step, ["total"], model.anew, model=model, vocab_size=V, start_token=1, end_token=2, encode=torch.tensor
    )
    result = decode(Pair(scorer, None), 4, Template.blank([3], 2), BeamSearch("forward"))
    assert result.best.tokens == (3, 8, 4)  # 4 + 1 + 3 is 8, and 8 more is 16 - 12
    assert model.total.tolist() == [7, 8]


def test_a_decoder_without_such_a_buffer():
    model = standins.MeshedMemory(V, seed=1)
    with pytest.raises(
        ValueError, match=r"MeshedMemory has no buffer 'decoder.seq'; its buffers are decoder.running_seq, "
    ):
        BufferScorer(model.step, ["decoder.seq"], None, model=model, vocab_size=V, start_token=1, end_token=2)


def test_a_position_limit_is_a_clear_error():
    kind = virtex()
    assert bscd_decode(kind.forward, kind.backward, kind.images[0], Template.blank([4, 5], 5)).hypotheses
    with pytest.raises(ValueError, match="the template has up to 8 words, but the models read at most 7 words"):
        bscd_decode(kind.forward, kind.backward, kind.images[0], Template.blank([4, 5], 6))


def test_a_position_limit_that_was_not_declared_is_an_error_that_says_so():
    model = standins.Virtex(V, seed=1).double()
    images = torch.stack(model.pictures(**DOUBLE))
    ids = {"vocab_size": V, "start_token": 1, "end_token": 2, "never": {0}, "model": model}
    scorer = PrefixScorer(model.decoding_step, encode=lambda numbers: model.visual(images[numbers]), **ids)
    message = "the forward scorer cannot read 9 tokens of a sentence, START included .*give the wrapper max_tokens="
    for call in (
        lambda: decode(Pair(scorer, None), 0, Template.blank([4, 5], 9), BeamSearch("forward")),
        lambda: score_sentences(Pair(scorer, None), 0, [[4] * 10]),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_pictures_go_through_a_processor():
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(2)]
    processor = transformers.BlipImageProcessorPil(size={"height": 8, "width": 8})
    scorer = cook("Hugging Face", blip(1), processor=processor, tokenizer=Words())["scorer"]
    direct = as_scorer(blip(1))
    given = list(processor(images=pictures, return_tensors="pt").pixel_values)
    template = Template.blank([4], 2, [5])
    one = decode(Pair(scorer, None), pictures, template, BeamSearch("forward"))
    two = decode(Pair(direct, None), given, template, BeamSearch("forward"))
    assert [result.best.tokens for result in one] == [result.best.tokens for result in two]
    assert one[0].best.score != one[1].best.score


def test_vocabularies_in_another_order():
    words = [f"w{number}" for number in range(V - 4)]
    model_f = PrefixScorer(None, vocab_size=V, start_token=1, end_token=2, vocabulary=WordVocabulary(words))
    model_b = PrefixScorer(None, vocab_size=V, start_token=2, end_token=1, vocabulary=WordVocabulary(words[::-1]))
    with pytest.raises(ValueError, match=r"in_vocabulary\(model_b, model_f\.vocabulary\)"):
        bscd_decode(model_f, model_b, None, "w1 _")
    model_b = cook("Vocabularies", model_f=model_f, model_b=model_b)["model_b"]
    assert model_b.ids == (0, 1, 2, 3, *range(V - 1, 3, -1))


def test_wrapped_models_decode_as_the_page_says():
    kind = functions()
    image = kind.images[0]
    given = {"forward": kind.forward, "backward": kind.backward, "image": image}
    found = {**names(1, 2, 0), **given}
    source = RECIPES[SHARED][1]
    assert source.count('"a _ _ dog"') == 2
    exec(source.replace("a _ _ dog", "w4 _ _ w6"), found)
    template = Template.blank([4], 2, [6])
    assert found["result"].hypotheses == bscd_decode(kind.forward, kind.backward, image, template).hypotheses
    assert [one.tokens for one in found["alone"].hypotheses] == [
        one.tokens for one in decode(Pair(kind.forward, None), image, template, BeamSearch("forward")).hypotheses
    ]


def test_the_check_of_the_page(capsys):
    kind = functions()
    captions = [[4, 5, 6]] * len(kind.images)
    cook("Check it", scorer=kind.forward, images=kind.images, captions=captions, slow=slow_way(kind, False))
    assert "no fault found" in capsys.readouterr().out


class BothSides(torch.nn.Module):
    """One layer over the states of two LSTMs, or two layers if ``deep``."""

    def __init__(self, deep):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, 5)
        self.before, self.behind = (torch.nn.LSTM(5, 4, batch_first=True) for _ in range(2))
        self.look = torch.nn.Linear(3, 4)
        self.mix = torch.nn.Linear(8, 8)
        self.output = torch.nn.Linear(8, V)
        self.deep = deep

    def first_state(self, images):
        seen = self.look(images)[None]
        return seen, torch.zeros_like(seen)

    def forward(self, image, words):
        """Return log-probabilities [words, V] of each word given all other words."""
        rows = []
        for at in range(len(words)):
            sides = [
                lstm(self.embedding(torch.tensor([tokens])), self.first_state(image[None]))[0][:, -1]
                for lstm, tokens in ((self.before, [1, *words[:at]]), (self.behind, [2, *words[:at:-1]]))
            ]
            both = torch.cat(sides, dim=-1)
            rows.append(self.output(torch.tanh(self.mix(both)) if self.deep else both))
        return torch.cat(rows).log_softmax(dim=-1)


def both_sides(deep):
    torch.manual_seed(4)
    model = BothSides(deep).double().eval()
    found = cook("One softmax over both states", model, START=1, END=2)
    found = {**found, **(cook("One softmax over both states", model, number=1, joint=found["joint"]) if deep else {})}
    return model, found["joint"]


@pytest.mark.parametrize("deep", [False, True])
def test_one_softmax_over_both_states(deep):
    model, joint = both_sides(deep)
    image = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    words = [4, 7, 3, 9, 4]
    (scored,) = score_sentences(joint, image, [words])
    with torch.no_grad():
        expected = model(image, words)[torch.arange(5), words]
    assert scored.token_conditionals == pytest.approx(expected.tolist(), abs=1e-9)
    best = decode(joint, image, Template.from_tokens([4, Template.BLANK, 3]), beam_size=12).best
    every = score_sentences(joint, image, [[4, word, 3] for word in range(3, V)])
    assert best.score == pytest.approx(max(one.score for one in every))


def test_every_recipe_was_run_and_is_short():
    for make in KINDS.values():
        make()
    virtex()
    both_sides(deep=True)
    every = {(name, number) for name, blocks in RECIPES.items() for number in range(len(blocks))}
    others = {(SHARED, 0), (SHARED, 1), ("Hugging Face", 0), ("Vocabularies", 0), ("Check it", 0)}
    assert every == COOKED | others
    for blocks in RECIPES.values():
        for block in blocks:
            assert sum(bool(line.strip()) for line in block.splitlines()) <= 10, block
