/** The text that ran along: a strip of tokens, coloured by a time course. */

import { el, hideTip, number, showTip, spell, spoken } from "./dom.js";
import { quantile } from "./slices.js";

/** Choose the value that has the full colour: what 99 % of the volumes stay below, and never less than 2 sd. */
export const fullColor = (values) => Math.max(2, quantile(Float32Array.from(values, Math.abs), 0.99) || 0);

/** The strip in an element of the page. */
export class Strip {
  constructor(host, { select }) {
    this.host = host;
    this.cells = [];
    this.values = null;
    this.volume = null;
    const cell = (event) => event.target.closest?.("[data-volume]");
    host.addEventListener("click", (event) => {
      const found = cell(event);
      if (found) select(Number(found.dataset.volume));
    });
    host.addEventListener("pointermove", (event) => {
      const found = cell(event);
      if (found) this.#tip(Number(found.dataset.volume), event.clientX, event.clientY);
      else hideTip();
    });
    host.addEventListener("pointerleave", hideTip);
  }

  /** @param {{tokens: string[], text_ids: string[], text_starts: number[]}} run */
  setTokens({ tokens, text_ids: ids, text_starts: starts }) {
    this.tokens = tokens;
    this.volume = null;
    const perVolume = ids.length === tokens.length;
    const bounds = starts.length && starts[0] === 0 ? starts : [0, ...starts];
    this.cells = [];
    const texts = bounds.map((first, place) => {
      const end = bounds[place + 1] ?? tokens.length;
      const id = perVolume ? ids[first] : ids[place];
      const text = el("div", { class: "text", role: "group", "aria-label": `Text ${id ?? place + 1}` });
      text.append(el("span", { class: "text-id", text: String(id ?? place + 1), "aria-hidden": "true" }));
      for (let volume = first; volume < end; volume++) {
        const node = this.#cell(tokens[volume], volume);
        this.cells.push(node);
        text.append(node);
      }
      return text;
    });
    this.host.replaceChildren(...texts);
    this.setValues(null);
  }

  #cell(token, volume) {
    return el("span", {
      class: "token", id: `token-${volume}`, role: "option", "aria-selected": "false", "aria-label": spoken(token),
      data: { volume },
    }, spell(token, false, true));
  }

  /** Give out no value until the next ones are set. */
  wait() {
    this.waiting = true;
    hideTip();
  }

  /** Colour the tokens by one value each; null takes the colours away. */
  setValues(values) {
    this.waiting = false;
    this.values = values;
    const full = values ? fullColor(values) : 1;
    this.cells.forEach((cell, volume) => {
      const value = values?.[volume] ?? 0;
      cell.classList.toggle("positive", value > 0);
      cell.classList.toggle("negative", value < 0);
      cell.style.setProperty("--share", Math.min(1, Math.abs(value) / full).toFixed(3));
    });
  }

  /** Set the cursor on a token, and bring it into sight. */
  select(volume) {
    if (volume === this.volume) return;
    if (this.volume !== null) this.cells[this.volume]?.setAttribute("aria-selected", "false");
    this.volume = volume;
    const cell = this.cells[volume];
    if (!cell) return;
    cell.setAttribute("aria-selected", "true");
    this.host.setAttribute("aria-activedescendant", cell.id);
    const { scrollX, scrollY } = window;
    cell.scrollIntoView({ block: "nearest" });
    window.scrollTo(scrollX, scrollY); // the strip has to scroll, a page that is too small for all of it must not
  }

  #tip(volume, x, y) {
    const value = this.waiting ? "…" : this.values ? `${number(this.values[volume])} sd` : "no time course";
    showTip(x, y, el("b", {}, spell(this.tokens[volume], true)), el("span", { text: `volume ${volume} · ${value}` }));
  }
}
