/** Everything by keyboard, and the page that says how. */

import { $, el } from "./dom.js";

const KEYS = [
  [["←", "→"], "one volume back, or on: a token, word or sentence"],
  [["Page Up", "Page Down"], "one text back, or on"],
  [["Home", "End"], "first or last volume of the run"],
  [["↑", "↓"], "network (or pair) above, or below"],
  [["Shift", "← ↑ → ↓"], "neuron beside the one selected"],
  [["Shift", "Page Up/Down"], "same neuron, one layer down or up"],
  [["Enter", "Space"], "on the mosaic: put the neuron selected into the ROI, or out of it (while picking)"],
  [["[", "]"], "threshold down, up"],
  [["0"], "threshold of the stored members"],
  [["m"], "members or whole map"],
  [["u"], "next underlay"],
  [["z"], "enlarge the layer, or back"],
  [["c"], "compare two sets, or back"],
  [["1", "2", "3"], "network, neuron, ROI"],
  [["r"], "next tool of the ROI"],
  [["Ctrl", "Z"], "undo in the ROI"],
  [["/"], "filter the table"],
  [["t"], "light or dark"],
  [["?"], "this list"],
  [["Esc"], "back: out of a field, of an enlarged layer, of a tool"],
];

/** Whether keys typed there belong to the field. */
const typing = (node) => node.closest?.("select, textarea, input:not([type=range])");

/** Fill the help, and listen.
 * @param {Object<string, Function>} acts by name */
export function listen(acts) {
  const row = ([names, words]) => el("tr", {}, el("th", { scope: "row" }, ...names.map((name) => el("kbd", { text: name }))), el("td", { text: words }));
  $("help-table").append(el("tbody", {}, ...KEYS.map(row)));
  const help = () => ($("help").open ? $("help").close() : $("help").showModal());
  $("help-open").addEventListener("click", help);
  const plain = {
    ArrowLeft: () => acts.token(-1), ArrowRight: () => acts.token(1), PageUp: () => acts.text(-1), PageDown: () => acts.text(1),
    Home: () => acts.end(0), End: () => acts.end(1), ArrowUp: () => acts.network(-1), ArrowDown: () => acts.network(1),
    "[": () => acts.threshold(-1), "]": () => acts.threshold(1), 0: acts.stored, m: acts.members, u: acts.underlay,
    z: acts.zoom, c: acts.compare, 1: () => acts.panel("network"), 2: () => acts.panel("neuron"), 3: () => acts.panel("roi"),
    r: acts.tool, t: acts.theme, "/": acts.filter, "?": help, Escape: acts.escape,
  };
  const shifted = {
    ArrowLeft: () => acts.voxel(-1, 0, 0), ArrowRight: () => acts.voxel(1, 0, 0), ArrowUp: () => acts.voxel(0, 1, 0),
    ArrowDown: () => acts.voxel(0, -1, 0), PageUp: () => acts.voxel(0, 0, -1), PageDown: () => acts.voxel(0, 0, 1),
  };
  document.addEventListener("keydown", (event) => {
    if ($("help").open && event.key !== "?") return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey) {
      acts.undo();
      return event.preventDefault();
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.getAttribute?.("role") === "tab" && /^Arrow(Left|Right)$/.test(event.key)) {
      acts.nextPanel(event.key === "ArrowRight" ? 1 : -1);
      return event.preventDefault();
    }
    // A panel that has the focus scrolls by pages.
    if (event.target.getAttribute?.("role") === "tabpanel" && /^(Page|Home|End)/.test(event.key)) return;
    if (event.target.type === "range" && /^(Arrow|Home|End|Page)/.test(event.key)) return;
    if (event.target.classList?.contains("stage") && (event.key === "Enter" || event.key === " ")) {
      acts.enter();
      return event.preventDefault();
    }
    const act = event.shiftKey && shifted[event.key] ? shifted[event.key] : plain[event.key] ?? plain[event.key.toLowerCase()];
    if (!act) return;
    act();
    event.preventDefault();
  });
}
