"""Semantic search: texts as vectors, questions answered by the nearest ones, and training that brings them together."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from companion.devices import autocast, best_device, precision_for, seed_everything
from companion.encoder import BertModel
from companion.files import atomic_folder
from companion.finetuning.batching import pad_rows
from companion.finetuning.estimator import default_learning_rate, generators_kept
from companion.pretraining.docstrings import prose_paragraphs
from companion.tokenizer import Tokenizer
from companion.training import Batch, History, TrainingSettings, train

POOLINGS = ("mean", "cls", "max")
FILE = "engine.json"
VECTORS = "vectors.npy"
# Modules of the standard library that are the same on every system: what the bundled questions are asked about.
PYTHON_MODULES = tuple(
    """builtins bisect collections contextlib copy csv datetime difflib fnmatch fractions functools getpass glob gzip
    heapq html itertools json math pathlib pickle platform pprint queue random re secrets shlex shutil statistics
    string subprocess tempfile textwrap threading time traceback unicodedata urllib.parse urllib.request uuid
    warnings webbrowser zipfile""".split()
)
Pair = tuple[str, str]  # a question, or something like one, and the text that answers it
Right = Sequence[int | Sequence[int]]  # for every question the number of its right text, or the numbers of several


class Hit(NamedTuple):
    """A text that was found: its number in the collection, its similarity to the question, and the text."""

    number: int
    score: float
    text: str


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
        As in `companion.devices.precision_for`.
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
        As in `companion.devices`.
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


# --- how good is a search? ---------------------------------------------------------------------------------------


def ranks(scores: np.ndarray, right: Right) -> np.ndarray:
    """Return the rank of the right text of every question, 1 for the best; of the first one, where several are right.

    Where w wrong texts score the same as m right ones, the rank is the one expected if chance broke the tie: the first
    of the right ones stands w / (m + 1) places behind those above it. Counting only what scores higher would call a
    search that gives every text the same score a perfect one.

    Parameters
    ----------
    scores : array, (questions, texts)
    right : sequence of int, or of sequences of int
        Number of the right text for every question, or numbers of the right texts.

    Returns
    -------
    array, float, (questions,)
    """
    return np.array([_rank(row, np.atleast_1d(numbers)) for row, numbers in zip(scores, right, strict=True)])


def reciprocal_rank(scores: np.ndarray, right: Right) -> float:
    """Return the mean over questions of 1 / rank of the right text (Voorhees 1999); arguments as in `ranks`."""
    return float((1.0 / ranks(scores, right)).mean())


def recall(scores: np.ndarray, right: Right, count: int = 5) -> float:
    """Return the share of questions with a right text among the first `count`; arguments as in `ranks`."""
    return float((ranks(scores, right) <= count).mean())


def fuse(*scores: np.ndarray, constant: float = 60.0) -> np.ndarray:
    """Combine searches by their ranks alone: the sum of 1 / (constant + rank) (Cormack et al. 2009).

    Parameters
    ----------
    *scores : array, (questions, texts)
        One array a search; their scales do not matter. Equal scores share the mean of their ranks.
    constant : float
        The larger, the less the first places count beyond the next.

    Returns
    -------
    array, (questions, texts)
    """
    from scipy.stats import rankdata

    return sum(1.0 / (constant + rankdata(-search, axis=1)) for search in scores)


def _rank(row: np.ndarray, right: np.ndarray) -> float:
    best = row[right].max()
    higher, ties = (row > best).sum(), (row[right] == best).sum()
    return 1.0 + higher + ((row == best).sum() - ties) / (ties + 1)


# --- the documentation of Python packages ------------------------------------------------------------------------


def documented(modules: Iterable[str]) -> dict[str, str]:
    """Return the first paragraph of prose in the documentation of all that modules make public, by name.

    Functions and classes of every module, then the methods of its classes; exceptions are left out, and so is what has
    the same text as something before it. The names are those under which they are used: `"math.ceil"`, `"str.strip"`.

    Parameters
    ----------
    modules : iterable of str
        They are imported. Public is what `__all__` lists or, without it, what the module defines under a name that
        does not begin with an underscore.
    """
    names: dict[str, str] = {}  # text -> name
    for module in modules:
        for name, item in _public(importlib.import_module(module)):
            if text := _first_paragraph(item):
                names.setdefault(text, f"{module}.{name}".removeprefix("builtins."))
    return {name: text for text, name in names.items()}


def docstring_pairs(folders: Iterable[str | Path] | None = None) -> list[Pair]:
    """Make pairs for `tune` of the docstrings in source files, which are read and not imported.

    The name of a function or class, as words, goes with the first sentence of its docstring: ("copy tree", "Recursively
    copy a directory tree ..."). A name of one word says too little and is left out.

    Parameters
    ----------
    folders : iterable of str or Path, optional
        Searched with their subfolders, but for tests and installed packages. None is the standard library.
    """
    folders = [sysconfig.get_path("stdlib")] if folders is None else folders
    files = (file for folder in folders for file in _source_files(Path(folder)))
    pairs = ((_as_words(name), _first_sentence(docstring)) for file in files for name, docstring in _docstrings(file))
    return [(name, sentence) for name, sentence in pairs if sentence and " " in name]


def _public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    listed = getattr(module, "__all__", None)
    names = listed or [name for name, item in vars(module).items() if _is_own(name, item, module)]
    items = {name: getattr(module, name) for name in sorted(names)}
    yield from items.items()
    for name, item in items.items():
        if inspect.isclass(item) and not issubclass(item, BaseException):
            yield from ((f"{name}.{part}", getattr(item, part)) for part in sorted(vars(item)) if part[0] != "_")


def _is_own(name: str, item: Any, module: ModuleType) -> bool:
    home = getattr(item, "__module__", None) or module.__name__
    return not name.startswith("_") and home.lstrip("_") == module.__name__  # `bisect.bisect` is of "_bisect"


def _first_paragraph(item: Any) -> str:
    """Return the first paragraph of prose in the docstring of a function or class, "" for other things."""
    is_exception = inspect.isclass(item) and issubclass(item, BaseException)
    docstring = getattr(item, "__doc__", None)
    if not callable(item) or is_exception or not isinstance(docstring, str):
        return ""
    return next(iter(prose_paragraphs(docstring)), "")


_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def _source_files(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*.py") if not _SKIPPED & set(file.relative_to(folder).parts))
    return sorted(files)


def _docstrings(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of the functions and classes in a source file; nothing if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # other people's invalid escapes
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if docstring := ast.get_docstring(node, clean=False):
                yield node.name, docstring


def _as_words(name: str) -> str:
    return " ".join(_WORD.findall(name)).lower()


def _first_sentence(docstring: str) -> str:
    return _SENTENCE_END.split(next(iter(prose_paragraphs(docstring)), ""))[0]


# --- tuning ------------------------------------------------------------------------------------------------------


def contrastive_loss(questions: Tensor, texts: Tensor, scale: float = 20.0) -> Tensor:
    """Return, summed over a batch, the cross-entropy of picking each question's own text among all texts of the batch.

    The other texts serve as wrong answers, so that none need be collected (Henderson et al. 2017).

    Parameters
    ----------
    questions, texts : Tensor, float, (pairs, hidden)
        Row i of one belongs to row i of the other.
    scale : float
        Multiplies the cosines, which lie between -1 and 1 and would leave the softmax nearly flat.
    """
    scores = scale * F.normalize(questions, dim=-1) @ F.normalize(texts, dim=-1).T  # (pairs, pairs)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device), reduction="sum")


class ContrastiveObjective:
    """`contrastive_loss` for `companion.training.train`.

    The wrong answers are those of one batch on one device: accumulating batches adds none.

    Parameters
    ----------
    how : {"mean", "cls", "max"}
        As in `pool`.
    scale : float
        As in `contrastive_loss`.
    """

    def __init__(self, how: str = "mean", scale: float = 20.0) -> None:
        self.how, self.scale = how, scale

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of pairs."""
        return {"contrast": torch.tensor(len(batch["question_ids"]), device=batch["question_ids"].device)}

    def sums(self, model: BertModel, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the summed loss, and nothing beside it."""
        questions, texts = (self._vectors(model, batch, side) for side in ("question", "text"))
        return {"contrast": contrastive_loss(questions, texts, self.scale)}, {}

    def _vectors(self, model: BertModel, batch: Batch, side: str) -> Tensor:
        ids, mask = batch[f"{side}_ids"], batch[f"{side}_mask"]
        return pool(model(ids, mask).last_hidden_state.float(), mask, self.how)


class PairBatches(Dataset):
    """Shuffled batches of pairs, each looked up by its number, as `companion.training.train` wants them.

    Every epoch has an order of its own; the pairs that do not fill a last batch wait for the next one.

    Parameters
    ----------
    pairs : sequence of (str, str)
        A pair whose question or text occurred before is left out: in one batch with the other it would be taught as
        a wrong answer.
    tokenizer : Tokenizer
    batch_size, max_length : int
        Pairs a batch, tokens a text.
    seed : int
        Seeds the order.

    Raises
    ------
    ValueError
        If fewer than two different pairs are left: one alone has no wrong answer.
    """

    def __init__(
        self, pairs: Sequence[Pair], tokenizer: Tokenizer, batch_size: int = 64, max_length: int = 64, seed: int = 0
    ) -> None:
        pairs = _different(pairs)
        if len(pairs) < 2 or batch_size < 2:
            raise ValueError(
                f"batch_size={batch_size} with {len(pairs)} different pairs leaves no wrong answers to tell apart; "
                "both must be at least 2"
            )
        self.pad_id, self.seed = tokenizer.pad_id, seed
        self.batch_size = min(batch_size, len(pairs))
        options = {"max_length": max_length, "padding": False, "return_tensors": False}
        self.sides = [tokenizer(list(side), **options)["input_ids"] for side in zip(*pairs, strict=True)]

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches."""
        return len(self.sides[0]) // self.batch_size

    def rows_of(self, number: int) -> np.ndarray:
        """Return the indices of the pairs that make up batch `number`, counted over all epochs."""
        epoch, place = divmod(number, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.sides[0]))
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rows, batch = self.rows_of(number), {}
        for name, side in zip(("question", "text"), self.sides, strict=True):
            padded = pad_rows({"input_ids": [side[row] for row in rows]}, pad_id=self.pad_id)
            ids = batch[f"{name}_ids"] = padded["input_ids"]
            batch[f"{name}_mask"] = padded.get("attention_mask", torch.ones_like(ids))
        return batch


def tune(
    pairs: Sequence[Pair],
    name: str | Path = "mini",
    *,
    how: str = "mean",
    steps: int | None = None,
    batch_size: int = 64,
    max_length: int = 64,
    learning_rate: float | None = None,
    scale: float = 20.0,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    progress: bool = False,
) -> tuple[BertModel, History]:
    """Train an encoder so that a question lies near its own text and away from the others.

    Parameters
    ----------
    pairs : sequence of (str, str)
        Questions, or something like them, with the texts that answer them; see `docstring_pairs`.
    name : str or Path
        Checkpoint to begin with, as in `BertModel.from_pretrained`.
    how : {"mean", "cls", "max"}
        As in `pool`. Search with the same.
    steps : int, optional
        None goes through the pairs once.
    batch_size, max_length : int
        Pairs a step, of which each serves all others as a wrong answer; tokens a text.
    learning_rate : float, optional
        None is that of `companion.finetuning.estimator.default_learning_rate`.
    scale : float
        As in `contrastive_loss`.
    seed : int
        Seeds the order of the pairs and dropout.
    device, precision : str, optional
        As in `companion.devices`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    (BertModel, History)
        The encoder, in evaluation mode, for `SearchEngine(texts, name, model=...)`, and what the training logged.

    Raises
    ------
    ValueError
        If there are fewer than two different pairs, or `how` is unknown.
    """
    batches = PairBatches(pairs, Tokenizer.from_pretrained(name), batch_size, max_length, seed)
    with generators_kept():
        seed_everything(seed)  # for parts that the checkpoint may not have, such as the pooler
        model = BertModel.from_pretrained(name)
    settings = TrainingSettings(
        steps=batches.steps_per_epoch if steps is None else steps,
        learning_rate=learning_rate or default_learning_rate(model.config.hidden_size),
        seed=seed,
        device=device,
        precision=precision,
        log_every=1,
    )
    with generators_kept():
        history = train(model, batches, ContrastiveObjective(how, scale), settings, progress=progress)
    return model, history


def _different(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs of which neither side, but for capitals, occurred before."""
    kept, seen = [], set()
    for question, text in pairs:
        keys = {("question", question.lower()), ("text", text.lower())}
        if not keys & seen:
            kept.append((question, text))
            seen |= keys
    return kept
