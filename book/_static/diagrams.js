// A diagram keeps its own size, up to the width of the page; sphinxcontrib-mermaid's style would stretch every one to it.
new MutationObserver(() => {
  for (const diagram of document.querySelectorAll("pre.mermaid > svg[viewBox]")) {
    diagram.style.setProperty("width", `${diagram.viewBox.baseVal.width}px`, "important");
  }
}).observe(document.documentElement, { childList: true, subtree: true });
