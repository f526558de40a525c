"""Put a finished pre-training run into the package: fp16 weights, vocabulary, model card, and records for the book.

    python .ci/bundle.py runs/mini-short runs/mini

takes `model/` of the last run and `record.json` of every run that led to it, and writes `companion/pretrained/mini/`
and `book/results/{mini-short,mini}.json`. Every figure of the card comes from the records.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

import torch

from companion.model.heads import BertForPreTraining
from companion.support.files import atomic_file, write_json
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

**Recipe.** Masked language modelling and next-sentence prediction with AdamW, in {runs}. {recipe} {hours:.1f} hours
in all.

**Figures** on held-out text (two whole books and 1% of the Wikipedia pages, {validation_batches} fixed
batches, 15% masked): masked-token loss {validation_mlm:.3f} nats, accuracy {validation_mlm_accuracy:.1%};
next-sentence accuracy {validation_nsp_accuracy:.1%}. The full record, with the learning curve:
`book/results/{name}.json`.

**Limits.** It saw {seen:.1f} passes over little text: facts are few and unreliable, rare words weak. Positions
beyond {max_tokens} were never trained. The books carry the attitudes of their time towards women, colonised
peoples and other groups, and the model repeats them. Do not use it to decide about people.

**Licence.** Apache License 2.0, as the code; the licences of the text are named above.
"""


PHASE = """\
`{name}`: {stretches}; {positions:,} positions and {passes} passes over the text in all; highest learning rate
{learning_rate}, schedule `{schedule}`, warm-up over {warmup_share:.1%} of the steps{fall}, betas {betas}, weight
decay {weight_decay}, dropout {dropout}, gradient norm clipped at {max_grad_norm}, seed {seed}; {device},
{processes} process(es), {threads} thread(s), {precision}."""


STRETCH = """\
{steps:,} steps of {rows} rows of {max_tokens} tokens, {masking_probability:.0%} of them masked, {pairs}"""


def main() -> None:
    """Read the arguments and bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished `companion pretrain`, in their order")
    bundle(parser.parse_args().runs)


def bundle(runs: list[Path]) -> None:
    """Write the package's copy of the last of `runs`; its name is the folder's."""
    records = [json.loads((run / "record.json").read_text(encoding="utf-8")) for run in runs]
    source, name = runs[-1] / "model", records[-1]["name"]
    model = BertForPreTraining.from_pretrained(source)
    target = ROOT / "companion" / "pretrained" / name
    model.save_pretrained(target, dtype=torch.float16)
    Tokenizer.from_pretrained(source).save_pretrained(target)
    (target / "tokenizer.json").unlink()  # vocab.txt and tokenizer_config.json say the same in a tenth of the space
    with atomic_file(target / "README.md") as card:
        card.write_text(fill_paragraphs(CARD.format(**_figures(model, records))), encoding="utf-8")
    for record in records:
        write_json(ROOT / "book" / "results" / f"{record['name']}.json", record)
    print(f"wrote {target.relative_to(ROOT)} and {len(records)} record(s) into book/results")


def fill_paragraphs(text: str) -> str:
    """Break the lines of every paragraph anew."""
    options = {"width": 118, "break_long_words": False, "break_on_hyphens": False}
    return "\n\n".join(textwrap.fill(part, **options) for part in text.strip().split("\n\n")) + "\n"


def _figures(model: BertForPreTraining, records: list[dict[str, Any]]) -> dict[str, Any]:
    last, shape = records[-1], model.config
    return {
        **{key: value for key, value in last["final"].items() if key.startswith("validation")},
        "name": last["name"],
        "layers": shape.num_hidden_layers,
        "hidden": shape.hidden_size,
        "heads": shape.num_attention_heads,
        "vocab_size": shape.vocab_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "documents": last["corpus"]["documents"],
        "tokens": last["corpus"]["tokens"],
        "source_checksum": last["corpus"]["source_checksum"],
        "max_tokens": max(record["config"]["max_tokens"] for record in records),
        "runs": f"{len(records)} runs, each going on from the one before" if len(records) > 1 else "one run",
        "recipe": " ".join(PHASE.format(**_phase(record)) for record in records),
        "hours": sum(record["seconds"] for record in records) / 3600,
        "validation_batches": last["config"]["validation_batches"],
        "seen": sum(record["passes_over_the_corpus"] for record in records),
    }


def _phase(record: dict[str, Any]) -> dict[str, Any]:
    config, training = record["config"], record["config"]["training"]
    falls = {"trapezoid": f" and a fall over the last {training['decay_share']:.1%}", "constant": ""}
    return {
        **training,
        **record["hardware"],
        "name": record["name"],
        "stretches": ", then ".join(_stretches(record)),
        "positions": record["positions_seen"],
        "passes": round(record["passes_over_the_corpus"], 2),
        "fall": falls.get(training["schedule"], " and a fall over the rest"),
        "betas": tuple(training["betas"]),
        "dropout": config["dropout"],
    }


def _stretches(record: dict[str, Any]) -> list[str]:
    """Describe the earlier phases of a run and its main one."""
    config = record["config"]
    earlier = config.get("earlier", [])
    left = record["steps"] - sum(phase["steps"] for phase in earlier)
    per_step = config["training"]["accumulation"] * record["hardware"]["processes"]
    kinds = {True: "pairs of segments", False: "single segments without next-sentence prediction"}
    return [
        STRETCH.format(**phase | {"rows": phase["batch_size"] * per_step, "pairs": kinds[phase["next_sentence"]]})
        for phase in [*earlier, config | {"steps": left}]
    ]


if __name__ == "__main__":
    main()
