"""Vocabularies of others: opened with the ids of Transformers, or refused with file, line and cause."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import transformers

from companion.text.tokenizer import Tokenizer
from companion.text.vocabulary import SPECIAL_TOKENS

WORDS = [*SPECIAL_TOKENS, "the", "cat", "##s", "e", "##1", "[", "]", "x", "##y"]
TEXTS = ["the cats [E1] x", "[e1]the", "covid-19 the", "Covid-19s", "[E1][E1] <ent>cat", "the <ENT> [MASK]", "a [E1"]


def write(folder: Path, content: bytes | str) -> Path:
    (folder / "vocab.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def theirs(folder: Path) -> list[list[int]]:
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    return [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    "words", [["[E1]"], ["[E1]", "covid-19"], ["<ent>", "[E1]", "x"], ["the cat"], ["[E1]", "[E1]"]]
)
def test_added_tokens_are_kept_whole_with_the_ids_of_transformers(tmp_path: Path, words: list[str], special: bool):
    ours = Tokenizer(WORDS)
    ours.save_pretrained(tmp_path / "before")
    other = transformers.BertTokenizer.from_pretrained(tmp_path / "before")
    counts = ours.add_tokens(words, special_tokens=special), other.add_tokens(words, special_tokens=special)
    again = ours.add_tokens(words, special_tokens=special), other.add_tokens(words, special_tokens=special)
    assert counts[0] == counts[1] and again == (0, 0)
    expected = [other.encode(text, add_special_tokens=False) for text in TEXTS]
    assert ours.encode_batch(TEXTS) == expected
    assert ours.vocab_size == len(other) == len(ours.vocabulary)
    for folder, tokenizer in (("ours", ours), ("theirs", other)):
        tokenizer.save_pretrained(tmp_path / folder)
        assert Tokenizer.from_pretrained(tmp_path / folder).encode_batch(TEXTS) == expected
        assert theirs(tmp_path / folder) == expected
    (tmp_path / "ours" / "vocab.txt").unlink()  # as Transformers 5 writes: tokenizer.json alone
    alone = Tokenizer.from_pretrained(tmp_path / "ours")
    assert alone.encode_batch(TEXTS) == expected and alone.vocabulary == ours.vocabulary
    again = Tokenizer.from_pretrained(tmp_path / "theirs")
    again.save_pretrained(tmp_path / "again")
    assert Tokenizer.from_pretrained(tmp_path / "again").encode_batch(TEXTS) == expected


def test_an_added_token_by_hand(tmp_path: Path):
    tokenizer = Tokenizer(WORDS)
    assert tokenizer.tokenize("the [E1]") == ["the", "[", "e", "##1", "]"]
    assert (tokenizer.add_tokens("[E1]"), tokenizer.token_to_id("[E1]"), tokenizer.vocab_size) == (1, 14, 15)
    assert tokenizer.tokenize("the [E1]cat") == ["the", "[E1]", "cat"]
    assert tokenizer.decode(tokenizer.encode("the [E1] cats")) == "the [E1] cats"
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "vocab.txt").read_text().splitlines() == WORDS
    assert json.loads((tmp_path / "added_tokens.json").read_text()) == {"[E1]": 14}
    (tmp_path / "tokenizer.json").unlink()  # as older checkpoints come
    assert Tokenizer.from_pretrained(tmp_path).encode("the [E1]cat") == [5, 14, 6]
    Tokenizer(WORDS).save_pretrained(tmp_path)
    assert not (tmp_path / "added_tokens.json").exists()


def test_a_special_token_that_was_added_is_left_out_of_decoding_and_of_masking():
    tokenizer = Tokenizer(WORDS)
    tokenizer.add_tokens(["[E1]"], special_tokens=True)
    assert 14 in tokenizer.special_ids and tokenizer.decode([5, 14, 6]) == "the cat"
    assert tokenizer.decode([5, 14, 6], skip_special_tokens=False) == "the [E1] cat"


def test_a_token_of_the_vocabulary_that_would_be_cut_is_kept_whole_once_it_is_added(tmp_path: Path):
    tokenizer = Tokenizer([*WORDS, "[E1]", "cat-s"])
    assert "[E1]" not in tokenizer.tokenize("the [E1]"), "as in Transformers"
    tokenizer.save_pretrained(tmp_path / "cut")
    assert tokenizer.encode_batch(TEXTS) == theirs(tmp_path / "cut")
    assert tokenizer.add_tokens(["[E1]"]) == 1 and tokenizer.vocab_size == 16
    assert tokenizer.encode("the [E1]") == [5, 14]
    tokenizer.save_pretrained(tmp_path / "whole")
    assert Tokenizer.from_pretrained(tmp_path / "whole").encode_batch(TEXTS) == theirs(tmp_path / "whole")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([""], r"new_tokens\[0\]=''"), (["a", "b\nc"], r"new_tokens\[1\]='b\\nc'"), ([3], "is of type int")],
)
def test_what_is_no_token_is_not_added(tokens: list[object], message: str):
    tokenizer = Tokenizer(WORDS)
    with pytest.raises((ValueError, TypeError), match=message):
        tokenizer.add_tokens(tokens)
    assert tokenizer.vocab_size == 14


def test_added_tokens_that_leave_a_gap_are_refused(tmp_path: Path):
    write(tmp_path, "\n".join(WORDS))
    (tmp_path / "added_tokens.json").write_text('{"[E1]": 15, "[E2]": 16}')
    with pytest.raises(ValueError, match=re.escape("have the ids 15, 16 where 14 and the following are due")):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
def test_line_ends_blank_last_lines_and_a_byte_order_mark_change_no_id(tmp_path: Path, end: str, mark: bytes):
    content = ("\r\n" if "\r" in end else "\n").join(WORDS) + end
    folder = write(tmp_path, mark + content.encode())
    assert Tokenizer.from_pretrained(folder).vocabulary == WORDS
    expected = theirs(folder)
    assert [ids for text, ids in zip(TEXTS, expected, strict=True) if "MASK" not in text] == [
        ids
        for text, ids in zip(TEXTS, Tokenizer.from_pretrained(folder).encode_batch(TEXTS), strict=True)
        if "MASK" not in text
    ]


def test_a_blank_line_inside_keeps_its_id(tmp_path: Path):
    folder = write(tmp_path, "\n".join([*WORDS[:6], "", *WORDS[6:]]))
    assert Tokenizer.from_pretrained(folder).encode_batch(TEXTS) == theirs(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n".join([*WORDS[:6], "cat ", *WORDS[7:]]), r"vocab.txt, line 7: 'cat ' has a blank at one end"),
        ("\n".join([*WORDS[:6], "\tcat", *WORDS[7:]]), r"vocab.txt, line 7: '\\tcat' has a blank"),
        ("\n".join([*WORDS, "cat"]), r"vocab.txt, line 15: 'cat' stands in line 7 too"),
        ("\n".join(["[PAD] ", *WORDS[1:]]), r"vocab.txt, line 1: '\[PAD\] ' has a blank"),
        ("\n".join(WORDS[1:]), r"vocab.txt lacks \[PAD\]; it is no vocabulary of a BERT"),
        ("\n".join(WORDS).encode("utf-16"), "vocab.txt is in UTF-16; convert it to UTF-8"),
        ("\n".join([*WORDS, "é"]).encode("latin-1"), r"vocab.txt, line 15, is not UTF-8 \(byte 0xe9\)"),
        (b"", "vocab.txt is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "vocab.txt is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "vocab.txt is a web page"),
    ],
)
def test_a_vocabulary_that_cannot_be_meant_is_refused_by_file_and_line(
    tmp_path: Path, content: bytes | str, message: str
):
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_pretrained(write(tmp_path, content))


@pytest.mark.parametrize("kind", ["BPE", "Unigram", "WordLevel"])
def test_other_models_are_refused_by_name(tmp_path: Path, kind: str):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": kind, "vocab": {}}, "normalizer": None}))
    with pytest.raises(ValueError, match=f"tokenizer.json holds a {kind} model .*Open it with transformers"):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "name", ["BertJapaneseTokenizer", "BertweetTokenizer", "RobertaTokenizerFast", "AlbertTokenizer"]
)
def test_other_classes_with_a_vocab_txt_are_refused_by_name(tmp_path: Path, name: str):
    write(tmp_path, "\n".join(WORDS))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    with pytest.raises(ValueError, match=f"holds a {name}; this class reads BERT's WordPiece only"):
        Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizer", None])
def test_classes_that_cut_as_bert_does_are_read(tmp_path: Path, name: str | None):
    write(tmp_path, "\n".join(WORDS))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    assert Tokenizer.from_pretrained(tmp_path).encode("The cats") == [5, 6, 7]


@pytest.mark.parametrize("file", ["merges.txt", "spiece.model", "sentencepiece.bpe.model"])
def test_files_of_other_tokenizers_are_named(tmp_path: Path, file: str):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / file).touch()
    with pytest.raises(FileNotFoundError, match=f"neither vocab.txt nor tokenizer.json but {file}, a file of"):
        Tokenizer.from_pretrained(tmp_path)


def test_a_broken_json_beside_is_named(tmp_path: Path):
    write(tmp_path, "\n".join(WORDS))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match="tokenizer_config.json is not JSON"):
        Tokenizer.from_pretrained(tmp_path)
