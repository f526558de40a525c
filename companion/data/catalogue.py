"""What is known of the data sets that the book uses: columns, kind of label, scores, where to get them, licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = ("single", "multi", "regression", "tags", "spans", "ranking")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Card:
    """One data set.

    Parameters
    ----------
    texts : tuple of str
        The column of the text, or those of a pair.
    label : str
        The column of the label.
    kind : {"single", "multi", "regression", "tags", "spans", "ranking"}
        What the label is: one class; several; a number; a class for every word; where in the text the answer stands;
        the names of the texts that answer a question.
    scores : tuple of str
        The usual scores, the main one first; names of functions of `companion.finetuning.metrics`, where it has them.
    licence : str
    source : str
        The paper, or whoever wrote it.
    positive : str, optional
        The label of which F1 is computed.
    outside : str, optional
        The label of texts that belong to none of the classes.
    epochs : int
        Passes over the training part: 3, as Devlin et al. (2019, section 4.1) take for GLUE, fewer over the largest set
        and more over small ones with many labels.
    scored_on : {"validation", "test"}
        The part whose scores are reported: that for validation where the labels of the test part are kept secret.
    hub, subset, revision : str, optional
        Where the hub has it; None is a set that comes with the package.
    hub_splits : mapping of str to str
        The name that the hub gives to each of our splits. Splits whose labels are kept secret are left out.
    hub_columns : mapping of str to str
        Columns that have another name there, ours to theirs.
    names : tuple of str
        The labels, where the hub has their numbers only.
    analyzer : {"word", "char"}
        What a bag of words counts, as `TfidfVectorizer` calls it: characters where no spaces divide the words.
    """

    texts: tuple[str, ...]
    label: str
    kind: str
    scores: tuple[str, ...]
    licence: str
    source: str
    positive: str | None = None
    outside: str | None = None
    epochs: int = 3
    scored_on: str = "validation"
    hub: str | None = None
    subset: str | None = None
    revision: str | None = None
    hub_splits: Mapping[str, str] = field(default_factory=lambda: {name: name for name in SPLITS})
    hub_columns: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    analyzer: str = "word"


_PAIR = ("sentence1", "sentence2")
_PARQUET = "refs/convert/parquet"  # the hub's own copy of a set whose main branch is a script
_LABELLED = {"train": "train", "validation": "validation"}  # those of GLUE; its test labels are kept secret
_IOB = tuple("O B-PER I-PER B-ORG I-ORG B-LOC I-LOC B-MISC I-MISC".split())


def _glue(subset: str, texts: tuple[str, ...], scores: tuple[str, ...], **others: Any) -> Card:
    """The scores are those of Wang et al. (2019, section 3)."""
    shared = {"label": "label", "kind": "single", "hub_splits": _LABELLED}
    return Card(texts=texts, scores=scores, hub="nyu-mll/glue", subset=subset, **(shared | others))


def _own(texts: tuple[str, ...], label: str = "label", **others: Any) -> Card:
    """Return the card of a set that comes with the package, labels of its test part included."""
    shared: dict[str, Any] = {"kind": "single", "scores": ("accuracy",), "epochs": 6, "scored_on": "test"}
    return Card(texts, label, licence="CC BY 4.0", source="written for this book", **(shared | others))


CATALOGUE = {
    "reviews": _own(("text",)),
    "entities": _own(("tokens",), "ner_tags", kind="tags", scores=("entity_f1",)),
    "pairs": _own(("first", "second"), "relation", epochs=10),
    "relations": _own(("marked",), "relation"),
    "tickets": _own(("text",)),
    "headlines": _own(("text", "company")),
    "messages": _own(("text",), scores=("f1", "accuracy"), positive="spam", epochs=10),
    "reviews_zh": _own(("text",), epochs=10, analyzer="char"),
    "passages": _own(("question", "context"), "answers", kind="spans", scores=("exact_match", "f1")),
    "python_questions": Card(
        ("question",), "names", "ranking", ("reciprocal_rank",), licence="CC BY 4.0", source="written for this book"
    ),
    "sst2": _glue(
        "sst2",
        ("sentence",),
        ("accuracy",),
        epochs=2,
        licence="none stated; for research",
        source="Socher et al. 2013",
    ),
    "cola": _glue(
        "cola",
        ("sentence",),
        ("matthews", "accuracy"),
        licence="none stated; sentences quoted from published works",
        source="Warstadt et al. 2019",
    ),
    "mrpc": _glue(
        "mrpc",
        _PAIR,
        ("f1", "accuracy"),
        positive="equivalent",
        hub_splits={name: name for name in SPLITS},
        licence="Microsoft Research terms",
        source="Dolan and Brockett 2005",
    ),
    "rte": _glue("rte", _PAIR, ("accuracy",), licence="none stated; for research", source="PASCAL RTE 1, 2, 3 and 5"),
    "stsb": _glue(
        "stsb",
        _PAIR,
        ("pearson", "spearman"),
        label="score",
        kind="regression",
        hub_columns={"score": "label"},
        licence="scores CC BY-SA 4.0; texts under terms of their own",
        source="Cer et al. 2017",
    ),
    "ag_news": Card(
        ("text",),
        "label",
        "single",
        ("accuracy",),
        licence="for non-commercial research",
        source="Zhang et al. 2015",
        hub="fancyzhx/ag_news",
        hub_splits={"train": "train", "validation": "test"},
    ),
    "clinc150": Card(
        ("text",),
        "label",
        "single",
        ("in_scope_accuracy", "out_of_scope_recall"),
        licence="CC BY 3.0",
        source="Larson et al. 2019",
        outside="oos",
        epochs=6,
        scored_on="test",
        hub="clinc/clinc_oos",
        subset="plus",
        hub_columns={"label": "intent"},
    ),
    "financial_phrasebank": Card(
        ("sentence",),
        "label",
        "single",
        ("accuracy",),
        licence="CC BY-NC-SA 3.0",
        source="Malo et al. 2014, at least half of the annotators agreeing",
        epochs=6,
        hub="takala/financial_phrasebank",
        subset="sentences_50agree",
        revision=_PARQUET,
        hub_splits={"train": "train"},
    ),
    "wnut17": Card(
        ("tokens",),
        "ner_tags",
        "tags",
        ("entity_f1",),
        licence="CC BY 4.0",
        source="Derczynski et al. 2017",
        epochs=10,
        scored_on="test",
        hub="leondz/wnut_17",
        subset="wnut_17",
        revision=_PARQUET,
    ),
    "wikineural_en": Card(
        ("tokens",),
        "ner_tags",
        "tags",
        ("entity_f1",),
        licence="CC BY-NC-SA 4.0",
        source="Tedeschi et al. 2021, the English part",
        hub="Babelscape/wikineural",
        hub_splits={"train": "val_en", "validation": "test_en"},
        names=_IOB,
    ),
    "squad_v1_subset": Card(
        ("question", "context"),
        "answers",
        "spans",
        ("exact_match", "f1"),
        licence="CC BY-SA 4.0",
        source="Rajpurkar et al. 2016",
        epochs=2,
        hub="rajpurkar/squad",
        hub_splits=_LABELLED,
    ),
    "chnsenticorp": Card(
        ("text",),
        "label",
        "single",
        ("accuracy",),
        licence="none stated; for research",
        source="Tan and Zhang 2008",
        hub="lansinuote/ChnSentiCorp",
        names=("negative", "positive"),
        analyzer="char",
    ),
}


def card_of(name: str | Path) -> Card | None:
    """Return the card of a data set by its name, or by the last part of the path to its folder; None if unknown."""
    return CATALOGUE.get(Path(name).name)
