/** Keyboard control, and the list of keys. */

import { $, el } from "./dom.js";

const KEYS = [
  [["←", "→"], "previous or next volume (token, word or sentence)"],
  [["Page Up", "Page Down"], "previous or next text"],
  [["Home", "End"], "first or last volume of the run"],
  [["↑", "↓"], "previous or next network (or pair)"],
  [["Shift", "← ↑ → ↓"], "neighbour of the selected neuron"],
  [["Shift", "Page Up/Down"], "same neuron, previous or next layer"],
  [["Enter", "Space"], "on the mosaic: add the selected neuron to the ROI, or remove it (with an ROI tool)"],
  [["[", "]"], "lower or raise the threshold"],
  [["0"], "reset the threshold to the stored members"],
  [["m"], "members or whole map"],
  [["u"], "next underlay"],
  [["z"], "enlarge the layer, or show all layers"],
  [["c"], "compare two sets, or return to the networks"],
  [["1", "2", "3"], "panel: network, neuron, ROI"],
  [["r"], "next ROI tool"],
  [["Ctrl", "Z"], "undo the last change of the ROI"],
  [["/"], "filter the table"],
  [["t"], "switch between light and dark"],
  [["?"], "show this list"],
  [["Esc"], "leave a field, an ROI tool or an enlarged layer; deselect the neuron"],
];

/** Whether an element receives typed text. */
const typing = (node) => node.closest?.("select, textarea, input:not([type=range])");

/** Fill the list of keys, and register the listeners.
 * @param {Object<string, Function>} acts actions by name */
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
    // A focused panel scrolls by pages.
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
