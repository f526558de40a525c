"""Ablations: what a variant changes, that runs pair up, that the record resumes, and the statistics by hand."""

import dataclasses
import json

import pytest
import torch
from typer.testing import CliRunner

from companion.cli import app
from companion.model.heads import IGNORED
from companion.pretraining.batches import training_batches, validation_batches
from companion.pretraining.run import initial_model
from companion.pretraining.vocabulary import learn_or_load_tokenizer
from companion.studies import ablations
from companion.studies.ablations import (
    Study,
    ablations_table,
    characters_per_label,
    configuration,
    model_shape,
    run_ablations,
    run_variant,
)
from companion.studies.statistics import paired_difference, student_t, t_interval
from companion.studies.variants import BASE, VARIANTS, Variant
from tests.toys import animal_documents, write_documents

pytestmark = pytest.mark.slow

SMALL = {"vocab_size": 60, "layers": 1, "hidden_size": 32, "batch_size": 4, "max_tokens": 24}
TABLE = {
    BASE: Variant(**SMALL),
    "pairs with NSP": Variant(**SMALL, pairs=True, next_sentence=True, yardstick="own"),
    "whole words": Variant(**SMALL, yardstick="words", whole_words=True),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Forty documents of six sentences in a language of ten words; runs of six batches."""
    folder = tmp_path_factory.mktemp("study")
    path = write_documents(folder / "animals.txt", animal_documents(40))
    form = {"validation_batches": 2, "validation_rows": 4, "validation_tokens": 24}
    return Study(path, path, folder / "prepared", positions=6 * 4 * 24, precision="fp32", **form)


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    output = tmp_path_factory.mktemp("record") / "small.json"
    return output, run_ablations(study, output, seeds=2, variants=TABLE, progress=False)


def timeless(runs):
    return [
        {name: value for name, value in run.items() if name not in ("processor_seconds", "provenance")} for run in runs
    ]


# --- the variants ---------------------------------------------------------------------------------------------------


def differing(one, other):
    names = [field.name for field in dataclasses.fields(Variant)]
    return {name for name in names[4:] if getattr(one, name) != getattr(other, name)}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != BASE])
def test_a_variant_differs_in_one_thing_from_what_it_is_compared_with(name):
    changed = differing(VARIANTS[name], VARIANTS[VARIANTS[name].against])
    assert len(changed) == 1 or changed in ({"layers", "hidden_size"}, {"batch_size", "max_tokens"})
    assert VARIANTS[name].question


def test_changes_are_those_from_the_base():
    assert VARIANTS[BASE].changes == {}
    assert VARIANTS["masking 40%"].changes == {"masking_probability": 0.4}
    assert VARIANTS["short rows first"].changes == {"batch_size": 8, "max_tokens": 128, "short_share": 0.5}


@pytest.mark.parametrize("name", VARIANTS)
def test_all_variants_see_the_same_number_of_positions(name):
    config = configuration(VARIANTS[name], 0, Study("a.txt", "b.txt", "work", positions=102_400))
    assert sum(phase.steps * phase.batch_size * phase.max_tokens for phase in config.phases) == 102_400


def test_deep_and_wide_have_equally_many_entries_in_the_matrices_of_the_encoder():
    entries = set()
    for name in ("4 layers of 96", "1 layer of 192"):
        shape = model_shape(VARIANTS[name])
        in_a_layer = 4 * shape.hidden_size**2 + 2 * shape.hidden_size * shape.intermediate_size
        entries.add(shape.num_hidden_layers * in_a_layer)
    assert entries == {442_368}


def test_short_rows_of_one_segment_come_first_in_steps_of_the_same_size():
    config = configuration(VARIANTS["then pairs"], 0, Study("a.txt", "b.txt", "work", positions=102_400))
    short, long = config.phases
    assert (short.steps, short.batch_size, short.max_tokens, short.next_sentence) == (50, 64, 16, False)
    assert (long.steps, long.batch_size, long.max_tokens, long.next_sentence) == (50, 8, 128, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"yardstick": "metre"}, "yardstick='metre' is unknown; choose one of text, words, own"),
        ({"figure": "metres"}, "figure='metres' is unknown; choose one of mlm, nats_per_character"),
        ({"next_sentence": True}, "needs rows of two segments; pass pairs=True too"),
    ],
)
def test_wrong_variants_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Variant(**changes)


@pytest.mark.parametrize("name", ["positions", "validation_batches", "validation_rows", "validation_tokens"])
def test_wrong_studies_are_named(name):
    with pytest.raises(ValueError, match=f"{name}=0 is not allowed; it must be an integer above 0"):
        Study("a.txt", "b.txt", "work", **{name: 0})


# --- the runs -------------------------------------------------------------------------------------------------------


def test_variants_of_one_seed_start_from_the_same_weights_and_rows_and_other_seeds_do_not(study):
    def start(seed, **changes):
        config = configuration(dataclasses.replace(TABLE[BASE], **changes), seed, study)
        tokenizer = learn_or_load_tokenizer(config, progress=False)
        torch.manual_seed(seed)
        weights = torch.cat([weight.flatten() for weight in initial_model(config, tokenizer).state_dict().values()])
        return weights, training_batches(config, tokenizer, progress=False)[3]["input_ids"]

    for one, other, same in ((start(0), start(0, dropout=0.1), True), (start(0), start(1), False)):
        assert [torch.equal(a, b) for a, b in zip(one, other, strict=True)] == [same, same]


def test_a_run_of_one_seed_gives_the_same_figures_again(study, finished):
    run, _ = run_variant(TABLE["whole words"], 1, study)
    (recorded,) = [r for r in finished[1]["entries"] if (r["variant"], r["seed"]) == ("whole words", 1)]
    assert timeless([{"variant": "whole words", "seed": 1} | run]) == timeless([recorded])


def test_training_lowers_the_loss_on_every_yardstick(study, finished):
    longer = dataclasses.replace(study, positions=20 * study.positions)
    run, _ = run_variant(TABLE[BASE], 0, longer)
    before = finished[1]["entries"][0]["measures"]
    assert all(run["measures"][name]["mlm"] < before[name]["mlm"] - 0.5 for name in ("text", "words", "own"))


def test_yardsticks_of_the_same_form_agree_and_others_do_not(finished):
    measures = {run["variant"]: run["measures"] for run in finished[1]["entries"] if run["seed"] == 0}
    assert measures[BASE]["own"] == measures[BASE]["text"]  # the form of the base is that of its own rows
    assert measures["pairs with NSP"]["own"]["mlm"] != measures["pairs with NSP"]["text"]["mlm"]


def test_next_sentences_are_measured_where_they_were_learned_beside_a_constant_answer(finished):
    for run in finished[1]["entries"]:
        assert ("nsp_accuracy" in run["measures"]["own"]) == (run["variant"] == "pairs with NSP")
    assert 0.5 <= run_of(finished[1], "pairs with NSP")["measures"]["own"]["nsp_majority"] <= 1


def run_of(record, name, seed=0):
    return next(run for run in record["entries"] if (run["variant"], run["seed"]) == (name, seed))


def test_characters_are_those_of_the_masked_pieces(study):
    config = configuration(TABLE[BASE], 0, study)
    tokenizer = learn_or_load_tokenizer(config, progress=False)
    batches = validation_batches(config, tokenizer, progress=False)
    masked = [i for number in (0, 1) for i in batches[number]["labels"].flatten().tolist() if i != IGNORED]
    text = "".join(tokenizer.id_to_token(i).replace("##", "") for i in masked)
    assert characters_per_label(batches, 2, tokenizer) == pytest.approx(len(text) / len(masked))
    mlm, per_character = (run_of(run_again(study), BASE)["measures"]["text"][k] for k in ("mlm", "nats_per_character"))
    assert per_character == pytest.approx(mlm * len(masked) / len(text), rel=1e-4)


# --- the record -----------------------------------------------------------------------------------------------------


def run_again(study):
    run, _ = run_variant(TABLE[BASE], 0, study)
    return {"entries": [{"variant": BASE, "seed": 0} | run]}


def test_the_record_says_what_was_done_and_names_no_place(finished, study):
    output, record = finished
    assert json.loads(output.read_text(encoding="utf-8")) == json.loads(json.dumps(record))
    assert [(run["seed"], run["variant"]) for run in record["entries"]] == [(s, name) for s in (0, 1) for name in TABLE]
    assert all(run["positions"] == 6 * 4 * 24 and run["steps"] == 6 for run in record["entries"])
    assert record["entries"][0]["provenance"]["command"].startswith(
        "companion bench ablations animals.txt --validation animals.txt --seeds 2 "
    )
    assert record["data"].keys() == {"source_checksum", "validation_checksum", "vocabularies"}
    assert str(study.folder.parent) not in json.dumps(record)


def test_a_finished_run_is_not_done_again_and_more_seeds_are_added(finished, study, tmp_path, monkeypatch):
    output = tmp_path / "record.json"
    output.write_bytes(finished[0].read_bytes())
    done, real = [], run_variant
    monkeypatch.setattr(ablations, "run_variant", lambda *given: done.append(given[1]) or real(*given))
    run_ablations(study, output, seeds=2, variants=TABLE, progress=False)
    assert done == []
    grown = run_ablations(study, output, seeds=3, variants=TABLE, only=["whole words"], progress=False)
    assert done == [2, 2]  # the variant and what it is compared with
    assert timeless(grown["entries"][:6]) == timeless(finished[1]["entries"])
    assert grown["config"]["variants"].keys() == TABLE.keys()


def test_a_study_that_is_stopped_keeps_its_finished_runs(study, tmp_path, monkeypatch):
    output, real = tmp_path / "record.json", run_variant

    def stop_at_second(variant, seed, study):
        if variant.pairs:
            raise KeyboardInterrupt
        return real(variant, seed, study)

    monkeypatch.setattr(ablations, "run_variant", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        run_ablations(study, output, seeds=1, variants=TABLE, progress=False)
    assert [run["variant"] for run in json.loads(output.read_text(encoding="utf-8"))["entries"]] == [BASE]


@pytest.mark.parametrize(
    ("changes", "variants", "message"),
    [
        ({"positions": 99_999}, TABLE, "is of another measurement, which differs in: positions=99999 was 576"),
        (
            {},
            TABLE | {BASE: Variant(**SMALL, dropout=0.1)},
            "differs in: variants.base.dropout=0.1 was 0.0. Set them back",
        ),
    ],
)
def test_a_record_of_another_study_is_refused(finished, study, changes, variants, message):
    with pytest.raises(ValueError, match=message):
        run_ablations(dataclasses.replace(study, **changes), finished[0], variants=variants, progress=False)


def test_other_text_is_another_study(finished, study, tmp_path):
    other = tmp_path / "animals.txt"
    other.write_text(study.source.read_text(encoding="utf-8").replace("cat", "owl"), encoding="utf-8")
    with pytest.raises(ValueError, match="differs in: source_checksum"):
        run_ablations(dataclasses.replace(study, source=other), finished[0], variants=TABLE, progress=False)


def test_unknown_names_are_told(study, tmp_path):
    with pytest.raises(ValueError, match="variant 'base2' is unknown; choose among: base; pairs with NSP; whole words"):
        run_ablations(study, tmp_path / "record.json", variants=TABLE, only=["base2"], progress=False)


# --- the statistics -------------------------------------------------------------------------------------------------


def made_up(**losses):
    """A record with these losses, one a seed."""
    runs = [
        {"variant": name, "seed": seed, "measures": {"text": {"mlm": loss}}}
        for name, values in losses.items()
        for seed, loss in enumerate(values)
    ]
    described = {"against": "base", "yardstick": "text", "figure": "mlm"}
    return {"config": {"variants": dict.fromkeys(losses, described)}, "entries": runs}


def test_the_interval_of_three_values_by_hand():
    low, high = t_interval([0.02, 0.05, 0.08])  # s = 0.03; t(0.975, 2 degrees of freedom) = 4.3027
    assert (low, high) == pytest.approx((0.05 - 4.3027 * 0.03 / 3**0.5, 0.05 + 4.3027 * 0.03 / 3**0.5), abs=1e-5)


def test_student_t_with_two_degrees_has_a_closed_form():
    for t in (1.0, 1.96, 4.0):  # P(|T| < t) = t / sqrt(2 + t^2)
        assert student_t(2, t / (2 + t * t) ** 0.5) == pytest.approx(t)
    assert student_t(10**6) == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize(("given", "message"), [((0,), "degrees=0"), ((2, 1.0), "confidence=1.0 is not allowed")])
def test_t_out_of_range_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        student_t(*given)


def test_more_confidence_is_a_wider_interval():
    (narrow, _), (wide, _) = (t_interval([1.0, 2.0, 4.0], confidence) for confidence in (0.9, 0.99))
    assert wide < narrow


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="needs two values or more, and there are 1; run more seeds"):
        t_interval([1.0])


def test_differences_are_taken_seed_by_seed():
    record = made_up(base=[5.0, 6.0, 7.0], better=[4.9, 5.9, 6.9], noise=[4.8, 6.1, 7.1])
    better, noise = (paired_difference(record, name) for name in ("better", "noise"))
    assert better.values == pytest.approx((-0.1, -0.1, -0.1)) and better.is_clear
    assert noise.mean == pytest.approx(0.0) and not noise.is_clear
    assert paired_difference(record, "noise", against="better").values == pytest.approx((-0.1, 0.2, 0.2))


def test_only_seeds_that_both_have_are_compared():
    record = made_up(base=[5.0, 6.0, 7.0], short=[4.0, 5.5])
    assert paired_difference(record, "short").values == pytest.approx((-1.0, -0.5))


def test_a_figure_that_was_not_measured_is_named():
    with pytest.raises(ValueError, match="figure='nsp' was not measured on the yardstick 'text' of 'base'"):
        paired_difference(made_up(base=[5.0, 6.0]), "base", figure="nsp")


def test_the_table_marks_the_clear_differences_and_leaves_out_what_has_one_seed():
    record = made_up(base=[5.0, 6.0, 7.0], better=[4.9, 5.9, 6.89], noise=[4.8, 6.1, 7.1], single=[4.0])
    lines = ablations_table(record).splitlines()[1:]
    assert [line.split(" : ")[0] for line in lines] == ["better", "noise"]
    assert "-0.103" in lines[0] and "3 * nats per masked token" in lines[0]
    assert "*" not in lines[1]


def test_the_command_runs_a_variant_and_its_opponent_and_goes_on(study, tmp_path):
    output = tmp_path / "ablations.json"
    command = ["bench", "ablations", study.source, "--validation", study.source, "--output", output, "--no-progress"]
    command += ["--variant", "dropout 0.1", "--seeds", 2, "--positions", 1024, "--precision", "fp32"]
    first = CliRunner().invoke(app, list(map(str, command)))
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines()[1].startswith("dropout 0.1 : base")
    assert [run["variant"] for run in json.loads(output.read_text(encoding="utf-8"))["entries"]] == [
        BASE,
        "dropout 0.1",
    ] * 2
    before = output.read_bytes()
    assert CliRunner().invoke(app, list(map(str, command))).stdout == first.stdout
    assert output.read_bytes() == before
    wrong = CliRunner().invoke(app, [*map(str, command), "--variant", "dropout 0.2"])
    assert wrong.exit_code == 2 and "variant 'dropout 0.2' is unknown; choose among: base; " in wrong.output
