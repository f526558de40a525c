"""Put a finished pre-training run into the package: fp16 weights, vocabulary, model card, and the record for the book.

    python .ci/bundle.py runs/mini

takes the run's `model/` and `record.json` and writes `companion/pretrained/mini/` and `book/results/mini.json`. Every
figure of the card comes from the record.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

import torch

from companion.files import atomic_file
from companion.heads import BertForPreTraining
from companion.tokenizer import Tokenizer

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

**Recipe.** Masked language modelling ({masking:.0%} of the tokens, 80/10/10) and next-sentence prediction, on
rows of {max_tokens} tokens, {rows} a step; {steps:,} steps, {positions:,} positions, {passes} passes over the
text. AdamW (betas {betas}, weight decay {weight_decay}), highest learning rate {learning_rate}, schedule
`{schedule}` with a warm-up over {warmup_share:.1%} and a fall over the last {decay_share:.1%} of the steps,
dropout {dropout}, gradient norm clipped at {max_grad_norm}, seed {seed}. {device}, {threads} thread(s),
{precision}, {hours:.1f} hours, on a machine that other work shared.

**Figures** on held-out text (two whole books and 1% of the Wikipedia pages, {validation_batches} fixed
batches, 15% masked): masked-token loss {validation_mlm:.3f} nats, accuracy {validation_mlm_accuracy:.1%};
next-sentence accuracy {validation_nsp_accuracy:.1%}. The full record, with the learning curve:
`book/results/{name}.json`.

**Limits.** It saw about one pass over little text: facts are few and unreliable, rare words weak. Positions
beyond {max_tokens} were never trained. The books carry the attitudes of their time towards women, colonised
peoples and other groups, and the model repeats them. Do not use it to decide about people.

**Licence.** Apache License 2.0, as the code; the licences of the text are named above.
"""


def main() -> None:
    """Read the arguments and bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished `companion pretrain`")
    bundle(parser.parse_args().run)


def bundle(run: Path) -> None:
    """Write the package's copy of the run in `run`; its name is the folder's."""
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    model = BertForPreTraining.from_pretrained(run / "model")
    target = ROOT / "companion" / "pretrained" / record["name"]
    model.save_pretrained(target, dtype=torch.float16)
    Tokenizer.from_pretrained(run / "model").save_pretrained(target)
    (target / "tokenizer.json").unlink()  # vocab.txt and tokenizer_config.json say the same in a tenth of the space
    with atomic_file(target / "README.md") as card:
        card.write_text(CARD.format(**_figures(model, record)), encoding="utf-8")
    with atomic_file(ROOT / "book" / "results" / f"{record['name']}.json") as file:
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(textwrap.shorten(f"wrote {target.relative_to(ROOT)} and book/results/{record['name']}.json", 100))


def _figures(model: BertForPreTraining, record: dict[str, Any]) -> dict[str, Any]:
    config, shape = record["config"], model.config
    training = config["training"]
    return {
        **training,
        **record["hardware"],
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
        "masking": config["masking_probability"],
        "max_tokens": config["max_tokens"],
        "rows": record["positions_seen"] // (record["steps"] * config["max_tokens"]),
        "steps": record["steps"],
        "positions": record["positions_seen"],
        "passes": round(record["passes_over_the_corpus"], 2),
        "betas": tuple(training["betas"]),
        "dropout": config["dropout"],
        "hours": record["seconds"] / 3600,
        "validation_batches": config["validation_batches"],
    }


if __name__ == "__main__":
    main()
