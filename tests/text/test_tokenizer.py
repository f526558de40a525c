"""Tokenizer: rows worked by hand, identity with the teaching implementation and with Transformers, windows, errors."""

from __future__ import annotations

import json
import pickle
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wordpiece import documentation

from companion.text import encoding
from companion.text.tokenizer import Tokenizer
from companion.text.vocabulary import SPECIAL_TOKENS
from companion.text.wordpiece import WordPiece
from companion.text.words import basic_tokenize

# ids 5 to 14 are the digits, so that rows can be read: "3" has the id 8
DIGITS = Tokenizer([*SPECIAL_TOKENS, *"0123456789"], max_length=20)
PAD, UNK, CLS, SEP, MASK = range(5)

HARD_TEXTS = [
    "",
    " \t\n ",
    "The quick brown function returns an array of values; it doesn't copy them.",
    "UPPER lower CamelCase snake_case x=3.14e-10 $5 <html> a^b~c`d|e",
    "Déjà-vu, İstanbul, Straße, ΟΔΟΣ, naïve, e\u0301te\u0301, Tiếng Việt",
    "中文字符 mixed with English，かな カナ 한글。",
    "control\x00\x07\x1f chars\u200b zero\u00adwidth\ufeff \ufffd private\ue000 nbsp\u00a0em\u2003line\u2028end",
    "emoji 👍🏽 family 👨‍👩‍👧 flags 🇪🇺",
    "unknown ꙮ words 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "x" * 100 + " " + "y" * 101 + " " + "é" * 101,
    "[MASK] a[SEP]b [CLS][PAD] [mask] [UNK]! [MASK",
    "##ing # #hash ##",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(documentation(500_000) + HARD_TEXTS[:8] * 3, vocab_size=2000)


@pytest.fixture(scope="module")
def reference(tokenizer, tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return transformers.BertTokenizer.from_pretrained(folder)


def test_a_batch_by_hand():
    batch = DIGITS(["1 2 3", "4"])
    assert list(batch) == ["input_ids", "attention_mask", "token_type_ids"]
    assert batch["input_ids"].tolist() == [[CLS, 6, 7, 8, SEP], [CLS, 9, SEP, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0] * 5, [0] * 5]
    assert all(column.dtype == torch.int64 for column in batch.values())


def test_a_pair_by_hand():
    batch = DIGITS("1 2", "x 3", return_offsets=True, return_word_ids=True, return_special_tokens_mask=True)
    assert batch["input_ids"].tolist() == [[CLS, 6, 7, SEP, UNK, 8, SEP]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]
    assert batch["offsets"].tolist() == [[[0, 0], [0, 1], [2, 3], [0, 0], [0, 1], [2, 3], [0, 0]]]
    assert batch["word_ids"].tolist() == [[-1, 0, 1, -1, 0, 1, -1]]
    assert batch["special_tokens_mask"].tolist() == [[1, 0, 0, 1, 0, 0, 1]]


def test_windows_by_hand():
    batch = DIGITS(["0 1 2 3 4 5 6", "7"], max_length=6, stride=1, return_overflow=True, return_offsets=True)
    assert batch["input_ids"].tolist() == [
        [CLS, 5, 6, 7, 8, SEP],
        [CLS, 8, 9, 10, 11, SEP],  # shares one token with the window before
        [CLS, 12, SEP, PAD, PAD, PAD],
    ]
    assert batch["overflow_to_sample"].tolist() == [0, 0, 1]
    assert batch["offsets"][1, 1:5].tolist() == [[6, 7], [8, 9], [10, 11], [12, 13]]  # in the whole text


@pytest.mark.parametrize(
    ("text", "pair", "truncation", "max_length", "row"),
    [
        ("0 1 2 3 4", "5", "longest_first", 7, [CLS, 5, 6, 7, SEP, 10, SEP]),
        ("0", "1 2 3 4 5", "longest_first", 7, [CLS, 5, SEP, 6, 7, 8, SEP]),
        ("0 1 2 3", "5 6 7 8", "longest_first", 8, [CLS, 5, 6, SEP, 10, 11, 12, SEP]),  # the odd one: to the pair
        ("0 1 2 3 4", "5 6 7 8", "longest_first", 8, [CLS, 5, 6, 7, SEP, 10, 11, SEP]),  # to the longer
        ("0 1 2 3 4", "5 6", "only_first", 7, [CLS, 5, 6, SEP, 10, 11, SEP]),
        ("0 1", "5 6 7 8", "only_second", 7, [CLS, 5, 6, SEP, 10, 11, SEP]),
        ("0 1", "5 6", "only_first", 7, [CLS, 5, 6, SEP, 10, 11, SEP]),
        ("0 1", "5 6", False, 7, [CLS, 5, 6, SEP, 10, 11, SEP]),
    ],
)
def test_truncation_by_hand(text, pair, truncation, max_length, row):
    assert DIGITS(text, pair, truncation=truncation, max_length=max_length)["input_ids"].tolist() == [row]


def test_padding():
    assert DIGITS(["1"], padding="max_length")["input_ids"].shape == (1, 20)
    assert DIGITS(["1"], padding="max_length", max_length=7)["input_ids"].shape == (1, 7)
    assert DIGITS(["1 2 3"], pad_to_multiple_of=4)["input_ids"].shape == (1, 8)
    assert DIGITS(["1 2 3"], max_length=9, padding="max_length", pad_to_multiple_of=4)["input_ids"].shape == (1, 12)
    assert DIGITS(["1", "2"], padding=False)["input_ids"].shape == (2, 3)
    assert DIGITS(["1", "2 3"], padding=False, return_tensors=False)["input_ids"] == [[2, 6, 3], [2, 7, 8, 3]]
    marks = DIGITS(["1", "2 3"], return_word_ids=True, return_special_tokens_mask=True)
    assert marks["word_ids"][0].tolist() == [-1, 0, -1, -1]
    assert marks["special_tokens_mask"][0].tolist() == [1, 0, 1, 1]


def test_what_transformers_takes_means_the_same_here(tokenizer, reference):
    texts = HARD_TEXTS[:5]
    expected = reference(texts, padding=True, truncation=True, max_length=20, return_tensors="pt")
    found = tokenizer(texts, padding=True, truncation=True, max_length=20, return_tensors="pt")
    arrays = tokenizer(texts, padding=True, truncation=True, max_length=20, return_tensors="np")
    lists = tokenizer(texts, padding=True, truncation=True, max_length=20, return_tensors=None)
    assert found.keys() == set(expected.keys())
    for name, column in found.items():
        assert torch.equal(column, expected[name])
        assert isinstance(arrays[name], np.ndarray) and arrays[name].dtype == np.int64
        assert arrays[name].tolist() == lists[name] == column.tolist()


def test_words_given_as_lists():
    vocabulary = [*SPECIAL_TOKENS, "new", "york", "##ers", "-", "s"]
    tokenizer = Tokenizer(vocabulary)
    options = dict(is_split_into_words=True, return_word_ids=True, return_offsets=True)
    batch = tokenizer([["New", "Yorkers-"], ["s"]], **options)
    assert batch["input_ids"].tolist() == [[CLS, 5, 6, 7, 8, SEP], [CLS, 9, SEP, PAD, PAD, PAD]]
    assert batch["word_ids"].tolist() == [[-1, 0, 1, 1, 1, -1], [-1, 0, -1, -1, -1, -1]]
    assert batch["offsets"][0].tolist() == [[0, 0], [0, 3], [0, 4], [4, 7], [7, 8], [0, 0]]  # in its own word
    one = tokenizer(["New", "Yorkers-"], **options)
    assert one["word_ids"].tolist() == [[-1, 0, 1, 1, 1, -1]]
    pair = tokenizer([["new"]], [["s", "york"]], **options)
    assert pair["word_ids"].tolist() == [[-1, 0, -1, 0, 1, -1]]
    words = tokenizer(np.array([["New", "s"]]), is_split_into_words=True)
    assert words["input_ids"].tolist() == [[CLS, 5, 9, SEP]]


def test_texts_may_come_in_any_container():
    expected = DIGITS(["1", "2"])["input_ids"].tolist()
    for texts in (("1", "2"), np.array(["1", "2"]), iter(["1", "2"]), {"1": 0, "2": 0}.keys()):
        assert DIGITS(texts)["input_ids"].tolist() == expected
    for texts in (pd.Series(["1", "2"], index=[2, 0]), pd.Series(["1", "2"], dtype="string"), map(str, [1, 2])):
        assert DIGITS(texts)["input_ids"].tolist() == expected, "in the order of the rows"
    frame = pd.DataFrame({"a": ["1", "2"], "b": ["3", "4"]})
    assert DIGITS(frame["a"], frame["b"])["input_ids"].tolist() == DIGITS(["1", "2"], ["3", "4"])["input_ids"].tolist()
    assert DIGITS.encode_batch(np.array(["1", "2"])) == [[6], [7]]
    assert Tokenizer(np.array([*SPECIAL_TOKENS, "a"])).tokenize("a") == ["a"]
    assert DIGITS.encode_batch([]) == []
    assert DIGITS([])["input_ids"].shape == (0, 0)


def test_ids_and_tokens():
    assert (DIGITS.pad_id, DIGITS.unk_id, DIGITS.cls_id, DIGITS.sep_id, DIGITS.mask_id) == (PAD, UNK, CLS, SEP, MASK)
    assert DIGITS.special_ids == {0, 1, 2, 3, 4}
    assert (DIGITS.vocab_size, len(DIGITS.vocabulary)) == (15, 15)
    assert (DIGITS.token_to_id("3"), DIGITS.id_to_token(8), DIGITS.id_to_token(torch.tensor(8))) == (8, "3", "3")
    assert (DIGITS.tokenize("3 [MASK] a"), DIGITS.encode("3 [MASK] a")) == (["3", "[MASK]", "[UNK]"], [8, MASK, UNK])
    assert DIGITS.decode(DIGITS("1 2", "3")["input_ids"][0]) == "1 2 3"
    assert DIGITS.decode([CLS, 6, SEP], skip_special_tokens=False) == "[CLS] 1 [SEP]"


def test_special_tokens_may_stand_anywhere():
    tokenizer = Tokenizer({"a": 0, "[MASK]": 1, "[SEP]": 2, "[CLS]": 3, "[UNK]": 4, "b": 5, "[PAD]": 6})
    assert tokenizer.vocabulary == ["a", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "b", "[PAD]"]
    assert tokenizer(["a", "b x"])["input_ids"].tolist() == [[3, 0, 2, 6], [3, 5, 4, 2]]


def test_half_a_surrogate_pair_is_removed_and_offsets_stay_right():
    batch = DIGITS(["\ud8001 \udfff2"], return_offsets=True)
    assert batch["input_ids"].tolist() == [[CLS, 6, 7, SEP]]
    assert batch["offsets"].tolist() == [[[0, 0], [1, 2], [4, 5], [0, 0]]]
    assert DIGITS([["1\ud800", "2"]], is_split_into_words=True)["input_ids"].tolist() == [[CLS, 6, 7, SEP]]


def test_a_tokenizer_can_be_pickled(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode_batch(HARD_TEXTS) == tokenizer.encode_batch(HARD_TEXTS)
    assert copy.vocabulary == tokenizer.vocabulary


def test_ids_are_those_of_wordpiece_on_real_text(tokenizer):
    lines = documentation(2_000_000)
    teaching = WordPiece(tokenizer.vocabulary)
    ids = tokenizer.encode_batch(lines)
    assert sum(map(len, ids)) > 300_000
    assert ids == [teaching.encode(line) for line in lines]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [None, True, False])
@pytest.mark.parametrize("chinese", [True, False])
def test_ids_are_those_of_wordpiece_on_hard_texts(tokenizer, lowercase, strip_accents, chinese):
    ours = Tokenizer(tokenizer.vocabulary, lowercase, strip_accents, chinese)
    teaching = WordPiece(tokenizer.vocabulary, lowercase, strip_accents, chinese)
    assert ours.encode_batch(HARD_TEXTS) == [teaching.encode(text) for text in HARD_TEXTS]
    assert [ours.decode(ids) for ids in ours.encode_batch(HARD_TEXTS)] == [
        teaching.decode(teaching.encode(text)) for text in HARD_TEXTS
    ]


pieces = st.sampled_from(
    [*"abcXYZ019 \t\n.,[]#é漢字ßΣσ", "e\u0301", "한", "👍🏽", "\u200b", "\x00", "return", "array", " ", *SPECIAL_TOKENS]
)
texts = st.lists(pieces, max_size=30).map("".join)


@settings(deadline=None)
@given(texts)
def test_ids_are_those_of_wordpiece_on_any_text(tokenizer, text):
    assert tokenizer.encode(text) == WordPiece(tokenizer.vocabulary).encode(text)


def rows_of_reference(encoding) -> dict:
    rows = range(len(encoding["input_ids"]))
    return {
        "input_ids": encoding["input_ids"],
        "attention_mask": encoding["attention_mask"],
        "token_type_ids": encoding["token_type_ids"],
        "offsets": [[list(place) for place in row] for row in encoding["offset_mapping"]],
        "word_ids": [[-1 if word is None else word for word in encoding.word_ids(row)] for row in rows],
        "special_tokens_mask": encoding["special_tokens_mask"],
    }


def both(tokenizer, reference, texts, pairs=None, *, stride=0, overflow=False, words=False, **options) -> tuple:
    ours = tokenizer(
        texts,
        pairs,
        stride=stride,
        return_overflow=overflow,
        is_split_into_words=words,
        return_offsets=True,
        return_word_ids=True,
        return_special_tokens_mask=True,
        **options,
    )
    options = {"padding": "longest", "truncation": "longest_first", "max_length": 512} | options
    theirs = reference(
        texts,
        pairs,
        stride=stride,
        return_overflowing_tokens=overflow,
        is_split_into_words=words,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        **options,
    )
    expected = rows_of_reference(theirs)
    if overflow:
        expected["overflow_to_sample"] = theirs["overflow_to_sample_mapping"]
    return {name: column.tolist() for name, column in ours.items()}, expected


def test_hard_texts_as_in_transformers(tokenizer, reference):
    ours, theirs = both(tokenizer, reference, HARD_TEXTS)
    assert ours == theirs
    ours, theirs = both(tokenizer, reference, HARD_TEXTS, HARD_TEXTS[::-1])
    assert ours == theirs
    assert [tokenizer.tokenize(text) for text in HARD_TEXTS] == [reference.tokenize(text) for text in HARD_TEXTS]


@pytest.mark.parametrize(
    "options", [{"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}]
)
def test_options_as_in_transformers(tokenizer, reference, options):
    names = {"do_lower_case": "lowercase"}
    ours = Tokenizer(tokenizer.vocabulary, **{names.get(name, name): value for name, value in options.items()})
    theirs = type(reference)(vocab=reference.get_vocab(), **options)
    assert ours(HARD_TEXTS)["input_ids"].tolist() == theirs(HARD_TEXTS, padding=True)["input_ids"]


def test_padding_as_in_transformers(tokenizer, reference):
    for options in ({"padding": "max_length", "max_length": 60}, {"pad_to_multiple_of": 8}):
        ours, theirs = both(tokenizer, reference, HARD_TEXTS[:4], **options)
        assert ours == theirs


TEXTS = [HARD_TEXTS[2], "short one", "", HARD_TEXTS[4], "return the index of the first element " * 2]
PAIRS = ["is it so? " * 5, "another pair of rather long sentences that returns an array", "question", "", "w x y"]


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("overflow", [False, True])
def test_truncation_of_pairs_as_in_transformers(tokenizer, reference, truncation, overflow):
    compared = 0
    for text, pair in zip(TEXTS, PAIRS, strict=True):
        for max_length in range(9, 40, 3):
            options = dict(max_length=max_length, truncation=truncation, overflow=overflow)
            try:
                ours, theirs = both(tokenizer, reference, [text], [pair], **options)
            except ValueError as error:
                assert "the other text alone leaves no room" in str(error)
                continue
            compared += 1
            assert ours["input_ids"][0] == theirs["input_ids"][0]
            if overflow and truncation == "longest_first":  # where both are shortened the order of the windows differs
                ours, theirs = ({name: sorted(rows) for name, rows in side.items()} for side in (ours, theirs))
            assert ours == theirs
    assert compared > 30


@pytest.mark.parametrize("stride", [0, 1, 5])
def test_windows_of_single_texts_as_in_transformers(tokenizer, reference, stride):
    for max_length in (8, 13, 30):
        ours, theirs = both(tokenizer, reference, HARD_TEXTS, max_length=max_length, stride=stride, overflow=True)
        assert ours == theirs
        assert len(ours["input_ids"]) > len(HARD_TEXTS)


def test_windows_of_a_context_as_in_transformers(tokenizer, reference):
    questions, contexts = ["which array?", "why"], [" ".join(documentation(300_000)[40:70]), "short"]
    options = dict(max_length=48, truncation="only_second", stride=16, overflow=True)
    ours, theirs = both(tokenizer, reference, questions, contexts, **options)
    assert ours == theirs
    assert ours["overflow_to_sample"].count(0) > 5


def test_words_given_as_lists_as_in_transformers(tokenizer, reference):
    words = [["Yorkers", "don't", "", "é!"], ["中文", "x" * 101, "[MASK]", "return"]]
    ours, theirs = both(tokenizer, reference, words, words=True)
    assert ours == theirs
    ours, theirs = both(tokenizer, reference, words, words[::-1], words=True, max_length=12, truncation="only_first")
    assert ours == theirs


@settings(deadline=None)
@given(texts)
def test_offsets_point_at_the_token(tokenizer, text):
    batch = tokenizer([text], max_length=512, return_offsets=True, return_special_tokens_mask=True)
    places = batch["offsets"][0][batch["special_tokens_mask"][0] == 0].tolist()
    tokens = tokenizer.tokenize(text)
    for (start, end), token in zip(places, tokens, strict=True):
        if token in SPECIAL_TOKENS:
            assert token == "[UNK]" or text[start:end] == token
        elif "한" not in text[start:end]:  # one character there is several letters, and so may be several tokens
            assert "".join(basic_tokenize(text[start:end])) == token.removeprefix("##")
    assert places == sorted(places)
    assert all(end <= start for (_, end), (start, _) in zip(places, places[1:], strict=False) if text[start] != "한")


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=5), st.booleans(), st.integers(5, 40))
def test_the_mask_counts_tokens_and_padding_stands_right(tokenizer, batch, in_pairs, max_length):
    rows = tokenizer(batch, batch[::-1] if in_pairs else None, max_length=max_length)
    lengths = [len(ids) for ids in tokenizer.encode_batch(batch)]
    sums = [a + b + 3 if in_pairs else a + 2 for a, b in zip(lengths, lengths[::-1], strict=True)]
    assert rows["attention_mask"].sum(1).tolist() == [min(length, max_length) for length in sums]
    assert (rows["attention_mask"].diff(dim=1) <= 0).all()
    assert (rows["input_ids"][rows["attention_mask"] == 0] == tokenizer.pad_id).all()
    assert (rows["token_type_ids"].sum(1) > 0).all() == in_pairs


@settings(deadline=None)
@given(st.integers(0, 18), st.integers(4, 12), st.data())
def test_windows_cover_the_text_and_overlap_by_the_stride(length, max_length, data):
    stride = data.draw(st.integers(0, max_length - 3))
    digits = [number % 10 for number in range(length)]
    rows = DIGITS(" ".join(map(str, digits)), max_length=max_length, stride=stride, return_overflow=True)["input_ids"]
    windows = [[id - 5 for id in row if id >= 5] for row in rows.tolist()]
    assert windows[0] + [digit for window in windows[1:] for digit in window[stride:]] == digits
    assert all(a[len(a) - stride :] == b[:stride] for a, b in zip(windows, windows[1:], strict=False))
    assert all(len(window) == max_length - 2 for window in windows[:-1])


@settings(deadline=None)
@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyzéABC", min_size=1, max_size=12), max_size=12))
def test_decoding_gives_the_words_back(tokenizer, words):
    text = " ".join(words)
    assert tokenizer.unk_id not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(basic_tokenize(text))


def test_saving_and_loading(tokenizer, tmp_path):
    cased = Tokenizer(tokenizer.vocabulary, False, True, False, max_length=64)
    cased.save_pretrained(tmp_path / "new" / "folder")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    for missing in ("nothing", "tokenizer.json", "vocab.txt"):  # the last time only tokenizer.json is there
        if missing == "vocab.txt":
            cased.save_pretrained(tmp_path / "new" / "folder")
        (tmp_path / "new" / "folder" / missing).unlink(missing_ok=True)
        loaded = Tokenizer.from_pretrained(tmp_path / "new" / "folder")
        assert loaded.vocabulary == cased.vocabulary
        assert (loaded.lowercase, loaded.strip_accents, loaded.tokenize_chinese_chars) == (False, True, False)
        assert loaded.max_length == 64
        assert loaded.encode_batch(HARD_TEXTS) == cased.encode_batch(HARD_TEXTS)


def test_transformers_opens_what_is_saved(tokenizer, tmp_path):
    import transformers

    ours = Tokenizer(tokenizer.vocabulary, lowercase=False, max_length=64)
    ours.save_pretrained(tmp_path)
    for loader in (transformers.AutoTokenizer, transformers.BertTokenizer):
        theirs = loader.from_pretrained(tmp_path)
        expected = theirs(HARD_TEXTS, padding=True, truncation=True)["input_ids"]
        assert ours(HARD_TEXTS)["input_ids"].tolist() == expected
        assert theirs.model_max_length == 64
        assert theirs.pad_token_id == ours.pad_id


def test_what_transformers_saves_is_read(tokenizer, reference, tmp_path):
    reference.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.txt").exists()
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.encode_batch(HARD_TEXTS) == tokenizer.encode_batch(HARD_TEXTS)


def test_a_released_folder_is_read(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*SPECIAL_TOKENS, "a\u2028", "B", "b"]).encode())
    assert Tokenizer.from_pretrained(tmp_path).vocabulary == [*SPECIAL_TOKENS, "a\u2028", "B", "b"]
    assert Tokenizer.from_pretrained(tmp_path).tokenize("B") == ["b"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "model_max_length": 10**30}))
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 40}))
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert loaded.tokenize("B b") == ["B", "b"]
    assert loaded.max_length == 40
    with pytest.raises(ValueError, match=re.escape(f"longer than the 40 positions of '{tmp_path}'")):
        loaded("a", max_length=41)


def test_training_passes_its_arguments_on():
    lines = ["Déjà 中文 vu vu"] * 2
    tokenizer = Tokenizer.train(lines, 100, lowercase=False, tokenize_chinese_chars=False, max_length=30)
    assert tokenizer.tokenize("Déjà 中文 vu") == ["Déjà", "中文", "vu"]
    assert tokenizer.max_length == 30
    assert Tokenizer.train(lines, 100, min_frequency=3).tokenize("vu deja") == ["vu", "d", "##e", "##j", "##a"]
    assert "d" not in Tokenizer.train(lines, 100, limit_alphabet=2).vocabulary


def test_folders_that_hold_no_bert_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"which has no vocab.txt or tokenizer.json \(it is empty\)"):
        Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {}}, "normalizer": None}))
    with pytest.raises(ValueError, match="holds a BPE model with prefix '##' and normalizer None"):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (["[PAD]", "[UNK]", "[SEP]", "a"], r"vocabulary lacks \[CLS\] \[MASK\]; it must hold \[PAD\]"),
        ([*SPECIAL_TOKENS, "a", "b", "a"], "vocabulary holds 'a' more than once"),
        ([*SPECIAL_TOKENS, "a\nb"], r"vocabulary holds 'a\\nb', whose line break"),
        (
            {token: 2 * number for number, token in enumerate(SPECIAL_TOKENS)},
            r"gives '\[UNK\]' the id 2 where 1 is due",
        ),
    ],
)
def test_a_wrong_vocabulary_is_refused(vocabulary, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer(vocabulary)


TEN = "0 1 2 3 4 5 6 7 8 9"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_length": 2}, ValueError, r"max_length=2 is too small for \[CLS\] text \[SEP\]; pass at least 3"),
        ({"max_length": 4, "pairs": "1"}, ValueError, r"max_length=4 .* \[SEP\] pair \[SEP\]; pass at least 5"),
        ({"max_length": 21}, ValueError, "max_length=21 is longer than the 20 positions of this tokenizer"),
        (
            {"truncation": "longest"},
            ValueError,
            "truncation='longest' is not allowed; it must be one of 'longest_first'",
        ),
        ({"truncation": 0}, ValueError, "truncation=0 is not allowed; it must be one of 'longest_first'"),
        ({"truncation": "only_second"}, ValueError, "truncation='only_second' needs pairs"),
        ({"truncation": False, "max_length": 9}, ValueError, "row 0 has 12 tokens, more than max_length=9"),
        (
            {"padding": "max"},
            ValueError,
            "padding='max' is not allowed; it must be one of 'longest', 'max_le",
        ),
        ({"padding": 1}, ValueError, "padding=1 is not allowed"),
        ({"return_tensors": "tf"}, ValueError, "return_tensors='tf' is not allowed; it must be True or 'pt'"),
        ({"return_tensors": 1}, ValueError, "return_tensors=1 is not allowed"),
        ({"max_length": 9.0}, ValueError, "max_length=9.0 is not allowed; it must be an integer"),
        ({"stride": 0.5}, ValueError, "stride=0.5 is not allowed; it must be an integer"),
        ({"pad_to_multiple_of": 0}, ValueError, "pad_to_multiple_of=0 is not allowed; it must be an integer above 0"),
        ({"pad_to_multiple_of": 8}, ValueError, "to 24 tokens, beyond the 20 positions.*pass max_length=16 or less"),
        ({"pad_to_multiple_of": 4, "padding": False}, ValueError, "has no effect with padding=False"),
        ({"stride": -1}, ValueError, "stride=-1 is not allowed; it must be an integer of at least 0"),
        ({"stride": 2}, ValueError, "stride=2 has no effect without windows; pass return_overflow=True"),
        (
            {"stride": 6, "max_length": 8, "return_overflow": True},
            ValueError,
            "stride=6 leaves no step between windows of 6 tokens.*pass at most 5",
        ),
        (
            {"pairs": TEN, "truncation": "only_first", "max_length": 13},
            ValueError,
            "truncation='only_first' cannot bring row 0 to max_length=13",
        ),
        ({"texts": ["1", "2 3"], "padding": False}, ValueError, "rows of 3 to 4 tokens, which make no tensor"),
        ({"texts": ["1", "2"], "pairs": ["1"]}, ValueError, "pairs holds 1 texts and texts 2"),
        ({"pairs": ["1"]}, ValueError, "must be both one text or both lists"),
        ({"texts": ["1", None]}, TypeError, r"texts\[1\]=None is missing; drop it"),
        ({"texts": ["1"], "pairs": [float("nan")]}, TypeError, r"pairs\[0\]=nan is missing"),
        ({"texts": 3}, TypeError, "texts is of type int; pass a list"),
        ({"texts": b"1"}, TypeError, "texts=b'1' is one bytes; pass a list"),
        ({"texts": [["1"]]}, TypeError, r"texts\[0\]=\['1'\] is of type list; it must be a str"),
        ({"is_split_into_words": True}, TypeError, "texts is one str with is_split_into_words=True"),
        ({"texts": [["1"], "2"], "is_split_into_words": True}, TypeError, r"texts\[1\]='2' is one str; pass a list"),
        (
            {"texts": [["1", 2]], "is_split_into_words": True},
            TypeError,
            r"texts\[0\]\[1\]=2 is of type int; it must be a str",
        ),
    ],
)
def test_a_wrong_call_says_what_to_do(arguments, error, message):
    with pytest.raises(error, match=message):
        DIGITS(**{"texts": TEN, **arguments})


def test_other_wrong_arguments():
    with pytest.raises(ValueError, match="max_length=2 is too small"):
        Tokenizer(DIGITS.vocabulary, max_length=2)
    for name in ("vocab.txt", Path("folder/vocab.txt")):
        with pytest.raises(TypeError, match=r"is a name; .*Tokenizer.from_pretrained\(folder\)"):
            Tokenizer(name)
    for lines in ([], ["", "  "], {}):
        with pytest.raises(ValueError, match="text holds no words to learn from"):
            Tokenizer.train(lines, 100)
    with pytest.raises(KeyError, match="token='x' is not in the vocabulary"):
        DIGITS.token_to_id("x")
    for number in (-1, 15):
        with pytest.raises(IndexError, match=f"id={number} is not in the vocabulary; allowed: 0 to 14"):
            DIGITS.decode([number])
    with pytest.raises(TypeError, match="texts='1' is one str; pass a list"):
        DIGITS.encode_batch("1")
    with pytest.raises(TypeError, match=r"texts\[0\]=1 is of type int"):
        DIGITS.encode(1)


LONG = " ".join(documentation(400_000))


def test_long_texts_go_through_in_pieces_and_give_the_same(tokenizer, reference, monkeypatch):
    texts = [
        LONG[:30_000],
        "short",
        "",
        LONG[30_000:70_000] + "x" * 3000,
        "中文。" * 3000,
        "[MASK] [SEP] é\u0301 " * 900,
    ]
    whole = tokenizer(texts, max_length=64, stride=7, return_overflow=True, return_offsets=True, return_word_ids=True)
    ids = tokenizer.encode_batch(texts)
    monkeypatch.setattr(encoding, "PIECE", 1000)
    parts = tokenizer(texts, max_length=64, stride=7, return_overflow=True, return_offsets=True, return_word_ids=True)
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert tokenizer.encode_batch(texts) == ids
    assert ids == [reference.encode(text, add_special_tokens=False) for text in texts]


@pytest.mark.parametrize("truncation", ["longest_first", "only_first"])
def test_a_truncated_text_is_read_no_further_than_it_has_to_be(tokenizer, reference, monkeypatch, truncation: str):
    read: list[int] = []
    real = encoding._through
    monkeypatch.setattr(encoding, "_through", lambda b, texts, *o: read.extend(map(len, texts)) or real(b, texts, *o))
    texts = [LONG, " " * 50_000 + "x " * 200, "short", "y" * 60_000, LONG[:5000]]
    found = tokenizer(texts, max_length=32, truncation=truncation, return_offsets=True, return_word_ids=True)
    assert sum(read) < 140_000 < sum(map(len, texts))
    expected = reference(texts, max_length=32, truncation=truncation, padding=True, return_offsets_mapping=True)
    assert found["input_ids"].tolist() == expected["input_ids"]
    assert found["offsets"].tolist() == [[list(place) for place in row] for row in expected["offset_mapping"]]


def test_a_pair_is_cut_by_the_true_lengths(tokenizer, reference):
    for texts, pairs in ((LONG[:9000], LONG[:8000]), (LONG[:8000], LONG[:9000]), ("a b", LONG), (LONG, "a b")):
        for truncation in ("longest_first", "only_first", "only_second"):
            if len(pairs if truncation == "only_first" else texts) > 99 and truncation != "longest_first":
                continue
            found = tokenizer([texts], [pairs], max_length=33, truncation=truncation)["input_ids"].tolist()
            assert found == reference([texts], [pairs], max_length=33, truncation=truncation)["input_ids"]


def test_the_work_of_windows_grows_with_the_text_and_not_with_its_square(tokenizer, monkeypatch):
    taken = []
    real = encoding._columns
    monkeypatch.setattr(encoding, "_columns", lambda encoded, asked: taken.append(1) or real(encoded, asked))
    seconds = {}
    for size in (40_000, 160_000):
        text = " ".join(["array"] * size)
        start = time.process_time()
        batch = tokenizer(text, max_length=128, stride=32, return_overflow=True, return_offsets=True)
        seconds[size] = time.process_time() - start
        assert len(batch["input_ids"]) == -(-(size * len(tokenizer.encode("array")) - 32) // (126 - 32))
    assert len(taken) <= 8, "the columns of a text are taken once per piece, not once per window"
    assert seconds[160_000] < 10 * seconds[40_000] + 0.5, seconds
