// A card beside a link to a term, a source or an equation says what is there; it answers to the mouse and to the keyboard.
(() => {
  "use strict";
  const LINKS = 'article a[href*="glossary.html#term-"], article a[href*="references.html#"], article a[href^="#equation-"]';
  const WAIT = 250; // milliseconds under the pointer
  const pages = new Map();
  const load = (address) => {
    if (!pages.has(address)) {
      const parsed = fetch(address).then((got) => got.text()).then((text) => new DOMParser().parseFromString(text, "text/html"));
      pages.set(address, parsed);
    }
    return pages.get(address);
  };

  const content = async (link) => {
    const { pathname, hash } = new URL(link.href);
    const id = decodeURIComponent(hash.slice(1));
    const page = pathname === location.pathname ? document : await load(pathname);
    const there = page.getElementById(id);
    if (!there) return null;
    const copy = (there.matches("dt") ? there.nextElementSibling : there).cloneNode(true);
    copy.querySelectorAll(".headerlink, .used-in, .label, .eqno, mjx-assistive-mml").forEach((part) => part.remove());
    const title = there.matches("dt") ? there.firstChild.textContent : "";
    copy.querySelectorAll("a").forEach((inner) => inner.replaceWith(...inner.childNodes));
    copy.querySelectorAll("[id]").forEach((part) => part.removeAttribute("id"));
    return [title, [...copy.childNodes]];
  };

  const card = Object.assign(document.createElement("div"), { id: "card", className: "card-over", role: "tooltip", hidden: true });
  let [timer, current] = [0, null];
  const hide = () => {
    clearTimeout(timer);
    current?.removeAttribute("aria-describedby");
    [card.hidden, current] = [true, null];
  };
  const place = () => {
    const at = current.getBoundingClientRect();
    const below = at.bottom + card.offsetHeight + 8 < innerHeight || at.top < card.offsetHeight + 8;
    card.style.left = `${Math.max(8, Math.min(at.left, innerWidth - card.offsetWidth - 8))}px`;
    card.style.top = `${below ? at.bottom + 6 : at.top - card.offsetHeight - 6}px`;
  };
  const show = async (link) => {
    current = link;
    const found = await content(link).catch(() => null);
    if (!found || current !== link) return;
    const [title, body] = found;
    const strong = Object.assign(document.createElement("strong"), { textContent: title });
    card.replaceChildren(...(title ? [strong] : []), ...body);
    card.hidden = false;
    link.setAttribute("aria-describedby", "card");
    place();
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("article")?.append(card);
    for (const link of document.querySelectorAll(LINKS)) {
      link.addEventListener("pointerenter", () => {
        hide();
        timer = setTimeout(() => show(link), WAIT);
      });
      link.addEventListener("focus", () => show(link));
      for (const leaving of ["pointerleave", "blur", "click"]) link.addEventListener(leaving, hide);
    }
    document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
    document.addEventListener("scroll", () => card.hidden || place(), { passive: true });
  });
})();
