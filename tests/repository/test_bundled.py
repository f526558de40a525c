"""The bundled BERT and the records of its making: they load, agree with one another, and hold no machine's paths."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from companion import BertForMaskedLM, BertForPreTraining, Tokenizer
from companion.applications.fill import fill_mask
from companion.finetuning import TextClassifier
from companion.model.checkpoints import weights_checksum
from companion.pretraining.card import chain_of, machines_table, runs_table
from companion.pretraining.config import PretrainingConfig
from companion.pretraining.corpus import vocabulary_checksum
from companion.studies.few_labels import learning_curves, spreads
from companion.studies.pooling import accuracies
from companion.studies.tasks import GLUE, TASKS, by_task
from companion.studies.variants import VARIANTS
from companion.support.locate import BUNDLED

ROOT = Path(__file__).resolve().parents[2]
# What README and book say of `mini` in batches of 32 x 128 tokens on a CPU, by vocabulary and the two precisions
# (this package's, Trainer's): at least so many times Trainer's speed, at most such a share of its memory.
PROMISED = {  # by record and by what distinguishes its cases
    ("pretraining-speed", 8192): {
        ("bf16", "fp32"): (3.0, 0.55),
        ("bf16", "bf16"): (2.0, 1.0),
        ("fp32", "fp32"): (1.4, 1.0),
        ("fp32", "bf16"): (1.0, 1.1),
    },
    ("pretraining-speed", 30522): {
        ("bf16", "fp32"): (4.5, 0.45),
        ("bf16", "bf16"): (3.0, 1.0),
        ("fp32", "fp32"): (2.8, 1.0),
        ("fp32", "bf16"): (1.0, 1.1),
    },
    ("finetuning-speed", "short"): {
        ("bf16", "padded loop fp32"): (9.0, 1.0),
        ("bf16", "fp32"): (3.3, 1.1),
        ("bf16", "grouped fp32"): (1.9, 1.2),
        ("fp32", "fp32"): (1.7, 1.1),
    },
    ("finetuning-speed", "long"): {("bf16", "fp32"): (5.0, 0.8)},
    ("prediction-speed", "short"): {("bf16", "pipeline fp32"): (4.0, 1.0)},
}
FOLDER = BUNDLED / "mini"
MINI = FOLDER / "record.json"
RECORDS = [*sorted((ROOT / "book" / "results").glob("*.json")), MINI]
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def record():
    return read(MINI)


def test_the_weights_are_stored_in_half_precision_and_small():
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    assert (FOLDER / "model.safetensors").stat().st_size < 12e6


def test_the_shape_is_what_the_card_says():
    model = BertForPreTraining.from_pretrained("mini")
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (4, 256, 4)
    assert config.vocab_size == Tokenizer.from_pretrained("mini").vocab_size == 8192
    assert config.hidden_dropout_prob == 0.1
    assert f"{sum(weight.numel() for weight in model.parameters()):,} parameters" in CARD


def test_transformers_opens_it_and_computes_the_same():
    from transformers import AutoTokenizer
    from transformers import BertForPreTraining as Reference

    text = "The river bank was steep, and the boat drifted away."
    theirs = Reference.from_pretrained(FOLDER, dtype=torch.float32).eval()
    batch = Tokenizer.from_pretrained("mini")(text)
    expected = AutoTokenizer.from_pretrained(FOLDER)(text, return_tensors="pt")
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    with torch.no_grad():
        ours, reference = BertForPreTraining.from_pretrained("mini")(**batch), theirs(**expected)
    torch.testing.assert_close(ours.prediction_logits, reference.prediction_logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.seq_relationship_logits, reference.seq_relationship_logits, rtol=0, atol=1e-4)


def test_it_has_learned_grammar():
    model, tokenizer = BertForMaskedLM.from_pretrained("mini"), Tokenizer.from_pretrained("mini")
    guesses = fill_mask("He [MASK] born in 1850.", model, tokenizer, count=3)[0]
    assert "was" in [guess.token for guess in guesses]


def test_the_record_belongs_to_the_vocabulary_and_to_the_card(record):
    assert record["corpus"]["vocabulary_checksum"] == vocabulary_checksum(Tokenizer.from_pretrained("mini"))
    card = " ".join(CARD.split())
    final = record["final"]
    assert (
        f"masked-token loss {final['validation_mlm']:.3f} nats, accuracy {final['validation_mlm_accuracy']:.1%}" in card
    )
    assert f"next-sentence accuracy {final['validation_nsp_accuracy']:.1%}" in card
    assert record["corpus"]["source_checksum"] in card
    for run in chain_of(record):
        for phase in PretrainingConfig.from_dict(run["config"]).phases:
            assert f"| `{run['name']}` | {phase.steps:,} | {phase.batch_size} | {phase.max_tokens} |" in card
        for entry in run["entries"]:
            assert f"| `{run['name']}` | {entry['first_step']:,} to {entry['last_step']:,} |" in card
    assert runs_table(record) in CARD and machines_table(record) in CARD


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_is_whole_and_names_no_place_on_a_machine(path):
    text = path.read_text(encoding="utf-8")
    record = json.loads(text)
    sources = [entry["provenance"] for run in (*record.get("earlier", ()), record) for entry in run["entries"]]
    assert all({"command", "date", "hardware", "versions"} <= set(source) for source in sources if source)
    command = "companion pretrain " if path == MINI else "companion bench "
    assert all(source["command"].startswith(command) for source in sources if source) and sources[-1]
    assert record["name"] == (path.parent.name if path == MINI else path.stem)
    assert not re.search(r'"[^"]*/(home|root|tmp|work|Users)/', text)


def test_every_run_of_the_chain_reaches_its_last_step_and_its_entries_join(record):
    for run, before in zip(chain_of(record), [None, *chain_of(record)], strict=False):
        assert {"steps", "seconds", "final", "curve"} <= set(run)
        entries = run["entries"]
        ends = [0, *(entry["last_step"] for entry in entries)]
        assert [entry["first_step"] - 1 for entry in entries] == ends[:-1]
        assert run["curve"][-1]["step"] == run["steps"] == ends[-1]
        assert sum(entry["positions"] for entry in entries) == run["positions_seen"]
        assert sum(entry["seconds"] for entry in entries) == pytest.approx(run["seconds"], abs=1)
        assert run["config"].get("initial") == (before and f"{before['name']}/model")


@pytest.mark.parametrize(
    "path", [path for path in RECORDS if read(path).get("kind") == "ablations"], ids=lambda path: path.stem
)
def test_a_record_of_ablations_has_every_variant_with_every_seed_and_its_corpus(path):
    record = read(path)
    described = record["config"]["variants"]
    runs = [(run["variant"], run["seed"]) for run in record["entries"]]
    seeds = {seed for _, seed in runs}
    assert len(seeds) >= 3
    assert sorted(runs) == sorted((name, seed) for name in described for seed in seeds)
    assert set(described) == set(VARIANTS)
    for name, fields in described.items():  # a setting that is newer than the record had its default then
        assert fields.items() <= dataclasses.asdict(VARIANTS[name]).items()
    sizes = {str(fields["vocab_size"]) for fields in described.values()}
    assert record["data"]["vocabularies"].keys() == sizes


@pytest.mark.parametrize(
    "path", [path for path in RECORDS if read(path).get("kind") == "speed"], ids=lambda path: path.stem
)
def test_a_record_of_speed_keeps_what_the_package_promises(path):
    record = read(path)
    for case in record["entries"]:
        assert all(row.get("same_answers", 1) >= 0.998 for row in case["variants"])
        key = case["config"].get("lengths", case["config"]["vocab_size"])
        promises = dict(PROMISED[record["name"], key])
        for row in case["comparisons"]:
            pair = row["ours"].removeprefix("companion "), row["theirs"].removeprefix("Trainer ")
            least, most = promises.pop(pair, (0, math.inf))
            assert row["speed"] >= least and row["memory"] <= most
        assert promises == {}, "every promise was measured"


def test_the_comparison_of_poolings_is_that_of_the_bundled_weights():
    record = read(ROOT / "book" / "results" / "mini-pooling.json")
    assert record["config"]["weights_checksum"] == weights_checksum(FOLDER)
    assert {len(values) for values in accuracies(record).values()} == {3}


def test_the_curves_over_few_labels_are_those_of_the_bundled_weights():
    record = read(ROOT / "book" / "results" / "mini-few-labels.json")
    assert record["config"]["weights_checksum"] == weights_checksum(FOLDER)
    curves = learning_curves(record, "genres")
    assert {len(values) for curve in curves.values() for values in curve.values()} == {5}
    assert {len(values) for values in spreads(record, "genres").values()} == {5}


def test_the_answers_to_pairs_are_those_of_the_bundled_weights():
    record = read(ROOT / "book" / "results" / "mini-pairs.json")
    assert record["config"]["weights_checksum"] == weights_checksum(FOLDER)
    assert sorted(entry["seed"] for entry in record["entries"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_the_scores_are_those_of_the_bundled_weights_on_the_same_rows():
    record = read(ROOT / "book" / "results" / "mini-tasks.json")
    assert record["config"]["weights_checksum"] == weights_checksum(FOLDER)
    measured = by_task(record)
    assert set(measured) == set(record["data"]) == {*GLUE, "reviews", "financial_phrasebank", "clinc150"}
    for name, entry in measured.items():
        for part in ("pretrained", "from_scratch"):
            assert set(entry[part]["scores"]) == set(TASKS[name].scores)
            assert {len(values) for values in entry[part]["scores"].values()} == {record["config"]["seeds"]} == {3}
        alone = entry["from_scratch"]["parameters"]  # a parameter that is newer had its default then
        defaults = TextClassifier().get_params()
        changed = {
            key for key, value in entry["pretrained"]["parameters"].items() if alone.get(key, defaults[key]) != value
        }
        searched = {"learning_rate"} if entry["pretrained"].get("search") else set()
        assert {"from_scratch"} <= changed <= {"from_scratch"} | searched
