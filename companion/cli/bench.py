"""`companion bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from companion.cli.shared import Device, Model, Precision, Progress, Seed, bench, errors

ModelSize = Annotated[str, typer.Option(help="tiny, mini, small, medium, base or large.")]
VocabSize = Annotated[int, typer.Option(help="Rows of the token embeddings; 30522 is the published models'.")]
Lengths = Annotated[str, typer.Option(help="short: as SST-2's phrases; long: 50 to 500 words.")]
Precisions = Annotated[
    list[str] | None, typer.Option("--precision", help="Of this package, once or more; auto and fp32 by default.")
]
Threads = Annotated[int | None, typer.Option(help="Of the CPU; PyTorch's default if none is given.")]
Clock = Annotated[str, typer.Option(help="wall, or cpu: processor time, for a busy machine and one thread.")]
Output = Annotated[Path | None, typer.Option(help="Write the record to this JSON file.")]
LearningRate = Annotated[float | None, typer.Option(help="The highest one.")]
Dropout = Annotated[float | None, typer.Option(help="In fine-tuning; the checkpoint's by default.")]
Trainings = Annotated[int, typer.Option(help="Runs of each training.")]
Record = Annotated[Path, typer.Option(help="The record, a JSON file; networks that it holds are not trained again.")]


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given a value."""
    return {name: value for name, value in options.items() if value is not None}


@bench.command(
    "pretrain",
    short_help="Compare pre-training with transformers.Trainer.",
    epilog="Example:  companion bench pretrain --vocab-size 8192 --threads 1 --clock cpu",
)
def bench_pretrain(
    model: ModelSize = "mini",
    vocab_size: Annotated[list[int] | None, typer.Option(help="Once or more; 8192 and 30522 by default.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch.")] = 32,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a row.")] = 128,
    steps: Annotated[int, typer.Option(help="Timed steps of each.")] = 20,
    dropout: Annotated[float, typer.Option(help="The same in both.")] = 0.1,
    learning_rate: Annotated[float, typer.Option(help="The same in both; the default is Trainer's.")] = 5e-5,
    precision: Annotated[
        list[str] | None, typer.Option(help="Of this package, once or more; auto and fp32 by default.")
    ] = None,
    trainer_bf16: Annotated[bool, typer.Option(help="Compare with Trainer in bf16 too.")] = True,
    threads: Threads = None,
    clock: Clock = "wall",
    device: Device = None,
    seed: Seed = 0,
    output: Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record, not a table.")] = False,
    progress: Progress = True,
) -> None:
    """Compare pre-training with transformers.Trainer, one step of each in turn; needs the extra [bench]."""
    options = dict(locals())
    with errors():
        from companion.studies.cases import PretrainingCase
        from companion.studies.speed import benchmark_pretraining, pretraining_table
        from companion.support.files import write_json

        case = {name: options[name] for name in PretrainingCase.__dataclass_fields__ if name in options}
        case["precisions"] = precision or ("auto", "fp32")
        cases = [PretrainingCase(**case | {"vocab_size": size}) for size in vocab_size or (8192, 30522)]
        record = benchmark_pretraining(cases, progress=progress)
        if output is not None:
            write_json(output, record)
        print(json.dumps(record, indent=1) if as_json else pretraining_table(record))


@bench.command(
    "finetune",
    short_help="Compare fine-tuning with transformers.Trainer and a plain loop.",
    epilog="Example:  companion bench finetune --lengths short --threads 2",
)
def bench_finetune(
    model: ModelSize = "mini",
    vocab_size: VocabSize = 8192,
    lengths: Lengths = "short",
    texts: Annotated[int, typer.Option(help="How many are trained on in a pass.")] = 512,
    rounds: Annotated[int, typer.Option(help="Timed passes of each.")] = 5,
    max_length: Annotated[int, typer.Option(help="Tokens of a text.")] = 128,
    batch_size: Annotated[int, typer.Option(help="Texts of a batch.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="The same in all.")] = 1e-4,
    precisions: Precisions = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="Compare with a compiled Trainer too.")] = False,
    against: Annotated[
        list[str] | None, typer.Option(help="Compare with these alone, such as 'Trainer fp32'; once or more.")
    ] = None,
    threads: Threads = None,
    clock: Clock = "wall",
    device: Device = None,
    seed: Seed = 0,
    output: Output = None,
    progress: Progress = True,
) -> None:
    """Compare an epoch of fine-tuning with Trainer's and a plain loop's, in turns; needs the extra [bench]."""
    options = dict(locals())
    with errors():
        from companion.studies.finetuning_speed import benchmark_finetuning

        _compare(benchmark_finetuning, options)


@bench.command(
    "predict",
    short_help="Compare prediction with the pipeline of Transformers.",
    epilog="Example:  companion bench predict --lengths long --max-length 512",
)
def bench_predict(
    model: ModelSize = "mini",
    vocab_size: VocabSize = 8192,
    lengths: Lengths = "short",
    texts: Annotated[int, typer.Option(help="How many are predicted in a pass.")] = 512,
    rounds: Annotated[int, typer.Option(help="Timed passes of each.")] = 5,
    max_length: Annotated[int, typer.Option(help="Tokens of a text.")] = 128,
    batch_size: Annotated[int, typer.Option(help="Texts of a batch.")] = 32,
    precisions: Precisions = None,
    threads: Threads = None,
    clock: Clock = "wall",
    device: Device = None,
    seed: Seed = 0,
    output: Output = None,
    progress: Progress = True,
) -> None:
    """Compare the predictions of a classifier with those of pipeline(...), in turns; needs the extra [bench]."""
    options = dict(locals())
    with errors():
        from companion.studies.finetuning_speed import benchmark_prediction

        _compare(benchmark_prediction, options)


def _compare(measure: Any, options: dict[str, Any]) -> None:
    """Measure, write the record where one is wanted, and print its table."""
    from companion.studies.finetuning_cases import FinetuningCase
    from companion.studies.finetuning_speed import passes_table
    from companion.support.files import write_json

    case = {name: options[name] for name in FinetuningCase.__dataclass_fields__ if options.get(name) is not None}
    record = measure(FinetuningCase(**case), progress=options["progress"])
    if options["output"] is not None:
        write_json(options["output"], record)
    print(passes_table(record))


@bench.command(
    "ablations",
    short_help="Which settings of pre-training matter.",
    epilog="Example:  companion bench ablations text.txt --validation held-out.txt --output runs/ablations.json",
)
def bench_ablations(
    source: Annotated[list[str], typer.Argument(help="Text files, folders or patterns, or python-docs.")],
    validation: Annotated[str, typer.Option(help="Held-out text.")],
    output: Annotated[Path, typer.Option(help="The record, a JSON file; runs that it holds are not done again.")],
    folder: Annotated[
        Path | None, typer.Option(help="For vocabularies and prepared text; beside the record if none is given.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Run this one, and what it is compared with; once or more.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each variant.")] = 3,
    positions: Annotated[int, typer.Option(help="Tokens and padding that each run sees.")] = 256_000,
    limit: Annotated[int | None, typer.Option(help="Read at most this many bytes of text.")] = 5_000_000,
    precision: Precision = "auto",
    device: Device = None,
    progress: Progress = True,
) -> None:
    """Pre-train small variants over seeds, and say which differences are more than chance."""
    with errors():
        from companion.studies.ablations import Study, ablations_table, run_ablations

        study = Study(
            source=source if len(source) > 1 else source[0],
            validation=validation,
            folder=folder or output.with_suffix(""),
            positions=positions,
            limit=limit,
            precision=precision,
            device=device,
        )
        print(ablations_table(run_ablations(study, output, seeds=seeds, only=variant or (), progress=progress)))


@bench.command(
    "tasks",
    short_help="Fine-tune on public benchmarks.",
    epilog="Example:  companion bench tasks --model mini --task rte --output runs/tasks.json",
)
def bench_tasks(
    output: Annotated[Path, typer.Option(help="The record, a JSON file; what it holds is not measured again.")],
    model: Model = "mini",
    task: Annotated[
        list[str] | None, typer.Option(help="Once or more; sst2, cola, mrpc, rte and stsb by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each network.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Passes over a set; by default more for small ones.")] = None,
    learning_rate: LearningRate = None,
    search_rows: Annotated[int | None, typer.Option(help="Search it on so many rows of the training part.")] = None,
    dropout: Dropout = None,
    precision: Precision = "auto",
    device: Device = None,
    progress: Progress = True,
) -> None:
    """Fine-tune on public benchmarks, beside a bag of words and the same network without pre-training."""
    with errors():
        from companion.studies.tasks import GLUE, measure_tasks, tasks_table

        options = _given(epochs=epochs, learning_rate=learning_rate, dropout=dropout, search_rows=search_rows)
        options |= _given(device=device, precision=precision)
        print(tasks_table(measure_tasks(task or GLUE, model, output, seeds=seeds, progress=progress, **options)))


@bench.command(
    "pooling",
    short_help="Which vector should stand for a text.",
    epilog="Example:  companion bench pooling --model mini --output runs/pooling.json",
)
def bench_pooling(
    output: Annotated[Path, typer.Option(help="The record, a JSON file; runs that it holds are not done again.")],
    model: Model = "mini",
    task: Annotated[str, typer.Option(help="A benchmark with one label per text.")] = "reviews",
    seeds: Annotated[int, typer.Option(help="Runs of each pooling.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    precision: Precision = "auto",
    device: Device = None,
    progress: Progress = True,
) -> None:
    """Fine-tune a classifier on the pooler, on a new pooler, on [CLS] and on the mean of all tokens."""
    with errors():
        from companion.studies.pooling import measure_pooling, pooling_table

        options = _given(epochs=epochs, precision=precision, device=device)
        print(pooling_table(measure_pooling(model, output, task=task, seeds=seeds, progress=progress, **options)))


@bench.command(
    "few-labels",
    short_help="How few labels are enough.",
    epilog="Example:  companion bench few-labels --task genres --output runs/few-labels.json",
)
def bench_few_labels(
    output: Annotated[Path, typer.Option(help="The record, a JSON file; runs that it holds are not done again.")],
    model: Model = "mini",
    task: Annotated[str, typer.Option(help="genres, reviews, headlines, messages, tickets or ag_news.")] = "genres",
    method: Annotated[
        list[str] | None, typer.Option(help="Once or more: fine-tuned, frozen vectors, bag of words, from scratch.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Samples of each size.")] = 5,
    spread: Annotated[int, typer.Option(help="Runs of each variant of fine-tuning on one sample of 50.")] = 0,
    precision: Precision = "auto",
    device: Device = None,
    progress: Progress = True,
) -> None:
    """Learn from 20, 50 and 200 labelled texts: fine-tuned, on frozen vectors, by words, and from scratch."""
    with errors():
        from companion.studies.few_labels import few_labels_table, measure_few_labels

        options = _given(methods=method, precision=precision, device=device) | {"progress": progress}
        record = measure_few_labels(model, output, task=task, seeds=seeds, spread=spread, **options)
        print(few_labels_table(record))


@bench.command(
    "reading",
    short_help="Answer questions from a text.",
    epilog="Example:  companion bench reading --model mini --train passages --output runs/reading.json",
)
def bench_reading(
    output: Annotated[Path, typer.Option(help="The record, a JSON file; trainings that it holds are not done again.")],
    model: Model = "mini",
    train: Annotated[
        list[str] | None, typer.Option(help="Once or more: passages (the default), squad_v1_subset.")
    ] = None,
    seeds: Trainings = 3,
    precision: Precision = "auto",
    device: Device = None,
    progress: Progress = True,
) -> None:
    """Fine-tune on questions with a text, few and many, beside the same network without pre-training."""
    with errors():
        from companion.studies.reading import measure_reading, reading_table

        options = _given(precision=precision, device=device)
        sets = train or ["passages"]
        print(reading_table(measure_reading(model, output, train=sets, seeds=seeds, progress=progress, **options)))


@bench.command(
    "pairs",
    short_help="What a classifier of pairs reads.",
    epilog="Example:  companion bench pairs --model mini --learning-rate 3e-4 --output runs/pairs.json",
)
def bench_pairs(
    output: Record,
    model: Model = "mini",
    task: Annotated[str, typer.Option(help="A benchmark with one label per pair of texts.")] = "pairs",
    seeds: Trainings = 3,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    learning_rate: LearningRate = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per step.")] = None,
    dropout: Dropout = None,
    precision: Precision = "auto",
    device: Device = None,
    progress: Progress = True,
) -> None:
    """Fine-tune on both texts, without segments and on the second text alone; ask about swapped pairs."""
    given = {"learning_rate": learning_rate, "batch_size": batch_size, "dropout": dropout}
    options = _given(epochs=epochs, **given, precision=precision, device=device)
    with errors():
        from companion.studies.pairs import measure_pairs, pairs_table

        print(pairs_table(measure_pairs(model, output, task=task, seeds=seeds, progress=progress, **options)))


@bench.command(
    "relations",
    short_help="How two names of a sentence relate.",
    epilog="Example:  companion bench relations --model mini --learning-rate 1e-3 --output runs/relations.json",
)
def bench_relations(
    output: Record,
    model: Model = "mini",
    training: Annotated[list[str] | None, typer.Option(help="Once or more, such as 'marks'; all by default.")] = None,
    seeds: Trainings = 3,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    learning_rate: LearningRate = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per step.")] = None,
    dropout: Dropout = None,
    precision: Precision = "auto",
    device: Device = None,
    progress: Progress = True,
) -> None:
    """Fine-tune on marked names, with and without types, and on what gives the answer away, on `relations`."""
    given = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "dropout": dropout}
    options = _given(**given, precision=precision, device=device)
    with errors():
        from companion.studies.relations import measure_relations, relations_table

        options |= {"trainings": training, "progress": progress}
        print(relations_table(measure_relations(model, output, seeds=seeds, **options)))


@bench.command(
    "similarity",
    short_help="How alike two texts are.",
    epilog="Example:  companion bench similarity --model mini --seeds 1 --output runs/similarity.json",
)
def bench_similarity(
    output: Annotated[Path, typer.Option(help="The record, a JSON file; what it holds is not measured again.")],
    model: Model = "mini",
    seeds: Trainings = 3,
    learning_rate: LearningRate = None,
    precision: Precision = "auto",
    device: Device = None,
    progress: Progress = True,
) -> None:
    """Score pairs with both texts read together and with each read alone, before and after training, on STS-B."""
    options = _given(learning_rate=learning_rate, precision=precision, device=device)
    with errors():
        from companion.studies.similarity import measure_similarity, similarity_table

        print(similarity_table(measure_similarity(model, output, seeds=seeds, progress=progress, **options)))


@bench.command(
    "controls",
    short_help="What a set of pairs gives away.",
    epilog="Example:  companion bench controls --task pairs --output runs/controls.json",
)
def bench_controls(
    output: Annotated[Path, typer.Option(help="The record, a JSON file; what it holds is not measured again.")],
    task: Annotated[list[str] | None, typer.Option(help="Once or more: pairs, mrpc, rte.")] = None,
) -> None:
    """Score classifiers that see one text of each pair, or only how many words the two share."""
    with errors():
        from companion.studies.pairs import controls_table, measure_controls

        print(controls_table(measure_controls(task or ["pairs"], output)))


@bench.command(
    "search",
    short_help="Search Python's documentation.",
    epilog="Example:  companion bench search --model mini --output runs/search.json",
)
def bench_search(
    output: Annotated[Path, typer.Option(help="The record, a JSON file; what it holds is not measured again.")],
    model: Annotated[list[str] | None, typer.Option(help="Once or more: mini, a folder, or a hub id.")] = None,
) -> None:
    """Measure how well models find the documentation of Python, beside a search by words."""
    with errors():
        from companion.studies.searches import measure_searches, searches_table

        print(searches_table(measure_searches(model or ["mini"], output)))
