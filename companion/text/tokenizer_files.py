"""Vocabularies on disk: `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from companion.support.files import atomic_file
from companion.support.locate import BUNDLED, Kind, holds_any
from companion.text.vocabulary import PREFIX
from companion.text.windows import POSITIONS

TOKENIZER = Kind(
    what="tokenizer",
    bundled=BUNDLED,
    holds=holds_any("vocab.txt", "tokenizer.json", "tokenizer_config.json", "config.json"),
    needs="vocab.txt or tokenizer.json",
    within=(".", "model"),
    files=("vocab.txt", "*.json"),
)


def write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_folder(folder: Path) -> dict[str, Any]:
    """The arguments of `Tokenizer` from the files of a checkpoint."""
    arguments = _read_vocabulary(folder)
    config = _read_json(folder / "tokenizer_config.json")
    names = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
    names["tokenize_chinese_chars"] = "tokenize_chinese_chars"
    arguments |= {names[key]: value for key, value in config.items() if key in names}
    positions = _read_json(folder / "config.json").get("max_position_embeddings", POSITIONS)
    # Transformers writes 10**30 as model_max_length when it does not know it
    return arguments | {"max_length": min(config.get("model_max_length") or positions, positions)}


def _read_vocabulary(folder: Path) -> dict[str, Any]:
    if (folder / "vocab.txt").is_file():
        # read_text has made line ends plain; splitlines() would also split at tokens such as U+2028
        return {"vocabulary": (folder / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")}
    if (folder / "tokenizer.json").is_file():
        return _read_tokenizer_json(folder / "tokenizer.json")
    raise FileNotFoundError(
        f"{folder} holds neither vocab.txt nor tokenizer.json; write them with Tokenizer.save_pretrained(folder), or "
        "name a checkpoint that has a WordPiece tokenizer"
    )


def _read_tokenizer_json(path: Path) -> dict[str, Any]:
    content = _read_json(path)
    model, normalizer = content["model"], content.get("normalizer") or {}
    kinds = model.get("type", "WordPiece"), normalizer.get("type"), model.get("continuing_subword_prefix", PREFIX)
    if kinds != ("WordPiece", "BertNormalizer", PREFIX):
        raise ValueError(
            f"{path} holds a {kinds[0]} model with prefix {kinds[2]!r} and normalizer {kinds[1]}; this class reads "
            f"BERT's only: WordPiece with prefix {PREFIX!r} and BertNormalizer. Open it with transformers.AutoTokenizer"
        )
    added = {token["content"]: token["id"] for token in content.get("added_tokens", ())}
    return {
        "vocabulary": model["vocab"] | added,
        "lowercase": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
    }


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
