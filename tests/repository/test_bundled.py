"""The bundled BERT and the records of its making: they load, agree with one another, and hold no machine's paths."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from companion import BertForMaskedLM, BertForPreTraining, Tokenizer
from companion.applications.fill import fill_mask
from companion.pretraining.corpus import vocabulary_checksum
from companion.studies.speed import PROMISED
from companion.studies.tasks import GLUE, TASKS
from companion.studies.variants import VARIANTS
from companion.support.files import sha256
from companion.support.locate import BUNDLED

ROOT = Path(__file__).resolve().parents[2]
RECORDS = sorted((ROOT / "book" / "results").glob("*.json"))
FOLDER = BUNDLED / "mini"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def record():
    return read(ROOT / "book" / "results" / "mini.json")


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
    assert f"{record['steps']:,} steps" in card
    assert record["corpus"]["source_checksum"] in card


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_is_whole_and_names_no_place_on_a_machine(path):
    text = path.read_text(encoding="utf-8")
    record = json.loads(text)
    assert {"name", "date", "hardware", "versions"} <= set(record)
    made_of = {"tasks": {"command", "config", "tasks"}, "speed": {"command", "cases"}}
    assert made_of.get(record.get("kind"), {"config", "corpus"}) <= set(record)
    assert record["name"] == path.stem
    assert not re.search(r'"[^"]*/(home|root|tmp|work|Users)/', text)


@pytest.mark.parametrize("path", [path for path in RECORDS if "kind" not in read(path)], ids=lambda path: path.stem)
def test_a_record_of_one_run_reaches_its_last_step(path):
    record = read(path)
    assert {"steps", "seconds", "final", "curve"} <= set(record)
    assert record["curve"][-1]["step"] == record["steps"]


@pytest.mark.parametrize(
    "path", [path for path in RECORDS if read(path).get("kind") == "ablations"], ids=lambda path: path.stem
)
def test_a_record_of_ablations_has_every_variant_with_every_seed_and_its_corpus(path):
    record = read(path)
    runs = [(run["variant"], run["seed"]) for run in record["runs"]]
    seeds = {seed for _, seed in runs}
    assert len(seeds) >= 3
    assert sorted(runs) == sorted((name, seed) for name in record["variants"] for seed in seeds)
    assert record["variants"] == {name: dataclasses.asdict(variant) for name, variant in VARIANTS.items()}
    sizes = {str(fields["vocab_size"]) for fields in record["variants"].values()}
    assert record["corpus"]["vocabularies"].keys() == sizes


@pytest.mark.parametrize(
    "path", [path for path in RECORDS if read(path).get("kind") == "speed"], ids=lambda path: path.stem
)
def test_a_record_of_speed_keeps_what_the_package_promises(path):
    cases = read(path)["cases"]
    rows = [row for case in cases for row in case["comparisons"]]
    assert sum("speed" in row["promised"] for row in rows) == 6
    for case in cases:
        promises = PROMISED[case["config"]["vocab_size"]]
        for row in case["comparisons"]:
            pair = row["ours"].removeprefix("companion "), row["theirs"].removeprefix("Trainer ")
            assert row["promised"] == promises.get(pair, {})
            assert row["speed"] >= row["promised"].get("speed", 0)
            assert row["memory"] <= row["promised"].get("memory", 1)


def test_the_scores_are_those_of_the_bundled_weights_on_the_same_rows():
    record = read(ROOT / "book" / "results" / "mini-tasks.json")
    assert record["config"]["weights_checksum"] == sha256(FOLDER / "model.safetensors")
    assert set(record["tasks"]) == set(GLUE)
    for name, entry in record["tasks"].items():
        for part in ("pretrained", "from_scratch"):
            assert set(entry[part]["scores"]) == set(TASKS[name].scores)
            assert {len(values) for values in entry[part]["scores"].values()} == {record["config"]["seeds"]} == {3}
        changed = {
            key
            for key, value in entry["pretrained"]["parameters"].items()
            if entry["from_scratch"]["parameters"][key] != value
        }
        assert changed == {"from_scratch"}
