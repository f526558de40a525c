"""Semantic search and fill-in: pooling by hand, vectors that ignore batching, hits in the right order, and tuning."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

import companion.data.labelled
from companion.applications.fill import fill_mask
from companion.applications.search.engine import SearchEngine
from companion.applications.search.ranking import fuse, ranks, recall, reciprocal_rank, rerank
from companion.applications.search.tune import ContrastiveBatches, ContrastiveObjective, contrastive_loss, tune
from companion.applications.search.vectors import embed, normalise, pool, whitening
from companion.config import BertConfig
from companion.data.labelled import load_dataset
from companion.data.questions import PYTHON_MODULES, docstring_pairs, documented
from companion.model.encoder import BertModel
from companion.model.heads import BertForMaskedLM
from companion.text.tokenizer import Tokenizer

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
    with pytest.raises(ValueError, match="pooling='sum' is not allowed; it must be one of 'mean', 'cls', 'max'"):
        pool(hidden, mask, "sum")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_a_vector_does_not_depend_on_the_other_texts(parts, pooling):
    together = embed(TEXTS, *parts, pooling=pooling, batch_size=3)
    alone = np.concatenate([embed([text], *parts, pooling=pooling) for text in TEXTS])
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


def test_an_engine_comes_back_from_disk_as_it_was(folder, tmp_path):
    engine = SearchEngine(TEXTS, folder, pooling="max")
    engine.save(tmp_path / "engine")
    engine.save(tmp_path / "engine")  # takes the place of the one before
    again = SearchEngine.load(tmp_path / "engine")
    assert (again.texts, again.pooling) == (TEXTS, "max")
    np.testing.assert_array_equal(again.vectors, engine.vectors)
    assert again.search("a red dog") == engine.search("a red dog")


def test_an_engine_replaces_no_other_files_and_is_not_found_where_there_is_none(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and holds no search engine; pass the path of a new folder"):
        SearchEngine(TEXTS, folder).save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match=r"holds no engine\.json; write one with SearchEngine\.save"):
        SearchEngine.load(tmp_path)


def test_an_encoder_can_be_given_in_the_place_of_the_checkpoint(folder, parts):
    other = BertModel(parts[0].config)
    engine = SearchEngine(TEXTS, folder, model=other, centre=False)
    np.testing.assert_allclose(engine.vectors, normalise(embed(TEXTS, other.eval(), parts[1])), atol=1e-6)


def test_normalise_and_ranks_by_hand():
    np.testing.assert_allclose(normalise(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])
    scores = np.array([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5]])
    assert ranks(scores, [0, 2]).tolist() == [1, 2]
    assert reciprocal_rank(scores, [0, 2]) == pytest.approx((1 + 1 / 2) / 2)
    assert recall(scores, [0, 1], count=2) == 0.5
    assert ranks(scores, [[1, 2], [0, 1]]).tolist() == [2, 1]  # the first of several right texts counts


def test_a_search_that_scores_all_texts_alike_has_the_ranks_of_chance():
    same = np.zeros((1, 9))
    assert ranks(same, [4]).tolist() == [5]
    draws = np.random.default_rng(0).permuted(np.tile(np.arange(9.0), (5_000, 1)), axis=1)
    for right in ([4], [2, 4], [0, 3, 8]):
        assert ranks(same, [right])[0] == pytest.approx(ranks(draws, [right] * len(draws)).mean(), abs=0.12)


def test_fusing_adds_reciprocal_ranks():
    words, meaning = np.array([[0.9, 0.1, 0.5]]), np.array([[1.0, 20.0, 20.0]])
    by_hand = [[1 / 61 + 1 / 63, 1 / 63 + 1 / 61.5, 1 / 62 + 1 / 61.5]]
    np.testing.assert_allclose(fuse(words, meaning), by_hand)
    np.testing.assert_allclose(fuse(100 * words, meaning), by_hand)


MODULE = '''
import os
__all__ = ["Basket", "empty_basket", "LIMIT", "Full"]
LIMIT = 3

class Full(Exception):
    """Is raised when nothing more goes in."""
    def by_how_much(self):
        """Return how much is too much."""

class Basket:
    """All the things that were bought.

    They are kept in order.
    """
    def add(self):
        """Put one more thing into it. It must fit."""
    def add_item(self):
        """Put one more thing into it. It must fit."""
    def _hidden(self):
        """Nobody outside needs to know."""

def empty_basket():
    """Args:
        none

    Return a basket with nothing in it.
    """

def unlisted():
    """Is not part of the interface."""
'''


def test_documented_reads_what_a_module_makes_public(tmp_path, monkeypatch):
    (tmp_path / "baskets.py").write_text(MODULE)
    (tmp_path / "open_baskets.py").write_text(
        MODULE.replace("__all__", "_all") + "from baskets import Basket as Other\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    expected = {
        "Basket": "All the things that were bought.",
        "empty_basket": "Return a basket with nothing in it.",
        "Basket.add": "Put one more thing into it. It must fit.",
    }
    assert documented(["baskets"]) == {f"baskets.{name}": text for name, text in expected.items()}
    expected["unlisted"] = "Is not part of the interface."
    assert documented(["open_baskets"]) == {f"open_baskets.{name}": text for name, text in expected.items()}


def test_documented_calls_built_in_things_by_the_names_they_are_used_under():
    found = documented(["builtins", "math"])
    assert found["str.strip"] == "Return a copy of the string with leading and trailing whitespace removed."
    assert found["math.ceil"] == "Return the ceiling of x as an Integral."
    assert not [name for name in found if name.startswith("builtins.") or name.endswith("Error")]
    assert len(set(found.values())) == len(found)


def test_pairs_are_names_as_words_with_first_sentences(tmp_path):
    (tmp_path / "package" / "tests").mkdir(parents=True)
    (tmp_path / "package" / "baskets.py").write_text(MODULE)
    (tmp_path / "package" / "tests" / "more.py").write_text(MODULE)
    (tmp_path / "package" / "broken.py").write_text("def broken(:")
    assert sorted(docstring_pairs([tmp_path])) == [
        ("add item", "Put one more thing into it."),
        ("by how much", "Return how much is too much."),
        ("empty basket", "Return a basket with nothing in it."),
    ]


def test_names_are_cut_into_words_where_underscores_and_capitals_begin_them(tmp_path):
    names = ["HTTPServer", "parse_qs", "toISO8601", "ParseResultBytes"]
    (tmp_path / "names.py").write_text("".join(f'class {name}:\n    "All of this is a sentence."\n' for name in names))
    expected = ["http server", "parse qs", "to iso 8601", "parse result bytes"]
    assert [name for name, _ in docstring_pairs([tmp_path])] == expected


def test_whitened_vectors_have_no_common_direction_and_no_scale():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(500, 4)) @ generator.normal(size=(4, 4)) + [9.0, 0.0, 1.0, 0.0]
    mean, matrix = whitening(vectors)
    found = (vectors - mean) @ matrix
    assert found.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert np.cov(found, rowvar=False, bias=True) == pytest.approx(np.eye(4), abs=1e-9)
    kept = (vectors - mean) @ whitening(vectors, keep=2)[1]
    assert kept == pytest.approx(found[:, :2])
    with pytest.raises(ValueError, match="keep=5"):
        whitening(vectors, keep=5)
    with pytest.raises(ValueError, match="4 vectors are too few for keep=4"):
        whitening(vectors[:4])


def test_the_first_texts_are_put_in_order_again_and_the_others_stay_behind_them():
    scores = np.array([[0.9, 0.8, 0.1, 0.3], [0.2, 0.1, 0.7, 0.6]])
    seen = []
    judge = SimpleNamespace(predict=lambda pairs: seen.extend(pairs) or [len(text) for _, text in pairs])
    again = rerank(scores, ["p", "q"], ["a", "bbb", "cc", "dddd"], judge, count=2)
    assert seen == [("p", "a"), ("p", "bbb"), ("q", "cc"), ("q", "dddd")]
    assert np.argsort(-again, axis=1).tolist() == [[1, 0, 3, 2], [3, 2, 0, 1]]
    assert scores[0, 0] == 0.9
    with pytest.raises(ValueError, match="count=0"):
        rerank(scores, ["p", "q"], ["a"] * 4, judge, count=0)


def test_the_contrastive_loss_by_hand():
    questions, texts = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[5.0, 0.0], [1.0, 1.0]])
    # cosines: 1 and 0.7071 for the first question, 0 and 0.7071 for the second
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(math.sqrt(2))))
    second = -math.log(math.exp(math.sqrt(2)) / (1 + math.exp(math.sqrt(2))))
    assert contrastive_loss(questions, texts, scale=2.0).item() == pytest.approx(first + second, rel=1e-6)


def test_pairs_of_one_group_are_no_wrong_answers_for_each_other():
    questions, texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.eye(2)[[0, 1, 0]]
    # question 1 sees its own text (cosine 1) and text 2 (cosine 0); question 2 sees all, its own with 1, two with 0
    one, two = math.log(1 + math.exp(-2)), math.log(1 + 2 * math.exp(-2))
    found = contrastive_loss(questions, texts, scale=2.0, groups=torch.tensor([4, 9, 4])).item()
    assert found == pytest.approx(one + two + one, rel=1e-6)
    assert contrastive_loss(questions, texts, groups=torch.tensor([7, 7, 7])).item() == 0


PAIRS = [
    ("cat", "the cat sat"),
    ("Dog", "a dog ran"),
    ("dog", "a dog in fog"),
    ("sun", "the sun"),
    ("moon", "A dog ran"),
]


def test_pairs_that_share_a_side_never_meet_and_a_batch_depends_on_its_number_alone(parts):
    batches, again = (
        ContrastiveBatches([*PAIRS, ("blue", "the blue fog")], parts[1], batch_size=2, seed=1) for _ in range(2)
    )
    assert (len(batches.sides[0]), batches.steps_per_epoch) == (4, 2)
    for epoch in range(3):
        rows = np.concatenate([batches.rows_of(2 * epoch + place) for place in (0, 1)])
        assert sorted(rows) == [0, 1, 2, 3]
    for number in (5, 0):
        first, second = batches[number], again[number]
        assert first.keys() == second.keys() == {"question_ids", "question_mask", "text_ids", "text_mask"}
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert ((batches[0]["text_ids"] == parts[1].pad_id) == (batches[0]["text_mask"] == 0)).all()


@pytest.mark.parametrize(("pairs", "batch_size"), [(PAIRS[1:3], 8), (PAIRS, 1), ([], 8)])
def test_without_wrong_answers_there_is_nothing_to_learn(parts, pairs, batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size} with . different pairs leaves no wrong answers"):
        ContrastiveBatches(pairs, parts[1], batch_size=batch_size)


def test_groups_keep_pairs_that_share_a_side_and_one_is_needed_for_each(parts):
    batches = ContrastiveBatches(PAIRS, parts[1], batch_size=3, groups=["pet", "hound", "hound", "sky", "hound"])
    assert (len(batches.sides[0]), batches.groups.tolist()) == (5, [0, 1, 1, 2, 1])
    assert batches[0]["groups"].tolist() == [[0, 1, 1, 2, 1][row] for row in batches.rows_of(0)]
    with pytest.raises(ValueError, match="groups holds 2 values for 5 pairs"):
        ContrastiveBatches(PAIRS, parts[1], groups=["pet", "sky"])


def test_the_objective_is_the_loss_of_the_pooled_vectors(parts):
    model, tokenizer = parts
    batch = ContrastiveBatches(PAIRS, tokenizer, batch_size=3)[0]
    objective = ContrastiveObjective("cls", scale=5.0)
    sums, counts = objective.sums(model, batch), objective.counts(batch)
    hidden = [model(batch[f"{side}_ids"], batch[f"{side}_mask"]).last_hidden_state for side in ("question", "text")]
    by_hand = contrastive_loss(hidden[0][:, 0], hidden[1][:, 0], scale=5.0)
    assert counts["contrast"] == 3
    assert sums["contrast"].loss.item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_tuning_brings_questions_to_their_texts(folder):
    questions = ["red", "sun", "cat", "fog"]
    texts = ["the blue moon ran", "a dog sat", "on the mat", "in the"]  # no word in common
    pairs = list(zip(questions, texts, strict=True))
    before = SearchEngine(texts, folder, centre=False).scores(questions)
    model, history = tune(pairs, folder, steps=60, learning_rate=1e-2, seed=3)
    after = SearchEngine(texts, folder, model=model, centre=False).scores(questions)
    assert history.finished and history.step == 60 and not model.training
    assert reciprocal_rank(after, range(4)) == 1.0 > reciprocal_rank(before, range(4))


def test_tuning_gives_the_same_encoder_twice_and_leaves_the_generators_of_the_caller(folder):
    models = []
    for draw in (False, True):
        torch.manual_seed(1 if draw else 2)
        state = torch.get_rng_state()
        models.append(tune(PAIRS, folder, steps=3, batch_size=2, seed=3)[0])
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in models), strict=True))
    with pytest.raises(ValueError, match="pooling='sum' is not allowed"):
        tune(PAIRS, folder, pooling="sum", steps=1)


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


# --- the bundled questions about Python ---

CARD = (Path(companion.data.labelled.__file__).parent / "sets" / "python_questions" / "README.md").read_text(
    encoding="utf-8"
)
WORDINGS = ("documentation", "everyday", "distant")


@pytest.fixture(scope="module")
def questions():
    return load_dataset("python_questions")


@pytest.fixture(scope="module")
def collection():
    return documented(PYTHON_MODULES)


def test_every_answer_is_in_the_collection(questions, collection):
    for rows in questions.values():
        assert not {name for names in rows["names"] for name in names} - collection.keys()


def test_every_function_is_asked_for_in_three_wordings_and_in_one_split(questions):
    functions = []
    for rows in questions.values():
        for start in range(0, len(rows), 3):
            three = rows[start : start + 3]
            assert three["wording"] == list(WORDINGS)
            assert three["names"][0] == three["names"][1] == three["names"][2]
            functions.append(three["names"][0][0])
    assert len(functions) == len(set(functions)) == 91
    texts = [text for rows in questions.values() for text in rows["question"]]
    assert len(texts) == len(set(texts))


def test_the_words_of_the_documentation_are_in_one_wording_and_not_in_the_other(questions, collection):
    """Share of a question's words, those of up to three letters apart, that occur in the text of a right answer."""
    shares = {wording: [] for wording in WORDINGS}
    for rows in questions.values():
        for row in rows:
            words = set(re.findall(r"[a-z]{4,}", row["question"].lower()))
            found = set(re.findall(r"[a-z]{4,}", " ".join(collection[name] for name in row["names"]).lower()))
            shares[row["wording"]].append(len(words & found) / max(1, len(words)))
    means = [np.mean(shares[wording]) for wording in WORDINGS]
    assert means[0] > 0.7 > 0.4 > means[1] > 0.15 > means[2]


def test_words_alone_score_what_the_card_says(questions, collection):
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    texts, numbers = vectorizer.fit_transform(collection.values()), {name: i for i, name in enumerate(collection)}
    for split, rows in questions.items():
        stated = re.search(rf"^\| {split} \| (\d+) \|(.*)\|$", CARD, re.MULTILINE)
        assert int(stated.group(1)) == len(rows)
        for wording, cell in zip(WORDINGS, stated.group(2).split("|"), strict=True):
            chosen = rows.filter(lambda row, wording=wording: row["wording"] == wording, load_from_cache_file=False)
            scores = (vectorizer.transform(chosen["question"]) @ texts.T).toarray()
            right = [[numbers[name] for name in names] for names in chosen["names"]]
            assert reciprocal_rank(scores, right) == pytest.approx(float(cell), abs=0.03)
