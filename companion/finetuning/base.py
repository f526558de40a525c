"""What the fine-tuned estimators share: parameters, a pre-trained network under a new head, prediction, saving."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from companion.config import BertConfig
from companion.finetuning.texts import Texts, encode_texts
from companion.model.checkpoints import WEIGHT_FILES, load_weights, read_weights
from companion.model.heads import BertForSequenceClassification, BertWithHead
from companion.model.names import from_transformers
from companion.support.devices import best_device, generators_kept, process_count, seed_everything
from companion.support.files import atomic_folder
from companion.support.locate import locate
from companion.text.tokenizer import Tokenizer
from companion.training.batching import GroupedBatches, Rows
from companion.training.inference import predict_rows
from companion.training.loop import train
from companion.training.objective import Objective
from companion.training.settings import TrainingSettings

Model = TypeVar("Model", bound=BertWithHead)
HIGHEST_LEARNING_RATE = 3e-4
WRITTEN = {"config.json", WEIGHT_FILES[0], "vocab.txt", "tokenizer.json", "tokenizer_config.json"}


class FineTuned(BaseEstimator):
    """The parameters of every fine-tuned estimator and what follows from them; `TextClassifier` describes each."""

    def __init__(
        self,
        model: str | Path = "mini",
        *,
        epochs: int = 3,
        learning_rate: float | None = None,
        batch_size: int = 32,
        max_length: int = 128,
        warmup_share: float = 0.1,
        weight_decay: float = 0.01,
        dropout: float | None = None,
        seed: int = 0,
        device: str | None = None,
        precision: str | None = None,
        from_scratch: bool = False,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_length = max_length
        self.warmup_share = warmup_share
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.seed = seed
        self.device = device
        self.precision = precision
        self.from_scratch = from_scratch
        self.progress = progress

    def _start(self, model_class: type[Model], **changes: Any) -> tuple[Model, Tokenizer]:
        """Return the network to train and its tokenizer."""
        if self.dropout is not None:
            if not 0 <= self.dropout < 1:
                raise ValueError(f"dropout={self.dropout!r} is not allowed; it must be None or in [0, 1)")
            changes |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), self.dropout)
            changes["classifier_dropout"] = None  # the head's is then that of the hidden states
        model = with_new_head(model_class, self.model, seed=self.seed, from_scratch=self.from_scratch, **changes)
        tokenizer = Tokenizer.from_pretrained(self.model)
        positions = model.config.max_position_embeddings
        if self.max_length > positions:
            raise ValueError(
                f"max_length={self.max_length} is above the {positions} positions of {str(self.model)!r}; lower it"
            )
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"model={str(self.model)!r} has {model.config.vocab_size} token embeddings, its tokenizer "
                f"{tokenizer.vocab_size} tokens; the two do not belong together"
            )
        return model, tokenizer

    def _batches(self, rows: Rows, tokenizer: Tokenizer) -> GroupedBatches:
        options = {"seed": self.seed, "pad_id": tokenizer.pad_id, "shares": process_count()}
        return GroupedBatches(rows, self.batch_size, **options)

    def _settings(self, config: BertConfig, steps_per_epoch: int, validated: bool) -> TrainingSettings:
        if self.epochs < 1 or int(self.epochs) != self.epochs:
            raise ValueError(f"epochs={self.epochs!r} is not allowed; it must be an integer above 0")
        rate = self.learning_rate
        return TrainingSettings(
            steps=int(self.epochs) * steps_per_epoch,
            learning_rate=default_learning_rate(config.hidden_size) if rate is None else rate,
            warmup_share=self.warmup_share,
            weight_decay=self.weight_decay,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            log_every=1,
            validate_every=steps_per_epoch if validated else 0,
        )

    def _save(self, folder: str | Path, name: str, content: dict[str, Any]) -> None:
        """Write network, tokenizer and, as file `name`, `content` with the parameters: all at once or nothing."""
        folder = Path(folder)
        _refuse_other_files(folder, WRITTEN | {name})
        parameters = {key: value for key, value in self.get_params().items() if key != "device"}
        text = json.dumps(content | {"parameters": parameters}, indent=2, default=_plain)
        with atomic_folder(folder) as temporary:
            self.model_.save_pretrained(temporary)
            self.tokenizer_.save_pretrained(temporary)
            (temporary / name).write_text(text + "\n", encoding="utf-8")


class TextEstimator(FineTuned):
    """What estimators with one answer for a text, or a pair of texts, share; each trains the head of `KIND`."""

    FILE: ClassVar[str]  # beside the network in a saved folder
    KIND: ClassVar[str]  # the `problem_type` of the network

    # `texts` and `labels` are what scikit-learn calls X and y, not metadata to be routed.
    __metadata_request__fit = {"texts": UNUSED, "labels": UNUSED}
    __metadata_request__predict = {"texts": UNUSED}
    __metadata_request__score = {"texts": UNUSED, "labels": UNUSED}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        return tags

    def _train(
        self,
        model: BertForSequenceClassification,
        tokenizer: Tokenizer,
        rows: Rows,
        objective: Objective,
        validate: Callable[[BertForSequenceClassification], Mapping[str, float]] | None,
    ) -> None:
        """Train, and take over what came out of it: all or, if the training was stopped, nothing."""
        batches = self._batches(rows, tokenizer)
        settings = self._settings(model.config, batches.steps_per_epoch, validate is not None)
        history = train(model, batches, objective, settings, validate=validate, progress=self.progress)
        if not history.finished:
            raise KeyboardInterrupt(f"fit was stopped after {history.step} of {settings.steps} steps")
        self.model_, self.tokenizer_, self.history_ = model, tokenizer, history
        self.learning_rate_, self.n_iter_ = settings.learning_rate, history.step // batches.steps_per_epoch

    @classmethod
    def _load(cls, folder: str | Path, device: str | None) -> tuple[Self, dict[str, Any]]:
        """Return a saved estimator and what its file holds; {} where a folder has none."""
        path = locate(folder)
        estimator = cls(model=str(folder))
        estimator.model_ = cls._read_network(path).to(best_device(device))
        estimator.tokenizer_ = Tokenizer.from_pretrained(path)
        saved = json.loads((path / cls.FILE).read_text(encoding="utf-8")) if (path / cls.FILE).is_file() else {}
        known = estimator.get_params()
        parameters = {key: value for key, value in saved.get("parameters", {}).items() if key in known}
        estimator.history_ = estimator.learning_rate_ = estimator.n_iter_ = None
        return estimator.set_params(**parameters | {"device": device}), saved

    @classmethod
    def _read_network(cls, folder: Path) -> BertForSequenceClassification:
        """Return the network of a checkpoint, if it is of the kind that this class trains."""
        entries = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = BertConfig.from_dict(entries)
        kind = "regression" if config.num_labels == 1 else config.problem_type or "single_label_classification"
        if kind != cls.KIND:
            raise ValueError(f"folder={str(folder)!r} holds a model for {kind}; {cls.__name__} is for {cls.KIND}")
        state = from_transformers(read_weights(folder))
        architecture = next(iter(entries.get("architectures") or ["BertForSequenceClassification"]))
        if architecture != "BertForSequenceClassification" or "classifier.weight" not in state:
            raise ValueError(
                f"folder={str(folder)!r} holds a {architecture}, no trained head for sequence classification; train "
                f"one: {cls.__name__}({str(folder)!r}).fit(texts, labels)"
            )
        model = BertForSequenceClassification(config)
        load_weights(model, state, source=str(folder))
        return model.eval()

    def _encode(self, tokenizer: Tokenizer, texts: Texts) -> Rows:
        return encode_texts(tokenizer, texts, self.max_length)

    def _logits(self, texts: Texts) -> Tensor:
        self._check_fitted()
        rows = self._encode(self.tokenizer_, texts)
        return self._predicted(self.model_, rows, self.tokenizer_)

    def _predicted(self, model: BertForSequenceClassification, rows: Rows, tokenizer: Tokenizer) -> Tensor:
        options = {"batch_size": self.batch_size, "pad_id": tokenizer.pad_id, "precision": self.precision}
        return predict_rows(model, rows, **options)

    def _check_fitted(self) -> None:
        check_is_fitted(self, "model_", msg="this %(name)s is not fitted yet; call fit(texts, labels) or load(folder)")


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


def _refuse_other_files(folder: Path, ours: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is a file; pass the path of a new or empty folder")
    others = sorted(path.name for path in folder.glob("*") if path.name not in ours)
    if others:
        raise ValueError(
            f"folder={str(folder)!r} holds other files ({', '.join(others[:3])}), which saving would remove; pass the "
            "path of a new or empty folder"
        )


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it does: numbers of NumPy, paths."""
    return value.item() if isinstance(value, np.generic) else str(value)
