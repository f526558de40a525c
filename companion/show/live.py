"""A BERT in the page: a sentence, what the model makes of it, and in the built book a button that runs it right there.

What stands in a notebook, on Colab and in print is the *still*: the result for one sentence, computed here. In the
built book `live/start.js` puts a button beside it, and the reader's browser goes on with sentences of their own.
"""

from __future__ import annotations

import functools
from html import escape

import torch
from torch import Tensor

from companion.applications.fill import Guess, fill_mask
from companion.deployment.browser import size_in_browser
from companion.model.heads import BertForMaskedLM, BertForPreTraining
from companion.show.shown import Shown
from companion.support.require import choice, integer, require
from companion.text.tokenizer import Tokenizer
from companion.text.vocabulary import MASK, SPECIAL_TOKENS

MODES = ("fill", "attention")
IN_BROWSER = ("mini",)  # what the built book offers
CLEAR = 1.03  # a token is named in text only if it is this much likelier than the next one: then on every machine
ROW = 28  # height of a token in a column, in units of the drawing
FAINT = 0.02  # weights below are not drawn
# What a notebook shows, where the style sheet of the book is not at hand; `:where` lets that one win.
STYLE = """\
<style>
:where(bert-live){display:block;max-width:44rem;padding:1rem;border:1px solid #8884;border-radius:.5rem}
:where(.bl-token){display:inline-block;margin:1px;padding:0 .4em;border-radius:.25em;\
border-bottom:3px solid var(--c,#8884);background:color-mix(in srgb,var(--c,#888) 18%,transparent);line-height:24px}
:where(.bl-mask){--c:var(--show-pink,#cc79a7)}
:where(.bl-special){--c:var(--show-red,#d55e00)}
:where(.bl-list){margin:.5rem 0;padding:0;list-style:none}
:where(.bl-list li){display:grid;grid-template-columns:9rem 1fr 4rem;gap:.5rem;align-items:center}
:where(.bl-bar){display:block;height:.75rem;width:calc(100%*var(--w));background:var(--show-blue,#0072b2)}
:where(.bl-share){text-align:right}
:where(.bl-note){margin:.5rem 0 0;font-size:85%;opacity:.8}
:where(.bl-attention){display:grid;grid-template-columns:max-content minmax(5rem,14rem) max-content 4rem}
:where(.bl-column){display:flex;flex-direction:column}
:where(.bl-column>*){box-sizing:border-box;height:24px;margin:2px 0;line-height:19px;white-space:nowrap}
:where(.bl-lines){contain:size;width:100%;height:100%}
:where(.bl-lines path){fill:none;stroke:var(--show-blue,#0072b2);vector-effect:non-scaling-stroke}
</style>"""


def live(
    sentence: str,
    mode: str = "fill",
    *,
    layer: int = 1,
    head: int = 1,
    focus: str | None = None,
    count: int = 5,
    model: str = "mini",
) -> Shown:
    """Show what a BERT makes of a sentence; in the built book the reader can change it.

    Parameters
    ----------
    sentence : str
        With at least one `[MASK]` in mode "fill".
    mode : {"fill", "attention"}
        Guesses for the hidden words, or where a head looks.
    layer, head : int
        In mode "attention": whose weights, counted from 1.
    focus : str, optional
        In mode "attention": the token, as the tokenizer writes it, whose weights are shown; all tokens' by default.
    count : int
        In mode "fill": guesses for each `[MASK]`.
    model : str
        A bundled name, a folder or a hub id. Only the bundled `"mini"` runs in a page; others show the still.

    Returns
    -------
    Shown
        As text: the likeliest guess for each blank, or what is looked at most, where that is clear.

    Raises
    ------
    ValueError
        If an argument is not allowed, or the sentence lacks what `mode` needs.

    Examples
    --------
    >>> live("In the nineteenth [MASK], it was a village.")
    In the nineteenth [MASK], it was a village. → century
    """
    choice("mode", mode, MODES)
    network, tokenizer, size = _loaded(model)
    if mode == "fill":
        summary, still = _fill(sentence, network, tokenizer, count, model)
        options = f' count="{count}"'
    else:
        layer = integer("layer", layer, 1, network.config.num_hidden_layers)
        head = integer("head", head, 1, network.config.num_attention_heads)
        summary, still = _attention(sentence, network, tokenizer, layer, head, focus, model)
        options = f' layer="{layer}" head="{head}"' + (f' focus="{escape(focus)}"' if focus else "")
    if model in IN_BROWSER:
        options += f' model="{model}" megabytes="{size / 1e6:.1f}"'
    attributes = f'mode="{mode}" sentence="{escape(sentence)}"{options}'
    return Shown(summary, f"{STYLE}\n<bert-live {attributes}>\n{still}\n</bert-live>")


@functools.lru_cache(maxsize=2)
def _loaded(model: str) -> tuple[BertForMaskedLM, Tokenizer, int]:
    """Return the network, the tokenizer, and the bytes that a page would fetch."""
    size = size_in_browser(BertForPreTraining.from_pretrained(model)) if model in IN_BROWSER else 0
    return BertForMaskedLM.from_pretrained(model), Tokenizer.from_pretrained(model), size


def _fill(sentence: str, network: BertForMaskedLM, tokenizer: Tokenizer, count: int, model: str) -> tuple[str, str]:
    guesses = fill_mask(sentence, network, tokenizer, integer("count", count, 1, tokenizer.vocab_size - 1) + 1)
    ids = tokenizer(sentence, return_tensors=None)["input_ids"][0]
    chips = "".join(_chip(tokenizer.id_to_token(i)) for i in ids)
    heads = [f"[MASK] {i + 1}" if len(guesses) > 1 else "" for i in range(len(guesses))]
    lists = "".join(_list(column[:count], head) for column, head in zip(guesses, heads, strict=True))
    note = f"What <code>{escape(model)}</code> guesses, computed when this page was made."
    view = f'<div class="bl-tokens">{chips}</div>\n<div class="bl-guesses">{lists}</div>'
    still = f'<div class="bl-view">{view}</div>\n<p class="bl-note">{note}</p>'
    return f"{sentence} → {'; '.join(map(_clear_guess, guesses))}", still


def _clear_guess(column: list[Guess]) -> str:
    first, second = column[:2]
    return first.token if first.probability > CLEAR * second.probability else "(two are about as likely)"


def _list(column: list[Guess], title: str) -> str:
    highest = column[0].probability
    rows = "".join(
        f'<li><span class="bl-word">{escape(token)}</span>'
        f'<span class="bl-track"><span class="bl-bar" style="--w:{p / highest:.4f}"></span></span>'
        f'<span class="bl-share">{100 * p:.1f}%</span></li>'
        for token, p in column
    )
    above = f'<p class="bl-title">{title}</p>' if title else ""
    return f'<div class="bl-blank">{above}<ol class="bl-list">{rows}</ol></div>'


def _chip(token: str, more: str = "", style: str = "") -> str:
    styled = f' style="{style}"' if style else ""
    return f'<span class="{_classes(token)}{more}"{styled}>{escape(token)}</span>'


def _classes(token: str) -> str:
    if token == MASK:
        return "bl-token bl-mask"
    if token in SPECIAL_TOKENS:
        return "bl-token bl-special"
    return "bl-token bl-piece" if token.startswith("##") else "bl-token"


@torch.inference_mode()
def _attention(
    sentence: str,
    network: BertForMaskedLM,
    tokenizer: Tokenizer,
    layer: int,
    head: int,
    focus: str | None,
    model: str,
) -> tuple[str, str]:
    batch = tokenizer(sentence)
    tokens = [tokenizer.id_to_token(i) for i in batch["input_ids"][0].tolist()]
    require("focus", focus, focus is None or focus in tokens, f"None or one of the tokens {' '.join(tokens)}")
    weights = network.bert(**batch, output_attentions=True).attentions[layer - 1][0, head - 1]  # (tokens, tokens)
    query = None if focus is None else tokens.index(focus)
    whose = "Where each token looks" if focus is None else f"Where “{escape(focus)}” looks"
    title = f'<p class="bl-title">{whose}: layer {layer}, head {head}</p>'
    note = f"Attention of <code>{escape(model)}</code>, computed when this page was made."
    still = (
        f'<div class="bl-view bl-split"><div class="bl-pick">{title}</div>\n{_columns(tokens, weights, query)}</div>\n'
        f'<p class="bl-note">{note}</p>'
    )
    return _looks(sentence, tokens, weights, query) + f" (layer {layer}, head {head})", still


def _looks(sentence: str, tokens: list[str], weights: Tensor, query: int | None) -> str:
    if query is None:
        return f"{sentence} → attention"
    (first, second), (key, _) = weights[query].topk(2)
    what = f"“{tokens[key]}”" if first > CLEAR * second else "(two about as much)"
    return f"{sentence} → “{tokens[query]}” looks at {what}"


def _columns(tokens: list[str], weights: Tensor, query: int | None) -> str:
    """Return the tokens twice, as queries and as keys, with lines between them."""
    n = len(tokens)
    drawn = range(n) if query is None else [query]
    lines = "".join(_line(i, j, float(weights[i, j])) for i in drawn for j in range(n) if weights[i, j] >= FAINT)
    looked_at = [0.0] * n if query is None else weights[query].tolist()
    queries = "".join(_chip(token, " bl-chosen" if i == query else "") for i, token in enumerate(tokens))
    keys = "".join(_chip(token, style=f"--w:{w:.4f}") for token, w in zip(tokens, looked_at, strict=True))
    shares = "".join(f'<span class="bl-share">{"" if query is None else f"{100 * w:.1f}%"}</span>' for w in looked_at)
    return (
        f'<div class="bl-attention"><div class="bl-column">{queries}</div>'
        f'<svg class="bl-lines" viewBox="0 0 100 {ROW * n}" preserveAspectRatio="none" aria-hidden="true">{lines}</svg>'
        f'<div class="bl-column">{keys}</div><div class="bl-column bl-shares">{shares}</div></div>'
    )


def _line(query: int, key: int, weight: float) -> str:
    start, end = ROW * query + ROW // 2, ROW * key + ROW // 2
    look = f'opacity="{weight**0.5:.4f}" stroke-width="{1 + 4 * weight:.4f}"'
    return f'<path d="M0 {start}C50 {start} 50 {end} 100 {end}" {look}/>'
