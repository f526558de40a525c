"""The search of the built book: what a reader asks for leads to the right page, by mouse and by keyboard."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.pages.site import HTML

pytestmark = pytest.mark.slow

ATTENTION, ENCODER, CONTEXT = "attention/by_hand", "model/encoder", "background/context"
SCALING, MASKS, SPLIT = "attention/scaling", "attention/masks", "attention/heads"
POSITIONS, COST = "attention/positions", "attention/cost"
SELF, FAMILY = "background/self_supervision", "background/family"
RECURRENCE, GRADIENTS = "background/recurrence", "attention/gradients"
WORDPIECE, EMBEDDINGS, HEADS = "model/wordpiece", "model/embeddings", "model/heads"
WEIGHTS, INSIDE = "model/official_weights", "model/inside"
CORPUS, MASKING, PAIRS = "pretraining/corpus", "pretraining/masking", "pretraining/next_sentence"
OPTIMISATION, TRAIN, SCALE = "pretraining/optimisation", "pretraining/train", "pretraining/scale"
MADE, KNOWS, ABLATIONS = "pretraining/bundled", "pretraining/knowledge", "pretraining/ablations"
READING, LIBRARY = "finetuning/reading", "finetuning/transformers"
FEW = "finetuning/adapters"
LITTLE = "finetuning/few_labels"
DIFFERENCE = "finetuning/evaluation"
RECIPE, SEARCH, GLOSSARY = "finetuning/recipe", "applications/search", "glossary"
TWO = "finetuning/pairs"
ALIKE = "finetuning/similarity"
FAQ, TROUBLES = "faq", "troubleshooting"
TAGGING = "finetuning/tagging"
LABELS = "finetuning/labels"
RELATIONS, CHOICE = "finetuning/relations", "finetuning/choice"
LONG = "finetuning/long_texts"
LOOPS, SHAPES = "corrections/training_loops", "corrections/shapes"
MASKS_AND_PAIRS = "corrections/masking_and_nsp"
ALL_ERRORS = "corrections/index"
EVALUATION, CLAIMS = "corrections/evaluation", "corrections/claims"
# What is asked, and the pages that must be among the first three results (each of them).
QUERIES = {
    "padding": [CORPUS],
    "entailment": [TWO],
    "cross-encoder": [ALIKE],
    "bi-encoder": [ALIKE],
    "semantic textual similarity": [ALIKE],
    "cosine too high": [ALIKE],
    "spearman": [ALIKE],
    "rerank": [ALIKE],
    "in-batch negatives": [ALIKE],
    "paraphrase": [TWO],
    "LoRA": [FEW],
    "target modules not found": [FEW],
    "prefix tuning": [FEW],
    "multiple choice": [CHOICE],
    "BertForMultipleChoice": [CHOICE],
    "HellaSwag": [CHOICE],
    "relation extraction": [RELATIONS],
    "entity markers": [RELATIONS],
    "knowledge graph": [RELATIONS],
    "active learning": [LITTLE],
    "statistical significance": [DIFFERENCE],
    "McNemar": [DIFFERENCE],
    "paired bootstrap": [DIFFERENCE],
    "how many test examples": [DIFFERENCE],
    "GridSearchCV": [DIFFERENCE],
    "error analysis": [DIFFERENCE],
    "tabular features": [DIFFERENCE],
    "catastrophic forgetting": [LITTLE],
    "cloze prompt": [LITTLE],
    "natural language inference": [TWO],
    "sentence pairs": [TWO],
    "zero_grad": [LOOPS],
    "all errors": [ALL_ERRORS],
    "silent errors": [ALL_ERRORS],
    "negation": [CLAIMS],
    "is BERT obsolete": [CLAIMS],
    "misconceptions": [CLAIMS],
    "question answering": [READING],
    "empty answer": [READING],
    "unanswerable questions": [READING],
    "entity F1": [EVALUATION],
    "TrainingArguments": [LIBRARY],
    "pipeline": [LIBRARY],
    "TensorBoard": [LIBRARY],
    "DataCollatorWithPadding": [LIBRARY],
    "NER": [TAGGING],
    "word_ids": [TAGGING],
    "IOB2": [TAGGING],
    "conditional random field": [TAGGING],
    "forbidden transitions": [TAGGING],
    "multi-label": [LABELS],
    "class weights": [LABELS],
    "temperature scaling": [LABELS],
    "out of scope": [LABELS],
    "seqeval": [EVALUATION],
    "macro F1": [EVALUATION],
    "CUDA_LAUNCH_BLOCKING": [SHAPES],
    "dimension out of range": [SHAPES],
    "broadcasting": [SHAPES],
    "doc_stride": [MASKS_AND_PAIRS],
    "static masking": [MASKS_AND_PAIRS],
    "81/10/9": [MASKS_AND_PAIRS],
    "memory leak": [LOOPS],
    "state_dict deepcopy": [LOOPS],
    "learning rate": [OPTIMISATION],
    "attention mask": [GLOSSARY, MASKS],
    "multi-head attention": [SPLIT],
    "number of heads": [SPLIT],
    "pruning heads": [SPLIT],
    "head_dim": [SPLIT],
    "causal mask": [MASKS],
    "left padding": [MASKS],
    "positional encoding": [POSITIONS],
    "sinusoidal": [POSITIONS],
    "RoPE": [POSITIONS],
    "order of words": [POSITIONS],
    "finite differences": [GRADIENTS],
    "softmax Jacobian": [GRADIENTS],
    "backpropagation": [GRADIENTS],
    "gradient checkpointing": [COST],
    "FlashAttention": [COST],
    "quadratic": [COST],
    "NaN": [MASKS],
    "mean pooling": [MASKS],
    "[CLS]": [GLOSSARY],
    "how to fine-tune": [RECIPE],
    "finetune": [RECIPE],
    "fine tuning": [RECIPE],
    "GPU": [SCALE],
    "what is attention": [ATTENTION],
    "self-attention": [ATTENTION],
    "square root of d": [SCALING],
    "vanishing gradient": [SCALING],
    "warm-up": [OPTIMISATION],
    "warmup": [OPTIMISATION],
    "softmax": [ATTENTION],
    "token_type_ids": [EMBEDDINGS],
    "index out of range": [EMBEDDINGS],
    "position embedding": [EMBEDDINGS],
    "pooler": [HEADS],
    "some weights were not initialized": [HEADS],
    "tied weights": [HEADS],
    "safetensors": [WEIGHTS],
    "multilingual BERT": [WEIGHTS],
    "probing": [INSIDE],
    "logit lens": [INSIDE],
    "attention maps": [INSIDE],
    "pickle": [WEIGHTS],
    "masked language model": [MASKING],
    "MLM": [MASKING],
    "80 10 10": [MASKING],
    "NSP": [PAIRS],
    "next sentence prediction": [PAIRS],
    "tokenizer": [WORDPIECE],
    "WordPiece": [WORDPIECE],
    "BPE": [WORDPIECE],
    "emoji": [WORDPIECE],
    "cased or uncased": [WORDPIECE],
    "add new words": [WORDPIECE],
    "learning rate schedule": [OPTIMISATION],
    "lr": [OPTIMISATION],
    "Adam": [OPTIMISATION],
    "gradient clipping": [OPTIMISATION],
    "gradient accumulation": [OPTIMISATION],
    "bf16": [OPTIMISATION],
    "mixed precision": [OPTIMISATION],
    "overfitting": [RECIPE],
    "bag of words": [RECIPE],
    "contrast pairs": [RECIPE],
    "semantic search": [SEARCH],
    "TF-IDF": [SEARCH],
    "sentence embeddings": [SEARCH],
    "GELU": [ENCODER],
    "LayerNorm": [ENCODER],
    "layer normalisation": [ENCODER],
    "residual": [ENCODER],
    "feed-forward": [ENCODER],
    "parameters of BERT-base": [ENCODER],
    "pre-training cost": [SCALE],
    "several GPUs": [SCALE],
    "loss stays at ln 2": [PAIRS],
    "static embeddings": [CONTEXT],
    "polysemy": [CONTEXT],
    "LSTM": [RECURRENCE],
    "recurrent neural network": [RECURRENCE],
    "Mamba": [RECURRENCE],
    "self-supervised": [SELF],
    "RoBERTa": [FAMILY],
    "which checkpoint": [FAMILY],
    "DistilBERT": [FAMILY],
    "causal language model": [SELF],
    "few labels": [LITTLE],
    "pretraining from scratch": [TRAIN],
    "model card": [MADE],
    "what BERT knows": [KNOWS],
    "calibration": [KNOWS],
    "gender bias": [KNOWS],
    "ablation": [ABLATIONS],
    "longer than 512": [FAQ],
    "long documents": [LONG],
    "head and tail": [LONG],
    "truncation": [LONG],
    "sliding window": [LONG],
    "Token indices sequence length is longer": [LONG],
    "which model": [FAQ],
    "Chinese": [FAQ],
    "imbalanced classes": [FAQ],
    "stop words": [WORDPIECE],
    "CUDA out of memory": [TROUBLES],
    "device-side assert": [TROUBLES],
    "unexpected keyword argument": [TROUBLES],
    "optimi": [OPTIMISATION],  # while it is typed
    "atention": [ATTENTION],  # mistyped
    "损失": [GLOSSARY],
}
FIRST_LINKS = """() => [...document.querySelectorAll('article .search-results li > a, main .search-results li > a')]
  .map(link => link.href)"""


@pytest.fixture(scope="module")
def search_page(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(f"{address}/search.html")
    return page


def found(page: Page, query: str) -> list[str]:
    """Return the addresses of the results for `query`, best first."""
    page.locator("main form.bd-search input").fill(query)
    expect(page.locator("main .search-count")).to_contain_text(f"“{query}”")
    return page.evaluate(FIRST_LINKS)


@pytest.mark.parametrize("query", QUERIES)
def test_the_right_page_is_among_the_first_three(search_page: Page, query: str):
    first = found(search_page, query)[:3]
    for name in QUERIES[query]:
        assert any(f"/book/{name}.html" in address for address in first), first


def test_chapters_come_before_objects_of_the_package(search_page: Page):
    kinds = [("/api/" in address) for address in found(search_page, "attention")]
    assert kinds == sorted(kinds)
    assert any(kinds)


def test_an_object_is_found_by_its_name(search_page: Page):
    assert found(search_page, "BertModel")[0].endswith("#companion.model.encoder.BertModel")


def test_nothing_is_found_for_nonsense(search_page: Page):
    assert found(search_page, "zzqqxy") == []
    expect(search_page.locator("main .search-count")).to_contain_text("Nothing is found")


def test_code_is_left_out():
    index = (HTML / "search.json").read_text(encoding="utf-8")
    assert "import torch" not in index
    assert "\\\\frac" not in index


def test_the_dialog_is_used_by_keyboard_alone(page: Page, address: str):
    page.goto(f"{address}/book/index.html")
    page.keyboard.press("Control+k")
    dialog = page.locator("#pst-search-dialog")
    expect(dialog.locator("input")).to_be_focused()
    page.keyboard.type("gradient clipping")
    expect(dialog.locator("mark").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(dialog.locator(".search-results a").first).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(dialog.locator("input")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/book/pretraining/optimisation.html*")


def test_enter_shows_all_results_and_escape_closes(page: Page, address: str):
    page.goto(f"{address}/book/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.press("Escape")
    expect(page.locator("#pst-search-dialog")).to_be_hidden()
    page.keyboard.press("Control+k")
    page.keyboard.type("encoder")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=encoder")
    expect(page.locator("main .search-results li").first).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_results_can_be_read(page: Page, address: str, theme: str):
    page.goto(f"{address}/search.html?q=attention")
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    page.locator("main .search-results li").first.wait_for()
    assert [one["id"] for one in Axe().run(page).response["violations"]] == []


def test_results_fit_a_telephone(page: Page, address: str):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/search.html?q=companion.finetuning")
    page.locator("main .search-results li").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
