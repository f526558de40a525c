"""The still of a BERT in the page: what it says, and that it says the same everywhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from companion.applications.fill import Guess, fill_mask
from companion.model.encoder import BertModel
from companion.model.heads import BertForMaskedLM, BertForPreTraining
from companion.show.live import live
from companion.text.tokenizer import Tokenizer

SENTENCE = "In the nineteenth [MASK], it was a village."
TIRED = "The animal did not cross the street because it was too tired."


class Texts(HTMLParser):
    """Collects the text under every class of an element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag != "path":
            self.open.append(dict(attributes).get("class") or "")

    def handle_endtag(self, tag):
        if tag != "path":
            self.open.pop()

    def handle_data(self, data):
        if self.open and data.strip():
            self.found.append((self.open[-1], data))

    def of(self, kind: str) -> list[str]:
        return [text for classes, text in self.found if kind in classes.split()]


def test_the_still_shows_the_guesses_of_fill_mask():
    texts = Texts(live(SENTENCE).html)
    (guesses,) = fill_mask(SENTENCE, BertForMaskedLM.from_pretrained("mini"), Tokenizer.from_pretrained("mini"), 5)
    assert texts.of("bl-word") == [guess.token for guess in guesses]
    assert texts.of("bl-share") == [f"{100 * guess.probability:.1f}%" for guess in guesses]


def test_the_still_shows_the_tokens():
    assert Texts(live(SENTENCE).html).of("bl-token")[:6] == ["[CLS]", "in", "the", "ninet", "##eenth", "[MASK]"]


def test_several_blanks_have_a_list_each_with_its_number():
    texts = Texts(live("He was [MASK] in [MASK] in 1950.", count=3).html)
    assert texts.of("bl-title") == ["[MASK] 1", "[MASK] 2"]
    assert len(texts.of("bl-word")) == 6


def test_the_still_shows_where_a_token_looks():
    tokenizer, model = Tokenizer.from_pretrained("mini"), BertModel.from_pretrained("mini")
    batch = tokenizer(TIRED)
    with torch.no_grad():
        weights = model(**batch, output_attentions=True).attentions[2][0, 1]
    query = [tokenizer.id_to_token(i) for i in batch["input_ids"][0].tolist()].index("it")
    shown = live(TIRED, mode="attention", layer=3, head=2, focus="it")
    assert Texts(shown.html).of("bl-share") == [f"{100 * w:.1f}%" for w in weights[query].tolist()]
    assert len(re.findall("<path", shown.html)) == int((weights[query] >= 0.02).sum())
    most = tokenizer.id_to_token(int(batch["input_ids"][0, weights[query].argmax()]))
    assert repr(shown) == f"{TIRED} → “it” looks at “{most}” (layer 3, head 2)"


def test_without_a_focus_the_lines_of_all_tokens_are_drawn():
    shown = live(TIRED, mode="attention")
    assert len(re.findall("<path", shown.html)) > 15
    assert repr(shown) == f"{TIRED} → attention (layer 1, head 1)"


@pytest.mark.parametrize(("second", "named"), [(0.29, "one"), (0.295, "(two are about as likely)")])
def test_the_text_names_a_guess_only_where_it_is_clear(monkeypatch: pytest.MonkeyPatch, second: float, named: str):
    column = [Guess("one", 0.3), Guess("other", second)]
    monkeypatch.setattr("companion.show.live.fill_mask", lambda *arguments: [column])
    assert repr(live(SENTENCE, count=1)) == f"{SENTENCE} → {named}"


def test_a_sentence_cannot_break_out_of_the_page():
    shown = live('<script>alert("1")</script> & [MASK]')
    assert "<script" not in shown.html and 'sentence="&lt;script' in shown.html
    assert "&amp;" in shown.html


def test_only_the_model_of_the_book_gets_a_button(tmp_path: Path):
    BertForPreTraining.from_pretrained("mini").save_pretrained(tmp_path)
    Tokenizer.from_pretrained("mini").save_pretrained(tmp_path)
    own, bundled = live(SENTENCE, model=str(tmp_path)), live(SENTENCE)
    assert "megabytes" not in own.html and repr(own) == repr(bundled)
    assert float(re.search(r'megabytes="([\d.]+)"', bundled.html)[1]) == pytest.approx(6.3, abs=0.1)


def test_a_notebook_gets_a_style_that_the_book_overrides():
    rules = re.search("<style>(.*)</style>", live(SENTENCE).html, re.DOTALL)[1]
    assert re.sub(r":where\([^{]*\{[^}]*\}", "", rules).strip() == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sentence": "no blank"}, "has no \\[MASK\\]"),
        ({"mode": "translate"}, "mode='translate'"),
        ({"mode": "attention", "layer": 5}, "layer=5 .* from 1 to 4"),
        ({"mode": "attention", "head": 0}, "head=0 .* from 1 to 4"),
        ({"mode": "attention", "focus": "horse"}, "focus='horse' .* one of the tokens \\[CLS\\] in the"),
        ({"count": 0}, "count=0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, said: str):
    with pytest.raises(ValueError, match=said):
        live(**({"sentence": SENTENCE} | arguments))
