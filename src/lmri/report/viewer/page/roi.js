/** Region of interest (ROI): picked, painted or copied from a network, and saved for `lmri lesion --roi`. */

import { rois, saveRoi } from "./api.js";
import { command, count, el, say } from "./dom.js";

const TOOLS = [
  ["inspect", "Inspect", "click a voxel to show its neuron"],
  ["pick", "Pick", "click a voxel to add or remove its neuron"],
  ["paint", "Paint", "drag to add neurons; hold Shift to remove them"],
  ["box", "Box", "drag a rectangle to add its neurons; hold Shift to remove them"],
];
const UNDO = 200;

/** ROI that is being edited, and its panel. */
export class Roi {
  /** @param {{changed: Function, tool: Function, members: Function, shown: Function}} acts */
  constructor(host, acts) {
    this.acts = acts;
    this.scope = this.site = null;
    this.sets = new Map(); // one per model and site, because these have different neurons
    this.past = [];
    this.tools = TOOLS.map(([tool, label, title]) =>
      el("button", { type: "button", text: label, title, "aria-pressed": "false", data: { tool }, on: { click: () => acts.tool(tool) } }));
    this.hint = el("p", { class: "soft", id: "roi-hint" });
    this.size = el("p", { id: "roi-count", role: "status" });
    this.name = el("input", { id: "roi-name", type: "text", placeholder: "name", "aria-label": "Name of the ROI", autocomplete: "off", spellcheck: "false", maxlength: 80 });
    this.button = el("button", { class: "strong", text: "Save" });
    this.result = el("div", { id: "roi-result", role: "status" });
    this.list = el("ul", { id: "roi-list", class: "soft" });
    this.heading = el("h3", { text: "Saved in this study" });
    const act = (id, text, title, click) => el("button", { type: "button", id, text, title, on: { click } });
    host.append(
      el("div", { class: "switch", role: "group", "aria-label": "ROI tool" }, ...this.tools), this.hint, this.size,
      el("div", { class: "row" },
        act("roi-members", "Add the members", "members of the selected network that are shown at the threshold", () => this.take(acts.members())),
        act("roi-undo", "Undo", "the last change (Ctrl+Z)", () => this.undo()),
        act("roi-clear", "Clear", "remove all neurons", () => this.#change(new Set()))),
      el("form", { class: "row", on: { submit: (event) => { event.preventDefault(); this.save(); } } }, this.name, this.button),
      this.result, this.heading, this.list,
    );
  }

  /** Neurons of the ROI, as indices in the volume. */
  get keys() {
    return this.sets.get(this.place) ?? new Set();
  }

  get place() {
    return `${this.scope}\n${this.site}`;
  }

  /** Switch to the neurons of a model (null: the only one) and a site. */
  setSpace(scope, site, space) {
    if (this.scope !== scope || this.site !== site) this.past = [];
    if (this.scope !== scope) {
      this.heading.textContent = scope === null ? "Saved in this study" : "Saved for this model";
      for (const node of [this.result, this.list]) node.replaceChildren();
      this.scope = scope;
      this.refresh();
    }
    this.site = site;
    this.space = space;
    this.#tell();
  }

  setTool(tool) {
    for (const button of this.tools) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    const [, , words] = TOOLS.find(([name]) => name === tool);
    this.hint.textContent = `${words[0].toUpperCase()}${words.slice(1)}.`;
  }

  #key(layer, neuron) {
    return layer * this.space.shape[0] * this.space.shape[1] + neuron;
  }

  toggle({ layer, neuron }) {
    const next = new Set(this.keys);
    const key = this.#key(layer, neuron);
    if (!next.delete(key)) next.add(key);
    this.#change(next);
  }

  /** Begin a stroke, which `undo` reverts in one step. */
  begin() {
    this.past.push(this.keys);
    if (this.past.length > UNDO) this.past.shift();
    this.sets.set(this.place, new Set(this.keys));
  }

  /** Add or remove the neurons of a rectangle of voxels, within a stroke. */
  stroke(layer, x0, y0, x1, y1, out) {
    const [nx] = this.space.shape;
    for (let y = Math.min(y0, y1); y <= Math.max(y0, y1); y++) {
      for (let x = Math.min(x0, x1); x <= Math.max(x0, x1); x++) {
        const neuron = x + y * nx;
        if (neuron >= this.space.layers[layer].width) continue;
        if (out) this.keys.delete(this.#key(layer, neuron));
        else this.keys.add(this.#key(layer, neuron));
      }
    }
    this.#tell();
  }

  /** Add neurons, given by their indices in the volume. */
  take(keys) {
    if (keys.length) this.#change(new Set([...this.keys, ...keys]));
    else say(this.result, "This network shows no members at this threshold.", "note");
  }

  undo() {
    if (!this.past.length) return;
    this.sets.set(this.place, this.past.pop());
    this.#tell();
  }

  #change(next) {
    this.begin();
    this.sets.set(this.place, next);
    this.result.replaceChildren();
    this.#tell();
  }

  #tell() {
    const n = this.keys.size;
    const perLayer = this.space ? this.space.shape[0] * this.space.shape[1] : 1;
    const layers = new Set([...this.keys].map((key) => Math.floor(key / perLayer)));
    this.size.textContent = n ? `${count(n, "neuron")} in ${count(layers.size, "layer")}` : "The ROI is empty.";
    this.acts.changed(this.keys);
  }

  /** Neurons of the ROI as [layer, neuron], in order. */
  neurons() {
    const perLayer = this.space.shape[0] * this.space.shape[1];
    return [...this.keys].sort((a, b) => a - b).map((key) => [Math.floor(key / perLayer), key % perLayer]);
  }

  async save() {
    const name = this.name.value.trim();
    if (!this.keys.size) return say(this.result, "The ROI is empty. Pick neurons, or add the members of a network.", "bad");
    if (!name) {
      this.name.focus();
      return say(this.result, "Enter a name first.", "bad");
    }
    this.button.disabled = true;
    const { scope } = this;
    try {
      const saved = await saveRoi(this.site, name, this.neurons(), this.acts.shown());
      if (scope !== this.scope) return; // another model is shown now; the list of its own has the ROI
      this.result.replaceChildren(
        el("p", {}, `Saved ${count(saved.n_neurons, "neuron")} as `, el("code", { id: "roi-path", text: saved.path })),
        el("p", { class: "soft", text: "To lesion the ROI and test its effect, run:" }), command(saved.command));
      await this.refresh();
    } catch (error) {
      if (scope === this.scope) say(this.result, error.message, "bad");
    } finally {
      this.button.disabled = false;
    }
  }

  /** List the stored ROIs. */
  async refresh() {
    const { scope } = this;
    try {
      const stored = await rois();
      if (scope !== this.scope) return;
      const line = (roi) => el("li", {}, el("bdi", { text: roi.name }), ` · ${roi.site} · ${count(roi.n_neurons, "neuron")}`);
      this.list.replaceChildren(...(stored.length ? stored.map(line) : [el("li", { text: "none yet" })]));
    } catch (error) {
      if (scope === this.scope) this.list.replaceChildren(el("li", { text: error.message }));
    }
  }
}
