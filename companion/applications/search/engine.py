"""Search by meaning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from companion.applications.search.vectors import embed, normalise
from companion.model.encoder import BertModel
from companion.support.devices import best_device
from companion.support.files import atomic_folder
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
    texts : sequence of str
        The collection.
    name : str or Path
        Checkpoint of the encoder and its tokenizer, as in `BertModel.from_pretrained`.
    model : BertModel, optional
        An encoder in the place of that of the checkpoint, such as `tune` returns.
    how : {"mean", "cls", "max"}
        As in `pool`.
    centre : bool
        Subtract the mean vector of the collection first. Vectors of a BERT that was not tuned for similarity share
        one large common direction, which makes every two texts look alike (Ethayarajh 2019).
    device, precision : str, optional
        As in `companion.support.devices`.
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
        name: str | Path = "mini",
        *,
        model: BertModel | None = None,
        how: str = "mean",
        centre: bool = True,
        device: str | None = None,
        precision: str | None = None,
        progress: bool = False,
    ) -> None:
        if not len(texts):
            raise ValueError("texts is empty; a collection needs at least one text")
        self.texts, self.how, self.precision = list(texts), how, precision
        model = BertModel.from_pretrained(name) if model is None else model
        self.model = model.to(best_device(device)).eval()
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
            content = {"how": self.how, "texts": self.texts}
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
        engine.texts, engine.how, engine.precision = content["texts"], content["how"], precision
        engine.model = BertModel.from_pretrained(folder).to(best_device(device))
        engine.tokenizer = Tokenizer.from_pretrained(folder)
        stored = np.load(folder / VECTORS, allow_pickle=False)
        engine.centre, engine.vectors = stored[0], stored[1:]
        return engine

    def _embed(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        options = {"how": self.how, "precision": self.precision, "progress": progress}
        return embed(texts, self.model, self.tokenizer, **options)
