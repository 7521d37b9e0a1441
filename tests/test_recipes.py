"""The recipes of docs/recipes.md, on small models of the published architectures."""

import itertools

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from documents import blocks_of  # noqa: E402
from standins_published import Fairseq, OldCaptioner, Trap, WeNet  # noqa: E402

from birnn_decode import Pair, check_scorer, decode, score_sentences  # noqa: E402

RECIPES = {
    section: [block.text for block in blocks]
    for section, blocks in itertools.groupby(blocks_of("docs/recipes.md"), key=lambda block: block.section)
}
SHARED, *NAMES = RECIPES
SPEECH, PROTEINS, PICKLE, TRANSLATION = NAMES


def cook(recipe, **names):
    for block in (*RECIPES[SHARED], *RECIPES[recipe]):
        exec(block, names)
    return names


def checked(scorer, sources, direction):
    report = check_scorer(scorer, sources, direction=direction)
    assert report.ok, report


def sounds():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 5, generator=generator) for length in (7, 4, 9)]


def test_two_decoders_in_one_module():
    model = WeNet().eval()
    pair = cook(SPEECH, model=model)["pair"]
    for scorer, direction in ((pair.forward, "forward"), (pair.backward, "backward")):
        checked(scorer, sounds(), direction)
    result = decode(pair, sounds()[1], beam_size=4, max_length=5)
    words = list(result.best.tokens)
    memory, mask = model._forward_encoder(sounds()[1][None], torch.tensor([4]))
    for decoder, order, found in (
        (model.decoder.left_decoder, words, result.best.log_prob_forward),
        (model.decoder.right_decoder, words[::-1], result.best.log_prob_backward),
    ):
        read = torch.tensor([[model.sos, *order]])
        causal = torch.ones(len(order) + 1, len(order) + 1, dtype=torch.bool).tril()[None]
        with torch.no_grad():
            log_probs = decoder(memory, mask, read, causal)[0].log_softmax(-1)
        expected = log_probs[torch.arange(len(order) + 1), [*order, model.eos]].sum()
        assert found == pytest.approx(expected.item(), abs=1e-5)


class AminoAcids:
    letters = ("<|pad|>", "<|bos|>", "<|eos|>", "1", "2", "A", "C", "D", "E", "F", "G")

    def encode(self, text):
        return [self.letters.index(letter) for letter in text]

    def decode(self, ids):
        return "".join(self.letters[token] for token in ids)

    def convert_tokens_to_ids(self, token):
        return self.letters.index(token)

    def __len__(self):
        return len(self.letters)


def test_one_set_of_weights_reads_both_ways():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11, n_embd=16, n_layer=2, n_head=2, n_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    pair = cook(PROTEINS, model=model, tokens=AminoAcids())["pair"]
    (scored,) = score_sentences(pair, None, ["ACDE"])
    for order, total in (([3, 5, 6, 7, 8, 4], scored.log_prob_forward), ([4, 8, 7, 6, 5, 3], scored.log_prob_backward)):
        with torch.no_grad():
            log_probs = model(torch.tensor([order])).logits[0].log_softmax(-1)
        assert total == pytest.approx(sum(log_probs[at, token].item() for at, token in enumerate(order[1:])), abs=1e-5)
    assert decode(pair, None, "A _ _ E".replace(" ", "")).best.text.startswith("A")


def test_weights_come_out_of_a_pickle_whose_code_does_not_run(tmp_path):
    model = OldCaptioner().eval()
    torch.save(model, tmp_path / "captioner.pt")
    Trap.sprung.clear()
    scorer = cook(PICKLE, path=tmp_path / "captioner.pt", START=1, END=2)["scorer"]
    assert not Trap.sprung
    torch.load(tmp_path / "captioner.pt", weights_only=False)
    assert Trap.sprung  # the usual way runs it
    (scored,) = score_sentences(Pair(scorer), None, [[4, 7, 5]])
    with torch.no_grad():
        log_probs = model(torch.tensor([[1, 4, 7, 5]]))[0].log_softmax(-1)
    assert scored.log_prob_forward == pytest.approx(log_probs[torch.arange(4), [4, 7, 5, 2]].sum().item(), abs=1e-5)


def test_translation_from_right_to_left():
    model = Fairseq().eval()
    ids = {name: getattr(model, name) for name in ("PAD", "END", "UNK", "START")}
    scorer = cook(TRANSLATION, model=model, words=range(14), **ids)["backward"]
    sentences = [torch.tensor(own) for own in ([5, 6, 7, 2], [8, 2], [9, 10, 11, 12, 13, 2])]
    checked(scorer, sentences, "backward")
    (scored,) = score_sentences(Pair(None, scorer), sentences[1], [[4, 7, 5]])
    with torch.no_grad():
        found = model.encoder(sentences[1][None], torch.tensor([2]))
        log_probs = model.decoder(torch.tensor([[2, 5, 7, 4]]), found)[0][0].log_softmax(-1)
    assert scored.log_prob_backward == pytest.approx(log_probs[torch.arange(4), [5, 7, 4, 2]].sum().item(), abs=1e-5)


def test_every_recipe_is_short():
    for blocks in RECIPES.values():
        for block in blocks:
            assert sum(bool(line.strip()) for line in block.splitlines()) <= 24
