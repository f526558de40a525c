"""Text to the tensors that BERT takes: WordPiece on the `tokenizers` library, pairs, truncation, windows, padding.

`companion.text.wordpiece` shows how each step works; the ids are the same. What this module adds is compiled code
that runs on all cores, the place of every token in the text (offsets), and the layout of a row:

    [CLS] text [SEP]              token_type_ids 0 0 0
    [CLS] text [SEP] pair [SEP]   token_type_ids 0 0 0 1 1
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken
from torch import Tensor

from companion.support.containers import as_texts
from companion.support.locate import locate
from companion.text.arguments import (
    as_added,
    as_batches,
    checked_choices,
    checked_max_length,
    checked_multiple,
    checked_tensors,
    in_id_order,
)
from companion.text.encoding import Encoded, build_backend, encode, joined, lengths
from companion.text.tokenizer_files import TOKENIZER, read_folder, write_folder
from companion.text.vocabulary import CLS, MASK, PAD, SEP, SPECIAL_TOKENS, UNK, train_wordpiece
from companion.text.windows import POSITIONS, Batch, Cutter, Padding, Truncation, Window, as_asked, padded
from companion.text.wordpiece import join_pieces


class Tokenizer:
    """Turn text into the inputs of a BERT, and ids back into text.

    Parameters
    ----------
    vocabulary
        The tokens in the order of their ids, or a mapping from token to id. `[PAD] [UNK] [CLS] [SEP] [MASK]` must be
        among them.
    lowercase
        Lower-case the text ("uncased" models).
    strip_accents
        Remove accents; `None` means: when `lowercase`.
    tokenize_chinese_chars
        Make every Chinese character a word of its own.
    max_length
        Number of positions of the model: the longest row, special tokens included.

    Raises
    ------
    TypeError
        If `vocabulary` is a name; `from_pretrained` takes one.
    ValueError
        If a special token is missing, a token stands twice, or the ids of a mapping are not 0, 1, 2, ...

    Notes
    -----
    The special tokens are recognised where they stand literally in a text ("[MASK]"), as in Transformers. Any other
    token of the vocabulary that holds punctuation or blanks, such as "[E1]", is cut like the text and so never
    produced, as in Transformers; `add_tokens(["[E1]"])` makes it one.
    """

    def __init__(
        self,
        vocabulary: Sequence[str] | Mapping[str, int],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        max_length: int = POSITIONS,
    ) -> None:
        self.vocabulary = in_id_order(vocabulary)
        self.lowercase, self.strip_accents = lowercase, strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.max_length = checked_max_length(max_length, max_length, "", has_pairs=False)
        self._name = "this tokenizer"  # for messages
        self._ids = {token: token_id for token_id, token in enumerate(self.vocabulary)}
        self._learned = len(self.vocabulary)  # tokens after these were added
        self._special = set(SPECIAL_TOKENS)
        self._backend = build_backend(self._ids, lowercase, strip_accents, tokenize_chinese_chars)

    @classmethod
    def train(
        cls,
        lines: Iterable[str] | Mapping[str, int],
        vocab_size: int,
        *,
        min_frequency: int = 2,
        limit_alphabet: int = 1000,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        max_length: int = POSITIONS,
        progress: bool = False,
    ) -> Self:
        """Learn a vocabulary from `lines` (or from words with their counts) and return its tokenizer.

        The arguments are those of `companion.text.vocabulary.train_wordpiece` and of `Tokenizer`.
        """
        splitting: dict[str, Any] = {"lowercase": lowercase, "strip_accents": strip_accents}
        splitting["tokenize_chinese_chars"] = tokenize_chinese_chars
        limits: dict[str, Any] = {"min_frequency": min_frequency, "limit_alphabet": limit_alphabet}
        vocabulary = train_wordpiece(lines, vocab_size, **limits, **splitting, progress=progress)
        return cls(vocabulary, **splitting, max_length=max_length)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Self:
        """Load the tokenizer of a checkpoint.

        Parameters
        ----------
        name
            A bundled name ("mini"), a folder, or a hub id ("google-bert/bert-base-uncased"). Read from it:
            `vocab.txt`, or `tokenizer.json` where that is missing, and the settings in `tokenizer_config.json`.

        Raises
        ------
        FileNotFoundError
            If there is no such checkpoint, or it holds neither vocabulary file.
        ValueError
            If its tokenizer is not a WordPiece of BERT's kind.
        """
        folder = locate(name, TOKENIZER)
        arguments, added = read_folder(folder)
        try:
            tokenizer = cls(**arguments)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None
        tokenizer._add(added)
        tokenizer._name = repr(str(name))
        return tokenizer

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `vocab.txt`, `tokenizer_config.json` and `tokenizer.json`, which Transformers opens too.

        If tokens were added, also `added_tokens.json`.
        """
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "model_max_length": self.max_length,
            **{f"{name.strip('[]').lower()}_token": name for name in SPECIAL_TOKENS},
        }
        added = {token: token_id for token_id, token in enumerate(self.vocabulary) if token_id >= self._learned}
        write_folder(Path(folder), self.vocabulary[: self._learned], added, config, self._backend.to_str(pretty=True))

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Keep these words whole wherever they stand in a text, as `add_tokens` of Transformers does.

        A word that is not in the vocabulary gets the next id; make room for it with
        `model.resize_token_embeddings(tokenizer.vocab_size)`.

        Parameters
        ----------
        new_tokens : str or sequence of str
            Such as "[E1]" or "covid-19". Case and accents count as the tokenizer treats them in texts, except for
            special tokens, which are found as they are written.
        special_tokens : bool
            Treat them like `[SEP]`: `decode` leaves them out, and pre-training does not mask them.

        Returns
        -------
        int
            How many were added or are now kept whole; those added before do not count.

        Raises
        ------
        ValueError
            If a token is empty or holds a line break.
        """
        return self._add(as_added(new_tokens, special_tokens))

    def _add(self, tokens: Sequence[AddedToken]) -> int:
        before = set(self._backend.get_added_tokens_decoder())
        self._backend.add_tokens(list(tokens))
        added = self._backend.get_added_tokens_decoder()
        for token_id in sorted(added.keys() - before):
            if token_id == len(self.vocabulary):
                self.vocabulary.append(added[token_id].content)
                self._ids[added[token_id].content] = token_id
        self._special |= {token.content for token in added.values() if token.special}
        return len(added) - len(before)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self.vocabulary)

    @property
    def pad_id(self) -> int:
        """The id of `[PAD]`."""
        return self._ids[PAD]

    @property
    def unk_id(self) -> int:
        """The id of `[UNK]`."""
        return self._ids[UNK]

    @property
    def cls_id(self) -> int:
        """The id of `[CLS]`."""
        return self._ids[CLS]

    @property
    def sep_id(self) -> int:
        """The id of `[SEP]`."""
        return self._ids[SEP]

    @property
    def mask_id(self) -> int:
        """The id of `[MASK]`."""
        return self._ids[MASK]

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of the five special tokens, and of those that were added as special."""
        return frozenset(self._ids[token] for token in self._special)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, lowercase={self.lowercase}, max_length={self.max_length})"

    def token_to_id(self, token: str) -> int:
        """Return the id of `token`; a `KeyError` says that it is not in the vocabulary."""
        if token not in self._ids:
            raise KeyError(f"token={token!r} is not in the vocabulary; tokenize(text) cuts a text into tokens that are")
        return self._ids[token]

    def id_to_token(self, id: int) -> str:
        """Return the token whose id is `id`; an `IndexError` says that there is none."""
        token_id = operator.index(id)
        if not 0 <= token_id < self.vocab_size:
            raise IndexError(f"id={token_id} is not in the vocabulary; allowed: 0 to {self.vocab_size - 1}")
        return self.vocabulary[token_id]

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of `text`, without `[CLS]` and `[SEP]`."""
        return [self.vocabulary[token_id] for token_id in self.encode(text)]

    def encode(self, text: str) -> list[int]:
        """Return the ids of the tokens of `text`, without `[CLS]` and `[SEP]`, however long."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of every text, without `[CLS]` and `[SEP]`, however long, on all cores.

        The environment variable `TOKENIZERS_PARALLELISM=false` keeps it on one.
        """
        return [encoded.ids for encoded in encode(self._backend, as_texts("texts", texts))]

    def decode(self, ids: Iterable[int] | Tensor, skip_special_tokens: bool = True) -> str:
        """Return the text of one row of ids: pieces joined to words, words separated by single spaces.

        Capitals, accents and spacing that tokenization removed do not come back; offsets point at the original text.
        """
        tokens = map(self.id_to_token, ids.tolist() if isinstance(ids, Tensor) else ids)
        return join_pieces(token for token in tokens if not (skip_special_tokens and token in self._special))

    def __call__(
        self,
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        pairs: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        *,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
        stride: int = 0,
        return_overflow: bool = False,
        padding: Padding = "longest",
        pad_to_multiple_of: int | None = None,
        return_offsets: bool = False,
        return_word_ids: bool = False,
        return_special_tokens_mask: bool = False,
        is_split_into_words: bool = False,
        return_tensors: bool | str | None = True,
    ) -> Batch:
        """Return the inputs of a model for a batch of texts.

        Parameters
        ----------
        texts
            One text, or several. With `is_split_into_words`: the words of one text, or of several.
        pairs
            The second text of each row, as many as `texts`.
        max_length
            Longest row, special tokens included; `None` means the positions of the model.
        truncation
            Which text is shortened in a row that is too long: "longest_first" takes tokens from the longer one until
            both are of one length and then from both, "only_first" and "only_second" from that one; `False` raises an
            error instead. `True` means "longest_first".
        stride
            With `return_overflow`: the **overlap** of two windows that follow each other, in tokens (not the step
            between them). A window that holds w tokens of the shortened text begins w - stride tokens after the last.
        return_overflow
            Return the rest of a shortened text too, as further rows, and `overflow_to_sample`, (rows,): the index in
            `texts` of each row. Where both texts are shortened, every window of one meets every window of the other.
        padding
            "longest" (or `True`) pads to the longest row of the batch, "max_length" to `max_length`, `False` not at
            all. Padding stands on the right.
        pad_to_multiple_of
            Pad up to the next multiple of this (tensor cores like 8).
        return_offsets
            Return `offsets`, (rows, tokens, 2): the first character of the token and the one after its last, in its
            text (in its word, with `is_split_into_words`). (0, 0) for special tokens.
        return_word_ids
            Return `word_ids`, (rows, tokens): the index of the word that the token belongs to, in its text; -1 for
            special tokens. Without `is_split_into_words` words are what `basic_tokenize` makes.
        return_special_tokens_mask
            Return `special_tokens_mask`, (rows, tokens): 1 for `[CLS]`, `[SEP]` and padding that was added, else 0.
        is_split_into_words
            The texts are lists of words already.
        return_tensors
            `True` or "pt" for tensors, "np" for arrays, `False` or None for lists, whose rows differ in length where
            `padding=False`.

        Returns
        -------
        dict
            `input_ids`, `attention_mask` (1: token, 0: padding) and `token_type_ids` (0: text, 1: pair), each an int64
            tensor (rows, tokens), and what was asked for.

        Raises
        ------
        TypeError
            If a text is not a `str`.
        ValueError
            If an argument is outside what is allowed, or a row cannot be brought to `max_length` as asked.
        """
        texts, pairs = as_batches(texts, pairs, is_split_into_words)
        has_pairs = pairs is not None
        max_length = checked_max_length(max_length, self.max_length, self._name, has_pairs)
        truncation, padding, stride = checked_choices(truncation, padding, stride, return_overflow, has_pairs)
        multiple = checked_multiple(pad_to_multiple_of, padding, max_length, self.max_length, self._name)
        kind = checked_tensors(return_tensors)

        cutter = Cutter(truncation, max_length, stride, return_overflow)
        limit, pair_limit = cutter.limits(has_pairs)
        options = {"split": is_split_into_words, "positions": return_offsets or return_word_ids}
        first = encode(self._backend, texts, limit=limit, **options)
        second = None if pairs is None else encode(self._backend, pairs, limit=pair_limit, **options)
        windows = cutter.windows(lengths(first), lengths(second) if has_pairs else None)
        columns = self._model_inputs(windows, first, second)
        if return_offsets:
            columns["offsets"] = joined(windows, first, second, "offsets", (0, 0), (0, 0))
        if return_word_ids:
            columns["word_ids"] = joined(windows, first, second, "word_ids", -1, -1)
        if return_special_tokens_mask:
            columns["special_tokens_mask"] = [window.special_tokens() for window in windows]
        batch = padded(columns, padding, max_length, multiple, self.pad_id)
        if return_overflow:
            batch["overflow_to_sample"] = [window.row for window in windows]
        return as_asked(batch, kind)

    def _model_inputs(self, windows: list[Window], first: list[Encoded], second: list[Encoded] | None) -> Batch:
        """Return the three inputs of a model, one list of numbers per row, not padded."""
        ids = joined(windows, first, second, "ids", self.cls_id, self.sep_id)
        segments = [window.segments() for window in windows]
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids], "token_type_ids": segments}
