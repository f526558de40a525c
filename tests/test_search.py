"""Semantic search and fill-in: pooling by hand, vectors that ignore batching, and hits in the right order."""

import numpy as np
import pytest
import torch

from companion.applications.fill import fill_mask
from companion.applications.search import SearchEngine, embed, normalise, pool, reciprocal_rank
from companion.config import BertConfig
from companion.encoder import BertModel
from companion.heads import BertForMaskedLM
from companion.tokenizer import Tokenizer

WORDS = "the a cat dog sat ran on in mat fog red blue sun moon".split()
TEXTS = ["the cat sat on the mat", "a dog", "the red sun in the blue fog", "the moon ran", "a cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForMaskedLM(BertConfig(vocab_size=tokenizer.vocab_size, hidden_size=16, **sizes))
    path = tmp_path_factory.mktemp("search") / "model"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def parts(folder):
    return BertModel.from_pretrained(folder), Tokenizer.from_pretrained(folder)


def test_pooling_by_hand():
    hidden = torch.tensor([[[1.0, 5.0], [3.0, -1.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0, 2.0]]
    assert pool(hidden, mask, "max").tolist() == [[3.0, 5.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 5.0]]
    with pytest.raises(ValueError, match="how='sum' is unknown; choose one of mean, cls, max"):
        pool(hidden, mask, "sum")


@pytest.mark.parametrize("how", ["mean", "cls", "max"])
def test_a_vector_does_not_depend_on_the_other_texts(parts, how):
    together = embed(TEXTS, *parts, how=how, batch_size=3)
    alone = np.concatenate([embed([text], *parts, how=how) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_text_finds_itself_first(folder):
    engine = SearchEngine(TEXTS, folder)
    for number, text in enumerate(TEXTS):
        hit = engine.search(text, count=2)[0]
        assert (hit.number, hit.text) == (number, text)
        assert hit.score == pytest.approx(1.0, abs=1e-5)
    scores = [hit.score for hit in engine.search("the cat", count=5)]
    assert scores == sorted(scores, reverse=True)


def test_the_common_direction_is_taken_out(folder):
    plain, centred = SearchEngine(TEXTS, folder, centre=False), SearchEngine(TEXTS, folder)
    np.testing.assert_allclose(plain.centre, 0)
    np.testing.assert_allclose(centred.centre, embed(TEXTS, centred.model, centred.tokenizer).mean(0), atol=1e-6)
    assert centred.scores(TEXTS).mean() < plain.scores(TEXTS).mean()


def test_an_empty_collection_is_refused(folder):
    with pytest.raises(ValueError, match="texts is empty"):
        SearchEngine([], folder)


def test_normalise_and_reciprocal_rank_by_hand():
    np.testing.assert_allclose(normalise(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])
    scores = np.array([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5]])
    assert reciprocal_rank(scores, [0, 2]) == pytest.approx((1 + 1 / 2) / 2)


def test_fill_mask_returns_the_likeliest_tokens_of_every_mask(folder):
    model, tokenizer = BertForMaskedLM.from_pretrained(folder), Tokenizer.from_pretrained(folder)
    text = "the [MASK] sat on a [MASK]"
    guesses = fill_mask(text, model, tokenizer, count=3)
    batch = tokenizer(text)
    places = (batch["input_ids"][0] == tokenizer.mask_id).nonzero().flatten().tolist()
    probabilities = model(**batch).logits.softmax(-1)[0]
    assert [len(mask) for mask in guesses] == [3, 3]
    for place, mask in zip(places, guesses, strict=True):
        best = probabilities[place].argmax().item()
        assert mask[0].token == tokenizer.id_to_token(best)
        assert mask[0].probability == pytest.approx(probabilities[place, best].item(), rel=1e-5)
        assert mask[0].probability >= mask[1].probability >= mask[2].probability
    with pytest.raises(ValueError, match=r"has no \[MASK\]"):
        fill_mask("the cat", model, tokenizer)
    with pytest.raises(ValueError, match="count=0 is not allowed"):
        fill_mask(text, model, tokenizer, count=0)
