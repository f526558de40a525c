"""The batches of a pre-training run, phase after phase, by number."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from companion.pretraining.config import Phase, PretrainingConfig
from companion.pretraining.corpus import Corpus, prepare_corpus
from companion.pretraining.masking import MaskedBatches, continuation_pieces
from companion.pretraining.segments import PairBatches
from companion.pretraining.streaming import StreamedBatches
from companion.support.devices import process_count
from companion.text.tokenizer import Tokenizer
from companion.training.objective import Batch

# One fixed choice of pairs and masks, at the published rate, so that figures of different runs compare.
VALIDATION_SEED, VALIDATION_MASKING = 20181011, 0.15
TRAIN, VALIDATION = "corpus-train", "corpus-validation"


class PhaseBatches(Dataset):
    """The masked batches of one phase as the training loop wants them: without a mask where nothing is padded."""

    def __init__(
        self, config: PretrainingConfig, phase: Phase, corpus: Corpus, tokenizer: Tokenizer, seed: int
    ) -> None:
        pairs = PairBatches(
            corpus,
            phase.batch_size,
            phase.max_tokens,
            seed,
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
            pad_id=tokenizer.pad_id,
            next_sentence=phase.next_sentence,
        )
        self.masked = MaskedBatches(
            pairs,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            special_ids=tokenizer.special_ids,
            probability=phase.masking_probability,
            whole_words=config.whole_words,
            is_continuation=continuation_pieces(tokenizer.vocabulary),
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the pairs."""
        return self.masked.steps_per_epoch

    def __getitem__(self, number: int) -> Batch:
        batch = self.masked[number]
        if batch["attention_mask"].all():
            del batch["attention_mask"]
        return {name: torch.from_numpy(values) for name, values in batch.items()}


class TrainingBatches(Dataset):
    """The batches of all phases, one after the other; each phase draws its rows with a seed of its own."""

    def __init__(self, config: PretrainingConfig, corpus: Corpus, tokenizer: Tokenizer) -> None:
        self.corpus = corpus
        per_step = batches_per_step(config)
        steps = [phase.steps for phase in config.phases]
        self.starts = [0, *(per_step * step for step in accumulate(steps[:-1]))]  # number of each phase's first
        self.phases = [
            PhaseBatches(config, phase, corpus, tokenizer, seed)
            for phase, seed in zip(config.phases, phase_seeds(config), strict=True)
        ]

    def __getitem__(self, number: int) -> Batch:
        phase = bisect_right(self.starts, number) - 1
        return self.phases[phase][number - self.starts[phase]]

    @property
    def identity(self) -> dict[str, Any]:
        """What of the text a run that goes on must share."""
        return {name: self.corpus.meta[name] for name in ("source_checksum", "vocabulary_checksum", "limit")}

    def text_seen(self, batches: int) -> tuple[dict[str, int], float]:
        """Return what the text holds, and how often the first `batches` batches pass over it."""
        names = ("documents", "sentences", "tokens")
        ends = [*self.starts[1:], batches]
        stretches = zip(self.starts, ends, self.phases, strict=True)
        passes = sum((end - start) / rows.steps_per_epoch for start, end, rows in stretches)
        return {name: getattr(self.corpus, f"num_{name}") for name in names}, passes


def phase_seeds(config: PretrainingConfig) -> list[int]:
    """Return the seed of each phase: that of the run for the main one, so that a run without earlier phases has the
    same rows, and for the others seeds that no run has as its own.
    """
    spawned = np.random.SeedSequence(config.training.seed, spawn_key=(3,)).spawn(len(config.earlier))
    return [*(int(one.generate_state(1, np.uint64)[0] >> 1) for one in spawned), config.training.seed]


def batches_per_step(config: PretrainingConfig) -> int:
    """Return how many batches all processes together take in a step."""
    return config.training.accumulation * process_count()


def training_batches(
    config: PretrainingConfig, tokenizer: Tokenizer, progress: bool = True, copy: Path | None = None
) -> TrainingBatches | StreamedBatches:
    """Prepare the source in the run's folder, or its windows as they are needed, and return the batches.

    `copy` is a file that is read in place of the source, as in `prepare_corpus`.
    """
    folder = Path(config.folder) / TRAIN
    if config.stream is not None:
        return StreamedBatches(
            config.source,
            tokenizer,
            folder,
            lambda corpus, seed: PhaseBatches(config, config.phases[-1], corpus, tokenizer, seed),
            megabytes=config.stream,
            limit=config.limit,
            seed=config.training.seed,
            settings=batch_settings(config),
            progress=progress,
        )
    corpus = prepare_corpus(config.source, tokenizer, folder, limit=config.limit, copy=copy, progress=progress)
    return TrainingBatches(config, corpus, tokenizer)


def validation_batches(config: PretrainingConfig, tokenizer: Tokenizer, progress: bool = True) -> PhaseBatches:
    """Prepare the held-out text, and return its batches, in the form of the main phase but with the published rate."""
    if config.validation is None:
        raise ValueError("validation=None is not allowed; name the held-out text")
    corpus = prepare_corpus(config.validation, tokenizer, Path(config.folder) / VALIDATION, progress=progress)
    phase = dataclasses.replace(config.phases[-1], masking_probability=VALIDATION_MASKING)
    return PhaseBatches(config, phase, corpus, tokenizer, VALIDATION_SEED)


def batch_settings(config: PretrainingConfig) -> dict[str, Any]:
    """Return what decides how batches are made of a text, and dropout."""
    names = ("batch_size", "max_tokens", "next_sentence", "masking_probability", "whole_words", "dropout")
    earlier = [dataclasses.asdict(phase) for phase in config.earlier]
    settings = {name: getattr(config, name) for name in names} | {"earlier": earlier}
    return settings | ({"phase_seeds": phase_seeds(config)} if earlier else {})
