"""Text to token ids on disk: sentences, sources, the prepared folder, and what happens when it is wrong."""

import gzip
import json
import lzma
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from companion.data.docstrings import module_paragraphs, prose_paragraphs
from companion.data.plain import CorpusError, read_documents, read_paragraphs, source_checksum
from companion.pretraining.corpus import Corpus, prepare_corpus, vocabulary_checksum
from companion.text.sentences import split_sentences
from companion.text.tokenizer import Tokenizer
from tests.toys import NumberTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = "A cat sat. It slept.\nA dog sat!\n\nIt slept.\n"


@pytest.fixture
def tokenizer():
    return Tokenizer([*SPECIAL, "a", "cat", "sat", "it", "slept", "dog", ".", "!"])


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def prepare(source, tokenizer, folder, **options):
    return prepare_corpus(source, tokenizer, folder, progress=False, **options)


@pytest.mark.parametrize(
    "sentences",
    [
        ["One two.", "Three four!", "Five?", "Six."],
        ["He came with Mr. Smith and Dr. Who.", "They left."],
        ["Prof. E. R. Bernstein of the U.S. Navy taught J.W. Crowfoot."],
        ["It ain't.", "So be it."],
        ["See No. 5 and pp. 3 to 9.", 'He said "Oh, no."', "Nothing else."],
        ['"I know."', '"Do you?"', "(They did.)", "Fine."],
        ["Pi is 3.14 or so.", "About e.g. 2.7 nobody asks."],
        ["Wait... what is that?", "A mouse!?", "No."],
        ["So do I.", "Do you?"],
        ["他来了。", "你好吗？", "“很好！”", "再见"],
        ["no capital letters. none at all"],
    ],
)
def test_a_paragraph_splits_into_its_sentences(sentences):
    separator = "" if "。" in sentences[0] else " "
    assert split_sentences(separator.join(sentences)) == sentences


def test_splitting_keeps_every_character_but_the_space_between():
    text = 'He said: "Stop!" Then (at 5 p.m. or so) nothing. 3 Men came… Who? Mr. X.'
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
    assert split_sentences("   ") == []


def test_a_hand_made_corpus(text_file, tokenizer, tmp_path):
    corpus = prepare(text_file, tokenizer, tmp_path / "corpus")
    pieces = [tokenizer.id_to_token(int(i)) for i in corpus.tokens]
    assert pieces == "a cat sat . it slept . a dog sat ! it slept .".split()
    assert corpus.sentence_starts.tolist() == [0, 4, 7, 11, 14]
    assert corpus.document_starts.tolist() == [0, 3, 4]
    assert (corpus.num_tokens, corpus.num_sentences, corpus.num_documents) == (14, 4, 2)
    assert corpus.tokens.dtype == np.uint16


def test_documents_are_lists_of_paragraphs_of_sentences(text_file):
    assert list(read_documents(text_file)) == [[["A cat sat.", "It slept."], ["A dog sat!"]], [["It slept."]]]


def test_compressed_files_folders_patterns_and_lists_equal_plain_text(text_file, tokenizer, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "1.txt.xz").write_bytes(lzma.compress(TEXT.encode()))
    (folder / "2.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (folder / "notes.md").write_text("not a source")
    plain = prepare([text_file, text_file], tokenizer, tmp_path / "plain")
    sources = [folder, str(folder / "*.txt.*"), [folder / "1.txt.xz", folder / "2.txt.gz"]]
    for number, source in enumerate(sources):
        corpus = prepare(source, tokenizer, tmp_path / f"corpus{number}")
        for name in ("tokens", "sentence_starts", "document_starts"):
            assert np.array_equal(getattr(corpus, name), getattr(plain, name))


def test_empty_lines_and_the_ends_of_files_end_documents_once(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n 1  2 \n \n\n3\n")
    assert list(read_paragraphs([path, path])) == ["1 2", "", "3", "", "1 2", "", "3", ""]


def test_sentences_and_documents_without_tokens_are_left_out(tmp_path):
    class Sparse(NumberTokenizer):
        def encode_batch(self, texts):
            return [[i for i in ids if i != 7] for ids in super().encode_batch(texts)]

    path = tmp_path / "text.txt"
    path.write_text("1 2\n7\n\n7 7\n\n7\n3\n")
    corpus = prepare(path, Sparse(), tmp_path / "corpus")
    assert corpus.tokens.tolist() == [1, 2, 3]
    assert corpus.sentence_starts.tolist() == [0, 2, 3]
    assert corpus.document_starts.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("vocab_size", "size"), [(65_535, 2), (65_536, 2), (65_537, 4), (70_000, 4)])
def test_ids_take_two_bytes_as_long_as_they_fit(tmp_path, vocab_size, size):
    path = tmp_path / "text.txt"
    path.write_text(f"0 1 {vocab_size - 1}\n")
    corpus = prepare(path, NumberTokenizer(vocab_size), tmp_path / "corpus")
    assert corpus.tokens.itemsize == size
    assert corpus.tokens.tolist() == [0, 1, vocab_size - 1]


def test_batches_of_any_size_give_the_same_files(tmp_path, monkeypatch):
    from companion.pretraining import corpus

    path = tmp_path / "text.txt"
    path.write_text("".join(f"{i} {i + 1}\n" + "\n" * (i % 3 == 0) for i in range(200)))
    whole = prepare(path, NumberTokenizer(), tmp_path / "whole")
    batches = corpus._sentence_batches
    monkeypatch.setattr(corpus, "_sentence_batches", lambda paragraphs: batches(paragraphs, characters=1))
    single = prepare(path, NumberTokenizer(), tmp_path / "single")
    for name in ("tokens.bin", "sentences.bin", "documents.bin", "meta.json"):
        assert (whole.folder / name).read_bytes() == (single.folder / name).read_bytes()


def test_a_second_call_reuses_the_folder_and_a_change_is_noticed(tmp_path):
    path, folder = tmp_path / "text.txt", tmp_path / "corpus"
    path.write_text("1 2\n\n3 4\n")
    tokenizer = NumberTokenizer()
    prepare(path, tokenizer, folder)
    assert tokenizer.texts == 2
    assert prepare(path, tokenizer, folder).tokens.tolist() == [1, 2, 3, 4]
    assert tokenizer.texts == 2
    path.write_text("1 2\n\n3 5\n")  # same length
    assert prepare(path, tokenizer, folder).tokens.tolist() == [1, 2, 3, 5]
    assert prepare(path, NumberTokenizer(1001), folder).meta != prepare(path, tokenizer, folder).meta
    before = tokenizer.texts
    assert prepare(path, tokenizer, folder, limit=5).tokens.tolist() == [1, 2]
    assert tokenizer.texts == before + 1


def test_text_moved_between_files_or_another_treatment_of_case_is_another_corpus(tmp_path):
    first, second = tmp_path / "1.txt", tmp_path / "2.txt"
    vocabulary = [*SPECIAL, "a", "b"]
    first.write_text("a\na\n")
    second.write_text("b\n")
    corpus = prepare([first, second], Tokenizer(vocabulary), tmp_path / "corpus")
    assert corpus.document_starts.tolist() == [0, 2, 3]
    first.write_text("a\n")
    second.write_text("a\nb\n")
    moved = prepare([first, second], Tokenizer(vocabulary), tmp_path / "corpus")
    assert moved.document_starts.tolist() == [0, 1, 3]
    changes = [{"lowercase": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}]
    checksums = {vocabulary_checksum(Tokenizer(vocabulary, **change)) for change in [{}, *changes]}
    assert len(checksums) == 4
    assert vocabulary_checksum(Tokenizer(vocabulary, strip_accents=True)) in checksums, "what is the default, said"
    assert vocabulary_checksum(Tokenizer(vocabulary[::-1])) not in checksums
    assert moved.meta["vocabulary_checksum"] in checksums


LINE = " ".join(["123"] * 25) + "\n"  # about 2,600 of these make a batch


def test_an_interrupted_preparation_leaves_nothing_behind(tmp_path):
    path, folder = tmp_path / "text.txt", tmp_path / "corpora" / "corpus"
    path.write_text(LINE * 10_000)
    with pytest.raises(KeyboardInterrupt):
        prepare(path, NumberTokenizer(fail_after=8_000), folder)
    assert list(folder.parent.iterdir()) == []
    complete = prepare(path, NumberTokenizer(), folder)
    assert complete.num_sentences == 10_000
    path.write_text(LINE * 11_000)
    with pytest.raises(KeyboardInterrupt):
        prepare(path, NumberTokenizer(fail_after=8_000), folder)
    assert Corpus.open(folder).num_sentences == 10_000


def test_a_killed_preparation_leaves_no_folder_of_that_name(tmp_path):
    script = (
        "import os, sys\n"
        "from companion.pretraining.corpus import prepare_corpus\n"
        "class Dies:\n"
        "    vocabulary, batches = ['t'] * 200, 0\n"
        "    def encode_batch(self, texts):\n"
        "        self.batches += 1\n"
        "        return os._exit(9) if self.batches > 3 else [[1]] * len(texts)\n"
        "prepare_corpus(sys.argv[1], Dies(), sys.argv[2], progress=False)"
    )
    path, folder = tmp_path / "text.txt", tmp_path / "corpus"
    path.write_text(LINE * 10_000)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(path), str(folder)], cwd=root, check=False)
    assert done.returncode == 9
    assert [entry.name for entry in tmp_path.iterdir() if entry != path] != []  # it died while writing
    assert not folder.exists()
    assert prepare(path, NumberTokenizer(), folder).num_sentences == 10_000


@pytest.mark.parametrize("name", ["tokens.bin", "sentences.bin", "documents.bin"])
def test_truncated_or_missing_files_are_refused(text_file, tokenizer, tmp_path, name):
    folder = prepare(text_file, tokenizer, tmp_path / "corpus").folder
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])
    with pytest.raises(CorpusError, match=rf"{name} is {len(data) - 1} bytes long, meta.json says {len(data)}; remove"):
        Corpus.open(folder)
    with pytest.raises(CorpusError, match=name):
        prepare(text_file, tokenizer, folder)
    (folder / name).unlink()
    with pytest.raises(CorpusError, match=f"{name} is missing"):
        Corpus.open(folder)


def test_foreign_folders_are_refused_and_left_alone(text_file, tokenizer, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("keep me")
    with pytest.raises(CorpusError, match=r"holds no prepared corpus \(no meta.json\)"):
        prepare(text_file, tokenizer, folder)
    (folder / "meta.json").write_text('{"format": "another"}')
    with pytest.raises(CorpusError, match="was not written by prepare_corpus"):
        prepare(text_file, tokenizer, folder)
    (folder / "meta.json").write_text("{")
    with pytest.raises(CorpusError, match="is not JSON"):
        Corpus.open(folder)
    assert (folder / "letter.txt").read_text() == "keep me"
    with pytest.raises(CorpusError, match="no meta.json"):
        Corpus.open(tmp_path / "nowhere")


def test_another_version_of_the_format_is_named_and_prepared_anew(text_file, tokenizer, tmp_path):
    folder = prepare(text_file, tokenizer, tmp_path / "corpus").folder
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "version": 0}))
    with pytest.raises(CorpusError, match="version 0 of the format, this package reads 1"):
        Corpus.open(folder)
    assert prepare(text_file, tokenizer, folder).meta["version"] == 1


def test_the_limit_counts_bytes_and_keeps_paragraphs_whole(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("äöü\nabc\n\nabc\n")  # 6, 3 and 3 bytes
    assert list(read_paragraphs(path, limit=9)) == ["äöü", "abc", ""]
    assert list(read_paragraphs(path, limit=11)) == ["äöü", "abc", ""]
    assert list(read_paragraphs(path, limit=12)) == ["äöü", "abc", "", "abc", ""]
    with pytest.raises(ValueError, match="limit=0 is not allowed; it must be an integer above 0"):
        read_paragraphs(path, limit=0)


def test_a_limit_that_ends_before_the_first_paragraph_is_refused_with_the_reason(tmp_path, tokenizer):
    path = tmp_path / "text.txt"
    path.write_text("\n\näöü abc\n\nabc\n", encoding="utf-8")
    for limit in (1, 9):
        with pytest.raises(ValueError, match=rf"limit={limit} ends before the first paragraph, which has 10 bytes"):
            prepare(path, tokenizer, tmp_path / "corpus", limit=limit)
    assert list(read_paragraphs(path, limit=10)) == ["äöü abc", ""]
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.xz", ".TXT"])
@pytest.mark.parametrize("line", [1, 3, 5000])
def test_a_file_that_is_not_utf_8_is_named_with_the_line_and_the_remedy(tmp_path, suffix, line):
    opened = {".gz": gzip.open, ".xz": lzma.open}.get(Path(suffix).suffix, open)
    (tmp_path / "a.txt").write_text("good\n")
    with opened(tmp_path / f"b{suffix}", "wb") as file:
        file.write(b"good line\n" * (line - 1) + "caf\xe9\n".encode("latin-1") + b"good\n")
    message = rf"b{suffix}, line {line} is not UTF-8 .*iconv -f latin1 -t utf8 b{suffix}"
    with pytest.raises(ValueError, match=message):
        list(read_paragraphs(tmp_path))


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_compressed_file_that_is_damaged_is_named_and_nothing_written(tmp_path, suffix, damage):
    pick = np.random.default_rng(0)
    lines = "\n".join(" ".join(map(str, row)) for row in pick.integers(0, 999, (2000, 20)))
    path = tmp_path / f"text.txt{suffix}"
    with (gzip.open if suffix == ".gz" else lzma.open)(path, "wt") as file:
        file.write(lines)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"no archive at all")
    with pytest.raises(ValueError, match=rf"text.txt{suffix} is cut short or damaged \(.*\); fetch or write it again"):
        prepare(path, NumberTokenizer(), tmp_path / "corpus")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_folder_is_read_without_what_is_hidden_and_whatever_the_case_of_its_endings(tmp_path):
    for name in ("a.txt", "B.TXT", "sub/c.Txt", ".hidden.txt", ".git/d.txt", "sub/.cache/e.txt", "f.csv", "g.txt.bak"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.txt").mkdir()
    assert list(read_paragraphs(tmp_path)) == ["B.TXT", "", "a.txt", "", "sub/c.Txt", ""]
    assert list(read_paragraphs(tmp_path / ".git")) == [".git/d.txt", ""], "what is named itself is read"


BLANKS = ["", " ", "\t", "\u200b", "\ufeff", " \u200b\u200d ", "\u00a0", "\u3000", "\u2060\r"]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=ascii)
def test_whatever_looks_like_an_empty_line_parts_documents(tmp_path, blank, end):
    path = tmp_path / "text.txt"
    path.write_bytes(end.join(["one.", "two.", blank, "three."]).encode("utf-8"))
    assert list(read_paragraphs(path)) == ["one.", "two.", "", "three.", ""]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=ascii)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
def test_line_ends_and_a_mark_at_the_start_do_not_change_the_text(tmp_path, end, mark):
    path = tmp_path / "text.txt"
    path.write_bytes(mark + end.join(["A cat.", "", "A dog.", ""]).encode())
    assert list(read_paragraphs(path)) == ["A cat.", "", "A dog.", ""]


def test_empty_files_beside_others_are_passed_over_and_alone_refused(tmp_path, tokenizer):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("a.txt", "c.txt"):
        (texts / name).touch()
    with pytest.raises(ValueError, match="holds no text .*; nothing was written. Name files that are not empty"):
        prepare(texts, tokenizer, tmp_path / "corpus")
    (texts / "b.txt").write_text("A cat sat.\n")
    assert prepare(texts, tokenizer, tmp_path / "corpus").num_documents == 1


def test_a_copy_is_read_in_place_of_the_source_and_the_source_identifies_the_corpus(tmp_path, text_file, tokenizer):
    copy = tmp_path / "copy.txt"
    copy.write_text("A dog sat.\n")
    corpus = prepare(text_file, tokenizer, tmp_path / "corpus", copy=copy)
    assert corpus.num_sentences == 1
    assert corpus.meta["source_checksum"] == source_checksum(text_file)
    assert corpus.meta["source"] == str(text_file)


def test_a_git_lfs_pointer_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(ValueError, match=r"a\.txt' is a Git LFS pointer.*git lfs pull"):
        next(read_paragraphs(tmp_path))


def test_sources_that_cannot_be_read_are_named(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match="nowhere.txt.*is no text file"):
        read_paragraphs(tmp_path / "nowhere.txt")
    with pytest.raises(FileNotFoundError, match="no pattern that matches"):
        read_paragraphs(f"{tmp_path}/*.txt")
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"table.csv' does not end in .txt, .txt.gz, .txt.xz"):
        read_paragraphs(tmp_path / "table.csv")
    with pytest.raises(ValueError, match="not of the form 'hub:owner/name'"):
        read_paragraphs("hub:name")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="holds no text"):
        prepare(tmp_path / "empty.txt", tokenizer, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("document_ends", [True, False], ids=["documents", "one-document"])
def test_memory_does_not_grow_with_the_text(tmp_path, document_ends):
    line = " ".join(f"{number:010}" for number in range(100, 150))
    lines = f"{line}\n" * 20 + "\n" * document_ends

    def peak(repeats):
        path = tmp_path / f"{repeats}.txt"
        path.write_text(lines * repeats)
        tracemalloc.start()
        corpus = prepare(path, NumberTokenizer(), tmp_path / f"corpus{repeats}")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert corpus.num_tokens == 1000 * repeats
        return peak

    once = peak(200)  # 2.2 MB of text, nine batches
    assert peak(1000) < 1.1 * once


def test_a_corpus_is_sent_to_workers_by_name_not_by_value(text_file, tokenizer, tmp_path):
    corpus = prepare(text_file, tokenizer, tmp_path / "corpus")
    data = pickle.dumps(corpus)
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data).tokens, corpus.tokens)
    assert isinstance(pickle.loads(data).tokens, np.memmap)


def test_a_saved_data_set_equals_the_text_file(text_file, tokenizer, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": ["A cat sat. It slept.\n\nA dog sat!", "It slept."]})
    rows.save_to_disk(str(tmp_path / "rows"))
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "splits"))
    expected = list(read_paragraphs(text_file))
    assert list(read_paragraphs(tmp_path / "rows")) == expected
    assert list(read_paragraphs(tmp_path / "splits")) == expected
    assert prepare(tmp_path / "rows", tokenizer, tmp_path / "corpus").num_documents == 2
    rows.rename_column("text", "content").save_to_disk(str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"has the columns \['content'\]; rename"):
        list(read_paragraphs(tmp_path / "other"))


@pytest.mark.parametrize(
    ("source", "arguments"),
    [("hub:owner/name", ("owner/name",)), ("hub:owner/name/20231101.en", ("owner/name", "20231101.en"))],
)
def test_a_set_of_the_hub_is_streamed(monkeypatch, source, arguments):
    datasets = pytest.importorskip("datasets")

    def load_dataset(*found, **options):
        assert found == arguments
        assert options == {"split": "train", "streaming": True}
        return iter([{"text": "One.\nTwo."}, {"text": "\n"}, {"text": "Three."}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_paragraphs(source)) == ["One.", "Two.", "", "Three.", ""]


DOCSTRING = """Return the *sum* of ``values`` as :class:`~fractions.Fraction`.

    It is exact, see [1]_, and `the guide <https://example.org>`_ has more::

        code = "This block Is Not prose at all."

    Parameters
    ----------
    values : list of int
        The numbers that are to be added up.
    start : int, optional
        Where the sum begins. Zero unless given.

    Examples
    --------
    >>> total([1, 2])
    This is Output of a doctest.

    .. code-block:: python

        Never = shown

    Args:
        weights (list): The weights of all the numbers.

    +------+-----+
    | This | row is a table row. |
    +------+-----+

    The last paragraph stands here.
    """


def test_docstrings_become_prose():
    assert prose_paragraphs(DOCSTRING) == [
        "Return the sum of values as fractions.Fraction.",
        "It is exact, see, and the guide has more.",
        "The numbers that are to be added up.",
        "Where the sum begins. Zero unless given.",
        "The weights of all the numbers.",
        "The last paragraph stands here.",
    ]


def test_a_module_is_read_in_source_order_and_not_imported(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""This module must not be run."""\nraise SystemExit\n\n\n'
        'class Thing:\n    """The first class is this one."""\n\n'
        '    async def go(self):\n        """The method goes to work now."""\n\n\n'
        'def last():\n    """Short."""\n    "Not a docstring of any kind."\n'
    )
    expected = ["This module must not be run.", "The first class is this one.", "The method goes to work now."]
    assert module_paragraphs(path) == expected
    path.write_text("def broken(:\n")
    assert module_paragraphs(path) == []


def test_the_documentation_of_this_python_is_a_source():
    modules = set(sys.modules)
    first = list(read_paragraphs("python-docs", limit=30_000))
    assert first == list(read_paragraphs("python-docs", limit=30_000))
    paragraphs = [paragraph for paragraph in first if paragraph]
    assert 20_000 < sum(len(paragraph.encode()) for paragraph in paragraphs) <= 30_000
    assert len(paragraphs) == len(set(paragraphs))
    assert not any(">>>" in paragraph or "::" in paragraph for paragraph in paragraphs)
    assert first.count("") > 5
    assert not {name for name in set(sys.modules) - modules if not name.startswith("encodings")}


def test_the_documentation_is_a_corpus_that_is_reused(tmp_path):
    folder, tokenizer = tmp_path / "corpus", Tokenizer([*SPECIAL, "the", "a", "."])
    corpus = prepare("python-docs", tokenizer, folder, limit=20_000)
    written = (folder / "tokens.bin").stat().st_mtime_ns
    again = prepare("python-docs", tokenizer, folder, limit=20_000)
    assert again.meta == corpus.meta
    assert (folder / "tokens.bin").stat().st_mtime_ns == written
