"""WordPiece from scratch: split text into words, learn a vocabulary of word pieces, encode with it.

The three steps stand in this order: `basic_tokenize` cuts text into words and punctuation, `train_wordpiece` learns the
pieces from counted words, `WordPiece` encodes words with the pieces by greedy longest match first.

Sources
-------
Schuster and Nakajima (2012), "Japanese and Korean Voice Search", introduced word pieces; Wu et al. (2016), "Google's
Neural Machine Translation System" (arXiv:1609.08144), gave them their name; Devlin et al. (2019) use a vocabulary of
30,000. Both earlier papers choose the merge that raises the likelihood of the training text most. Google never
released the program that learnt BERT's vocabulary (the README of google-research/bert says so). The trainer here
follows the one that most later vocabularies were made with, `WordPieceTrainer` of Hugging Face's `tokenizers`: it
merges the pair that occurs most often, as byte-pair encoding does (Sennrich et al., 2016), and writes the pieces with
BERT's "##". See `train_wordpiece` for what is equal to that library and what is not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from companion.text.vocabulary import PREFIX, SPECIAL_TOKENS, UNK
from companion.text.words import BasicTokenizer

MAX_WORD_LENGTH = 100  # characters; a longer word becomes [UNK]


class WordPiece:
    """Encode text with a WordPiece vocabulary, by greedy longest match first.

    A word is cut from the left: the longest piece of the vocabulary that begins it, then the longest "##" piece that
    continues it, and so on. If some rest begins with no piece at all, the whole word becomes `[UNK]`; so does a word
    of more than 100 characters. Special tokens that stand literally in the text ("[MASK]") are kept whole.

    Parameters
    ----------
    vocabulary
        The tokens in the order of their ids, with `[UNK]` among them.
    lowercase, strip_accents, tokenize_chinese_chars
        See `BasicTokenizer`.

    Raises
    ------
    ValueError
        If `[UNK]` is missing or a token stands twice.

    Notes
    -----
    The ids equal those of `companion.text.tokenizer.Tokenizer` with the same vocabulary. Words met once are remembered
    with their ids: in natural text most words are repetitions, which makes this class fast without compiled code.
    """

    CACHE_SIZE = 1 << 18  # words

    def __init__(
        self,
        vocabulary: Sequence[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.ids = {token: token_id for token_id, token in enumerate(self.vocabulary)}
        self._check()
        self.unk_id = self.ids[UNK]
        self.basic_tokenizer = BasicTokenizer(lowercase, strip_accents, tokenize_chinese_chars)
        self._longest = max(map(len, self.vocabulary))
        self._special = re.compile("(" + "|".join(re.escape(t) for t in SPECIAL_TOKENS if t in self.ids) + ")")
        self._cache: dict[str, tuple[int, ...]] = {}

    def _check(self) -> None:
        if twice := repeated_token(self.vocabulary):
            raise ValueError(f"vocabulary holds {twice!r} more than once; every token may stand there once")
        if UNK not in self.ids:
            raise ValueError(f"vocabulary lacks {UNK}, which stands for the words that cannot be spelt; add it")

    def encode(self, text: str) -> list[int]:
        """Return the ids of the pieces of `text`, without `[CLS]` and `[SEP]`."""
        ids: list[int] = []
        for part in self._special.split(text) if "[" in text else (text,):
            if part in SPECIAL_TOKENS and part in self.ids:
                ids.append(self.ids[part])
            else:
                for word in self.basic_tokenizer(part):
                    ids += self._cache.get(word) or self._encode_and_remember(word)
        return ids

    def tokenize(self, text: str) -> list[str]:
        """Return the pieces of `text`.

        Examples
        --------
        >>> WordPiece(["[UNK]", "un", "##aff", "##able"]).tokenize("Unaffable you")
        ['un', '##aff', '##able', '[UNK]']
        """
        return [self.vocabulary[token_id] for token_id in self.encode(text)]

    def encode_word(self, word: str) -> tuple[int, ...]:
        """Return the ids of the pieces of one word, which has been through `BasicTokenizer`."""
        if len(word) > MAX_WORD_LENGTH:
            return (self.unk_id,)
        pieces: list[int] = []
        start = 0
        while start < len(word):
            piece_id, start = self._longest_match(word, start)
            if piece_id is None:
                return (self.unk_id,)
            pieces.append(piece_id)
        return tuple(pieces)

    def _longest_match(self, word: str, start: int) -> tuple[int | None, int]:
        """The id of the longest piece at `start`, or `None`, and the place after it."""
        prefix = PREFIX if start else ""
        for end in range(min(len(word), start + self._longest), start, -1):
            piece_id = self.ids.get(prefix + word[start:end])
            if piece_id is not None:
                return piece_id, end
        return None, start

    def _encode_and_remember(self, word: str) -> tuple[int, ...]:
        ids = self.encode_word(word)
        if len(self._cache) >= self.CACHE_SIZE:
            self._cache.clear()
        if len(word) <= MAX_WORD_LENGTH:
            self._cache[word] = ids
        return ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Return the text of the ids: pieces joined to words, words separated by single spaces.

        The spaces of the original text, its capitals and accents are not in the ids and do not come back.
        """
        tokens = [self.vocabulary[token_id] for token_id in ids]
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in SPECIAL_TOKENS]
        return join_pieces(tokens)


def repeated_token(vocabulary: Iterable[str]) -> str | None:
    """Return the first token that stands in the vocabulary more than once, or `None`."""
    return next((token for token, count in Counter(vocabulary).items() if count > 1), None)


def join_pieces(tokens: Iterable[str]) -> str:
    """Return the tokens as text: "##" pieces joined to the piece before, all else separated by single spaces.

    Examples
    --------
    >>> join_pieces(["un", "##aff", "##able", "!"])
    'unaffable !'
    """
    return " ".join(tokens).replace(" " + PREFIX, "")
