/** Text strip: tokens coloured by a time course. */

import { el, hideTip, number, showTip, spell, spoken } from "./dom.js";
import { quantile } from "./slices.js";

/** Return the value with full colour: the 99th percentile of |values|, but at least 2 sd. */
export const fullColor = (values) => Math.max(2, quantile(Float32Array.from(values, Math.abs), 0.99) || 0);

/** Text strip in an element of the page. */
export class Strip {
  constructor(host, { select }) {
    this.host = host;
    this.cells = [];
    this.values = null;
    this.volume = null;
    const cell = (event) => event.target.closest?.("[data-volume]");
    host.addEventListener("click", (event) => {
      const target = cell(event);
      if (target) select(Number(target.dataset.volume));
    });
    host.addEventListener("pointermove", (event) => {
      const target = cell(event);
      if (target) this.#tip(Number(target.dataset.volume), event.clientX, event.clientY);
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

  /** Hide values until the next values are set. */
  wait() {
    this.waiting = true;
    hideTip();
  }

  /** Colour the tokens by their values; null removes the colours. */
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

  /** Set the cursor on a token, and scroll to it. */
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
    window.scrollTo(scrollX, scrollY); // only the strip scrolls, not the page
  }

  #tip(volume, x, y) {
    const value = this.waiting ? "…" : this.values ? `${number(this.values[volume])} sd` : "no time course";
    showTip(x, y, el("b", {}, spell(this.tokens[volume], true)), el("span", { text: `volume ${volume} · ${value}` }));
  }
}
