// The search of the book: sections before objects of the package, results while one types, in the dialog and on search.html.
// `search.json`, fetched when a search begins, holds the texts; they are split, stemmed and ranked (BM25) here.
(() => {
  "use strict";
  const ROOT = new URL(document.documentElement.dataset.content_root ?? "./", location.href);
  const FIELDS = { title: 5, page: 2.5, text: 1 }; // how much a word counts there
  const KINDS = { section: 1, term: 0.6, object: 0.5 };
  const ASIDE = /^(exercises|further reading|take-aways)$/i; // sections that name much and explain little
  const OTHERS = 0.4; // how much the second best section of a page adds, the third that of it, and so on
  const TOPIC = 1.5; // for a page that is about what is asked
  const SATURATION = 1.3;
  const LENGTH = 0.6; // how much a long text is held against it
  const EXCERPT = 24; // words
  const STOP = new Set("a an the of to in on is are do does did be and or for with how what why when which who i my can it its at by from".split(" "));
  const WORD = /\p{Script=Han}|[\p{L}\p{N}]+(?:[-_'’.][\p{L}\p{N}]+)*/gu;

  // Words and stems: "fine-tuning" is fine, tun and finetun; "LayerNorm" is layer, norm and layernorm.
  const ENDINGS = [
    [/(?:i[sz](?:ations?|ers?|ed|es?|ing))$/, "iz"],
    [/ations?$|ating$|ated?$|ates$/, "at"],
    [/ies$|ied$/, "y"],
    [/(ch|sh|ss|x)es$/, "$1"],
    [/([^us i])s$/, "$1"],
  ];
  const stems = new Map();
  const stem = (word) => {
    if (stems.has(word)) return stems.get(word);
    let short = word;
    if (/^[a-z]{4,}$/.test(word)) {
      for (const [ending, instead] of ENDINGS) short = short.replace(ending, instead);
      const bare = short.replace(/(ing|ed)$/, "");
      if (bare !== short && bare.length > 2 && /[aeiouy]/.test(bare)) short = bare.replace(/([^lsz])\1$/, "$1");
      if (short.length > 3) short = short.replace(/e$/, "");
    }
    stems.set(word, short);
    return short;
  };
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "");
  const pieces = (word) => {
    const split = plain(word).replace(/(\p{Ll})(\p{Lu})/gu, "$1-$2").toLowerCase().split(/[-_'’.]/).filter(Boolean);
    return split.length > 1 ? [...split, split.join("")] : split;
  };
  const words = (text) => (text.match(WORD) ?? []).map(pieces);
  const stemmed = (text) => words(text).flat().map(stem);

  // The index: for each stem, how often it stands in which field of which entry.
  const load = async () => {
    const { pages, entries, synonyms } = await (await fetch(new URL("search.json", ROOT))).json();
    const topics = pages.map(([, , , about]) => about.split(",").map(stemmed));
    const index = { pages, topics, entries: [], postings: new Map(), raw: new Map(), synonyms: [] };
    entries.forEach(([page, kind, anchor, title, text], number) => {
      const entry = { number, kind, title, text, page, url: pages[page][0] + (anchor && `#${anchor}`), heading: stemmed(kind === "object" ? title.split(".").at(-1) : title) };
      index.entries.push(entry);
      let length = 0;
      const count = (field, string) => {
        for (const word of words(string).flat()) {
          const short = stem(word);
          if (!index.raw.has(word)) index.raw.set(word, short);
          if (!index.postings.has(short)) index.postings.set(short, new Map());
          const posting = index.postings.get(short);
          posting.set(number, (posting.get(number) ?? 0) + FIELDS[field]);
          length += 1;
        }
      };
      count("title", title);
      if (kind === "section") count("page", pages[page].slice(1).join(" "));
      count("text", text);
      entry.length = length;
    });
    index.mean = index.entries.reduce((sum, entry) => sum + entry.length, 0) / index.entries.length;
    for (const group of synonyms) {
      const members = group.map((member) => words(member).map((parts) => stem(parts.at(-1))));
      for (const member of members) index.synonyms.push([member, members.filter((other) => other !== member)]);
    }
    return index;
  };
  let loading;
  const theIndex = () => (loading ??= load());

  // A query is a row of slots; a slot is a list of alternatives, each some stems that must stand together.
  const parse = (index, query) => {
    const typed = words(query).map((parts) => parts.at(-1));
    const kept = typed.filter((word) => !STOP.has(word));
    const used = kept.length ? kept : typed;
    const slots = used.map((word, at) => [{ weight: 1, all: [stem(word)] }, ...nearby(index, word, at === used.length - 1 && /\S$/.test(query))]);
    const row = used.map(stem);
    words(query).forEach((parts) => {
      const at = used.indexOf(parts.at(-1));
      if (parts.length > 1 && at >= 0) slots[at].push({ weight: 0.9, all: parts.slice(0, -1).map(stem) });
    });
    const joined = row.slice(1).map((word, at) => stem(used[at] + used[at + 1]));
    joined.forEach((word, at) => {
      if (!index.postings.has(word)) return;
      for (const slot of [at, at + 1]) slots[slot].push({ weight: 0.9, all: [word] });
    });
    for (const [from, to] of index.synonyms) {
      const at = row.findIndex((_, start) => from.every((word, step) => row[start + step] === word));
      if (at < 0) continue;
      for (let step = 0; step < from.length; step += 1) {
        slots[at + step].push(...to.map((all) => ({ weight: 0.75 / from.length ** 0.5, all })));
      }
    }
    return { row, slots };
  };

  // What a word that is still being typed, or mistyped, may mean.
  const nearby = (index, word, unfinished) => {
    const found = new Map();
    if (unfinished && word.length > 1) {
      for (const [raw, short] of index.raw) if (raw.startsWith(word) && short !== stem(word)) found.set(short, 0.5);
    }
    if (!index.postings.has(stem(word)) && !found.size && word.length > 4) {
      for (const [raw, short] of index.raw) if (oneApart(raw, word)) found.set(short, 0.6);
    }
    return [...found].map(([short, weight]) => ({ weight, all: [short] }));
  };
  const oneApart = (a, b) => {
    if (Math.abs(a.length - b.length) > 1) return false;
    let start = 0;
    while (start < a.length && a[start] === b[start]) start += 1;
    const [restA, restB] = [a.slice(start), b.slice(start)];
    if (restA.slice(1) === restB.slice(1) || restA.slice(1) === restB || restA === restB.slice(1)) return true;
    return restA[0] === restB[1] && restA[1] === restB[0] && restA.slice(2) === restB.slice(2);
  };

  const scoreOf = (index, entry, short) => {
    const often = index.postings.get(short)?.get(entry.number);
    if (!often) return 0;
    const rare = Math.log(1 + index.entries.length / (0.5 + index.postings.get(short).size));
    const long = 1 - LENGTH + (LENGTH * entry.length) / index.mean;
    return (rare * often * (SATURATION + 1)) / (often + SATURATION * long);
  };
  const together = (row, inside) => row.length > 0 && inside.some((_, at) => row.every((word, step) => inside[at + step] === word));

  const rankEntries = (index, { row, slots }) => {
    const candidates = new Set(slots.flat().flatMap(({ all }) => all.flatMap((short) => [...(index.postings.get(short)?.keys() ?? [])])));
    const ranked = [];
    for (const number of candidates) {
      const entry = index.entries[number];
      const best = slots.map((slot) =>
        Math.max(...slot.map(({ weight, all }) => {
          const scores = all.map((short) => scoreOf(index, entry, short));
          return scores.every(Boolean) ? (weight * scores.reduce((sum, one) => sum + one, 0)) / all.length ** 0.5 : 0;
        })),
      );
      const covered = best.filter(Boolean).length / slots.length;
      if (covered < 0.5) continue;
      let score = best.reduce((sum, one) => sum + one, 0) * covered ** 2 * KINDS[entry.kind];
      if (together(row, entry.heading)) score *= 1.4;
      if (ASIDE.test(entry.title)) score *= 0.7;
      if (entry.heading.join(" ") === row.join(" ") || entry.heading.at(-1) === row.join("")) score *= entry.kind === "term" ? 2.2 : 1.6;
      else if (row.length > 1 && together(row, stemmed(entry.text))) score *= 1.25;
      ranked.push({ entry, score });
    }
    return ranked.sort((a, b) => b.score - a.score);
  };

  // Sections of one page stand together; a term stands by itself; objects come after both.
  const find = async (query) => {
    const index = await theIndex();
    const parsed = parse(index, query);
    const groups = new Map();
    for (const { entry, score } of rankEntries(index, parsed)) {
      const key = entry.kind === "section" ? entry.page : entry.url;
      const group = groups.get(key) ?? { page: index.pages[entry.page], kind: entry.kind, score: 0, entries: [] };
      group.score += score * OTHERS ** group.entries.length;
      group.entries.push(entry);
      groups.set(key, group);
    }
    for (const group of groups.values()) {
      const topics = group.kind === "section" ? index.topics[group.entries[0].page] : [];
      if (topics.some((topic) => parsed.row.every((word) => topic.includes(word)))) group.score *= TOPIC;
    }
    const all = [...groups.values()].sort((a, b) => b.score - a.score);
    const marked = new Set(parsed.slots.flat().flatMap(({ all: together_ }) => together_));
    return { marked, text: all.filter(({ kind }) => kind !== "object"), objects: all.filter(({ kind }) => kind === "object") };
  };

  // What is shown.
  const create = (name, attributes = {}, ...children) => {
    const element = Object.assign(document.createElement(name), attributes);
    element.append(...children);
    return element;
  };
  const isMarked = (word, marked) => pieces(word).some((part) => marked.has(stem(part)));
  const highlighted = (text, marked) => {
    const out = [];
    let from = 0;
    for (const { 0: word, index } of text.matchAll(WORD)) {
      if (!isMarked(word, marked)) continue;
      out.push(text.slice(from, index), create("mark", {}, word));
      from = index + word.length;
    }
    return [...out, text.slice(from)];
  };
  const excerpt = (text, marked) => {
    const all = text.split(" ");
    const hits = all.map((word) => (word.match(WORD) ?? []).some((part) => isMarked(part, marked)));
    let [best, most] = [0, 0];
    hits.forEach((hit, at) => {
      const inside = new Set(all.slice(at, at + EXCERPT).filter((_, step) => hits[at + step])).size;
      if (hit && inside > most) [best, most] = [at, inside];
    });
    const start = Math.max(0, Math.min(best - 4, all.length - EXCERPT));
    const shown = all.slice(start, start + EXCERPT).join(" ");
    return highlighted(`${start ? "… " : ""}${shown}${start + EXCERPT < all.length ? " …" : ""}`, marked);
  };
  const linkTo = (url, ...children) => create("a", { href: new URL(url, ROOT).href }, ...children);

  const shownGroup = ({ page: [url, title, part], kind, entries }, marked, limit) => {
    const [first, ...rest] = entries;
    const whole = kind === "section" && !first.url.includes("#");
    const where = kind === "section" ? part : kind === "term" ? "Glossary" : title;
    const head = linkTo(kind === "section" ? url : first.url, create("span", { className: "search-part" }, where), " ", ...highlighted(kind === "section" ? title : first.title, marked));
    const item = create("li", { className: `search-${kind}` }, head);
    if (kind === "section" && !whole) item.append(create("div", { className: "search-in" }, linkTo(first.url, ...highlighted(first.title, marked))));
    if (first.text) item.append(create("p", {}, ...excerpt(first.text, marked)));
    for (const other of rest.filter((one) => one.url.includes("#")).slice(0, limit)) {
      item.append(create("div", { className: "search-in" }, linkTo(other.url, ...highlighted(other.title, marked))));
    }
    return item;
  };
  // An object whose name is typed as it is written (BertModel, learning_rate_at, companion.text) comes first of all.
  const isNamed = ({ title }, query) => /[._]|\p{Ll}\p{Lu}/u.test(query) && [title, title.split(".").at(-1)].includes(query);
  const show = (box, { marked, text, objects }, query, few) => {
    const [most, more, inside] = few ? [6, 4, 1] : [30, 30, 4];
    const list = (groups) => create("ol", {}, ...groups.map((group) => shownGroup(group, marked, inside)));
    const total = text.length + objects.length;
    const said = total ? `${total} ${total === 1 ? "result" : "results"} for “${query}”` : `Nothing is found for “${query}”. Try a shorter or a more common word.`;
    box.replaceChildren(create("p", { className: "search-count", role: "status" }, said));
    const named = objects.length && isNamed(objects[0].entries[0], query) ? 1 : 0;
    const others = objects.slice(named, named + more);
    if (named || text.length) box.append(list([...objects.slice(0, named), ...text.slice(0, most)]));
    if (others.length) box.append(create("p", { className: "search-kind" }, "In the package"), list(others));
    if (few && (text.length > most || objects.length > more)) box.append(linkTo(`search.html?q=${encodeURIComponent(query)}`, "All results"));
  };

  // Arrow keys go from the field through the links and back; Enter in the field opens search.html.
  const walk = (form, box) => (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const stops = [form.querySelector("input"), ...box.querySelectorAll("a")];
    const next = stops[stops.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  };
  const attach = (form) => {
    const input = form.querySelector("input");
    const few = Boolean(form.closest("dialog"));
    const box = create("div", { className: "search-results" });
    form.after(box);
    let asked = "";
    const search = async () => {
      const query = input.value.trim();
      asked = query;
      if (!query) return box.replaceChildren();
      const found = await find(query).catch(() => null);
      if (!found) return box.replaceChildren(create("p", { role: "status" }, "Search needs pages that a server serves."));
      if (asked === query) show(box, found, query, few);
    };
    input.addEventListener("input", search);
    input.addEventListener("focus", theIndex, { once: true });
    for (const one of [form, box]) one.addEventListener("keydown", walk(form, box));
    if (few) return;
    input.value = new URLSearchParams(location.search).get("q") ?? "";
    input.focus();
    search();
  };
  document.querySelectorAll("form.bd-search").forEach(attach);
})();
