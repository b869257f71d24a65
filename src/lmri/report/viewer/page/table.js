/** Table with selectable rows, sorting, text filter and keyboard navigation. */

import { count, el, number } from "./dom.js";

/**
 * @typedef {{key: string, label: string, title?: string, digits?: number, text?: boolean, cell?: Function,
 *   order?: Function}} Column
 */

/** Table in an element of the page. */
export class Grid {
  /**
   * @param {HTMLElement} host
   * @param {{name: string, noun: string, columns: Column[], key: Function, words: Function, select: Function}} options
   */
  constructor(host, options) {
    this.options = options;
    this.rows = [];
    this.shown = [];
    this.selected = null;
    this.sort = null;
    this.filter = el("input", {
      type: "search", class: "filter", placeholder: `Filter ${options.noun}s`, "aria-label": `Filter ${options.noun}s`,
      spellcheck: "false", on: { input: () => this.#render() },
    });
    this.total = el("span", { class: "total", role: "status" });
    this.heads = options.columns.map((column) => this.#head(column));
    this.body = el("tbody");
    this.table = el("table", { role: "grid", "aria-label": options.name }, el("thead", {}, el("tr", {}, ...this.heads)), this.body);
    this.scroll = el("div", { class: "scroll" }, this.table);
    this.empty = el("p", { class: "soft pad", hidden: true });
    host.append(el("div", { class: "finder" }, this.filter, this.total), this.scroll, this.empty);
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row) this.#choose(this.shown[Number(row.dataset.place)], true);
    });
  }

  #head(column) {
    const act = () => {
      const same = this.sort?.column === column;
      // Numbers are sorted in descending order first, text in ascending order.
      this.sort = { column, down: same ? !this.sort.down : !column.text };
      this.#render();
    };
    const button = el("button", { type: "button", text: column.label, title: column.title ?? column.label, on: { click: act } });
    return el("th", { class: column.text ? "t" : null, scope: "col", "aria-sort": "none", data: { key: column.key } }, button);
  }

  /** @param {object[]} rows */
  setRows(rows) {
    this.rows = rows;
    this.#render();
  }

  /** Mark a row as selected, without notifying listeners. */
  select(key) {
    this.selected = key;
    this.#mark(false);
  }

  /** Move the selection down (or up) by some rows, in the displayed order. */
  move(steps) {
    if (!this.shown.length) return;
    const now = this.shown.findIndex((row) => this.options.key(row) === this.selected);
    const next = now < 0 ? 0 : Math.min(this.shown.length - 1, Math.max(0, now + steps));
    this.#choose(this.shown[next], this.body.contains(document.activeElement));
  }

  #choose(row, focus) {
    this.selected = this.options.key(row);
    this.#mark(focus);
    this.options.select(row);
  }

  #mark(focus) {
    this.shown.forEach((row, place) => {
      const node = this.body.rows[place];
      const isSelected = this.options.key(row) === this.selected;
      node.setAttribute("aria-selected", String(isSelected));
      node.tabIndex = isSelected ? 0 : -1;
      if (!isSelected) return;
      if (focus) node.focus({ preventScroll: true });
      const [box, view] = [node.getBoundingClientRect(), this.scroll.getBoundingClientRect()];
      const head = this.table.tHead.getBoundingClientRect().height;
      if (box.top < view.top + head) this.scroll.scrollTop -= view.top + head - box.top;
      else if (box.bottom > view.bottom) this.scroll.scrollTop += box.bottom - view.bottom;
    });
    if (this.shown.length && !this.body.querySelector('[tabindex="0"]')) this.body.rows[0].tabIndex = 0;
  }

  #render() {
    const wanted = this.filter.value.trim().toLowerCase();
    this.shown = this.rows.filter((row) => this.options.words(row).toLowerCase().includes(wanted));
    if (this.sort) this.shown.sort((a, b) => compare(this.sort, a, b));
    for (const head of this.heads) {
      const isSorted = this.sort?.column.key === head.dataset.key;
      head.setAttribute("aria-sort", isSorted ? (this.sort.down ? "descending" : "ascending") : "none");
    }
    const cell = (column, row) => {
      const content = column.cell ? column.cell(row) : column.text ? String(row[column.key] ?? "") : number(row[column.key], column.digits ?? 2);
      return el("td", { class: column.text ? "t" : null, role: "gridcell" }, content);
    };
    this.body.replaceChildren(...this.shown.map((row, place) => {
      const quiet = this.options.quiet?.(row) ? "quiet" : null;
      return el("tr", { class: quiet, role: "row", data: { place, key: this.options.key(row) } }, ...this.options.columns.map((column) => cell(column, row)));
    }));
    const { noun } = this.options;
    this.total.textContent = wanted ? `${this.shown.length} of ${this.rows.length}` : count(this.rows.length, noun);
    this.empty.hidden = this.shown.length > 0 || !wanted;
    this.empty.textContent = `No ${noun} has “${this.filter.value.trim()}” in its name or label.`;
    this.#mark(false);
  }
}

function compare({ column, down }, a, b) {
  const value = (row) => (column.order ? column.order(row) : row[column.key]);
  const [x, y] = [value(a), value(b)];
  const missing = (entry) => entry === null || entry === undefined || Number.isNaN(entry);
  if (missing(x) || missing(y)) return missing(x) - missing(y); // missing values are last in both directions
  const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
  return down ? -order : order;
}
