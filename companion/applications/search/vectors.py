"""One vector per text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from companion.model.encoder import BertModel
from companion.support.containers import as_texts
from companion.support.require import choice, integer
from companion.text.tokenizer import Tokenizer
from companion.training.inference import predict_rows

POOLINGS = ("mean", "cls", "max")


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str = "mean") -> Tensor:
    """Make one vector of a text's token vectors, passing over padding (Reimers and Gurevych 2019, section 3).

    Parameters
    ----------
    hidden : Tensor, float, (batch, tokens, hidden)
    attention_mask : Tensor, (batch, tokens)
        1 for tokens, 0 for padding.
    pooling : {"mean", "cls", "max"}
        The average of the tokens, the vector of `[CLS]`, or the largest value in every dimension.

    Returns
    -------
    Tensor, float, (batch, hidden)

    Raises
    ------
    ValueError
        If `pooling` is none of these.
    """
    choice("pooling", pooling, POOLINGS)
    if pooling == "cls":
        return hidden[:, 0]
    is_token = attention_mask.bool()[..., None]  # (batch, tokens, 1)
    if pooling == "max":
        return hidden.masked_fill(~is_token, torch.finfo(hidden.dtype).min).amax(1)
    return (hidden * is_token).sum(1) / is_token.sum(1).clamp(min=1)


def embed(
    texts: Iterable[str],
    model: BertModel,
    tokenizer: Tokenizer,
    *,
    pooling: str = "mean",
    batch_size: int = 32,
    max_length: int | None = None,
    precision: str | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Return one vector per text, (texts, hidden), fp32, computed on the device of the model, in evaluation mode.

    Parameters
    ----------
    texts : iterable of str
        In any container that `companion.support.containers.as_texts` reads; none gives an array of no rows.
    model : BertModel
        Is left in its mode and on its device.
    tokenizer : Tokenizer
    pooling : {"mean", "cls", "max"}
        As in `pool`.
    batch_size : int
        Texts that go through the model together.
    max_length : int, optional
        Tokens per text; longer ones are truncated. None is 128, or the positions of a model that has fewer.
    precision : str, optional
        As in `companion.support.devices.precision_for`.
    progress : bool
        Show a progress bar.

    Raises
    ------
    TypeError
        If `texts` is one str, or an item is missing or no str; names its index.
    ValueError
        If an option is out of range.
    """
    choice("pooling", pooling, POOLINGS)
    items = as_texts("texts", texts)
    if not items:
        return np.zeros((0, model.config.hidden_size), dtype=np.float32)
    if max_length is None:
        max_length = min(128, model.config.max_position_embeddings, tokenizer.max_length)

    def pooled(output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        ids = batch["input_ids"]
        return pool(output.last_hidden_state.float(), batch.get("attention_mask", torch.ones_like(ids)), pooling)

    rows = tokenizer(items, max_length=max_length, padding=False, return_tensors=False)
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "precision": precision,
        "progress": progress,
    }
    return predict_rows(
        model, {"input_ids": rows["input_ids"]}, pad_id=tokenizer.pad_id, take=pooled, **options
    ).numpy()


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Scale every row to length 1; a row of zeros stays as it is."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def whitening(
    vectors: np.ndarray,
    keep: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a mean and a matrix that leave vectors without a common direction or scale (Su et al. 2021, section 2).

    ``(vectors - mean) @ matrix`` has mean 0, and its covariance is the unit matrix.

    Parameters
    ----------
    vectors : array, (texts, hidden)
        Of many texts, more than `keep`; those to be compared need not be among them.
    keep : int, optional
        Directions to keep, those with the largest variance first; the others are noise. None keeps all `hidden`.

    Returns
    -------
    (array, array)
        The mean, (hidden,), and the matrix, (hidden, keep).

    Raises
    ------
    ValueError
        If `keep` is not from 1 to `hidden`, or there are too few vectors for it.

    Examples
    --------
    >>> vectors = np.array([[9.0, 0.0], [11.0, 0.0], [10.0, 3.0], [10.0, -3.0]])
    >>> mean, matrix = whitening(vectors)
    >>> mean
    array([10.,  0.])
    >>> np.round(np.cov((vectors - mean) @ matrix, rowvar=False, bias=True), 6)
    array([[1., 0.],
           [0., 1.]])
    """
    count, hidden = vectors.shape
    keep = hidden if keep is None else integer("keep", keep, 1, hidden)
    if count <= keep:
        raise ValueError(f"{count} vectors are too few for keep={keep}; pass more")
    mean = vectors.mean(axis=0)
    off = (vectors - mean) / np.sqrt(count)
    _, deviations, directions = np.linalg.svd(off, full_matrices=False)
    return mean, directions[:keep].T / np.maximum(deviations[:keep], 1e-12)
