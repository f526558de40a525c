"""WordPiece from scratch, against numbers worked by hand and against the library `tokenizers`."""

from __future__ import annotations

import importlib.util
import random
import re
import unicodedata
from functools import lru_cache
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, trainers

from companion.text.vocabulary import SPECIAL_TOKENS, count_words, train_wordpiece
from companion.text.wordpiece import MAX_WORD_LENGTH, WordPiece, join_pieces
from companion.text.words import BasicTokenizer, basic_tokenize

OPTIONS = [(True, None), (True, False), (False, None), (False, True)]  # lowercase, strip_accents
# The numbers of the example: ##ug 20, ##un 16, hug 15, pun 12, then pug and hugs 5 each, bun 4
HUGS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
HUGS_CHARACTERS = ["b", "g", "h", "n", "p", "s", "u", "##g", "##n", "##s", "##u"]


@lru_cache
def documentation(characters: int) -> list[str]:
    """Lines of the docstrings of installed packages: real text, and always there."""
    lines: list[str] = []
    for package in ("torch", "numpy", "hypothesis"):
        root = Path(importlib.util.find_spec(package).origin).parent
        for path in sorted(root.rglob("*.py")):
            for docstring in re.findall(r'"""(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL):
                lines += docstring.splitlines()
                characters -= len(docstring)
            if characters < 0:
                return lines
    raise AssertionError(f"{characters} characters of documentation are missing")


def library_words(text: str, lowercase: bool, strip_accents: bool | None) -> list[str]:
    normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalizer.normalize_str(text))]


def library_vocabulary(counts: dict[str, int], vocab_size: int, min_frequency: int, first: list[str]) -> list[str]:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=first, show_progress=False
    )
    tokenizer.train_from_iterator((" ".join([word] * count) for word, count in counts.items()), trainer)
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.get)


def first_tokens(vocabulary: list[str]) -> list[str]:
    """The special tokens and characters that a vocabulary begins with, before anything was merged."""
    return [token for token in vocabulary if token in SPECIAL_TOKENS or len(token.removeprefix("##")) == 1]


def settled_characters() -> list[str]:
    """The characters that Unicode 3.2 knew and whose category has not changed since."""
    old = unicodedata.ucd_3_2_0
    every = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    return [c for c in every if old.category(c) == unicodedata.category(c) != "Cn"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\r\n\u00a0\u3000\u2028", []),
        ("Don't stop!", ["don", "'", "t", "stop", "!"]),
        (
            "a$b+c<d=e>f^g`h|i~j",
            ["a", "$", "b", "+", "c", "<", "d", "=", "e", ">", "f", "^", "g", "`", "h", "|", "i", "~", "j"],
        ),
        ("snake_case v1.2", ["snake", "_", "case", "v1", ".", "2"]),
        ("Déjà VU", ["deja", "vu"]),
        ("e\u0301", ["e"]),
        ("İstanbul", ["istanbul"]),
        ("ΟΔΟΣ", ["οδοσ"]),  # character by character: no final sigma
        ("Straße", ["straße"]),
        ("中文BERT模型。", ["中", "文", "bert", "模", "型", "。"]),
        ("かな 한글", ["かな", "".join(map(chr, (0x1112, 0x1161, 0x11AB, 0x1100, 0x1173, 0x11AF)))]),
        ("a\x00b\x07c\u200bd\ufffde\ue000f\ud800g", ["abcdefg"]),
        ("a\x1cb\x85c\x0bd", ["abcd"]),  # Python splits at these, BERT removes them
        ("ok👍🏽!", ["ok👍🏽", "!"]),
        ("\U0002b820x", ["\U0002b820", "x"]),
    ],
)
def test_words_are_those_of_bert(text, words):
    assert basic_tokenize(text) == words


def test_options_of_basic_tokenize():
    assert basic_tokenize("Déjà", lowercase=False) == ["Déjà"]
    assert basic_tokenize("Déjà", lowercase=False, strip_accents=True) == ["Deja"]
    assert basic_tokenize("Déjà", strip_accents=False) == ["déjà"]
    assert basic_tokenize("中文a", tokenize_chinese_chars=False) == ["中文a"]


@pytest.mark.parametrize(("lowercase", "strip_accents"), OPTIONS)
def test_every_settled_character_is_treated_as_by_the_library(lowercase, strip_accents):
    characters = settled_characters()
    assert len(characters) > 80_000
    split = BasicTokenizer(lowercase, strip_accents)
    for start in range(0, len(characters), 2000):
        text = " ".join(f"a{character}B" for character in characters[start : start + 2000])
        assert split(text) == library_words(text, lowercase, strip_accents)


def test_what_differs_from_the_library_is_what_the_documentation_says():
    letters = [c for c in map(chr, range(0x110000)) if unicodedata.category(c)[0] == "L"]
    split = BasicTokenizer()
    different = []
    for start in range(0, len(letters), 1000):
        chunk = letters[start : start + 1000]
        text = " ".join(f"a{c}b" for c in chunk)
        if split(text) != library_words(text, True, None):
            different += [c for c in chunk if split(f"a{c}b") != library_words(f"a{c}b", True, None)]
    isolated = [c for c in different if split(f"a{c}b") == ["a", c, "b"]]
    assert isolated == [chr(code) for code in range(0x2B820, 0x2B920)]
    assert all(unicodedata.ucd_3_2_0.category(c) == "Cn" for c in different)


@given(st.text(st.characters(max_codepoint=0x7F), max_size=60), st.sampled_from(OPTIONS))
def test_the_ascii_path_gives_what_the_general_one_gives(text, options):
    beside = "\u3042"  # a word of its own, which forces the general path
    assert BasicTokenizer(*options)(text) + [beside] == BasicTokenizer(*options)(f"{text} {beside}")


@given(st.text(max_size=40))
def test_words_hold_no_space_and_stay_as_they_are(text):
    words = basic_tokenize(text)
    assert all(word and not any(character.isspace() for character in word) for word in words)
    assert basic_tokenize(" ".join(words)) == words


def test_basic_tokenize_refuses_what_is_no_text():
    with pytest.raises(TypeError, match=r"text is float \(nan\); every text must be a str"):
        basic_tokenize(float("nan"))


def test_training_by_hand():
    vocabulary = train_wordpiece(HUGS, vocab_size=100)
    assert vocabulary == [*SPECIAL_TOKENS, *HUGS_CHARACTERS, "##ug", "##un", "hug", "pun", "pug", "hugs", "bun"]


def test_training_stops_at_the_size_and_at_the_frequency():
    assert train_wordpiece(HUGS, vocab_size=18)[-3:] == ["##u", "##ug", "##un"]
    assert train_wordpiece(HUGS, vocab_size=100, min_frequency=5)[-1] == "hugs"
    assert train_wordpiece(HUGS, vocab_size=100, min_frequency=16)[-1] == "##un"
    assert train_wordpiece(HUGS, vocab_size=16) == [*SPECIAL_TOKENS, *HUGS_CHARACTERS]


def test_ties_go_to_the_older_pieces():
    merged = train_wordpiece({"cd": 2, "ab": 2, "ae": 2}, vocab_size=100)[-3:]
    assert merged == ["ab", "ae", "cd"]


def test_overlapping_pairs_merge_from_the_left():
    # a ##a ##a ##a ##a: the pair (##a, ##a) is counted 3 times and merged twice; then a ##aa ##aa
    assert train_wordpiece({"aaaaa": 1}, vocab_size=100, min_frequency=1)[5:] == ["a", "##a", "##aa", "aaa", "aaaaa"]


def test_rare_characters_are_left_out():
    vocabulary = train_wordpiece({"aab": 5, "bc": 2, "d": 2}, vocab_size=100, limit_alphabet=3)
    assert first_tokens(vocabulary)[5:] == ["a", "b", "c", "##a", "##b", "##c"]  # c and d tie: the lower code point


def test_special_tokens_can_be_chosen():
    assert train_wordpiece({"a": 1}, 100, special_tokens=("[UNK]", "[X]")) == ["[UNK]", "[X]", "a"]


def test_lines_are_split_as_told():
    lines = ["Déjà vu", "Déjà 中文"]
    assert count_words(lines) == {"deja": 2, "vu": 1, "中": 1, "文": 1}
    assert train_wordpiece(lines, 200) == train_wordpiece(count_words(lines), 200)
    cased = train_wordpiece(lines, 200, lowercase=False, tokenize_chinese_chars=False)
    assert {"Déjà", "中", "##文"} <= set(cased) and "deja" not in cased


def test_the_order_of_the_text_does_not_matter():
    lines = documentation(300_000)
    shuffled = random.Random(0).sample(lines, len(lines))
    assert train_wordpiece(lines, 1500) == train_wordpiece(shuffled, 1500)


def test_no_word_of_the_text_is_unknown():
    lines = documentation(300_000)
    encoder = WordPiece(train_wordpiece(lines, 1500, limit_alphabet=10_000))
    assert all(encoder.unk_id not in encoder.encode(line) for line in lines)


def test_training_equals_the_library_on_real_text():
    counts = count_words(documentation(1_500_000))
    ours = train_wordpiece(counts, 6000, limit_alphabet=10_000)
    assert len(ours) == 6000
    assert library_vocabulary(counts, 6000, 2, first_tokens(ours)) == ours


def test_without_the_numbers_of_the_characters_only_ties_differ():
    counts = count_words(documentation(1_500_000))
    ours = train_wordpiece(counts, 6000, limit_alphabet=10_000)
    theirs = library_vocabulary(counts, 6000, 2, list(SPECIAL_TOKENS))
    assert set(first_tokens(ours)) == set(first_tokens(theirs))
    assert len(set(ours) ^ set(theirs)) < 0.01 * len(ours)


words_with_counts = st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 20), min_size=1, max_size=25)


@settings(deadline=None, max_examples=200)
@given(words_with_counts, st.integers(1, 3), st.integers(15, 60))
def test_training_equals_the_library_on_any_words(counts, min_frequency, vocab_size):
    ours = train_wordpiece(counts, vocab_size, min_frequency=min_frequency)
    assert library_vocabulary(counts, vocab_size, min_frequency, first_tokens(ours)) == ours


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"text": HUGS, "vocab_size": 15},
            ValueError,
            "vocab_size=15 is smaller than the 16 special tokens and characters",
        ),
        ({"text": HUGS, "vocab_size": 0}, ValueError, "vocab_size=0 is not allowed"),
        (
            {"text": HUGS, "vocab_size": 99, "min_frequency": 0},
            ValueError,
            "min_frequency=0 is not allowed",
        ),
        (
            {"text": HUGS, "vocab_size": 99, "limit_alphabet": 0},
            ValueError,
            "limit_alphabet=0 is not allowed",
        ),
        ({"text": "one str", "vocab_size": 99}, TypeError, "lines is one str; allowed: an iterable of str"),
        ({"text": ["ok", None], "vocab_size": 99}, TypeError, r"text is NoneType \(None\); every text must be a str"),
    ],
)
def test_training_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        train_wordpiece(**arguments)


def test_progress_is_shown_only_when_asked_for(capsys):
    train_wordpiece(HUGS, 20)
    assert capsys.readouterr() == ("", "")
    train_wordpiece(HUGS, 20, progress=True)
    assert "20/20" in capsys.readouterr().err


VOCABULARY = [*SPECIAL_TOKENS, "un", "##aff", "##able", "##a", "aff", "able", "!", "你"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("Unaffable!", ["un", "##aff", "##able", "!"]),
        ("unable", ["un", "##able"]),
        ("unaf", ["[UNK]"]),  # "un", "##a", and then nothing for "f": the whole word is unknown
        ("xun un", ["[UNK]", "un"]),
        ("你好", ["你", "[UNK]"]),
        ("un[MASK]able", ["un", "[MASK]", "able"]),
        ("[mask][MASK", ["[UNK]"] * 5),  # neither is the literal token: "[", "mask", "]", "[", "mask"
    ],
)
def test_the_longest_piece_is_taken_first(text, tokens):
    assert WordPiece(VOCABULARY).tokenize(text) == tokens


def test_a_word_of_more_than_100_characters_is_unknown():
    encoder = WordPiece([*SPECIAL_TOKENS, "a", "##a"])
    assert encoder.tokenize("a" * MAX_WORD_LENGTH) == ["a"] + ["##a"] * 99
    assert encoder.tokenize("a" * (MAX_WORD_LENGTH + 1)) == ["[UNK]"]


def test_special_tokens_outside_the_vocabulary_are_plain_text():
    assert WordPiece(["[UNK]", "[", "]", "mask"]).tokenize("[MASK] [UNK]") == ["[", "mask", "]", "[UNK]"]


def test_a_full_cache_changes_nothing(monkeypatch):
    lines = documentation(300_000)[:2000]
    vocabulary = train_wordpiece(lines, 1500)
    expected = [WordPiece(vocabulary).encode(line) for line in lines]
    monkeypatch.setattr(WordPiece, "CACHE_SIZE", 7)
    encoder = WordPiece(vocabulary)
    assert [encoder.encode(line) for line in lines] == expected
    assert len(encoder._cache) <= 7


@settings(deadline=None)
@given(st.text("abcxyz ABC.,!é中", max_size=80))
def test_decoding_gives_the_words_back(text):
    encoder = WordPiece(
        train_wordpiece({"abc": 9, "xyz": 7, "cab": 3, "zyxeabc": 2, ".": 1, ",": 1, "!": 1, "中": 1}, 60)
    )
    characters = {*"abcxyze"}
    missing = [f"##{c}" for c in sorted(characters) if f"##{c}" not in encoder.ids]
    encoder = WordPiece([*encoder.vocabulary, *missing])
    assert encoder.decode(encoder.encode(text)) == " ".join(basic_tokenize(text))


def test_decoding_leaves_special_tokens_out_unless_told():
    encoder = WordPiece(VOCABULARY)
    ids = [2, 5, 7, 4, 3]
    assert encoder.decode(ids) == "unable"
    assert encoder.decode(ids, skip_special_tokens=False) == "[CLS] unable [MASK] [SEP]"
    assert join_pieces(["##aff", "##able"]) == "##affable"  # nothing before it to join


def test_vocabulary_is_checked():
    with pytest.raises(ValueError, match=r"vocabulary lacks \[UNK\]"):
        WordPiece(["a", "b"])
    with pytest.raises(ValueError, match="vocabulary holds 'a' more than once"):
        WordPiece(["[UNK]", "a", "b", "a"])
