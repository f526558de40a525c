"""Put a finished pre-training run into the package: fp16 weights, vocabulary, record and model card.

    python .ci/bundle.py runs/mini

takes `model/` and `record.json` of the run, which tells of every run that led to it, and writes
`companion/pretrained/mini/`. Every figure of the card comes from the record.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from companion.model.heads import BertForPreTraining
from companion.pretraining.card import chain_of, common_settings, machines_table, runs_table
from companion.pretraining.config import PretrainingConfig
from companion.pretraining.record import RECORD
from companion.support.files import atomic_file, write_json
from companion.support.locate import BUNDLED
from companion.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent

CARD = """\
# `{name}`: the BERT of this book

{layers} layers, {hidden} hidden units, {heads} attention heads, a vocabulary of {vocab_size:,} lower-cased
word pieces learned with the book's own WordPiece trainer, {parameters:,} parameters with both pre-training
heads; stored in fp16. The architecture is BERT's (Devlin et al. 2019), in the size that Turc et al. (2019)
call Mini, with a smaller vocabulary.

**Use.** `BertModel.from_pretrained("{name}")` and `Tokenizer.from_pretrained("{name}")` of `companion`;
Transformers opens the folder as well. It is made for learning: every chapter runs on it offline, on a CPU. It
is no substitute for a BERT trained on billions of words.

**Data.** {documents:,} documents, {tokens:,} tokens: English Wikipedia as of spring 2015 (the beginnings of
23,477 pages; CC BY-SA 3.0, the authors are the contributors of Wikipedia) and 104 books of Standard Ebooks
(public domain in the United States; the edition is CC0 1.0), mostly of 1810-1930. SHA-256 of the source
{source_checksum}.

**Recipe.** Masked language modelling and next-sentence prediction, in {runs}; {hours:.1f} hours in all. {common}

{runs_table}

**Machines.** Every process that took steps of it.

{machines_table}

**Figures** on held-out text (two whole books and 1% of the Wikipedia pages, {validation_batches} fixed
batches, 15% masked): masked-token loss {validation_mlm:.3f} nats, accuracy {validation_mlm_accuracy:.1%};
next-sentence accuracy {validation_nsp_accuracy:.1%}. The full record, with the
learning curves: `record.json` beside this page.

**Limits.** It saw {seen:.1f} passes over little text: facts are few and unreliable, rare words weak. {long_rows}
The books carry the attitudes of their time towards women, colonised
peoples and other groups, and the model repeats them. Do not use it to decide about people.

**Licence.** Apache License 2.0, as the code; the licences of the text are named above.
"""


def main() -> None:
    """Read the arguments and bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished `companion pretrain`")
    bundle(parser.parse_args().run)


def bundle(run: Path) -> None:
    """Write the package's copy of a run; its name is the folder's."""
    record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    model = BertForPreTraining.from_pretrained(run / "model")
    target = BUNDLED / record["name"]
    model.save_pretrained(target, dtype=torch.float16)
    Tokenizer.from_pretrained(run / "model").save_pretrained(target)
    (target / "tokenizer.json").unlink()  # vocab.txt and tokenizer_config.json say the same in a tenth of the space
    write_json(target / RECORD, record)
    with atomic_file(target / "README.md") as card:
        card.write_text(card_text(model, record), encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


def card_text(model: BertForPreTraining, record: dict[str, Any]) -> str:
    """Return the card of the bundled model."""
    return fill_paragraphs(CARD.format(**_figures(model, record)))


def fill_paragraphs(text: str) -> str:
    """Break the lines of every paragraph that is no table again."""
    options: dict[str, Any] = {"width": 118, "break_long_words": False, "break_on_hyphens": False}
    parts = text.strip().split("\n\n")
    return "\n\n".join(part if part.startswith("|") else textwrap.fill(part, **options) for part in parts) + "\n"


def _figures(model: BertForPreTraining, record: dict[str, Any]) -> dict[str, Any]:
    shape, chain = model.config, chain_of(record)
    return {
        **{key: value for key, value in record["final"].items() if key.startswith("validation")},
        "name": record["name"],
        "layers": shape.num_hidden_layers,
        "hidden": shape.hidden_size,
        "heads": shape.num_attention_heads,
        "vocab_size": shape.vocab_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "documents": record["corpus"]["documents"],
        "tokens": record["corpus"]["tokens"],
        "source_checksum": record["corpus"]["source_checksum"],
        "long_rows": _long_rows(chain),
        "runs": f"{len(chain)} runs, each going on from the one before" if len(chain) > 1 else "one run",
        "runs_table": runs_table(record),
        "machines_table": machines_table(record),
        "common": common_settings(record),
        "hours": sum(run["seconds"] for run in chain) / 3600,
        "validation_batches": record["config"]["validation_batches"],
        "seen": sum(run["passes_over_the_corpus"] for run in chain),
    }


def _long_rows(chain: list[Mapping[str, Any]]) -> str:
    """Return a sentence about the positions beyond 128, which most of BERT's steps leave out."""
    phases = [phase for run in chain for phase in PretrainingConfig.from_dict(run["config"]).phases]
    read = [phase.steps * phase.batch_size * phase.max_tokens for phase in phases]
    long = sum(n for n, phase in zip(read, phases, strict=True) if phase.max_tokens > 128)
    if not long:
        return "Positions beyond 128 were never trained."
    return f"Rows of more than 128 tokens were {long / sum(read):.1%} of what it read."


if __name__ == "__main__":
    main()
