// The element <bert-live>: it shows the still that came with the page, and a button. Only a press of the button fetches
// the rest: component.js and, through it, the model. A plain script, so that it says what is wrong on file:// too.

{
  const here = document.currentScript.src;

  customElements.define("bert-live", class extends HTMLElement {
    connectedCallback() {
      if (!this.hasAttribute("megabytes") || this.querySelector(".bl-start")) return;
      this.classList.add("bl-ready");
      this.append(this._offer());
    }

    _offer() {
      const row = document.createElement("div");
      row.className = "bl-start";
      this._button = document.createElement("button");
      this._button.type = "button";
      this._button.className = "bl-run";
      this._button.textContent = `Run ${this.getAttribute("model")} here (${this.getAttribute("megabytes")} MB)`;
      this._button.addEventListener("click", () => this._run());
      this._said = document.createElement("span");
      this._said.className = "bl-said";
      this._said.setAttribute("role", "status");
      this._said.textContent = this.getAttribute("mode") === "fill"
        ? "Then hide other words, or type a sentence of your own."
        : "Then look through all heads, with sentences of your own.";
      row.append(this._button, this._said);
      return row;
    }

    async _run() {
      if (this._busy) return;
      this._setBusy(true);
      this.classList.remove("bl-failed");
      this._say("Fetching …");
      try {
        const { start } = await import(new URL("component.js", here));
        await start(this, (share) => this._say(share < 1 ? `Fetching … ${Math.round(100 * share)}%` : "Starting …"));
      } catch (error) {
        this._fail(error);
      }
    }

    /** Not `disabled`, which would take the focus away from who uses the keyboard. */
    _setBusy(busy) {
      this._busy = busy;
      this._button.setAttribute("aria-disabled", String(busy));
    }

    _say(text) {
      this._said.textContent = text;
    }

    _fail(error) {
      console.info(error);
      this.classList.add("bl-failed");
      this._setBusy(false);
      this._button.textContent = "Try again";
      this._say(location.protocol === "file:"
        ? "A browser fetches no model for a page opened from a file. Serve the folder: python -m http.server"
        : `The model could not be fetched (${error.message}). Are you offline?`);
    }
  });
}
