"""Plant one fault at a time in a copy of the package and see that the suite notices.

    python -m tests.faults              all of them; prints which test caught each, fails if one was not
    python -m tests.faults mask nsp     those whose name holds one of these words

It is no part of the default suite: every fault costs a start of pytest.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FAILED = re.compile(
    r"^(?:FAILED|ERROR) (?P<test>\S+?::\w+(?:\[.*?\](?= - |$))?|\S+)(?: - (?P<reason>.*))?$", re.MULTILINE
)
BROKEN = re.compile(r"(NameError|ImportError|SyntaxError)\b")  # the fault names what is no longer there


class Fault(NamedTuple):
    """A change of one place in one named object of the package, and the tests that ought to notice it.

    `where` is `module:object`, as in "model.encoder:BertModel.forward". `right` is Python that stands there exactly
    once: statements, an expression, or neighbours in a list or tuple. It is compared as a tree, not as text, so that
    how either is written does not matter; `wrong` takes its place.
    """

    name: str
    where: str
    right: str
    wrong: str
    tests: str


FAULTS = [
    Fault(
        "root of d left out",
        "model.attention:scaled_dot_product_attention",
        "query / math.sqrt(query.shape[-1])",
        "query",
        "attention",
    ),
    Fault("mask inverted, by hand", "model.attention:scaled_dot_product_attention", "~mask", "mask", "attention"),
    Fault(
        "softmax over the queries",
        "model.attention:softmax",
        "torch.softmax(scores, dim=-1)",
        "torch.softmax(scores, dim=-2)",
        "attention",
    ),
    Fault(
        "padding not masked",
        "model.encoder:BertModel.forward",
        "None if attention_mask is None else padding_mask(attention_mask)",
        "None",
        "encoder parity",
    ),
    Fault("dropout active in evaluation", "model.dropout:dropout", "not training or p == 0.0", "p == 0.0", "dropout"),
    Fault(
        "attention dropout in evaluation",
        "model.attention:MultiHeadAttention.forward",
        "self.weights_dropout.p if self.training else 0.0",
        "self.weights_dropout.p",
        "attention",
    ),
    Fault("dropout without rescaling", "model.dropout:dropout", "1.0 / (1.0 - dropped / LEVELS)", "1.0", "dropout"),
    Fault(
        "segments dropped",
        "model.embeddings:BertEmbeddings.forward",
        "vectors + positions + segments",
        "vectors + positions",
        "embeddings",
    ),
    Fault(
        "positions dropped", "model.embeddings:BertEmbeddings.forward", "vectors + positions", "vectors", "embeddings"
    ),
    Fault(
        "LayerNorm eps 1e-5",
        "model.encoder:EncoderLayer.__init__",
        "self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)",
        "self.attention_norm = nn.LayerNorm(config.hidden_size, eps=1e-5)",
        "encoder parity",
    ),
    Fault("ReLU instead of GELU", "model.encoder:activation", "name == 'relu'", "name != 'gelu_new'", "encoder parity"),
    Fault(
        "residual left out",
        "model.encoder:EncoderLayer.forward",
        "hidden + self.dropout(self.feed_forward(hidden))",
        "self.dropout(self.feed_forward(hidden))",
        "encoder parity",
    ),
    Fault(
        "pooler on the last token", "model.encoder:Pooler.forward", "hidden[:, 0]", "hidden[:, -1]", "encoder parity"
    ),
    Fault(
        "initialisation twice as wide",
        "model.encoder:initialise",
        "nn.init.normal_(part.weight, std=std)",
        "nn.init.normal_(part.weight, std=2 * std)",
        "encoder heads",
    ),
    Fault(
        "decoder bias lost",
        "model.heads:MaskedLanguageHead.forward",
        "F.linear(transformed, token_embeddings, self.bias)",
        "F.linear(transformed, token_embeddings)",
        "heads parity",
    ),
    Fault(
        "ignore_index=0",
        "model.heads:cross_entropy",
        "F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction='sum')",
        "F.cross_entropy(logits, labels, ignore_index=0, reduction='sum')",
        "heads parity",
    ),
    Fault(
        "mean over ignored labels",
        "model.heads:cross_entropy",
        "(labels != IGNORED).sum().clamp(min=1)",
        "labels.numel()",
        "heads parity",
    ),
    Fault(
        "gamma and beta swapped",
        "model.names:from_transformers",
        're.sub(r"\\.gamma$", ".weight", re.sub(r"\\.beta$", ".bias", name))',
        're.sub(r"\\.gamma$", ".bias", re.sub(r"\\.beta$", ".weight", name))',
        "checkpoints",
    ),
    Fault(
        "query and key swapped on file",
        "model.names:NAME_MAP",
        "('attention.query', 'attention.self.query'), ('attention.key', 'attention.self.key')",
        "('attention.query', 'attention.self.key'), ('attention.key', 'attention.self.query')",
        "parity",
    ),
    Fault(
        "missing weights accepted",
        "model.checkpoints:fit_weights",
        "('missing', lost)",
        "('missing', [])",
        "checkpoints",
    ),
    Fault(
        "80/10/10 becomes 100/0/0",
        "pretraining.masking:mask_tokens",
        "chosen & (kinds < mask_share)",
        "chosen",
        "masking",
    ),
    Fault(
        "random share ignored",
        "pretraining.masking:mask_tokens",
        "kinds < mask_share + random_share",
        "kinds < mask_share",
        "masking",
    ),
    Fault(
        "special tokens masked",
        "pretraining.masking:mask_tokens",
        "~is_special[input_ids]",
        "input_ids >= 0",
        "masking",
    ),
    Fault(
        "labels of the corrupted ids",
        "pretraining.masking:mask_tokens",
        "np.where(chosen, input_ids, IGNORED)",
        "np.where(chosen, mask_id, IGNORED)",
        "masking",
    ),
    Fault("same masks in every batch", "pretraining.masking:masking_generator", "[seed, number]", "[seed]", "masking"),
    Fault(
        "NSP labels flipped",
        "pretraining.segments:PairBatches._build",
        "rows.is_random.astype(np.int64)",
        "(~rows.is_random).astype(np.int64)",
        "segments",
    ),
    Fault(
        "negatives from the same document",
        "pretraining.segments:_RandomSentences.__call__",
        "other += other >= document",
        "other = document",
        "segments",
    ),
    Fault(
        "segment ids all 0",
        "pretraining.segments:PairBatches._build",
        "token_type_ids[row, middle + 1 : end] = 1",
        "token_type_ids[row, middle + 1 : end] = 0",
        "segments",
    ),
    Fault(
        "NSP loss left out",
        "pretraining.objectives:PreTrainingObjective.sums",
        "sums['nsp'] = _cross_entropy_and_correct(logits, batch['next_sentence_label'])",
        "pass",
        "objectives",
    ),
    Fault(
        "a piece of the predictions lost",
        "pretraining.objectives:PreTrainingObjective.sums",
        "zip(hidden.split(piece), labels[masked].split(piece), strict=True)",
        "zip(hidden.split(piece), labels[masked].split(piece)[:1], strict=False)",
        "objectives",
    ),
    Fault(
        "loss of every position",
        "pretraining.objectives:PreTrainingObjective.sums",
        "labels != IGNORED",
        "labels == IGNORED",
        "objectives",
    ),
    Fault(
        "resume forgets the generators",
        "training.run:Run.optimise",
        "seed_everything(batch_seed(self.settings.seed, number))",
        "pass",
        "training",
    ),
    Fault(
        "resume forgets the optimiser",
        "training.checkpoint:load_checkpoint",
        "accelerator.load_state(str(target))",
        "from safetensors.torch import load_model; load_model(accelerator._models[0], target / 'model.safetensors')",
        "training",
    ),
    Fault(
        "resume repeats batches",
        "training.run:Run.read",
        "range(self.history.step, self.settings.steps)",
        "range(self.settings.steps - self.history.step)",
        "training",
    ),
    Fault("warm-up left out", "training.schedule:learning_rate_at", "step < warmup", "False", "training"),
    Fault(
        "decay on biases",
        "training.optimisers:parameter_groups",
        "{'params': [p for p in trainable if p.dim() <= 1], 'weight_decay': 0.0}",
        "{'params': [p for p in trainable if p.dim() <= 1], 'weight_decay': weight_decay}",
        "training",
    ),
    Fault(
        "mean of batch means",
        "training.run:Run.optimise",
        "losses[name] / counts[name]",
        "losses[name] / labels[position][name] / len(batches)",
        "training",
    ),
    Fault("no clipping", "training.run:Run.clip", "self.settings.max_grad_norm is None", "True", "training"),
    Fault(
        "gradients kept", "training.run:Run.optimise", "self.optimizer.zero_grad(set_to_none=True)", "pass", "training"
    ),
    Fault("NaN goes unnoticed", "training.run:Run.check_finite", "not math.isfinite(value)", "False", "training"),
    Fault(
        "validation of the last weights",
        "training.run:Run.validate",
        "self.model if self.average is None else self.average.module.eval()",
        "self.model",
        "training",
    ),
    Fault(
        "resume forgets the average",
        "training.run:Run.__init__",
        "self.accelerator.register_for_checkpointing(self.average)",
        "pass",
        "training",
    ),
    Fault(
        "a phase begins in its middle",
        "pretraining.batches:TrainingBatches.__getitem__",
        "number - self.starts[phase]",
        "number",
        "pretrain",
    ),
    Fault(
        "the last phase only",
        "pretraining.batches:TrainingBatches.__getitem__",
        "bisect_right(self.starts, number) - 1",
        "len(self.starts) - 1",
        "pretrain",
    ),
    Fault(
        "windows share one seed",
        "pretraining.streaming:StreamedBatches._open",
        "self.make_batches(corpus, window_seed(self.seed, index))",
        "self.make_batches(corpus, self.seed)",
        "streaming",
    ),
    Fault(
        "one document too few skipped",
        "pretraining.streaming:WindowReader._read_documents",
        "raw_paragraphs(self.source, left, skip=documents)",
        "raw_paragraphs(self.source, left, skip=max(0, documents - 1))",
        "streaming",
    ),
    Fault(
        "two windows on the disk",
        "pretraining.streaming:StreamedBatches._write",
        "shutil.rmtree(self.folder, ignore_errors=True)",
        "pass",
        "streaming",
    ),
    Fault(
        "regression head not scaled back",
        "finetuning.regressor:TextRegressor._finish",
        "scale_head(model.classifier, targets.learned['mean_'], targets.learned['deviation_'])",
        "pass",
        "regressor",
    ),
    Fault(
        "half-written files kept",
        "support.files:atomic_file",
        "temporary.unlink(missing_ok=True)",
        "os.replace(temporary, path)",
        "files",
    ),
    Fault(
        "longest match not first",
        "text.wordpiece:WordPiece._longest_match",
        "range(min(len(word), start + self._longest), start, -1)",
        "range(start + 1, min(len(word), start + self._longest) + 1)",
        "wordpiece",
    ),
    Fault(
        "places in pieces of a text",
        "text.encoding:_append",
        "(start + first, start + last)",
        "(first, last)",
        "tokenizer",
    ),
    Fault(
        "a path is a bundled name",
        "support.locate:locate",
        "isinstance(name, str) and name in bundled_names(kind)",
        "str(name) in bundled_names(kind)",
        "locate",
    ),
    Fault(
        "guesses beyond the vocabulary",
        "applications.fill:fill_mask",
        "logits[:, : tokenizer.vocab_size]",
        "logits",
        "fill",
    ),
    Fault(
        "new rows of a resized network are zeros",
        "model.pretrained:_resized",
        "rows.mean(dim=0, keepdim=True)",
        "torch.zeros_like(rows[:1])",
        "pretrained",
    ),
    Fault(
        "weights of one wrapper not recognised",
        "model.names:from_transformers",
        "WRAPPERS.sub('', name)",
        "name.removeprefix('module.')",
        "checkpoints",
    ),
    Fault("accents kept", "text.encoding:build_backend", "strip_accents", "False", "tokenizer"),
    Fault(
        "predictions in sorted order",
        "training.inference:predict_rows",
        "zip(indices, _entries(taken, len(indices)), strict=True)",
        "zip(sorted(indices), _entries(taken, len(indices)), strict=True)",
        "classifier",
    ),
    Fault(
        "attention mask of ones",
        "training.batching:pad_rows",
        "torch.from_numpy(inside.astype(np.int64))",
        "torch.ones(inside.shape, dtype=torch.int64)",
        "batching",
    ),
    Fault(
        "padding counts in the mean",
        "applications.search.vectors:pool",
        "(hidden * is_token).sum(1) / is_token.sum(1).clamp(min=1)",
        "hidden.mean(1)",
        "search",
    ),
    Fault(
        "McNemar's test to one side only",
        "finetuning.comparison:mcnemar",
        "2 * float(binom.cdf(fewer, fewer + more, 0.5))",
        "float(binom.cdf(fewer, fewer + more, 0.5))",
        "comparison",
    ),
    Fault(
        "groups drawn as if all were of one size",
        "finetuning.comparison:_bootstrap",
        "gaps[places].sum(axis=1) / sizes[places].sum(axis=1)",
        "gaps[places].mean(axis=1)",
        "comparison",
    ),
    Fault("claim never fails", "show.claims:claim", "not bool(condition)", "False", "claims"),
]


def planted(fault: Fault, source: str) -> str:
    """Return the module `source` with the fault in it."""
    tree = ast.parse(source)
    right, wrong = parsed(fault.right, fault.wrong)
    found = list(places(named(tree, fault.where), right))
    if len(found) != 1:
        raise ValueError(f"{fault.name!r}: {fault.right!r} stands {len(found)} times in {fault.where}, not once")
    owner, field, start = found[0]
    if start is None:
        setattr(owner, field, wrong[0])
    else:
        getattr(owner, field)[start : start + len(right)] = wrong
    return ast.unparse(tree) + "\n"


def parsed(*fragments: str) -> list[list[ast.AST]]:
    """Parse fragments to lists of nodes of one kind: expressions where each fragment is such, statements otherwise."""
    bodies = [ast.parse(fragment).body for fragment in fragments]
    if not all(len(body) == 1 and isinstance(body[0], ast.Expr) for body in bodies):
        return bodies
    values = [body[0].value for body in bodies]
    bare = all(isinstance(v, ast.Tuple) and v.col_offset == v.elts[0].col_offset for v in values)  # no parentheses
    return [value.elts if bare else [value] for value in values]


def named(tree: ast.Module, where: str) -> ast.AST:
    """Find a class, a function or a variable by its qualified name."""
    node: ast.AST = tree
    for part in where.partition(":")[2].split("."):
        found = [child for child in node.body if part in names_of(child)]
        if len(found) != 1:
            raise ValueError(f"{part} of {where} is defined {len(found)} times, not once")
        node = found[0]
    return node


def names_of(statement: ast.stmt) -> list[str]:
    """List what a statement defines."""
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return [getattr(statement, "name", ""), *(getattr(target, "id", "") for target in targets)]


def places(root: ast.AST, wanted: list[ast.AST]) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Find nodes equal to `wanted`, in a row: whose they are, under which name, and from which on if that is a list."""
    key = [ast.dump(node) for node in wanted]
    for owner in ast.walk(root):
        for field, value in ast.iter_fields(owner):
            if isinstance(value, list):
                dumps = [ast.dump(item) if isinstance(item, ast.AST) else "" for item in value]
                runs = range(len(dumps) - len(key) + 1)
                yield from ((owner, field, start) for start in runs if dumps[start : start + len(key)] == key)
            elif isinstance(value, ast.AST) and [ast.dump(value)] == key:
                yield owner, field, None


def module_path(fault: Fault, folder: Path = ROOT) -> Path:
    """Return the file of the module that a fault is in."""
    return folder / "companion" / f"{fault.where.partition(':')[0].replace('.', '/')}.py"


def files_of(folder: Path, names: str) -> list[Path]:
    """List the test files that a fault names."""
    return [path for name in names.split() for path in sorted((folder / "tests").glob(f"*/test_{name}.py"))]


def copy_project(folder: Path) -> None:
    """Copy what the tests need: the package, the tests and pytest's settings."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("companion", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)


def run_tests(folder: Path, *chosen: str) -> tuple[str, str] | None:
    """Run test files or single tests in `folder`; return the first that failed and why, None if all passed."""
    wide = {"COLUMNS": "400"}  # so that pytest's closing lines hold the reason
    settings = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **wide}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *chosen]
    run = subprocess.run(command, cwd=folder, env=os.environ | settings, capture_output=True, text=True, timeout=900)
    if run.returncode == 0:
        return None
    failed = FAILED.search(run.stdout)
    if not failed:
        raise RuntimeError(f"pytest could not run {chosen}:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return failed["test"], failed["reason"] or ""


def plant(fault: Fault, folder: Path) -> tuple[str, str] | None:
    """Plant one fault in the copy, run its tests, and take it out again."""
    path = module_path(fault, folder)
    sound = path.read_text(encoding="utf-8")
    path.write_text(planted(fault, sound), encoding="utf-8")
    try:
        return run_tests(folder, *map(str, files_of(folder, fault.tests)))
    finally:
        path.write_text(sound, encoding="utf-8")


def main(words: list[str]) -> int:
    """Plant the faults whose names hold one of `words` (all without any); return the number not caught."""
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    caught_by: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        for fault in chosen:
            test, reason = plant(fault, folder) or ("", "")
            if test and not BROKEN.match(reason):
                caught_by[fault.name] = test
            print(f"{fault.name:<40} {caught_by.get(fault.name, 'NOT CAUGHT')}   {reason[:120]}", flush=True)
        tests = sorted(set(caught_by.values()))
        if tests and (failed := run_tests(folder, *tests)):
            raise RuntimeError(f"{failed[0]} fails without any fault; mend it first: {failed[1]}")
    print(f"{len(caught_by)}/{len(chosen)} caught")
    return len(chosen) - len(caught_by)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
