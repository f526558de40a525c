"""An estimator on disk: what `save` writes, and how it is opened again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from companion.finetuning.adapters import adapter_of, merge_adapter, read_adapted, write_adapter
from companion.finetuning.parameters import Parameters
from companion.finetuning.saved import read_network, read_saved, write_saved
from companion.model.heads import BertWithHead
from companion.support.devices import best_device
from companion.support.locate import locate
from companion.text.tokenizer import Tokenizer

NOT_FITTED = "this %(name)s is not fitted yet; call fit(texts, labels) or load(folder)"


class Stored(Parameters):
    """The part of an estimator that saves and loads it, and merges its adapter."""

    MODEL: ClassVar[type[BertWithHead]]
    KINDS: ClassVar[tuple[str | None, ...]] = (None,)  # the `problem_type`s of the networks that it opens

    # What a new estimator may define.

    def _learned(self) -> dict[str, Any]:
        """Return what `fit` learned from the labels, as JSON can hold it."""
        return {}

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what `_learned` gave; {} for a folder that has no `companion.json`."""

    # What it gets.

    def merge_adapter(self) -> Self:
        """Add the adapter to the weights of the network, in place: predictions stay the same, up to rounding.

        The network is then one like any other: as fast, and saved whole.

        Raises
        ------
        ValueError
            If there is no adapter.
        """
        check_is_fitted(self, "model_", msg=NOT_FITTED)
        if adapter_of(self.model_) is None:
            raise ValueError("there is no adapter to merge; fit with adapter='lora', or load one")
        merge_adapter(self.model_)
        return self

    def save(self, folder: str | Path) -> None:
        """Write the network (Transformers' format), its tokenizer and `companion.json` into a folder.

        Of a network with an adapter, only the adapter and the head are written, in PEFT's format; `load` then needs the
        pre-trained network that it was trained on. An estimator that was saved there before is replaced; other files
        are left alone.

        Raises
        ------
        ValueError
            If the folder is a file, or holds another model.
        OSError
            If it cannot be written.
        """
        check_is_fitted(self, "model_", msg=NOT_FITTED)
        content = {"estimator": type(self).__name__, "pairs": self.pairs_} | self._learned()
        content |= {"parameters": self._stored_parameters()}
        write = self.model_.save_pretrained
        if adapter_of(self.model_) is not None:
            content |= {"base": self.base_}
            write = partial(write_adapter, self.model_, self.base_["name"])
        write_saved(folder, content, write, self.tokenizer_.save_pretrained)

    def _stored_parameters(self) -> dict[str, Any]:
        parameters = {key: value for key, value in self.get_params(deep=False).items() if key != "device"}
        if isinstance(parameters["random_state"], np.random.RandomState):
            parameters["random_state"] = None
        if not isinstance(parameters["adapter"], str):  # its own file holds a configuration
            parameters["adapter"] = None
        return parameters

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> Self:
        """Return a saved estimator, ready to predict.

        Parameters
        ----------
        folder : str or Path
            Written by `save`; or any folder or hub id in Transformers' format of a BERT with the head that this class
            trains. Of the latter texts are truncated where its positions end.
        device : str, optional
            None means the best one there is.

        Raises
        ------
        FileNotFoundError
            If there is no such checkpoint.
        ValueError
            If it is not of this class.
        """
        path = locate(folder)
        return cls._opened(str(folder), path, read_saved(path), device)

    @classmethod
    def _opened(cls, folder: str, path: Path, saved: Mapping[str, Any], device: str | None) -> Self:
        """Return the estimator at `path`, which the caller named `folder` and whose file holds `saved`."""
        if saved.get("estimator", cls.__name__) != cls.__name__:
            raise ValueError(
                f"folder={folder!r} holds a {saved['estimator']}, not a {cls.__name__}; open it with "
                "companion.finetuning.load"
            )
        estimator = cls(model=folder, device=device)
        base = saved.get("base")
        if base is None:
            model = read_network(path, cls.MODEL, cls.KINDS, cls.__name__)
        else:
            model = read_adapted(path, cls.MODEL, base)
        estimator.model_ = model.to(best_device(device))
        estimator.tokenizer_ = Tokenizer.from_pretrained(path)
        estimator.max_length = estimator.model_.config.max_position_embeddings
        estimator.pairs_, estimator.base_ = saved.get("pairs"), base
        estimator.history_ = estimator.learning_rate_ = estimator.n_iter_ = None
        known = estimator.get_params(deep=False)
        estimator.set_params(**{key: value for key, value in saved.get("parameters", {}).items() if key in known})
        if estimator.adapter is None:
            estimator.adapter = adapter_of(model)
        estimator._restore(saved)
        return estimator
