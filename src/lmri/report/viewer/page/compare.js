/** Comparison of two sets: matched networks, with their null. */

import { matches } from "./api.js";
import { command, el, number } from "./dom.js";
import { Grid } from "./table.js";

const COLUMNS = [
  { key: "first", label: "First", text: true, cell: (row) => el("bdi", { text: row.first }) },
  { key: "second", label: "Second", text: true, cell: (row) => el("bdi", { text: row.second }) },
  { key: "r", label: "r", title: "correlation of the two maps over neurons", order: (row) => Math.abs(row.r) },
  { key: "r_null_95", label: "null", title: "95th percentile of |r| for arbitrary unmixings, at this rank" },
  {
    key: "above_null", label: "●", title: "whether |r| exceeds its null", order: (row) => Number(row.above_null),
    cell: (row) => el("span", { class: row.above_null ? "yes" : "no", text: row.above_null ? "●" : "○", title: row.above_null ? "exceeds its null" : "within its null", "aria-label": row.above_null ? "yes" : "no" }),
  },
  { key: "iou", label: "IoU", title: "intersection over union of the members" },
];

/** Left pane of the comparison view. */
export class Comparison {
  constructor(host, { choose, select }) {
    this.select = select;
    this.choice = el("select", { id: "second", on: { change: () => choose(this.choice.value) } });
    this.summary = el("div", { class: "pad summary", id: "compare-summary", role: "status" });
    this.grid = el("div", { class: "fill" });
    host.append(el("p", { class: "pad versus" }, el("label", {}, el("b", { id: "first-name" }), " compared with ", this.choice)), this.summary, this.grid);
    this.pairs = new Grid(this.grid, {
      name: "Matched networks", noun: "pair", columns: COLUMNS, select,
      key: (row) => `${row.first}\n${row.second}`, words: (row) => `${row.first} ${row.second}`,
      quiet: (row) => !row.above_null,
    });
  }

  /** List the other sets of a site, sets with a stored comparison first. */
  offer(site, set, second) {
    document.getElementById("first-name").textContent = set;
    const stored = new Set(site.comparisons.flatMap((entry) => (entry.first === set ? [entry.second] : entry.second === set ? [entry.first] : [])));
    const others = site.sets.map((entry) => entry.name).filter((name) => name !== set);
    others.sort((a, b) => stored.has(b) - stored.has(a));
    const option = (name) => el("option", { value: name, text: stored.has(name) ? name : `${name} (not compared yet)` });
    this.choice.replaceChildren(...others.map(option));
    this.choice.disabled = !others.length;
    const chosen = others.includes(second) ? second : others[0] ?? null;
    if (chosen) this.choice.value = chosen;
    return chosen;
  }

  /** Fetch and show the pairs of two sets; without a stored comparison, show the command that computes it. */
  async load(site, first, second) {
    if (!second) {
      this.#clear(el("p", { class: "soft", text: "There is only one set of networks at this site; a comparison needs two. Compute another:" }),
        command("lmri decompose STUDY --method fastica-temporal"));
      return [];
    }
    const key = [site, first, second].join("\n");
    if (key !== this.key) this.#clear(el("p", { class: "soft", text: "…" })); // pairs of other sets cannot be selected
    this.key = key;
    try {
      const comparison = await matches(site, first, second);
      this.stored = true;
      this.grid.hidden = false;
      this.pairs.setRows(comparison.pairs);
      this.summary.replaceChildren(el("p", {}, "Mean |r| ", el("b", { text: number(comparison.mean_r) }),
        `; arbitrary unmixings of the same data have ${number(comparison.null_mean)} (95th percentile: ${number(comparison.null_95)}).`),
      el("p", { class: "soft", text: `${comparison.pairs.filter((pair) => pair.above_null).length} of ${comparison.pairs.length} pairs exceed the null of their rank. Stored as ${comparison.source}.` }));
      return comparison.pairs;
    } catch (error) {
      if (error.status !== 404) throw error;
      const [words, run] = error.message.split(/(?:Run|run): (?=lmri )/);
      this.#clear(el("p", { class: "soft", text: run ? `${words.trim()} Run:` : error.message }), run ? command(run.trim()) : null);
      return [];
    }
  }

  /** Remove the pairs and the names of the sets. */
  clear() {
    this.key = null;
    document.getElementById("first-name").textContent = "";
    this.choice.replaceChildren();
    this.#clear();
  }

  #clear(...nodes) {
    this.stored = false;
    this.grid.hidden = true;
    this.pairs.setRows([]);
    this.summary.replaceChildren(...nodes.filter(Boolean));
  }
}
