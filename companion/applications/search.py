"""Semantic search: texts as vectors, questions answered by the nearest ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from companion.devices import autocast, best_device, precision_for
from companion.encoder import BertModel
from companion.tokenizer import Tokenizer

POOLINGS = ("mean", "cls", "max")


class Hit(NamedTuple):
    """A text that was found: its number in the collection, its similarity to the question, and the text."""

    number: int
    score: float
    text: str


def pool(hidden: Tensor, attention_mask: Tensor, how: str = "mean") -> Tensor:
    """Make one vector of a text's token vectors, passing over padding (Reimers and Gurevych 2019, section 3).

    Parameters
    ----------
    hidden : Tensor, float, (batch, tokens, hidden)
    attention_mask : Tensor, (batch, tokens)
        1 for tokens, 0 for padding.
    how : {"mean", "cls", "max"}
        The average of the tokens, the vector of `[CLS]`, or the largest value in every dimension.

    Returns
    -------
    Tensor, float, (batch, hidden)

    Raises
    ------
    ValueError
        If `how` is none of these.
    """
    if how not in POOLINGS:
        raise ValueError(f"how={how!r} is unknown; choose one of {', '.join(POOLINGS)}")
    if how == "cls":
        return hidden[:, 0]
    is_token = attention_mask.bool()[..., None]  # (batch, tokens, 1)
    if how == "max":
        return hidden.masked_fill(~is_token, torch.finfo(hidden.dtype).min).amax(1)
    return (hidden * is_token).sum(1) / is_token.sum(1).clamp(min=1)


@torch.inference_mode()
def embed(
    texts: Sequence[str],
    model: BertModel,
    tokenizer: Tokenizer,
    *,
    how: str = "mean",
    batch_size: int = 32,
    max_length: int = 128,
    precision: str | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Return one vector a text, (texts, hidden), fp32, on the device of the model.

    Texts are sorted by length first, so that little is padded, and returned in the order they came in.

    Parameters
    ----------
    texts : sequence of str
    model : BertModel
        In evaluation mode.
    tokenizer : Tokenizer
    how : {"mean", "cls", "max"}
        As in `pool`.
    batch_size, max_length : int
        Texts a batch, tokens a text; what is longer is cut off.
    precision : str, optional
        As in `companion.devices.precision_for`.
    progress : bool
        Show a progress bar.
    """
    device = next(model.parameters()).device
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    with autocast(device, precision_for(device, precision)):
        for start in tqdm(range(0, len(texts), batch_size), disable=not progress, unit="batch"):
            rows = order[start : start + batch_size]
            batch = tokenizer([texts[row] for row in rows], max_length=max_length)
            batch = {name: ids.to(device) for name, ids in batch.items()}
            hidden = model(**batch).last_hidden_state.float()
            vectors[rows] = pool(hidden, batch["attention_mask"], how).cpu().numpy()
    return vectors


class SearchEngine:
    """Search a collection by meaning: cosine similarity between the vector of a question and those of the texts.

    Parameters
    ----------
    texts : sequence of str
        The collection.
    name : str
        Checkpoint of the encoder, as in `BertModel.from_pretrained`.
    how : {"mean", "cls", "max"}
        As in `pool`.
    centre : bool
        Subtract the mean vector of the collection first. Vectors of a BERT that was not tuned for similarity share
        one large common direction, which makes every two texts look alike (Ethayarajh 2019).
    device, precision : str, optional
        As in `companion.devices`.
    progress : bool
        Show a progress bar while the collection is encoded.

    Raises
    ------
    ValueError
        If the collection is empty, or `how` is unknown.
    """

    def __init__(
        self,
        texts: Sequence[str],
        name: str = "mini",
        *,
        how: str = "mean",
        centre: bool = True,
        device: str | None = None,
        precision: str | None = None,
        progress: bool = False,
    ) -> None:
        if not len(texts):
            raise ValueError("texts is empty; a collection needs at least one text")
        self.texts, self.how, self.precision = list(texts), how, precision
        self.model = BertModel.from_pretrained(name).to(best_device(device))
        self.tokenizer = Tokenizer.from_pretrained(name)
        vectors = self._embed(self.texts, progress)
        self.centre = vectors.mean(0) if centre else np.zeros_like(vectors[0])
        self.vectors = normalise(vectors - self.centre)  # (texts, hidden), each of length 1

    def search(self, question: str, count: int = 5) -> list[Hit]:
        """Return the `count` texts most similar to `question`, the best first."""
        scores = self.scores([question])[0]
        best = np.argsort(-scores, kind="stable")[:count]
        return [Hit(int(i), float(scores[i]), self.texts[i]) for i in best]

    def scores(self, questions: Sequence[str]) -> np.ndarray:
        """Return the cosine of every question with every text, (questions, texts)."""
        return normalise(self._embed(questions) - self.centre) @ self.vectors.T

    def _embed(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        options = {"how": self.how, "precision": self.precision, "progress": progress}
        return embed(texts, self.model, self.tokenizer, **options)


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Scale every row to length 1; a row of zeros stays as it is."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def reciprocal_rank(scores: np.ndarray, right: Sequence[int]) -> float:
    """Return the mean over questions of 1 / rank of the right text (Voorhees 1999).

    Parameters
    ----------
    scores : array, (questions, texts)
    right : sequence of int
        Number of the right text for every question.
    """
    own = scores[np.arange(len(scores)), right][:, None]
    return float((1.0 / (1 + (scores > own).sum(1))).mean())
