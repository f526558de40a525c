"""Words to a vocabulary: WordPiece learned by merging pairs."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tqdm.auto import tqdm

from companion.support.require import integer
from companion.text.words import BasicTokenizer

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PREFIX = "##"  # marks a piece that continues a word


def count_words(
    lines: Iterable[str],
    lowercase: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
) -> Counter[str]:
    """Return how often each word stands in `lines`; see `BasicTokenizer` for the arguments."""
    if isinstance(lines, str):
        raise TypeError("lines is one str; allowed: an iterable of str. Pass lines.splitlines() or an open file")
    split = BasicTokenizer(lowercase, strip_accents, tokenize_chinese_chars)
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(split(line))
    return counts


def train_wordpiece(
    text: Iterable[str] | Mapping[str, int],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    limit_alphabet: int = 1000,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
    progress: bool = False,
) -> list[str]:
    """Learn a WordPiece vocabulary.

    The vocabulary begins with the special tokens, the characters that begin words ("a") and those that continue them
    ("##a"). Then the pair of neighbouring pieces with the highest count over all words becomes one piece, again and
    again, until there are `vocab_size` pieces or no pair occurs `min_frequency` times. Ties go to the pair whose
    pieces are older in the vocabulary (first the left one, then the right one), so that the same words always give
    the same vocabulary, whatever their order.

    Parameters
    ----------
    text
        Lines of text, or the words with their counts.
    vocab_size
        Number of tokens wanted; fewer come back when the text has too few frequent pairs.
    min_frequency
        A pair that occurs less often is not merged.
    limit_alphabet
        Number of different characters kept, the most frequent ones; the others are left out of the words.
    special_tokens
        First tokens of the vocabulary.
    lowercase, strip_accents, tokenize_chinese_chars
        How lines are split into words, see `BasicTokenizer`; words with counts are taken as they are.
    progress
        Show a progress bar.

    Returns
    -------
    list of str
        The tokens; the position of a token is its id.

    Raises
    ------
    ValueError
        If `vocab_size` cannot hold the special tokens and the characters, a number is not positive, or `text` is empty.

    Notes
    -----
    The algorithm is that of `tokenizers.trainers.WordPieceTrainer` (Hugging Face), which is byte-pair encoding
    (Sennrich et al., 2016, Algorithm 1) with "##"; see the head of this module for the original one. That library
    numbers the "##" characters in the order of a randomly seeded hash table, and its ties follow those numbers: two
    runs of it on the same text can differ in a few tokens. Given the numbers used here (pass the characters as its
    first special tokens), its vocabulary and this one are equal, token by token.
    """
    vocab_size = integer("vocab_size", vocab_size, 1)
    min_frequency, limit_alphabet = (
        integer("min_frequency", min_frequency, 1),
        integer("limit_alphabet", limit_alphabet, 1),
    )
    counts = text if isinstance(text, Mapping) else count_words(text, lowercase, strip_accents, tokenize_chinese_chars)
    if not counts:
        raise ValueError("text holds no words to learn from; pass lines of text, or words with their counts")
    words = sorted(counts)  # the result does not depend on the order of the text
    alphabet = _alphabet(counts, limit_alphabet)
    tokens = list(dict.fromkeys([*special_tokens, *alphabet, *_continuations(words, alphabet)]))
    if len(tokens) > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size} is smaller than the {len(tokens)} special tokens and characters of this text; "
            f"pass a larger vocab_size or a limit_alphabet below {limit_alphabet}"
        )
    merger = _PairMerger(tokens, words, [counts[word] for word in words])
    with tqdm(total=vocab_size, initial=len(tokens), desc="WordPiece", unit="token", disable=not progress) as bar:
        while len(tokens) < vocab_size and merger.merge_most_frequent(min_frequency):
            bar.update(len(tokens) - bar.n)
    return tokens


def _alphabet(counts: Mapping[str, int], limit: int) -> list[str]:
    """The `limit` most frequent characters (ties: the lower code point), in the order of code points."""
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    return sorted(sorted(characters, key=lambda character: (-characters[character], character))[:limit])


def _continuations(words: Iterable[str], alphabet: Iterable[str]) -> list[str]:
    """The "##" forms of the characters that stand inside words, in the order of code points."""
    inside = set().union(*(word[1:] for word in words))
    return [PREFIX + character for character in alphabet if character in inside]


class _PairMerger:
    """The state of training: words as lists of token ids, the count of every pair and where it stands.

    A merge touches only the words that hold the pair, and of the counts only those of its neighbours there. A pair
    enters the queue once, with all its words, when the younger of its pieces is made; from then on its count can only
    fall. So the queue may be lazy: a count that has fallen is put right when the pair comes up.
    """

    def __init__(self, tokens: list[str], words: Sequence[str], word_counts: Sequence[int]) -> None:
        self.tokens, self.word_counts = tokens, word_counts
        self.ids = {token: token_id for token_id, token in enumerate(tokens)}
        self.words = [self._spell(word) for word in words]
        self.pair_counts: Counter[tuple[int, int]] = Counter()
        self.queue: list[tuple[int, tuple[int, int], set[int]]] = []
        where: dict[tuple[int, int], set[int]] = {}
        for index, word in enumerate(self.words):
            for pair in zip(word, word[1:], strict=False):
                self.pair_counts[pair] += word_counts[index]
                where.setdefault(pair, set()).add(index)
        self._enqueue(where)

    def merge_most_frequent(self, min_frequency: int) -> bool:
        """Merge the pair with the highest count everywhere; return whether there was one frequent enough."""
        while self.queue:
            negative_count, pair, indices = heapq.heappop(self.queue)
            count = self.pair_counts[pair]
            if count != -negative_count:
                self._push(pair, indices)
            elif count < min_frequency:
                return False
            else:
                self._enqueue(self._merge_in(indices, pair, self._id_of(pair)))
                return True
        return False

    def _spell(self, word: str) -> list[int]:
        """The word as ids of single characters, without those that are not in the alphabet."""
        return [
            self.ids[PREFIX + character if position else character]
            for position, character in enumerate(word)
            if character in self.ids
        ]

    def _id_of(self, pair: tuple[int, int]) -> int:
        """The id of the two pieces as one, which becomes a new token if there is none."""
        token = self.tokens[pair[0]] + self.tokens[pair[1]].removeprefix(PREFIX)
        if token not in self.ids:
            self.ids[token] = len(self.tokens)
            self.tokens.append(token)
        return self.ids[token]

    def _merge_in(self, indices: Iterable[int], pair: tuple[int, int], merged: int) -> dict[tuple[int, int], set[int]]:
        """Merge the pair in these words, keep the counts right, and return the words of each pair that came up."""
        where: dict[tuple[int, int], set[int]] = {}
        for index in indices:
            for changed, change in _merge_in_word(self.words[index], pair, merged):
                self.pair_counts[changed] += change * self.word_counts[index]
                if change > 0:
                    where.setdefault(changed, set()).add(index)
        return where

    def _enqueue(self, where: Mapping[tuple[int, int], set[int]]) -> None:
        for pair, indices in where.items():
            if self.pair_counts[pair] > 0:
                self._push(pair, indices)

    def _push(self, pair: tuple[int, int], indices: set[int]) -> None:
        heapq.heappush(self.queue, (-self.pair_counts[pair], pair, indices))


def _merge_in_word(word: list[int], pair: tuple[int, int], merged: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Replace the pair in the word, from the left; yield the pairs that vanish (-1) and come up (+1) beside it."""
    left, right = pair
    place = 0
    while place < len(word) - 1:
        if word[place] == left and word[place + 1] == right:
            word[place : place + 2] = [merged]
            if place > 0:
                yield (word[place - 1], left), -1
                yield (word[place - 1], merged), 1
            if place + 1 < len(word):
                yield (right, word[place + 1]), -1
                yield (merged, word[place + 1]), 1
        place += 1
