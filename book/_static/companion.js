// What the pages of the book do when scripts run: claims at their sentences, draws one at a time, fields for numbers.
// Without scripts everything that is hidden here simply stands in the page.
(() => {
  "use strict";
  const MODE = "companion-check"; // whether every claim stands open, kept by the browser
  const root = document.documentElement;
  root.classList.add("scripted");

  const remembered = () => {
    try {
      return localStorage.getItem(MODE) === "yes";
    } catch {
      return false; // a browser that keeps nothing
    }
  };

  const remember = (checking) => {
    try {
      localStorage.setItem(MODE, checking ? "yes" : "no");
    } catch {
      // it holds for this page then
    }
  };

  const create = (name, attributes = {}, text = "") => {
    const element = Object.assign(document.createElement(name), attributes);
    element.textContent = text;
    return element;
  };

  // The last paragraph, item or caption before `cell`: where the sentence stands that the cell checks.
  const sentenceBefore = (cell) => {
    for (let before = cell.previousElementSibling; before; before = before.previousElementSibling) {
      if (before.matches("h1, h2, h3, section")) return null;
      if (before.matches("p")) return before;
      const inside = before.matches(".cell") ? [] : before.querySelectorAll("p, li");
      if (inside.length) return inside[inside.length - 1];
    }
    return null;
  };

  const markClaims = () => {
    const marks = [];
    document.querySelectorAll(".cell.tag_claim").forEach((cell, i) => {
      const sentence = sentenceBefore(cell);
      if (!sentence) {
        cell.classList.add("open");
        return;
      }
      cell.id ||= `claim-${i + 1}`;
      const mark = create("button", { type: "button", className: "claim-mark" }, "✓");
      const said = [...cell.querySelectorAll(".cell_output pre")].map((pre) => pre.textContent.trim()).join(" ");
      mark.title = said;
      mark.setAttribute("aria-label", `Checked: ${said.replaceAll("✓", "")}`);
      mark.setAttribute("aria-controls", cell.id);
      const show = (open) => {
        cell.classList.toggle("open", open);
        mark.setAttribute("aria-expanded", String(open));
      };
      mark.addEventListener("click", () => show(!cell.classList.contains("open")));
      sentence.append(mark);
      show(false);
      marks.push(show);
    });
    return marks;
  };

  const addSwitch = (marks) => {
    const line = document.querySelector(".glance");
    if (!line || !marks.length) return;
    const button = create("button", { type: "button", className: "check-switch" });
    const set = (checking) => {
      const count = marks.length === 1 ? "check" : `${marks.length} checks`;
      button.textContent = checking ? "Hide the checks" : `Show the ${count}`;
      button.setAttribute("aria-pressed", String(checking));
      marks.forEach((show) => show(checking));
    };
    button.addEventListener("click", () => {
      const checking = button.getAttribute("aria-pressed") !== "true";
      remember(checking);
      set(checking);
    });
    line.append(button);
    set(remembered());
  };

  // Lines that begin with a tick are sentences, not the printout of a program.
  const styleClaimLines = () => {
    document.querySelectorAll(".cell_output pre").forEach((pre) => {
      const lines = pre.textContent.trimEnd().split("\n");
      if (!lines.every((line) => line.startsWith("✓ "))) return;
      pre.closest(".highlight, .output")?.classList.add("claims");
      pre.replaceChildren(
        ...lines.map((line) => {
          const sentence = create("div", {}, line.slice(2));
          sentence.prepend(create("span", { className: "tick" }, "✓"));
          return sentence;
        }),
      );
    });
  };

  const turnDraws = () => {
    document.querySelectorAll(".show .draws").forEach((draws) => {
      const all = [...draws.querySelectorAll(".draw")];
      let current = 0;
      const show = (next) => {
        all[current].classList.remove("current");
        current = next % all.length;
        all[current].classList.add("current");
      };
      const button = create("button", { type: "button" }, draws.dataset.again);
      button.addEventListener("click", () => show(current + 1));
      draws.setAttribute("aria-live", "polite");
      draws.append(button);
      show(0);
    });
  };

  const askNumbers = () => {
    document.querySelectorAll(".show .question.number").forEach((question) => {
      const { answer, within, unit } = question.dataset;
      const input = create("input", { type: "text", inputMode: "decimal" });
      input.setAttribute("aria-label", `Your answer${unit ? `, in ${unit}` : ""}`);
      const verdict = create("span", { role: "status" });
      const form = create("form");
      form.append(input, ` ${unit} `, create("button", { type: "submit" }, "Check"), " ", verdict);
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        const given = Number.parseFloat(input.value.replaceAll(",", ""));
        const slack = Math.max(Number(within), 1e-9 * Math.abs(Number(answer)));
        if (Number.isNaN(given)) {
          verdict.textContent = "Write a number, such as 12.5.";
          return;
        }
        const right = Math.abs(given - Number(answer)) <= slack;
        verdict.textContent = right ? "Right." : given < Number(answer) ? "It is more." : "It is less.";
        question.dispatchEvent(new CustomEvent("answered", { detail: right }));
      });
      question.querySelector("p").after(form);
    });
  };

  // First answers are kept by this browser, and counted where a section asks three questions or more.
  const ANSWERS = "companion-answers";
  const MANY = 3;
  const firstAnswers = () => {
    try {
      return JSON.parse(localStorage.getItem(ANSWERS)) ?? {};
    } catch {
      return {};
    }
  };
  const keepAnswers = (answers) => {
    try {
      localStorage.setItem(ANSWERS, JSON.stringify(answers));
    } catch {
      // they count for this page then
    }
  };

  const countAnswers = () => {
    const answers = firstAnswers();
    const sections = new Map();
    document.querySelectorAll(".show .question").forEach((question) => {
      const section = question.closest("section");
      sections.set(section, [...(sections.get(section) ?? []), question]);
    });
    sections.forEach((questions) => {
      const keys = new Map(questions.map((one) => [one, `${location.pathname} ${one.querySelector("p").textContent}`]));
      const line = create("p", { className: "score" });
      line.setAttribute("role", "status");
      const show = () => {
        const given = questions.filter((one) => keys.get(one) in answers);
        const right = given.filter((one) => answers[keys.get(one)]).length;
        questions.forEach((one) => (one.dataset.first = given.includes(one) ? String(answers[keys.get(one)]) : ""));
        line.replaceChildren(`${given.length} of ${questions.length} answered, ${right} right at the first try. `);
        if (given.length) line.append(again);
      };
      const forget = () => {
        questions.forEach((one) => {
          delete answers[keys.get(one)];
          one.querySelectorAll("details").forEach((fold) => (fold.open = false));
          one.querySelector("form")?.reset();
          one.querySelector("[role=status]")?.replaceChildren();
        });
        keepAnswers(answers);
        show();
      };
      const again = create("button", { type: "button" }, "Start again");
      again.addEventListener("click", forget);
      const note = (question, right) => {
        if (keys.get(question) in answers) return;
        answers[keys.get(question)] = right;
        keepAnswers(answers);
        show();
      };
      questions.forEach((question) => {
        question.addEventListener("answered", (event) => note(question, event.detail));
        question.querySelectorAll("details:is(.right, .wrong)").forEach((fold) => {
          fold.addEventListener("toggle", () => fold.open && note(question, fold.classList.contains("right")));
        });
      });
      if (questions.length >= MANY) questions.at(-1).closest(".cell").after(line);
      show();
    });
  };

  // On paper the answers stand below their exercises, and the page is light.
  let theme;
  window.addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    document.querySelectorAll("details.answer:not([open])").forEach((answer) => {
      answer.open = true;
      answer.dataset.printed = "";
    });
  });
  window.addEventListener("afterprint", () => {
    root.dataset.theme = theme;
    document.querySelectorAll("details[data-printed]").forEach((answer) => {
      answer.open = false;
      delete answer.dataset.printed;
    });
  });

  // What scrolls in its own box is reached by keyboard.
  const BOXES = "article :is(mjx-container[display='true'], pre, .output, .show, .show div, .pst-scrollable-table-container)";
  const focusScrolling = () => {
    document.querySelectorAll(BOXES).forEach((box) => {
      const scrolls = box.scrollWidth > box.clientWidth && /auto|scroll/.test(getComputedStyle(box).overflowX);
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    });
  };
  window.addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    focusScrolling();
    window.addEventListener("resize", focusScrolling);
  });

  document.addEventListener("DOMContentLoaded", () => {
    styleClaimLines();
    addSwitch(markClaims());
    turnDraws();
    askNumbers();
    countAnswers();
    const asked = document.getElementById(location.hash.slice(1));
    asked?.closest("details")?.setAttribute("open", "");
  });
})();
