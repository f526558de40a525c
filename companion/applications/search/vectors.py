"""One vector per text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from companion.model.encoder import BertModel
from companion.support.devices import autocast, precision_for
from companion.text.tokenizer import Tokenizer

POOLINGS = ("mean", "cls", "max")


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
        As in `companion.support.devices.precision_for`.
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


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Scale every row to length 1; a row of zeros stays as it is."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
