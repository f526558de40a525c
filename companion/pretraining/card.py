"""The model card of a pre-trained network: a page of text beside its weights, made from the record of its run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from companion.training.settings import TrainingSettings

CARD = """\
# {name}

A BERT of {parameters:,} parameters with its pre-training heads, pre-trained with `companion`.
`BertModel.from_pretrained` and `Tokenizer.from_pretrained` of `companion` open this folder, and so does Transformers.

**Text of the last run.** {source}: {documents:,} documents, {tokens:,} tokens, SHA-256 {checksum}.

## Runs

{runs}

{common}

## Machines

{machines}

## Figures

{figures}
"""

# Settings that the card tells once, if they are those of all runs.
COMMON = ("optimizer", "betas", "weight_decay", "max_grad_norm")
UNKNOWN = "not noted"


def model_card(record: Mapping[str, Any], parameters: int) -> str:
    """Return the card of the network that a run ended with, in Markdown.

    Parameters
    ----------
    record : mapping
        As `companion.pretraining.record.run_record` returns it.
    parameters : int
        Of the network.
    """
    corpus, source = record["corpus"], record["config"]["source"]
    return CARD.format(
        name=record["name"],
        parameters=parameters,
        source=source if isinstance(source, str) else ", ".join(source),
        documents=corpus["documents"],
        tokens=corpus["tokens"],
        checksum=corpus["source_checksum"],
        runs=runs_table(record),
        common=common_settings(record),
        machines=machines_table(record),
        figures=_figures(record["final"]),
    )


def chain_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the records of all runs that a record tells of, its own last."""
    return [*record["earlier"], record]


def runs_table(record: Mapping[str, Any]) -> str:
    """Return a table, in Markdown, with a row for each stretch of steps of one shape, of all runs up to this one."""
    titles = ["run", "steps", "rows", "tokens per row", "masked", "segments", "learning rate", "schedule", "averaging"]
    titles += ["dropout", "seed", "passes", "loss, held out"]
    return table(titles, [row for run in chain_of(record) for row in _stretch_rows(run)])


def machines_table(record: Mapping[str, Any]) -> str:
    """Return a table, in Markdown, with a row for each process that took steps, of all runs up to this one."""
    titles = ["run", "steps", "date", "device", "processes", "threads", "precision", "hours", "PyTorch"]
    return table(titles, [_machine_row(run["name"], entry) for run in chain_of(record) for entry in run["entries"]])


def common_settings(record: Mapping[str, Any]) -> str:
    """Return a sentence with the settings that all runs share."""
    defaults = {field.name: field.default for field in dataclasses.fields(TrainingSettings)}  # of what is newer
    trainings = [defaults | run["config"]["training"] for run in chain_of(record)]
    last = trainings[-1]
    shared = [name for name in COMMON if all(one[name] == last[name] for one in trainings)]
    told = ", ".join(f"`{name}` {last[name]}" for name in shared)
    return f"In all of them: {told}. The record beside this page, `record.json`, has every setting."


def table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _stretch_rows(run: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yield a row for each phase of a run; what the run has once stands in the last."""
    config, training = run["config"], run["config"]["training"]
    earlier = config.get("earlier") or []
    left = {"steps": run["steps"] - sum(phase["steps"] for phase in earlier)}
    per_step = training["accumulation"] * _processes(run)
    settings = [training["learning_rate"], training["schedule"], training.get("ema_decay") or "no"]
    settings += [config["dropout"], training["seed"]]
    loss = run["final"].get("validation_mlm")
    ends = [run["passes_over_the_corpus"], None if loss is None else round(loss, 3)]
    phases = [*earlier, config | left]
    for number, phase in enumerate(phases, start=1):
        shape = [f"{phase['steps']:,}", phase["batch_size"] * per_step, phase["max_tokens"]]
        shape += [f"{phase['masking_probability']:.0%}", "pairs" if phase["next_sentence"] else "single"]
        is_last = number == len(phases)
        values = ["" if value is None or not is_last else value for value in ends]
        yield [f"`{run['name']}`", *shape, *settings, *values]


def _machine_row(name: str, entry: Mapping[str, Any]) -> list[Any]:
    source = entry["provenance"]
    hardware, versions = source.get("hardware", {}), source.get("versions", {})
    told = [hardware.get(key, UNKNOWN) for key in ("device", "processes", "threads", "precision")]
    steps = f"{entry['first_step']:,} to {entry['last_step']:,}"
    hours = f"{entry['seconds'] / 3600:.2f}"
    return [f"`{name}`", steps, source.get("date", UNKNOWN), *told, hours, versions.get("torch", UNKNOWN)]


def _processes(run: Mapping[str, Any]) -> int:
    """Return how many processes trained together, which all starts of a run have in common."""
    known = [entry["provenance"]["hardware"]["processes"] for entry in run["entries"] if entry["provenance"]]
    return known[-1] if known else 1


def _figures(final: Mapping[str, float]) -> str:
    kind = "held-out" if any(name.startswith("validation_") for name in final) else "training"
    told = {name.removeprefix("validation_"): value for name, value in final.items() if "mlm" in name or "nsp" in name}
    return f"At step {final['step']:,.0f}, on {kind} text: " + ", ".join(f"{n} {v:.3f}" for n, v in told.items()) + "."
