"""The messages on the page are those that the libraries print today."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

import companion

PAGE = Path(__file__).resolve().parents[2] / "book" / "troubleshooting.md"
MINI = Path(companion.__file__).parent / "pretrained" / "mini"
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 9}
ON_A_GPU = {"CUDA error", "torch.OutOfMemoryError", "RuntimeError: Expected all tensors to be on the same device"}


def messages() -> list[str]:
    """Return the first cell of every row of the tables of messages."""
    cells = re.findall(r"^\| `(.*?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [cell.replace(r"\|", "|") for cell in cells]


def classifier() -> BertForSequenceClassification:
    return BertForSequenceClassification(BertConfig(**SHAPE)).eval()


def ids(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.long)


def printed(action: Callable[[], object]) -> str:
    """Return what Transformers logs while `action` runs, without bold letters, each run of blanks as one."""
    text, logger = io.StringIO(), transformers.utils.logging.get_logger("transformers")
    handler, level = logging.StreamHandler(text), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)  # whatever another test has set
    try:
        action()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return re.sub(r" +", " ", re.sub(r"\x1b\[\d*m", "", text.getvalue()))


def backward_twice() -> None:
    weight = torch.ones(2, requires_grad=True)
    loss = (weight * weight).sum()
    loss.backward()
    loss.backward()


def unpacked() -> torch.Tensor:
    _, pooled = BertModel(BertConfig(**SHAPE))(ids(1, 3))
    return torch.nn.Linear(16, 2)(pooled)


def import_adamw() -> None:
    from transformers import AdamW  # noqa: F401


def another_number_of_classes(folder: Path) -> None:
    classifier().save_pretrained(folder)
    BertForSequenceClassification.from_pretrained(folder, num_labels=5)


def a_script(folder: Path) -> None:
    import datasets

    script = folder / "old.py"
    script.write_text("", encoding="utf-8")
    datasets.load_dataset(str(script))


def an_old_buffer() -> None:
    model = BertModel(BertConfig(**SHAPE))
    model.load_state_dict(model.state_dict() | {"embeddings.position_ids": torch.arange(512)[None]})


def arguments(**named: object) -> None:
    transformers.TrainingArguments(output_dir="unused", **named)


RAISED: dict[str, Callable[[Path], object]] = {
    "IndexError: index out of range": lambda _: classifier()(torch.tensor([[1, 9]])),
    "RuntimeError: The expanded size": lambda _: classifier()(ids(1, 600)),
    "ValueError: Unable to create tensor": lambda _: BertTokenizer.from_pretrained(MINI)(
        ["a b", "a"], return_tensors="pt"
    ),
    "TypeError: linear()": lambda _: unpacked(),
    "IndexError: Dimension out of range": lambda _: torch.zeros(2, 3).argmax(dim=2),
    "IndexError: Target 2": lambda _: classifier()(ids(2, 3), labels=torch.tensor([0, 2])),
    "IndexError: Target -1": lambda _: classifier()(ids(2, 3), labels=torch.tensor([0, -1])),
    "RuntimeError: expected target dtype": lambda _: cross_entropy(torch.zeros(2, 3), torch.tensor([0.0, 1.0])),
    "ValueError: Expected input batch_size": lambda _: cross_entropy(torch.zeros(4, 3), torch.tensor([0, 1])),
    "ValueError: Target size": lambda _: binary_cross_entropy_with_logits(torch.zeros(8, 6), torch.zeros(8, 5)),
    "RuntimeError: The size of tensor a": lambda _: torch.zeros(9833, 2) == torch.zeros(9833),
    "RuntimeError: element 0": lambda _: torch.zeros(2).sum().backward(),
    "RuntimeError: Trying to backward": lambda _: backward_twice(),
    "RuntimeError: You set": another_number_of_classes,
    "RuntimeError: Error(s) in loading": lambda _: an_old_buffer(),
    "OSError: We couldn't connect": lambda _: AutoTokenizer.from_pretrained("no-such-name", local_files_only=True),
    "ImportError: cannot import name": lambda _: import_adamw(),
    "RuntimeError: Dataset scripts": a_script,
    "TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'eval": lambda _: arguments(
        evaluation_strategy="epoch"
    ),
    "TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'over": lambda _: arguments(
        overwrite_output_dir=True
    ),
    "TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'warm": lambda _: arguments(
        warmup_ratio=0.1
    ),
    "TypeError: Trainer": lambda _: transformers.Trainer(model=classifier(), tokenizer=None),
    "RuntimeError: Can't call numpy()": lambda _: torch.zeros(2, requires_grad=True).numpy(),
}
PRINTED: dict[str, Callable[[Path], object]] = {
    "Token indices sequence length": lambda _: BertTokenizer.from_pretrained(MINI)("word " * 600),
    "classifier.weight | MISSING": lambda folder: (
        BertModel(BertConfig(**SHAPE)).save_pretrained(folder),
        BertForSequenceClassification.from_pretrained(folder),
    ),
    "classifier.weight | UNEXPECTED": lambda folder: (
        classifier().save_pretrained(folder),
        BertModel.from_pretrained(folder),
    ),
}


def written(beginning: str) -> str:
    """Return the one message of the page that begins so."""
    (message,) = (message for message in messages() if message.startswith(beginning))
    return message


@pytest.mark.parametrize("beginning", RAISED)
def test_an_error_is_worded_as_on_the_page(tmp_path: Path, beginning: str):
    with pytest.raises(Exception) as raised:
        RAISED[beginning](tmp_path)
    message = " ".join(f"{raised.type.__name__}: {raised.value}".replace("`", "").split())  # of several lines
    assert message.startswith(written(beginning))


@pytest.mark.parametrize("beginning", PRINTED)
def test_a_message_is_worded_as_on_the_page(tmp_path: Path, beginning: str):
    assert written(beginning) in printed(lambda: PRINTED[beginning](tmp_path))


def test_the_warning_of_scikit_learn_is_worded_as_on_the_page():
    from sklearn.metrics import precision_score

    with pytest.warns(UserWarning, match="^" + re.escape(written("Precision is ill-defined"))):
        precision_score([0, 1], [0, 0])


def test_every_message_of_the_page_is_provoked():
    known = [*RAISED, *PRINTED, *ON_A_GPU, "Precision is ill-defined"]
    assert [one for one in messages() if not one.startswith(tuple(known))] == []
    assert len(messages()) == len(known)
