"""Search by meaning."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from companion.applications.search.vectors import POOLINGS, embed, normalise
from companion.model.encoder import BertModel
from companion.support.containers import as_texts
from companion.support.devices import best_device
from companion.support.files import atomic_folder
from companion.support.require import boolean, choice, integer
from companion.text.tokenizer import Tokenizer

FILE = "engine.json"
VECTORS = "vectors.npy"


class Hit(NamedTuple):
    """A text that was found: its number in the collection, its similarity to the question, and the text."""

    number: int
    score: float
    text: str


class SearchEngine:
    """Search a collection by meaning: cosine similarity between the vector of a question and those of the texts.

    Parameters
    ----------
    texts : iterable of str
        The collection, in any container that `companion.support.containers.as_texts` reads.
    name : str or Path
        Checkpoint of the encoder and its tokenizer, as in `BertModel.from_pretrained`.
    model : BertModel, optional
        An encoder in the place of that of the checkpoint, such as `tune` returns. It is left as it is, and copied if it
        must go to another device.
    pooling : {"mean", "cls", "max"}
        As in `pool`.
    centre : bool
        Subtract the mean vector of the collection first. Vectors of a BERT that was not tuned for similarity share
        one large common direction, which makes every two texts look alike (Ethayarajh 2019). A collection of one text,
        whose mean is itself, is not centred.
    max_length : int, optional
        Tokens per text or question; longer ones are truncated. None is 128, or the positions of a model that has fewer.
    device, precision : str, optional
        As in `companion.support.devices`.
    progress : bool
        Show a progress bar while the collection is encoded.

    Raises
    ------
    TypeError
        If `texts` is one str, or an item is missing or no str; names its index.
    ValueError
        If the collection is empty, or an option is out of range.
    """

    def __init__(
        self,
        texts: Iterable[str],
        name: str | Path = "mini",
        *,
        model: BertModel | None = None,
        pooling: str = "mean",
        centre: bool = True,
        max_length: int | None = None,
        device: str | None = None,
        precision: str | None = None,
        progress: bool = False,
    ) -> None:
        choice("pooling", pooling, POOLINGS)
        boolean("centre", centre)
        if model is not None and not isinstance(model, BertModel):
            raise TypeError(f"model={model!r} is no BertModel; pass a name or a folder as the second argument, name=")
        self.texts = as_texts("texts", texts)
        if not self.texts:
            raise ValueError("texts is empty; a collection needs at least one text")
        self.pooling, self.max_length, self.precision = pooling, max_length, precision
        self.model = _placed(BertModel.from_pretrained(name) if model is None else model, device)
        self.tokenizer = Tokenizer.from_pretrained(name)
        vectors = self._embed(self.texts, progress)
        self.centre = vectors.mean(0) if centre and len(vectors) > 1 else np.zeros_like(vectors[0])
        self.vectors = normalise(vectors - self.centre)  # (texts, hidden), each of length 1

    def search(self, question: str | Iterable[str], count: int = 5) -> Any:
        """Return the `count` texts most similar to a question, the best first.

        Parameters
        ----------
        question : str, or iterable of str
            One question, or several, for each of which a list is returned.
        count : int
            At least 1; a smaller collection is returned whole.

        Raises
        ------
        TypeError
            If a question is no str.
        ValueError
            If `count` is below 1.
        """
        count = integer("count", count, 1)
        if isinstance(question, str):
            return self._hits(self.scores([question])[0], count)
        return [self._hits(scores, count) for scores in self.scores(as_texts("question", question))]

    def scores(self, questions: Iterable[str]) -> np.ndarray:
        """Return the cosine of every question with every text, (questions, texts)."""
        return normalise(self._embed(as_texts("questions", questions)) - self.centre) @ self.vectors.T

    def add(self, texts: Iterable[str], progress: bool = False) -> None:
        """Append texts to the collection; only they are encoded, and the centre stays that of the first texts."""
        new = as_texts("texts", texts)
        self.vectors = np.vstack([self.vectors, normalise(self._embed(new, progress) - self.centre)])
        self.texts = [*self.texts, *new]

    def save(self, folder: str | Path) -> None:
        """Write encoder, tokenizer, texts and vectors, so that `load` need not encode the collection again.

        Raises
        ------
        ValueError
            If the folder holds anything but an engine saved before.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / FILE).is_file():
            raise ValueError(f"folder={str(folder)!r} exists and holds no search engine; pass the path of a new folder")
        with atomic_folder(folder) as temporary:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            np.save(temporary / VECTORS, np.vstack([self.centre, self.vectors]))
            content = {"pooling": self.pooling, "max_length": self.max_length, "texts": self.texts}
            (temporary / FILE).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None, precision: str | None = None) -> Self:
        """Open what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        folder, engine = Path(folder), cls.__new__(cls)
        if not (folder / FILE).is_file():
            raise FileNotFoundError(f"folder={str(folder)!r} holds no {FILE}; write one with SearchEngine.save")
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        engine.texts, engine.precision = content["texts"], precision
        engine.pooling = content.get("pooling") or content["how"]  # its name in older files
        engine.max_length = content.get("max_length")
        engine.model = BertModel.from_pretrained(folder).to(best_device(device))
        engine.tokenizer = Tokenizer.from_pretrained(folder)
        stored = np.load(folder / VECTORS, allow_pickle=False)
        engine.centre, engine.vectors = stored[0], stored[1:]
        return engine

    def _hits(self, scores: np.ndarray, count: int) -> list[Hit]:
        best = np.argsort(-scores, kind="stable")[:count]
        return [Hit(int(i), float(scores[i]), self.texts[i]) for i in best]

    def _embed(self, texts: list[str], progress: bool = False) -> np.ndarray:
        options: dict[str, Any] = {"pooling": self.pooling, "max_length": self.max_length, "precision": self.precision}
        return embed(texts, self.model, self.tokenizer, progress=progress, **options)


def _placed(model: BertModel, device: str | None) -> BertModel:
    """Return the model on a device: itself if it is there, else a copy, so that the caller's stays where it is."""
    wanted = best_device(device)
    there = next(model.parameters()).device
    return model if there.type == wanted.type else copy.deepcopy(model).to(wanted)
