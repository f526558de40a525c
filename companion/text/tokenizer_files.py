"""Vocabularies on disk: `vocab.txt`, `tokenizer.json`, `added_tokens.json` and `tokenizer_config.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from companion.support.files import atomic_file, damage, read_json, read_utf8
from companion.support.locate import BUNDLED, Kind, holds_any
from companion.text.vocabulary import PREFIX, SPECIAL_TOKENS
from companion.text.windows import POSITIONS

TOKENIZER = Kind(
    what="tokenizer",
    bundled=BUNDLED,
    holds=holds_any("vocab.txt", "tokenizer.json", "tokenizer_config.json", "config.json"),
    needs="vocab.txt or tokenizer.json",
    within=(".", "model"),
    files=("vocab.txt", "*.json"),
)
# Tokenizers that may keep a vocab.txt too and cut texts in another way.
OTHERS = re.compile(r"japanese|tweet|roberta|albert|phobert|roformer|gpt|t5|xlm|bart|llama|bigbird", re.IGNORECASE)
OTHER_FILES = {
    "merges.txt": "byte-pair encoding",
    "vocab.json": "byte-pair encoding",
    "spiece.model": "SentencePiece",
    "spm.model": "SentencePiece",
    "sentencepiece.bpe.model": "SentencePiece",
    "tokenizer.model": "SentencePiece",
}


def write_folder(
    folder: Path, vocabulary: Sequence[str], added: Mapping[str, int], config: Mapping[str, Any], backend: str
) -> None:
    """Write the files of a tokenizer, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "vocab.txt": "".join(f"{token}\n" for token in vocabulary),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "tokenizer.json": backend + "\n",
    }
    if added:
        files["added_tokens.json"] = json.dumps(added, indent=2, ensure_ascii=False) + "\n"
    else:
        (folder / "added_tokens.json").unlink(missing_ok=True)  # of a tokenizer that lay there before
    for name, text in files.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def read_folder(folder: Path) -> tuple[dict[str, Any], list[AddedToken]]:
    """Return the arguments of `Tokenizer` from the files of a checkpoint, and the tokens added to its vocabulary."""
    config = _read_if_there(folder / "tokenizer_config.json")
    kind = config.get("tokenizer_class") or ""
    if OTHERS.search(kind):
        raise ValueError(f"{folder} holds a {kind}; this class reads BERT's WordPiece only. Open it with transformers")
    arguments = _read_vocabulary(folder)
    names = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
    names["tokenize_chinese_chars"] = "tokenize_chinese_chars"
    arguments |= {names[key]: value for key, value in config.items() if key in names}
    positions = _read_if_there(folder / "config.json").get("max_position_embeddings") or POSITIONS
    # Transformers writes 10**30 as model_max_length when it does not know it
    arguments["max_length"] = min(config.get("model_max_length") or positions, positions)
    return arguments, _read_added(folder, arguments["vocabulary"], config)


def _read_vocabulary(folder: Path) -> dict[str, Any]:
    if (folder / "vocab.txt").is_file():
        return {"vocabulary": _read_vocab_txt(folder / "vocab.txt")}
    if (folder / "tokenizer.json").is_file():
        return _read_tokenizer_json(folder / "tokenizer.json")
    others = (f" but {name}, a file of {what}" for name, what in OTHER_FILES.items() if (folder / name).is_file())
    other = next(others, "")
    raise FileNotFoundError(
        f"{folder} holds neither vocab.txt nor tokenizer.json{other}; write them with "
        "Tokenizer.save_pretrained(folder), or name a checkpoint that has a WordPiece tokenizer"
    )


def _read_vocab_txt(path: Path) -> list[str]:
    """Return the tokens, one per line; blank lines at the end, which give no word an id, are left out."""
    if what := damage(path):
        raise ValueError(f"{path} is {what}; fetch or write it again")
    # splitlines() would also split at tokens such as U+2028
    tokens = read_utf8(path).rstrip("\n").split("\n")
    lines: dict[str, int] = {}
    for line, token in enumerate(tokens, start=1):
        if token != token.strip(" \t"):
            raise ValueError(f"{path}, line {line}: {token!r} has a blank at one end, as no word has; remove it")
        if (first := lines.setdefault(token, line)) != line:
            raise ValueError(f"{path}, line {line}: {token!r} stands in line {first} too; every token has one line")
    if missing := [token for token in SPECIAL_TOKENS if token not in lines]:
        raise ValueError(f"{path} lacks {' '.join(missing)}; it is no vocabulary of a BERT")
    return tokens


def _read_tokenizer_json(path: Path) -> dict[str, Any]:
    content = read_json(path)
    model, normalizer = content["model"], content.get("normalizer") or {}
    kinds = model.get("type", "WordPiece"), normalizer.get("type"), model.get("continuing_subword_prefix", PREFIX)
    if kinds != ("WordPiece", "BertNormalizer", PREFIX):
        raise ValueError(
            f"{path} holds a {kinds[0]} model with prefix {kinds[2]!r} and normalizer {kinds[1]}; this class reads "
            f"BERT's only: WordPiece with prefix {PREFIX!r} and BertNormalizer. Open it with transformers.AutoTokenizer"
        )
    special = {token["content"]: token["id"] for token in content.get("added_tokens", ())}
    return {
        "vocabulary": model["vocab"] | {token: special[token] for token in SPECIAL_TOKENS if token in special},
        "lowercase": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
    }


def _read_added(folder: Path, vocabulary: Collection[str], config: Mapping[str, Any]) -> list[AddedToken]:
    """Return the tokens that were added to a vocabulary, in the order of their ids, which must follow its own."""
    entries = _read_if_there(folder / "tokenizer.json").get("added_tokens") or [
        entry | {"id": int(number)} for number, entry in (config.get("added_tokens_decoder") or {}).items()
    ]
    found = {entry["id"]: _added_token(entry) for entry in entries if entry["content"] not in SPECIAL_TOKENS}
    for token, number in _read_if_there(folder / "added_tokens.json").items():
        if token not in SPECIAL_TOKENS:
            found.setdefault(number, AddedToken(token, normalized=True))
    numbers, due = sorted(found), len(vocabulary)
    beyond = [number for number in numbers if number >= due]
    if beyond != list(range(due, due + len(beyond))):
        raise ValueError(
            f"{folder}: the added tokens have the ids {', '.join(map(str, beyond[:5]))} where {due} and the following "
            "are due; add them again with Tokenizer.add_tokens"
        )
    return [found[number] for number in numbers]


def _added_token(entry: Mapping[str, Any]) -> AddedToken:
    flags = ("special", "normalized", "lstrip", "rstrip", "single_word")
    return AddedToken(entry["content"], **{flag: entry[flag] for flag in flags if flag in entry})


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
