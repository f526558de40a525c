"""BERT from the ground up: tokenizer, model, pre-training, fine-tuning and applications, as the book derives them.

Names are loaded when they are first used, so that `import companion` costs little more than `import torch`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

_HOMES = {
    "BertConfig": "companion.config",
    "BertForMaskedLM": "companion.model.heads",
    "BertForPreTraining": "companion.model.heads",
    "BertForQuestionAnswering": "companion.model.heads",
    "BertForSequenceClassification": "companion.model.heads",
    "BertForTokenClassification": "companion.model.heads",
    "BertModel": "companion.model.encoder",
    "Tokenizer": "companion.text.tokenizer",
    "load_dataset": "companion.data.labelled",
    "seed_everything": "companion.support.devices",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from companion.config import BertConfig as BertConfig
    from companion.data.labelled import load_dataset as load_dataset
    from companion.model.encoder import BertModel as BertModel
    from companion.model.heads import BertForMaskedLM as BertForMaskedLM
    from companion.model.heads import BertForPreTraining as BertForPreTraining
    from companion.model.heads import BertForQuestionAnswering as BertForQuestionAnswering
    from companion.model.heads import BertForSequenceClassification as BertForSequenceClassification
    from companion.model.heads import BertForTokenClassification as BertForTokenClassification
    from companion.support.devices import seed_everything as seed_everything
    from companion.text.tokenizer import Tokenizer as Tokenizer

try:
    __version__ = version("bert-companion")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'companion' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
