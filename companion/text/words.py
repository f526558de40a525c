"""Text to words: cleaning, case, accents, punctuation and Chinese characters, as in the published `tokenization.py`."""

from __future__ import annotations

import re
import unicodedata

CONTROL = ("Cc", "Cf", "Co", "Cs")
CHINESE_BLOCKS = (  # as in BERT: the CJK ideographs, not kana or hangul, which are written in words
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def is_control(character: str) -> bool:
    """Return whether the character is removed: control, format, private-use and surrogate characters, and U+FFFD.

    Tab and line ends, which Unicode calls control characters, are white space here.
    """
    return character == "\ufffd" or unicodedata.category(character) in CONTROL and character not in "\t\n\r"


def is_chinese(character: str) -> bool:
    """Return whether the character is a CJK ideograph, which BERT makes a word of its own."""
    return any(first <= ord(character) <= last for first, last in CHINESE_BLOCKS)


def is_punctuation(character: str) -> bool:
    """Return whether BERT splits at this character: Unicode categories P*, and all ASCII that is no letter or digit.

    So "$", "+", "<", "=", ">", "^", "`", "|" and "~" split words although Unicode calls them symbols.
    """
    return "!" <= character <= "~" and not character.isalnum() or unicodedata.category(character)[0] == "P"


class _Table(dict[int, str]):
    """Base of the tables for `str.translate`: the replacement of a character, computed when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = replacement = self.replacement(chr(code))
        return replacement

    def replacement(self, character: str) -> str:
        raise NotImplementedError


class _CleanTable(_Table):
    """Removes control characters, makes white space plain, puts spaces around Chinese characters."""

    def __init__(self, isolate_chinese: bool) -> None:
        super().__init__()
        self.isolate_chinese = isolate_chinese

    def replacement(self, character: str) -> str:
        if is_control(character):
            return ""
        if character.isspace():
            return " "
        return f" {character} " if self.isolate_chinese and is_chinese(character) else character


class _WordTable(_Table):
    """Removes accents, lower-cases, puts spaces around punctuation."""

    def __init__(self, lowercase: bool, strip_accents: bool) -> None:
        super().__init__()
        self.lowercase, self.strip_accents = lowercase, strip_accents

    def replacement(self, character: str) -> str:
        if self.strip_accents and unicodedata.category(character) == "Mn":
            return ""
        if is_punctuation(character):
            return f" {character} "
        return character.lower() if self.lowercase else character


class BasicTokenizer:
    """Split text into words, punctuation marks and Chinese characters, as BERT does before WordPiece.

    Parameters
    ----------
    lowercase
        Lower-case every character (one by one: a final Greek sigma stays "σ").
    strip_accents
        Remove accents: decompose (Unicode NFD), then drop the marks (category Mn). `None` means: when `lowercase`.
    tokenize_chinese_chars
        Make every Chinese character a word of its own.

    Notes
    -----
    Source: Devlin et al. (2019), `tokenization.py` of google-research/bert. The order of the steps is that of
    `tokenizers.normalizers.BertNormalizer`: clean, isolate Chinese characters, strip accents, lower-case, split.
    The words are those of that library too, but for two kinds of rare characters: marks and punctuation that entered
    Unicode after the version its tables hold, and the ideographs U+2B820 to U+2B91F, which it does not isolate.
    """

    _ASCII_WORDS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")
    _ASCII_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127])

    def __init__(
        self, lowercase: bool = True, strip_accents: bool | None = None, tokenize_chinese_chars: bool = True
    ) -> None:
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self._clean = _CleanTable(tokenize_chinese_chars)
        self._words = _WordTable(lowercase, self.strip_accents)

    def __call__(self, text: str) -> list[str]:
        """Return the words of `text`."""
        if not isinstance(text, str):
            raise TypeError(f"text is {type(text).__name__} ({text!r:.40}); every text must be a str")
        if text.isascii():  # most English text; the same result, several times faster
            text = text.translate(self._ASCII_CONTROL)
            return self._ASCII_WORDS.findall(text.lower() if self.lowercase else text)
        text = text.translate(self._clean)
        if self.strip_accents:
            text = unicodedata.normalize("NFD", text)
        return text.translate(self._words).split()


def basic_tokenize(
    text: str, lowercase: bool = True, strip_accents: bool | None = None, tokenize_chinese_chars: bool = True
) -> list[str]:
    """Split `text` into words, punctuation marks and Chinese characters; see `BasicTokenizer`.

    Examples
    --------
    >>> basic_tokenize("Déjà-vu costs $5!")
    ['deja', '-', 'vu', 'costs', '$', '5', '!']
    """
    return BasicTokenizer(lowercase, strip_accents, tokenize_chinese_chars)(text)
