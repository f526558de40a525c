"""Texts through the compiled `tokenizers` library, long ones piece by piece, so that memory stays small."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from tokenizers import Encoding, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers import decoders as backend_decoders
from tokenizers import models as backend_models

from companion.text.arguments import without_surrogates
from companion.text.vocabulary import CLS, PREFIX, SEP, SPECIAL_TOKENS, UNK
from companion.text.windows import Window
from companion.text.wordpiece import MAX_WORD_LENGTH

PIECE = 1 << 18  # characters of a long text that go through the library at a time; a token takes about 600 bytes there
ENDS = re.compile(r"[ \t\n\r。！？，]")  # after these a text may be cut: no word, and no special token, goes across


class Encoded(NamedTuple):
    """The tokens of a text, without `[CLS]` and `[SEP]`.

    Attributes
    ----------
    ids : list of int
    offsets : list of (int, int)
        First character of each token and the one after its last; empty if it was not asked for.
    word_ids : list of int
        The index of its word; empty if it was not asked for.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    word_ids: list[int]


def build_backend(ids: Mapping[str, int], lowercase: bool, strip_accents: bool | None, chinese: bool) -> Backend:
    """Return the library's tokenizer that does what `companion.text.wordpiece` shows."""
    model = backend_models.WordPiece(
        dict(ids), unk_token=UNK, max_input_chars_per_word=MAX_WORD_LENGTH, continuing_subword_prefix=PREFIX
    )
    backend = Backend(model)
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = backend_decoders.WordPiece(prefix=PREFIX, cleanup=False)
    backend.post_processor = processors.BertProcessing((SEP, ids[SEP]), (CLS, ids[CLS]))
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return backend


def encode(
    backend: Backend, texts: list[Any], *, split: bool = False, positions: bool = False, limit: int | None = None
) -> list[Encoded]:
    """Encode texts, on all cores.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
    texts : list of str, or with `split` of list of str
    split : bool
        The texts are lists of words.
    positions : bool
        Return offsets and words too, which is slower.
    limit : int, optional
        Stop reading a text once it has given this many tokens; it may give more.
    """
    size = PIECE if limit is None else max(16 * limit, 4096)
    if split or all(len(text) <= size for text in texts) or not _may_cut(backend):
        return [_columns(encoding, positions) for encoding in _through(backend, texts, split, positions)]
    found = [Encoded([], [], []) for _ in texts]
    rest = {row: pieces(text, size) for row, text in enumerate(texts)}
    while rest:
        batch = {row: piece for row, iterator in rest.items() if (piece := next(iterator, None)) is not None}
        encodings = _through(backend, [piece for _, piece in batch.values()], False, positions)
        for (row, (start, _)), encoding in zip(batch.items(), encodings, strict=True):
            _append(found[row], _columns(encoding, positions), start)
        rest = {row: rest[row] for row in batch if limit is None or len(found[row].ids) < limit}
    return found


def lengths(encoded: Sequence[Encoded] | None) -> list[int]:
    """Return the number of tokens of every text."""
    return [len(text.ids) for text in encoded or ()]


def joined(
    windows: Sequence[Window],
    first: Sequence[Encoded],
    second: Sequence[Encoded] | None,
    column: str,
    opening: Any,
    closing: Any,
) -> list[list[Any]]:
    """Return one column of every window, with `opening` at `[CLS]` and `closing` at each `[SEP]`."""
    values = [getattr(text, column) for text in first]
    pair_values = values if second is None else [getattr(text, column) for text in second]
    return [window.join(values[window.row], pair_values[window.row], opening, closing) for window in windows]


def pieces(text: str, size: int) -> Iterator[tuple[int, str]]:
    """Yield a text in pieces of `size` characters or a little more, each with its start; no word goes across two."""
    start = 0
    while start < len(text):
        cut = ENDS.search(text, start + size) if start + size < len(text) else None
        end = cut.end() if cut else len(text)
        yield start, text[start:end]
        start = end


def _may_cut(backend: Backend) -> bool:
    """Return whether no added token goes across a place where texts are cut."""
    return not any(ENDS.search(token.content) for token in backend.get_added_tokens_decoder().values())


def _through(backend: Backend, texts: list[Any], split: bool, positions: bool) -> list[Encoding]:
    run = backend.encode_batch if positions else backend.encode_batch_fast
    try:
        return run(texts, is_pretokenized=split, add_special_tokens=False)
    except TypeError:  # half a surrogate pair, which the library cannot hold
        return run(without_surrogates(texts), is_pretokenized=split, add_special_tokens=False)


def _columns(encoding: Encoding, positions: bool) -> Encoded:
    """Take each column once: the library makes a new list at every access."""
    if not positions:
        return Encoded(encoding.ids, [], [])
    return Encoded(encoding.ids, encoding.offsets, cast(list[int], encoding.word_ids))  # None for [CLS] and [SEP] alone


def _append(whole: Encoded, piece: Encoded, start: int) -> None:
    words = whole.word_ids[-1] + 1 if whole.word_ids else 0
    whole.ids.extend(piece.ids)
    whole.offsets.extend((start + first, start + last) for first, last in piece.offsets)
    whole.word_ids.extend(words + word for word in piece.word_ids)
