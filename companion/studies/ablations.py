"""What matters in pre-training: short runs that differ in one thing each, over seeds, gathered in one record.

A run of one seed is compared with the run of another variant *of the same seed*: where their shapes agree, both start
from the same weights and read the same rows, so that part of the chance is the same in both and cancels in the
difference. What is left of it shows in how the difference varies over the seeds.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from companion.config import BertConfig
from companion.data.plain import Source, source_checksum
from companion.model.heads import IGNORED, BertForPreTraining
from companion.pretraining.batches import PhaseBatches, training_batches, validation_batches
from companion.pretraining.config import Phase, PretrainingConfig
from companion.pretraining.corpus import vocabulary_checksum
from companion.pretraining.objectives import PreTrainingObjective
from companion.pretraining.run import initial_model, validated
from companion.pretraining.vocabulary import learn_or_load_tokenizer
from companion.studies.statistics import by_seed, paired_difference
from companion.studies.variants import BASE, CURVE_POINTS, FIGURES, HEAD_WIDTH, SHORT_ROW, VARIANTS, Variant
from companion.support.devices import best_device, precision_for, seed_everything
from companion.support.record import RunRecord, hardware_of, provenance
from companion.support.require import integer
from companion.text.tokenizer import Tokenizer
from companion.text.vocabulary import PREFIX
from companion.training.loop import History, train
from companion.training.settings import TrainingSettings


@dataclass(frozen=True)
class Study:
    """What all runs share.

    Parameters
    ----------
    source, validation : Source
        Text to train on and held-out text, as in `companion.data.plain.read_paragraphs`.
    folder : str or Path
        Where the vocabularies and the prepared text are kept, one folder for each size of vocabulary.
    positions : int
        Tokens and padding that each run sees, rounded down to whole batches.
    limit : int, optional
        Read at most this many bytes of `source`.
    validation_batches, validation_rows, validation_tokens : int
        What the yardsticks "text" and "words" measure on: batches, rows of a batch, tokens of a row. No variant may be
        trained on shorter rows alone, whose later positions would be unknown to it.
    precision, device : str, optional
        As in `companion.support.devices`.

    Raises
    ------
    ValueError
        If a value is out of range; the message names it.
    """

    source: Source
    validation: Source
    folder: str | Path
    positions: int = 256_000
    limit: int | None = 5_000_000
    validation_batches: int = 40
    validation_rows: int = 32
    validation_tokens: int = 32
    precision: str = "auto"
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("positions", "validation_batches", "validation_rows", "validation_tokens"):
            integer(name, getattr(self, name), minimum=1)

    def settings(self) -> dict[str, Any]:
        """Return what decides the results, without the places of files."""
        names = ("positions", "limit", "validation_batches", "validation_rows", "validation_tokens")
        return {name: getattr(self, name) for name in names}


def run_ablations(
    study: Study,
    output: str | Path,
    *,
    seeds: int = 3,
    variants: Mapping[str, Variant] = VARIANTS,
    only: Collection[str] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Train every variant with every seed, and write the record after each run.

    Parameters
    ----------
    study : Study
    output : str or Path
        The record, a JSON file. Runs that it already holds are not done again, so a study that was stopped goes on
        with the same call, and one that is finished takes more seeds or more variants.
    seeds : int
        The seeds are 0, 1, ...; all variants run with one before the next begins.
    variants : mapping of name to Variant
    only : collection of str
        Names of those to run now, with what they are compared with; empty means all.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        `name`, `kind`, `config` (with the `variants`), `data` and `entries`, one for each run: its `variant`, `seed`,
        `steps`, `positions`, `parameters`, `processor_seconds`, `curve`, `provenance` and `measures`: for every
        yardstick `mlm` (nats per masked token), `mlm_accuracy` and `nats_per_character`; in "own", where next
        sentences were learned, also `nsp`, `nsp_accuracy` and `nsp_majority`, the accuracy of one constant answer.

    Raises
    ------
    ValueError
        If a name is unknown, or the record is of another study.
    """
    from tqdm.auto import tqdm

    integer("seeds", seeds, minimum=1)
    names = _with_opponents(only or variants, variants)
    record = _open_record(study, output, {name: variants[name] for name in names})
    source = provenance(_command(study, output, seeds), hardware_of(study.device, study.precision))
    todo = [(n, seed) for seed in range(seeds) for n in names if record.find(variant=n, seed=seed) is None]
    for name, seed in tqdm(todo, disable=not progress, unit="run"):
        run, tokenizer = run_variant(variants[name], seed, study)
        record.data["vocabularies"][str(variants[name].vocab_size)] = vocabulary_checksum(tokenizer)
        record.add({"variant": name, "seed": seed} | run, source)
    return record.to_dict()


def run_variant(variant: Variant, seed: int, study: Study) -> tuple[dict[str, Any], Tokenizer]:
    """Train one variant with one seed; return what `run_ablations` says of a run, and the tokenizer."""
    config = configuration(variant, seed, study)
    tokenizer = learn_or_load_tokenizer(config, progress=False)
    batches = training_batches(config, tokenizer, progress=False)
    seed_everything(seed)
    model = initial_model(config, tokenizer)
    objective = PreTrainingObjective(variant.next_sentence)
    began = time.process_time()
    history = train(model, batches, objective, config.training, progress=False)
    seconds = time.process_time() - began
    run = {
        "steps": history.step,
        "positions": sum(phase.steps * phase.batch_size * phase.max_tokens for phase in config.phases),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "processor_seconds": round(seconds, 1),
        "curve": _curve(history),
        "measures": measure(model, variant, config, study, tokenizer),
    }
    return run, tokenizer


def configuration(variant: Variant, seed: int, study: Study) -> PretrainingConfig:
    """Return the settings of `pretrain` for one run; its folder is shared by all runs with that vocabulary."""
    rows, tokens = variant.batch_size, variant.max_tokens
    steps = max(1, study.positions // (rows * tokens))
    short = round(variant.short_share * steps)
    masking = variant.masking_probability
    first = Phase(short, rows * tokens // SHORT_ROW, SHORT_ROW, masking, next_sentence=False) if short else None
    training = TrainingSettings(
        steps=steps,
        learning_rate=variant.learning_rate,
        betas=(0.9, 0.98),
        precision=study.precision,
        device=study.device,
        seed=seed,
        log_every=max(1, steps // CURVE_POINTS),
    )
    return PretrainingConfig(
        source=study.source,
        folder=Path(study.folder) / f"vocabulary-{variant.vocab_size}",
        training=training,
        model=model_shape(variant),
        vocab_size=variant.vocab_size,
        limit_alphabet=200,
        validation=study.validation,
        validation_batches=study.validation_batches,
        limit=study.limit,
        batch_size=rows,
        max_tokens=tokens,
        whole_words=variant.whole_words,
        dropout=variant.dropout,
        masking_probability=masking,
        next_sentence=variant.pairs,
        earlier=(first,) if first else (),
    )


def model_shape(variant: Variant) -> BertConfig:
    """Return the configuration of a variant's model."""
    return BertConfig(
        vocab_size=variant.vocab_size,
        hidden_size=variant.hidden_size,
        num_hidden_layers=variant.layers,
        num_attention_heads=variant.hidden_size // HEAD_WIDTH,
        intermediate_size=4 * variant.hidden_size,
        initializer_range=variant.initializer_range,
    )


def measure(
    model: BertForPreTraining, variant: Variant, config: PretrainingConfig, study: Study, tokenizer: Tokenizer
) -> dict[str, dict[str, float]]:
    """Measure a trained model on every yardstick.

    The rows and masks of "text" and "words" are the same for all models with that vocabulary.

    Returns
    -------
    dict of dict
        By yardstick, as `run_ablations` says.
    """
    form: dict[str, Any] = {
        "batch_size": study.validation_rows,
        "max_tokens": study.validation_tokens,
        "next_sentence": False,
    }
    text = dataclasses.replace(config, earlier=(), whole_words=False, **form)
    own = dataclasses.replace(config, earlier=(), masking_probability=text.masking_probability)
    yardsticks = {"text": text, "words": dataclasses.replace(text, whole_words=True), "own": own}
    measures: dict[str, dict[str, float]] = {}
    for name, how in yardsticks.items():
        same = next((measures[other] for other in measures if yardsticks[other] == how), None)
        measures[name] = same or _measure_on(how, model, PreTrainingObjective(variant.next_sentence), tokenizer)
    return measures


def _measure_on(
    config: PretrainingConfig, model: BertForPreTraining, objective: PreTrainingObjective, tokenizer: Tokenizer
) -> dict[str, float]:
    batches = validation_batches(config, tokenizer, progress=False)
    count = min(config.validation_batches, batches.steps_per_epoch)
    values = validated(model, batches, objective, config)
    values = {key.removeprefix("validation_"): value for key, value in values.items()}
    values["nats_per_character"] = values["mlm"] / characters_per_label(batches, count, tokenizer)
    if "nsp" in values:
        random_share = np.mean([float(batches[i]["next_sentence_label"].float().mean()) for i in range(count)])
        values["nsp_majority"] = float(max(random_share, 1 - random_share))
    return {name: round(value, 5) for name, value in values.items()}


def characters_per_label(batches: PhaseBatches, count: int, tokenizer: Tokenizer) -> float:
    """Return the mean number of characters of a masked piece in the first `count` batches, `##` not counted.

    A loss in nats a piece divided by it is one in nats a character: a unit that vocabularies share.
    """
    lengths = np.array([len(piece.removeprefix(PREFIX)) for piece in tokenizer.vocabulary])
    labels = np.concatenate([batches[i]["labels"].flatten() for i in range(count)])
    return float(lengths[labels[labels != IGNORED]].mean())


def ablations_table(record: Mapping[str, Any]) -> str:
    """Set the comparisons of a record as text, one a line; * marks an interval that leaves 0 out."""
    lines = [f"{'mean difference and 95% interval':<44}{'mean':>8}{'from':>8}{'to':>8}{'seeds':>6}"]
    for name, variant in record["config"]["variants"].items():
        if name == BASE or len(by_seed(record, name, variant["yardstick"], variant["figure"])) < 2:
            continue
        found = paired_difference(record, name)
        figures = f"{found.mean:>+8.3f}{found.low:>+8.3f}{found.high:>+8.3f}{len(found.values):>6}"
        mark = "*" if found.is_clear else " "
        lines.append(f"{name + ' : ' + variant['against']:<44}{figures} {mark} {FIGURES[variant['figure']]}")
    return "\n".join(lines)


def _with_opponents(names: Collection[str], variants: Mapping[str, Variant]) -> list[str]:
    """Return `names` and what they are compared with, in the order of the table."""
    unknown = [name for name in names if name not in variants]
    if unknown:
        raise ValueError(f"variant {unknown[0]!r} is unknown; choose among: {'; '.join(variants)}")
    wanted = set(names)
    while missing := {variants[name].against for name in wanted} - wanted:
        wanted |= missing
    return [name for name in variants if name in wanted]


def _open_record(study: Study, output: str | Path, variants: Mapping[str, Variant]) -> RunRecord:
    """Return the record in `output` made ready for these variants, or a new one."""
    described = {name: dataclasses.asdict(variant) for name, variant in variants.items()}
    precision = precision_for(best_device(study.device), study.precision)
    data = {
        "source_checksum": source_checksum(study.source),
        "validation_checksum": source_checksum(study.validation),
        "vocabularies": {},
    }
    return RunRecord.open(output, "ablations", study.settings() | {"precision": precision, "variants": described}, data)


def _name(source: Any) -> str:
    return Path(source).name


def _command(study: Study, output: str | Path, seeds: int) -> str:
    """Return the command line of this study, with the names of files and not where they lie."""
    sources = [study.source] if isinstance(study.source, str | Path) else study.source
    parts: list[Any] = ["companion", "bench", "ablations", *map(_name, sources)]
    parts += ["--validation", _name(study.validation), "--seeds", seeds, "--positions", study.positions]
    parts += [] if study.limit is None else ["--limit", study.limit]
    return shlex.join(map(str, [*parts, "--output", Path(output).name]))


def _curve(history: History) -> dict[str, list[float]]:
    steps, losses = history.column("mlm")
    return {"steps": [int(step) for step in steps], "mlm": [round(loss, 3) for loss in losses]}
