"""Vectors tuned on pairs of texts that belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from companion.applications.search.vectors import POOLINGS, pool
from companion.data.questions import Pair
from companion.finetuning.new_head import default_learning_rate
from companion.finetuning.texts import read_texts
from companion.model.encoder import BertModel
from companion.support.containers import as_list
from companion.support.devices import generators_kept, seed_everything
from companion.support.require import choice, integer, shortened
from companion.text.tokenizer import Tokenizer
from companion.training.batching import pad_rows
from companion.training.loop import History, train
from companion.training.objective import Batch, Sums
from companion.training.settings import TrainingSettings


def contrastive_loss(
    questions: Tensor,
    texts: Tensor,
    scale: float = 20.0,
    groups: Tensor | None = None,
) -> Tensor:
    """Return, summed over a batch, the cross-entropy of picking each question's own text among all texts of the batch.

    The other texts serve as wrong answers, so that none need be collected (Henderson et al. 2017).

    Parameters
    ----------
    questions, texts : Tensor, float, (pairs, hidden)
        Row i of one belongs to row i of the other.
    scale : float
        Multiplies the cosines, which lie between -1 and 1 and would leave the softmax nearly flat.
    groups : Tensor, integer, (pairs,), optional
        Pairs of one group have texts that answer each other's questions: none is a wrong answer for another.
    """
    questions, texts = F.normalize(questions, dim=-1), F.normalize(texts, dim=-1)
    scores = scale * questions @ texts.T  # (pairs, pairs)
    own = torch.arange(len(scores), device=scores.device)
    if groups is not None:
        also_right = (groups[:, None] == groups).fill_diagonal_(False)  # (pairs, pairs)
        scores = scores.masked_fill(also_right, -torch.inf)
    return F.cross_entropy(scores, own, reduction="sum")


class ContrastiveObjective:
    """`contrastive_loss` for `companion.training.loop.train`.

    The wrong answers are those of one batch on one device: accumulating batches adds none.

    Parameters
    ----------
    pooling : {"mean", "cls", "max"}
        As in `pool`.
    scale : float
        As in `contrastive_loss`.
    """

    leaves_unused = True  # the pooler

    def __init__(self, pooling: str = "mean", scale: float = 20.0) -> None:
        self.pooling, self.scale = pooling, scale

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of pairs."""
        return {"contrast": torch.tensor(len(batch["question_ids"]), device=batch["question_ids"].device)}

    def sums(self, model: BertModel, batch: Batch) -> dict[str, Sums]:
        """Return the summed loss."""
        questions, texts = (self._vectors(model, batch, side) for side in ("question", "text"))
        return {"contrast": Sums(contrastive_loss(questions, texts, self.scale, batch.get("groups")))}

    def _vectors(self, model: BertModel, batch: Batch, side: str) -> Tensor:
        ids, mask = batch[f"{side}_ids"], batch[f"{side}_mask"]
        return pool(model(ids, mask).last_hidden_state.float(), mask, self.pooling)


class ContrastiveBatches(Dataset):
    """Shuffled batches of pairs, each looked up by its number, as `companion.training.loop.train` wants them.

    Every epoch has an order of its own; the pairs that do not fill a last batch wait for the next one.

    Parameters
    ----------
    pairs : iterable of (str, str)
        A pair whose question or text occurred before is left out, unless `groups` says what it goes with: in one
        batch with the other it would be taught as a wrong answer.
    tokenizer : Tokenizer
    batch_size : int
        Pairs per batch.
    max_length : int, optional
        Tokens per text. None is 64, or the positions of a model that has fewer.
    seed : int
        Seeds the order.
    groups : iterable, optional
        One value per pair, such as its topic; see `contrastive_loss`.

    Raises
    ------
    ValueError
        If fewer than two different pairs are left: one alone has no wrong answer; or if there is not one group per
        pair.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        tokenizer: Tokenizer,
        batch_size: int = 64,
        max_length: int | None = None,
        seed: int = 0,
        groups: Iterable[Any] | None = None,
    ) -> None:
        items = _as_pairs(pairs)
        pairs = _different(items) if groups is None else items
        batch_size = integer("batch_size", batch_size, 1)
        if len(pairs) < 2 or batch_size < 2:
            raise ValueError(
                f"batch_size={batch_size} with {len(pairs)} different pairs leaves no wrong answers to tell apart; "
                "both must be at least 2"
            )
        self.pad_id, self.seed = tokenizer.pad_id, seed
        self.groups = None if groups is None else _group_numbers(groups, len(items))
        self.batch_size = min(batch_size, len(pairs))
        max_length = min(64, tokenizer.max_length) if max_length is None else max_length
        options: dict[str, Any] = {"max_length": max_length, "padding": False, "return_tensors": False}
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0))
        self.sides = [tokenizer(list(side), **options)["input_ids"] for side in zip(*pairs, strict=True)]

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches."""
        return len(self.sides[0]) // self.batch_size

    def rows_of(self, number: int) -> np.ndarray:
        """Return the indices of the pairs that make up batch `number`, counted over all epochs."""
        epoch, position = divmod(number, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.sides[0])))
        return self._epoch[1][position * self.batch_size : (position + 1) * self.batch_size]

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rows, batch = self.rows_of(number), {}
        for name, side in zip(("question", "text"), self.sides, strict=True):
            padded = pad_rows({"input_ids": [side[row] for row in rows]}, pad_id=self.pad_id)
            ids = batch[f"{name}_ids"] = padded["input_ids"]
            batch[f"{name}_mask"] = padded.get("attention_mask", torch.ones_like(ids))
        if self.groups is not None:
            batch["groups"] = self.groups[torch.from_numpy(rows)]
        return batch


def tune(
    pairs: Iterable[Pair],
    name: str | Path = "mini",
    *,
    pooling: str = "mean",
    steps: int | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    learning_rate: float | None = None,
    scale: float = 20.0,
    groups: Iterable[Any] | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    progress: bool = False,
) -> tuple[BertModel, History]:
    """Train an encoder so that a question lies near its own text and away from the others.

    Parameters
    ----------
    pairs : iterable of (str, str)
        Questions, or something like them, with the texts that answer them; see `docstring_pairs`.
    name : str or Path
        Checkpoint to begin with, as in `BertModel.from_pretrained`.
    pooling : {"mean", "cls", "max"}
        As in `pool`. Search with the same.
    steps : int, optional
        None goes through the pairs once.
    batch_size : int
        Pairs per step, of which each serves all others as a wrong answer.
    max_length : int, optional
        Tokens per text. None is 64, or the positions of a model that has fewer.
    learning_rate : float, optional
        None is that of `companion.finetuning.new_head.default_learning_rate`.
    scale : float
        As in `contrastive_loss`.
    groups : iterable, optional
        As in `ContrastiveBatches`.
    seed : int
        Seeds the order of the pairs and dropout.
    device, precision : str, optional
        As in `companion.support.devices`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    (BertModel, History)
        The encoder, in evaluation mode, for `SearchEngine(texts, name, model=...)`, and what the training logged.

    Raises
    ------
    TypeError
        If an item is no pair of str; names its index.
    ValueError
        If there are fewer than two different pairs, `pooling` is unknown, or there is not one group per pair.
    """
    choice("pooling", pooling, POOLINGS)
    batches = ContrastiveBatches(pairs, Tokenizer.from_pretrained(name), batch_size, max_length, seed, groups)
    with generators_kept():
        seed_everything(seed)  # for parts that the checkpoint may not have, such as the pooler
        model = BertModel.from_pretrained(name)
    settings = TrainingSettings(
        steps=batches.steps_per_epoch if steps is None else steps,
        learning_rate=default_learning_rate(model.config.hidden_size) if learning_rate is None else learning_rate,
        seed=seed,
        device=device,
        precision=precision,
        log_every=1,
    )
    history = train(model, batches, ContrastiveObjective(pooling, scale), settings, progress=progress)
    return model, history


def _as_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Return pairs from any container.

    Raises
    ------
    TypeError
        If an item is no pair of str; names its index.
    """
    items: list[Any] = as_list("pairs", pairs)
    items = list(read_texts("pairs", items)) if items else []
    if items and isinstance(items[0], str):
        raise TypeError(
            f"pairs[0]={shortened(items[0])} is one str; each item must be a pair of a question and its text"
        )
    return items


def _different(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs of which neither side, but for capitals, occurred before."""
    kept: list[Pair] = []
    seen: set[tuple[str, str]] = set()
    for question, text in pairs:
        keys = {("question", question.lower()), ("text", text.lower())}
        if not keys & seen:
            kept.append((question, text))
            seen |= keys
    return kept


def _group_numbers(groups: Iterable[Any], count: int) -> Tensor:
    """Return one number per pair, the same for the same group.

    Raises
    ------
    ValueError
        If there are not `count`.
    """
    items = as_list("groups", groups)
    if len(items) != count:
        raise ValueError(f"groups holds {len(items)} values for {count} pairs; pass one for each pair")
    places = {group: place for place, group in enumerate(dict.fromkeys(items))}
    return torch.tensor([places[group] for group in items])
