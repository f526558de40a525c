"""A pre-trained network under a new head, and how fast to train it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from companion.config import BertConfig
from companion.model.checkpoints import load_weights, read_weights
from companion.model.heads import BertWithHead
from companion.model.names import from_transformers
from companion.support.devices import generators_kept, seed_everything
from companion.support.locate import locate

Model = TypeVar("Model", bound=BertWithHead)
HIGHEST_LEARNING_RATE = 3e-4


def with_new_head(
    model_class: type[Model], name: str | Path, *, seed: int = 0, from_scratch: bool = False, **changes: Any
) -> Model:
    """Return a model whose encoder is pre-trained and whose head is new.

    Parameters
    ----------
    model_class : type
        One of the models of `companion.model.heads`.
    name : str or Path
        A bundled name, a folder or a hub id, as in `from_pretrained`. A head that it may have is not used.
    seed : int
        Of the new weights; they are those that `seed_everything(seed)` and `model_class(config)` give.
    from_scratch : bool
        Take only the shape of the network; all weights are new.
    **changes
        Entries of `BertConfig` to set otherwise than on file, such as `labels`.

    Returns
    -------
    model_class
        In evaluation mode, on the CPU. The generators of the caller are left as they were.

    Raises
    ------
    FileNotFoundError
        If there is no such checkpoint.
    ValueError
        If its weights do not fit.
    """
    folder = locate(name)
    config = BertConfig.from_file(folder).replace(**changes)
    with generators_kept():
        seed_everything(seed)
        model = model_class(config)
    if not from_scratch:
        load_weights(model.bert, from_transformers(read_weights(folder)), source=str(name))
    return model.eval()


def default_learning_rate(hidden_size: int) -> float:
    """Return 3e-4 for networks up to 256 wide, and less in proportion to the square of the width beyond.

    This is near what was found best: 2e-5 to 5e-5 for BERT-base and BERT-large, which are 768 and 1024 wide (Devlin
    et al. 2019, appendix A.3), 3e-5 to 3e-4 for smaller ones (Turc et al. 2019).
    """
    return HIGHEST_LEARNING_RATE * min(1.0, 256 / hidden_size) ** 2
