"""What is compared: the loops of this package, of Trainer and of tutorials, and the pipeline of Transformers."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from companion.finetuning.classifier import TextClassifier
from companion.model.heads import BertForPreTraining
from companion.pretraining.objectives import PreTrainingObjective
from companion.studies.cases import Contender, PretrainingCase, random_batches
from companion.studies.finetuning_cases import FinetuningCase, made_texts
from companion.studies.interleave import Loop, Stepper
from companion.support.devices import best_device
from companion.training.loop import train
from companion.training.objective import Batch
from companion.training.settings import TrainingSettings


def training_loop(case: PretrainingCase, contender: Contender, folder: Path, batches: Sequence[Batch]) -> Loop:
    """Return the loop of `contender`: one step for each of `batches` but the last, from the weights in `folder`."""
    loop = {"companion": _companion_loop, "Trainer": _trainer_loop}[contender.library]
    return lambda halt: loop(case, contender.precision, folder, batches, halt)


class PretrainingSteps:
    """The steps of a pre-training loop, as `companion.studies.turns.in_turns` wants them."""

    def __init__(self, case: PretrainingCase, contender: Contender, folder: Path) -> None:
        self.stepper = Stepper(training_loop(case, contender, folder, random_batches(case)))

    def portion(self) -> None:
        """Take a step."""
        self.stepper.step()

    def finish(self) -> float:
        """Take the steps that are left; return the mean loss."""
        return self.stepper.finish()


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


class CompanionPass:
    """An epoch of `TextClassifier.fit`, all that belongs to it included."""

    def __init__(self, case: FinetuningCase, contender: Contender, folder: Path) -> None:
        self.data = made_texts(case)
        self.classifier = TextClassifier(
            folder,
            epochs=1,
            learning_rate=case.learning_rate,
            batch_size=case.batch_size,
            max_length=case.max_length,
            random_state=case.seed,
            device=case.device,
            precision=contender.precision,
        )

    def portion(self) -> None:
        """Train for an epoch, from the same start every time."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # long texts are truncated in all of them
            self.classifier.fit(*self.data)

    def finish(self) -> float:
        """Return the mean loss of the last epoch."""
        assert self.classifier.history_ is not None
        return statistics.fmean(self.classifier.history_.column("loss")[1])


class _TransformersPass:
    """What the two ways with Transformers share: the network, the tokenizer, texts and labels."""

    def __init__(self, case: FinetuningCase, contender: Contender, folder: Path) -> None:
        import torch
        import transformers

        torch.manual_seed(case.seed)
        self.case, self.contender, self.folder, self.loss = case, contender, folder, math.nan
        self.texts, labels = made_texts(case)
        names = sorted(set(labels))
        self.labels = [names.index(label) for label in labels]
        self.device = best_device(case.device)
        with _quiet_transformers():
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            self.model = transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=len(names))

    def finish(self) -> float:
        """Return the mean loss of the last epoch."""
        return self.loss


class PaddedLoop(_TransformersPass):
    """An epoch as many tutorials write it: every text padded to the maximal length, AdamW, fp32."""

    def portion(self) -> None:
        """Train for an epoch."""
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        options = {"padding": "max_length", "truncation": True, "max_length": self.case.max_length}
        rows = self.tokenizer(self.texts, return_tensors="pt", **options)
        dataset = TensorDataset(rows["input_ids"], rows["attention_mask"], torch.tensor(self.labels))
        model = self.model.to(self.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.case.learning_rate)
        losses = []
        for batch in DataLoader(dataset, self.case.batch_size, shuffle=True):
            ids, mask, labels = (part.to(self.device) for part in batch)
            loss = model(ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        self.loss = statistics.fmean(losses)


class TrainerPass(_TransformersPass):
    """An epoch of Trainer with a collator that pads to the longest text of a batch."""

    def portion(self) -> None:
        """Train for an epoch."""
        import transformers

        rows = self.tokenizer(self.texts, truncation=True, max_length=self.case.max_length)
        data = [{**{name: rows[name][i] for name in rows}, "labels": label} for i, label in enumerate(self.labels)]
        arguments = transformers.TrainingArguments(
            output_dir=str(self.folder / "trainer"),
            num_train_epochs=1,
            learning_rate=self.case.learning_rate,
            per_device_train_batch_size=self.case.batch_size,
            train_sampling_strategy="group_by_length" if self.contender.library == "Trainer grouped" else "random",
            torch_compile=self.contender.library == "Trainer compiled",
            bf16=self.contender.precision == "bf16",
            use_cpu=self.device.type == "cpu",
            seed=self.case.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        with _quiet_transformers():
            collator = transformers.DataCollatorWithPadding(self.tokenizer)
            trainer = transformers.Trainer(self.model, arguments, data_collator=collator, train_dataset=data)
            trainer.remove_callback(transformers.PrinterCallback)
            self.loss = trainer.train().training_loss


class CompanionPrediction:
    """A pass of `TextClassifier.predict`."""

    def __init__(self, case: FinetuningCase, contender: Contender, folder: Path) -> None:
        self.texts = made_texts(case)[0]
        self.classifier = TextClassifier.load(folder, device=case.device)
        self.classifier.set_params(
            batch_size=case.batch_size, max_length=case.max_length, precision=contender.precision
        )

    def portion(self) -> None:
        """Predict all texts."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            self.found = self.classifier.predict(self.texts)

    def finish(self) -> list[str]:
        """Return the labels found."""
        return self.found.tolist()


class PipelinePrediction:
    """A pass of the pipeline of Transformers for text classification."""

    def __init__(self, case: FinetuningCase, contender: Contender, folder: Path) -> None:
        import torch
        import transformers

        self.texts = made_texts(case)[0]
        dtype = torch.bfloat16 if contender.precision == "bf16" else torch.float32
        with _quiet_transformers():
            self.pipeline = transformers.pipeline(
                "text-classification",
                model=str(folder),
                device=best_device(case.device),
                dtype=dtype,
                batch_size=case.batch_size,
            )
        self.options = {"truncation": True, "max_length": case.max_length}

    def portion(self) -> None:
        """Predict all texts."""
        self.found = self.pipeline(self.texts, **self.options)

    def finish(self) -> list[str]:
        """Return the labels found."""
        return [answer["label"] for answer in self.found]


PASSES = {
    "companion": CompanionPass,
    "padded loop": PaddedLoop,
    "Trainer": TrainerPass,
    "Trainer grouped": TrainerPass,
    "Trainer compiled": TrainerPass,
}
PREDICTIONS = {"companion": CompanionPrediction, "pipeline": PipelinePrediction}
