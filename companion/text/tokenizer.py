"""Text to the tensors that BERT takes: WordPiece on the `tokenizers` library, pairs, truncation, windows, padding.

`companion.text.wordpiece` shows how each step works; the ids are the same. What this module adds is compiled code
that runs on all cores, the place of every token in the text (offsets), and the layout of a row:

    [CLS] text [SEP]              token_type_ids 0 0 0
    [CLS] text [SEP] pair [SEP]   token_type_ids 0 0 0 1 1
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import Encoding, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers import decoders as backend_decoders
from tokenizers import models as backend_models
from torch import Tensor

from companion.support.locate import locate
from companion.text.arguments import as_batches, as_list, check_choices, in_id_order, without_surrogates
from companion.text.tokenizer_files import TOKENIZER, read_folder, write
from companion.text.vocabulary import CLS, MASK, PAD, PREFIX, SEP, SPECIAL_TOKENS, UNK, train_wordpiece
from companion.text.windows import POSITIONS, Batch, Cutter, Padding, Truncation, Window, as_tensors, padded, round_up
from companion.text.wordpiece import MAX_WORD_LENGTH, join_pieces, repeated_token


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
    ValueError
        If a special token is missing, a token stands twice, or the ids of a mapping are not 0, 1, 2, ...

    Notes
    -----
    The special tokens are recognised where they stand literally in a text ("[MASK]"), as in Transformers.
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
        self.max_length = max_length
        self._name = "this tokenizer"  # for messages
        self._ids = {token: number for number, token in enumerate(self.vocabulary)}
        self._check_vocabulary()
        if max_length < 3:
            raise ValueError(f"max_length={max_length} is too small for [CLS] text [SEP]; pass at least 3")
        self._backend = self._build_backend()

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
        options = dict(lowercase=lowercase, strip_accents=strip_accents, tokenize_chinese_chars=tokenize_chinese_chars)
        limits = dict(min_frequency=min_frequency, limit_alphabet=limit_alphabet, progress=progress)
        return cls(train_wordpiece(lines, vocab_size, **limits, **options), **options, max_length=max_length)

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
        tokenizer = cls(**read_folder(folder))
        tokenizer._name = repr(str(name))
        return tokenizer

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `vocab.txt`, `tokenizer_config.json` and `tokenizer.json`, which Transformers opens too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "model_max_length": self.max_length,
            **{f"{name.strip('[]').lower()}_token": name for name in SPECIAL_TOKENS},
        }
        write(folder / "vocab.txt", "".join(f"{token}\n" for token in self.vocabulary))
        write(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
        write(folder / "tokenizer.json", self._backend.to_str(pretty=True) + "\n")

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
        """The ids of the five special tokens."""
        return frozenset(self._ids[token] for token in SPECIAL_TOKENS)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, lowercase={self.lowercase}, max_length={self.max_length})"

    def token_to_id(self, token: str) -> int:
        """Return the id of `token`; a `KeyError` says that it is not in the vocabulary."""
        if token not in self._ids:
            raise KeyError(f"token={token!r} is not in the vocabulary; tokenize(text) cuts a text into tokens that are")
        return self._ids[token]

    def id_to_token(self, id: int) -> str:
        """Return the token whose id is `id`; an `IndexError` says that there is none."""
        number = operator.index(id)
        if not 0 <= number < self.vocab_size:
            raise IndexError(f"id={number} is not in the vocabulary; allowed: 0 to {self.vocab_size - 1}")
        return self.vocabulary[number]

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of `text`, without `[CLS]` and `[SEP]`."""
        return [self.vocabulary[number] for number in self.encode(text)]

    def encode(self, text: str) -> list[int]:
        """Return the ids of the tokens of `text`, without `[CLS]` and `[SEP]`, however long."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of every text, without `[CLS]` and `[SEP]`, however long, on all cores.

        The environment variable `TOKENIZERS_PARALLELISM=false` keeps it on one.
        """
        return [encoding.ids for encoding in self._encode(as_list("texts", texts))]

    def decode(self, ids: Iterable[int] | Tensor, skip_special_tokens: bool = True) -> str:
        """Return the text of one row of ids: pieces joined to words, words separated by single spaces.

        Capitals, accents and spacing that tokenization removed do not come back; offsets point at the original text.
        """
        tokens = map(self.id_to_token, ids.tolist() if isinstance(ids, Tensor) else ids)
        return join_pieces(token for token in tokens if not (skip_special_tokens and token in SPECIAL_TOKENS))

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
        return_tensors: bool = True,
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
            error instead.
        stride
            With `return_overflow`: the **overlap** of two windows that follow each other, in tokens (not the step
            between them). A window that holds w tokens of the shortened text begins w - stride tokens after the last.
        return_overflow
            Return the rest of a shortened text too, as further rows, and `overflow_to_sample`, (rows,): the index in
            `texts` of each row. Where both texts are shortened, every window of one meets every window of the other.
        padding
            "longest" pads to the longest row of the batch, "max_length" to `max_length`, `False` not at all. Padding
            stands on the right.
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
            Tensors; else lists, whose rows differ in length where `padding=False`.

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
        max_length = self._checked_max_length(max_length, has_pairs=pairs is not None)
        check_choices(truncation, padding, stride, return_overflow, has_pairs=pairs is not None)
        multiple = self._checked_multiple(pad_to_multiple_of, padding, max_length)

        places = return_offsets or return_word_ids
        first = self._encode(texts, is_split_into_words, places)
        second = None if pairs is None else self._encode(pairs, is_split_into_words, places)
        windows = Cutter(truncation, max_length, stride, return_overflow).windows(first, second)
        columns = self._model_inputs(windows)
        if return_offsets:
            columns["offsets"] = [window.join(lambda text: text.offsets, (0, 0), (0, 0)) for window in windows]
        if return_word_ids:
            columns["word_ids"] = [window.join(lambda text: text.word_ids, -1, -1) for window in windows]
        if return_special_tokens_mask:
            columns["special_tokens_mask"] = [window.join(lambda text: [0] * len(text), 1, 1) for window in windows]
        batch = padded(columns, padding, max_length, multiple, self.pad_id)
        if return_overflow:
            batch["overflow_to_sample"] = [window.row for window in windows]
        return as_tensors(batch) if return_tensors else batch

    def _model_inputs(self, windows: Sequence[Window]) -> Batch:
        """The three inputs of a model, one list of numbers a row, not padded."""
        ids = [window.join(lambda text: text.ids, self.cls_id, self.sep_id) for window in windows]
        return {
            "input_ids": ids,
            "attention_mask": [[1] * len(row) for row in ids],
            "token_type_ids": [window.segments() for window in windows],
        }

    def _encode(self, texts: list[Any], split: bool = False, places: bool = False) -> list[Encoding]:
        """The texts through the library, without `[CLS]` and `[SEP]`; faster where the places are not asked for."""
        encode = self._backend.encode_batch if places else self._backend.encode_batch_fast
        try:
            return encode(texts, is_pretokenized=split, add_special_tokens=False)
        except TypeError:  # half a surrogate pair, which the library cannot hold
            return encode(without_surrogates(texts), is_pretokenized=split, add_special_tokens=False)

    def _build_backend(self) -> Backend:
        model = backend_models.WordPiece(
            self._ids, unk_token=UNK, max_input_chars_per_word=MAX_WORD_LENGTH, continuing_subword_prefix=PREFIX
        )
        backend = Backend(model)
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.tokenize_chinese_chars,
            strip_accents=self.strip_accents,
            lowercase=self.lowercase,
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = backend_decoders.WordPiece(prefix=PREFIX, cleanup=False)
        backend.post_processor = processors.BertProcessing((SEP, self.sep_id), (CLS, self.cls_id))
        backend.add_special_tokens(list(SPECIAL_TOKENS))
        return backend

    def _check_vocabulary(self) -> None:
        if twice := repeated_token(self.vocabulary):
            raise ValueError(f"vocabulary holds {twice!r} more than once; every token may stand there once")
        if missing := [token for token in SPECIAL_TOKENS if token not in self._ids]:
            raise ValueError(
                f"vocabulary lacks {' '.join(missing)}; it must hold {' '.join(SPECIAL_TOKENS)}, at any place"
            )
        if broken := next((token for token in self.vocabulary if "\n" in token or "\r" in token), None):
            raise ValueError(f"vocabulary holds {broken!r}, whose line break vocab.txt cannot hold; remove it")

    def _checked_max_length(self, max_length: int | None, has_pairs: bool) -> int:
        """`max_length`, or the number of positions, if it leaves room for a token of every text."""
        if max_length is None:
            max_length = self.max_length
        least = 5 if has_pairs else 3
        if max_length < least:
            layout = "[CLS] text [SEP] pair [SEP]" if has_pairs else "[CLS] text [SEP]"
            raise ValueError(f"max_length={max_length} is too small for {layout}; pass at least {least}")
        if max_length > self.max_length:
            raise ValueError(
                f"max_length={max_length} is longer than the {self.max_length} positions of {self._name}; pass at most "
                f"{self.max_length}, and return_overflow=True with a stride to split long texts into windows"
            )
        return max_length

    def _checked_multiple(self, multiple: int | None, padding: Padding, max_length: int) -> int:
        """`pad_to_multiple_of`, or 1, if padding cannot pass the positions of the model."""
        if multiple is None:
            return 1
        if multiple < 1:
            raise ValueError(f"pad_to_multiple_of={multiple} must be at least 1, or None")
        if padding is False:
            raise ValueError(f"pad_to_multiple_of={multiple} has no effect with padding=False; pass padding='longest'")
        if round_up(max_length, multiple) > self.max_length:
            raise ValueError(
                f"pad_to_multiple_of={multiple} would pad a row of max_length={max_length} to "
                f"{round_up(max_length, multiple)} tokens, beyond the {self.max_length} positions of {self._name}; "
                f"pass max_length={self.max_length // multiple * multiple} or less"
            )
        return multiple
