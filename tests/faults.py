"""Plant one fault at a time in a copy of the package and see that the suite notices.

    python -m tests.faults              all of them; prints which test caught each, fails if one was not
    python -m tests.faults mask nsp     those whose name holds one of these words

It is no part of the default suite: every fault costs a start of pytest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Fault(NamedTuple):
    """A change of one place in one module, and the tests that ought to notice it."""

    name: str
    module: str
    right: str
    wrong: str
    tests: str


FAULTS = [
    Fault("root of d left out", "model/attention.py", " / math.sqrt(query.shape[-1])", "", "attention"),
    Fault("mask inverted, by hand", "model/attention.py", "masked_fill(~mask,", "masked_fill(mask,", "attention"),
    Fault(
        "softmax over the queries",
        "model/attention.py",
        "torch.softmax(scores, dim=-1)",
        "torch.softmax(scores, dim=-2)",
        "attention",
    ),
    Fault(
        "padding not masked",
        "model/encoder.py",
        "None if attention_mask is None else padding_mask(attention_mask)",
        "None",
        "encoder parity",
    ),
    Fault(
        "dropout active in evaluation", "model/dropout.py", "if not training or p == 0.0:", "if p == 0.0:", "dropout"
    ),
    Fault(
        "attention dropout in evaluation",
        "model/attention.py",
        "self.weights_dropout.p if self.training else 0.0",
        "self.weights_dropout.p",
        "attention",
    ),
    Fault(
        "dropout without rescaling",
        "model/dropout.py",
        "scale = 1.0 / (1.0 - dropped / LEVELS)",
        "scale = 1.0",
        "dropout",
    ),
    Fault("segments dropped", "model/embeddings.py", "positions + segments", "positions", "embeddings"),
    Fault("positions dropped", "model/embeddings.py", "vectors + positions", "vectors", "embeddings"),
    Fault(
        "LayerNorm eps 1e-5",
        "model/encoder.py",
        "self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)",
        "self.attention_norm = nn.LayerNorm(config.hidden_size, eps=1e-5)",
        "encoder parity",
    ),
    Fault("ReLU instead of GELU", "model/encoder.py", 'if name == "relu":', 'if name != "gelu_new":', "encoder parity"),
    Fault(
        "residual left out",
        "model/encoder.py",
        "self.feed_forward_norm(hidden + self.dropout",
        "self.feed_forward_norm(self.dropout",
        "encoder parity",
    ),
    Fault("pooler on the last token", "model/encoder.py", "hidden[:, 0]", "hidden[:, -1]", "encoder parity"),
    Fault(
        "initialisation twice as wide",
        "model/encoder.py",
        "nn.init.normal_(part.weight, std=std)",
        "nn.init.normal_(part.weight, std=2 * std)",
        "encoder heads",
    ),
    Fault("decoder bias lost", "model/heads.py", "token_embeddings, self.bias)", "token_embeddings)", "heads parity"),
    Fault("ignore_index=0", "model/heads.py", "ignore_index=IGNORED", "ignore_index=0", "heads parity"),
    Fault(
        "mean over ignored labels",
        "model/heads.py",
        "(labels != IGNORED).sum().clamp(min=1)",
        "labels.numel()",
        "heads parity",
    ),
    Fault(
        "gamma and beta swapped",
        "model/names.py",
        r"""re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))""",
        r"""re.sub(r"\.gamma$", ".bias", re.sub(r"\.beta$", ".weight", name))""",
        "checkpoints",
    ),
    Fault(
        "query and key swapped on file",
        "model/names.py",
        '("attention.query", "attention.self.query"),\n    ("attention.key", "attention.self.key"),',
        '("attention.query", "attention.self.key"),\n    ("attention.key", "attention.self.query"),',
        "parity",
    ),
    Fault("missing weights accepted", "model/checkpoints.py", "    if problems:\n", "    if False:\n", "checkpoints"),
    Fault("80/10/10 becomes 100/0/0", "pretraining/masking.py", "chosen & (kinds < mask_share)", "chosen", "masking"),
    Fault(
        "random share ignored",
        "pretraining/masking.py",
        "(kinds < mask_share + random_share)",
        "(kinds < mask_share)",
        "masking",
    ),
    Fault(
        "special tokens masked",
        "pretraining/masking.py",
        "candidate = ~is_special[input_ids]",
        "candidate = input_ids >= 0",
        "masking",
    ),
    Fault(
        "labels of the corrupted ids",
        "pretraining/masking.py",
        "labels = np.where(chosen, input_ids, IGNORED)",
        "labels = np.where(chosen, mask_id, IGNORED)",
        "masking",
    ),
    Fault(
        "same masks in every batch",
        "pretraining/masking.py",
        "np.random.SeedSequence([seed, number], spawn_key=(1,))",
        "np.random.SeedSequence([seed], spawn_key=(1,))",
        "masking",
    ),
    Fault(
        "NSP labels flipped",
        "pretraining/segments.py",
        "rows.is_random.astype(np.int64)",
        "(~rows.is_random).astype(np.int64)",
        "segments",
    ),
    Fault(
        "negatives from the same document",
        "pretraining/segments.py",
        "other += other >= document",
        "other = document",
        "segments",
    ),
    Fault(
        "segment ids all 0",
        "pretraining/segments.py",
        "token_type_ids[row, middle + 1 : end] = 1",
        "token_type_ids[row, middle + 1 : end] = 0",
        "segments",
    ),
    Fault(
        "NSP loss left out",
        "pretraining/objectives.py",
        'sums["nsp"] = _cross',
        "_ = _cross",
        "objectives",
    ),
    Fault(
        "a piece of the predictions lost",
        "pretraining/objectives.py",
        "labels[places].split(rows), strict=True)",
        "labels[places].split(rows)[:1], strict=False)",
        "objectives",
    ),
    Fault(
        "loss of every position",
        "pretraining/objectives.py",
        "places = (labels != IGNORED).nonzero()",
        "places = (labels == IGNORED).nonzero()",
        "objectives",
    ),
    Fault(
        "resume forgets the generators",
        "training/run.py",
        "seed_everything(batch_seed(self.settings.seed, number))",
        "pass",
        "training",
    ),
    Fault(
        "resume forgets the optimiser",
        "training/checkpoint.py",
        "accelerator.load_state(str(target))",
        "from safetensors.torch import load_model; load_model(accelerator._models[0], target / 'model.safetensors')",
        "training",
    ),
    Fault(
        "resume repeats batches",
        "training/run.py",
        "range(self.history.step, self.settings.steps)",
        "range(self.settings.steps - self.history.step)",
        "training",
    ),
    Fault("warm-up left out", "training/schedule.py", "    if step < warmup:\n", "    if False:\n", "training"),
    Fault(
        "decay on biases", "training/optimisers.py", '"weight_decay": 0.0}', '"weight_decay": weight_decay}', "training"
    ),
    Fault(
        "mean of batch means",
        "training/run.py",
        "losses[name] / counts[name]",
        "losses[name] / labels[position][name] / len(batches)",
        "training",
    ),
    Fault("no clipping", "training/run.py", "if self.settings.max_grad_norm is None:", "if True:", "training"),
    Fault("gradients kept", "training/run.py", "self.optimizer.zero_grad(set_to_none=True)", "pass", "training"),
    Fault("NaN goes unnoticed", "training/run.py", "if not math.isfinite(value):", "if False:", "training"),
    Fault(
        "validation of the last weights",
        "training/run.py",
        "validate(self.model if self.average is None else self.average.module.eval())",
        "validate(self.model)",
        "training",
    ),
    Fault(
        "resume forgets the average",
        "training/run.py",
        "self.accelerator.register_for_checkpointing(self.average)",
        "pass",
        "training",
    ),
    Fault(
        "a phase begins in its middle",
        "pretraining/batches.py",
        "self.phases[phase][number - self.starts[phase]]",
        "self.phases[phase][number]",
        "pretrain",
    ),
    Fault(
        "the last phase only",
        "pretraining/batches.py",
        "bisect_right(self.starts, number) - 1",
        "len(self.starts) - 1",
        "pretrain",
    ),
    Fault(
        "windows share one seed",
        "pretraining/streaming.py",
        "self.make_batches(corpus, window_seed(self.seed, index))",
        "self.make_batches(corpus, self.seed)",
        "streaming",
    ),
    Fault(
        "one document too few skipped",
        "pretraining/streaming.py",
        "raw_paragraphs(self.source, left, skip=documents)",
        "raw_paragraphs(self.source, left, skip=max(0, documents - 1))",
        "streaming",
    ),
    Fault(
        "two windows on the disk",
        "pretraining/streaming.py",
        "        shutil.rmtree(self.folder, ignore_errors=True)  # first, so that two never lie there\n",
        "",
        "streaming",
    ),
    Fault(
        "regression head not scaled back",
        "finetuning/regressor.py",
        'scale_head(model.classifier, targets.learned["mean_"], targets.learned["deviation_"])',
        "pass",
        "regressor",
    ),
    Fault(
        "half-written files kept",
        "support/files.py",
        "        temporary.unlink(missing_ok=True)\n",
        "        os.replace(temporary, path)\n",
        "files",
    ),
    Fault(
        "longest match not first",
        "text/wordpiece.py",
        "range(min(len(word), start + self._longest), start, -1)",
        "range(start + 1, min(len(word), start + self._longest) + 1)",
        "wordpiece",
    ),
    Fault(
        "places in pieces of a text",
        "text/encoding.py",
        "start + first, start + last",
        "first, last",
        "tokenizer",
    ),
    Fault(
        "a path is a bundled name",
        "support/locate.py",
        "isinstance(name, str) and name in",
        "str(name) in",
        "locate",
    ),
    Fault("guesses beyond the vocabulary", "applications/fill.py", "[:, : tokenizer.vocab_size]", "", "fill"),
    Fault(
        "new rows of a resized network are zeros",
        "model/pretrained.py",
        "rows.mean(dim=0, keepdim=True)",
        "torch.zeros_like(rows[:1])",
        "pretrained",
    ),
    Fault(
        "weights of one wrapper not recognised",
        "model/names.py",
        "(module|_orig_mod|base_model|model)",
        "(module|base_model|model)",
        "checkpoints",
    ),
    Fault("accents kept", "text/encoding.py", "strip_accents=strip_accents", "strip_accents=False", "tokenizer"),
    Fault(
        "predictions in sorted order",
        "training/inference.py",
        "in zip(indices, _entries(taken, len(indices)), strict=True)",
        "in zip(sorted(indices), _entries(taken, len(indices)), strict=True)",
        "classifier",
    ),
    Fault(
        "attention mask of ones",
        "training/batching.py",
        "torch.from_numpy(inside.astype(np.int64))",
        "torch.ones(inside.shape, dtype=torch.int64)",
        "batching",
    ),
    Fault(
        "padding counts in the mean",
        "applications/search/vectors.py",
        "(hidden * is_token).sum(1) / is_token.sum(1).clamp(min=1)",
        "hidden.mean(1)",
        "search",
    ),
    Fault("claim never fails", "show/claims.py", "if not bool(condition):", "if False:", "checks"),
]


def copy_project(folder: Path) -> None:
    """Copy what the tests need: the package, the tests and pytest's settings."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("companion", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)


def run_tests(folder: Path, names: str) -> str | None:
    """Run the test files `names` in `folder`; return the first test that failed, None if all passed."""
    files = [str(path) for name in names.split() for path in sorted((folder / "tests").glob(f"*/test_{name}.py"))]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *files]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    if run.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
    if not failed:
        raise RuntimeError(f"pytest could not run {names}:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    return failed.group(1)


def plant(fault: Fault, folder: Path) -> str | None:
    """Plant one fault in the copy, run its tests, and take it out again."""
    path = folder / "companion" / fault.module
    sound = path.read_text(encoding="utf-8")
    if sound.count(fault.right) != 1:
        raise ValueError(
            f"{fault.name!r}: {fault.right!r} stands {sound.count(fault.right)} times in {fault.module}, not once"
        )
    path.write_text(sound.replace(fault.right, fault.wrong), encoding="utf-8")
    try:
        return run_tests(folder, fault.tests)
    finally:
        path.write_text(sound, encoding="utf-8")


def main(words: list[str]) -> int:
    """Plant the faults whose names hold one of `words` (all without any); return the number not caught."""
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        for names in sorted({fault.tests for fault in chosen}):
            if failed := run_tests(folder, names):
                raise RuntimeError(f"{failed} fails without any fault; mend it first")
        for fault in chosen:
            caught = plant(fault, folder)
            missed += caught is None
            print(f"{fault.name:<34} {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(chosen) - missed}/{len(chosen)} caught")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
