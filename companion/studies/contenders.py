"""The training loops that are compared: this package's, and Trainer's."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from companion.model.heads import BertForPreTraining
from companion.pretraining.objectives import PreTrainingObjective
from companion.studies.cases import Contender, PretrainingCase
from companion.studies.interleave import Loop
from companion.support.devices import best_device
from companion.training.loop import train
from companion.training.objective import Batch
from companion.training.settings import TrainingSettings


def training_loop(case: PretrainingCase, contender: Contender, folder: Path, batches: Sequence[Batch]) -> Loop:
    """Return the loop of `contender`: one step for each of `batches` but the last, from the weights in `folder`."""
    loop = {"companion": _companion_loop, "Trainer": _trainer_loop}[contender.library]
    return lambda halt: loop(case, contender.precision, folder, batches, halt)


def _companion_loop(
    case: PretrainingCase, precision: str, folder: Path, batches: Sequence[Batch], halt: Callable[[], None]
) -> float:
    settings = TrainingSettings(
        steps=len(batches) - 1,
        learning_rate=case.learning_rate,
        warmup_share=0.0,  # this and what follows: Trainer's defaults
        schedule="linear",
        weight_decay=0.0,
        betas=(0.9, 0.999),
        eps=1e-8,
        max_grad_norm=1.0,
        precision=precision,
        device=case.device,
        seed=case.seed,
        log_every=1,
    )
    model = BertForPreTraining.from_pretrained(folder)
    history = train(model, batches, PreTrainingObjective(), settings, on_step=lambda history: halt(), progress=False)
    return statistics.fmean(history.column("loss")[1])


def _trainer_loop(
    case: PretrainingCase, precision: str, folder: Path, batches: Sequence[Batch], halt: Callable[[], None]
) -> float:
    import transformers

    class Halting(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            halt()

    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=len(batches) - 1,  # it looks up one batch more than it uses
        learning_rate=case.learning_rate,
        bf16=precision == "bf16",
        use_cpu=best_device(case.device).type == "cpu",
        seed=case.seed,
        per_device_train_batch_size=1,  # an example is a whole batch, ready-made
        train_sampling_strategy="sequential",
        save_strategy="no",
        disable_tqdm=True,
    )
    with _quiet_transformers():
        model = transformers.BertForPreTraining.from_pretrained(folder)
        trainer = transformers.Trainer(
            model, arguments, data_collator=_only, train_dataset=list(batches), callbacks=[Halting]
        )
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer.train().training_loss


def _only(examples: Sequence[Batch]) -> Batch:
    (batch,) = examples
    return batch


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
