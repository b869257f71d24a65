/** Scene: underlay, overlay and colours of one or two mosaics, and pointer actions. */

import { useSlices } from "./api.js";
import { gradient } from "./color.js";
import { current, data, names, partnerNames, statOf, volume } from "./data.js";
import { $, count, el, hideTip, number, showTip } from "./dom.js";
import { hasWebGL2 } from "./painters.js";
import { Roi } from "./roi.js";
import { ceiling, grey, quantile, reach, shownAt } from "./slices.js";
import { state, update } from "./state.js";
import { Mosaic } from "./volume.js";

const crowded = [false, false];
export const mosaics = [
  new Mosaic($("mosaics"), "Mosaic of layers", pointer(0)), new Mosaic($("mosaics"), "Mosaic of the second set", pointer(1)),
];
/** Draw marks on top of the mosaics. */
export const mark = (changes) => mosaics.forEach((mosaic) => mosaic.mark(changes));
export const roi = new Roi($("panel-roi"), {
  changed: (keys) => mark({ roi: keys }), tool: (tool) => update({ tool }), members: shownMembers,
  shown: () => ({ root: data.study.root, scope: data.study.scope, fingerprint: data.study.fingerprint, geometry: data.site.geometry }),
});

let webgl = null;
const later = window.requestIdleCallback?.bind(window) ?? ((act) => setTimeout(act, 60));

/** Switch to NiiVue. The test for WebGL can take a second, and is therefore done after the first picture. */
function startNiivue(mosaic) {
  webgl ??= hasWebGL2();
  if (webgl) return mosaic.promote().catch(noNiivue);
  mosaic.promoted = true;
  useSlices();
  $("no-webgl").textContent =
    "This browser has no WebGL2, which NiiVue requires. The mosaic is drawn on a plain canvas; all functions work.";
  $("no-webgl").hidden = false;
  return undefined;
}

let waiting = false;

/** Paint the mosaics once per animation frame, after all changes. */
export function render() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (data.site) paint();
  });
}

function underlay() {
  const values = { mean: data.mean, volume: current(data.volume, volume()) }[state.underlay]?.values;
  if (!values || values.length !== data.mask.length) return (data.plain ??= grey(null, data.mask));
  if (!data.greys.has(values)) data.greys.set(values, grey(values, data.mask));
  return data.greys.get(values);
}

/** Unit of an overlay and of its threshold. */
const unitOf = (overlay) => {
  if (overlay === "volume") return "activation";
  const stats = [statOf(state.set), ...(state.view === "compare" && state.second ? [statOf(state.second)] : [])];
  return [...new Set(stats)].join(" and ");
};

/** Change the overlay; the threshold is reset if the unit changes. */
export const showOverlay = (overlay) =>
  update({ overlay, threshold: unitOf(overlay) === unitOf(state.overlay) ? state.threshold : null });

/** Values of the overlay, and its default threshold. */
function layerOf({ map, members }) {
  if (state.overlay === "volume") {
    const values = current(data.volume, volume())?.values ?? null;
    return { values, start: values ? quantile(Float32Array.from(values, Math.abs), 0.9) : 0 };
  }
  const values = state.overlay === "none" ? null : (state.overlay === "map" ? map : members)?.values ?? null;
  const range = members ? reach(members.values) : { low: 0, high: 0 };
  const start = range.high ? range.low : Math.min(data.info.z ?? 3, map ? reach(map.values).high : 3);
  return { values, start };
}

function paint() {
  const { mask } = data;
  const comparing = state.view === "compare";
  const fitting = (overlay) => ({ ...overlay, values: overlay?.values?.length === mask.length ? overlay.values : null });
  const layer = (images, request) =>
    images && layerOf({ map: current(images.map, request), members: current(images.members, request) });
  const sides = [layer(data, names()), comparing ? layer(data.partner, partnerNames()) : null].map(fitting);
  const scale = commonScale(sides.filter((side) => side.values), sides[0].start);
  const { low, high } = scale;
  const unit = unitOf(state.overlay);
  slider({ ...scale, unit, on: Boolean(sides[0].values) });
  legend(sides.some((side) => side.values) ? { ...scale, unit } : null);
  const content = { space: data.site, underlay: underlay(), low, high };
  const shown = sides[0].values;
  show(mosaics[0], { ...content, overlay: shown }, comparing && state.network ? titled(state.set, state.network) : null);
  mosaics[1].stage.parentElement.hidden = !comparing;
  if (comparing) {
    show(mosaics[1], { ...content, overlay: sides[1].values }, state.partner ? titled(state.second, state.partner) : "\u00a0");
  }
  const other = state.partner ? emptyWords(sides[1].values, low, state.partner) : data.unmatched;
  const words = [emptyWords(shown, low, state.network), comparing ? other : null];
  mosaics.forEach((mosaic, side) => mosaic.say(words[side], words[1 - side])); // both sides keep the same size
  tell(shown ? shownAt(shown, low) : null);
  showHovered(); // values under the pointer may have just arrived
}

/** Return one colour scale for both sides, so that colours are comparable: its start and end. */
function commonScale(shown, otherwise) {
  const most = Math.max(0, ...shown.map((side) => reach(side.values).high)) || 1;
  const step = most > 1 ? 0.01 : 10 ** Math.floor(Math.log10(most / 100));
  // Each set has its own stored members; a set without members does not affect the scale.
  const starts = shown.filter((side) => reach(side.values).high).map((side) => side.start);
  const first = starts.length ? Math.min(...starts) : otherwise;
  // Rounded down, so that values at the threshold are shown.
  const start = Math.floor(first / step + 1e-6) * step;
  const low = state.threshold ?? start;
  const top = shown.length ? ceiling(shown.map((side) => side.values), low) : { high: 1, clipped: false };
  return { low, start, most, step, ...top };
}

// Most network names start with the name of their set.
const titled = (set, network) => (network.startsWith(set) ? network : `${set} · ${network}`);

function show(mosaic, content, title) {
  mosaic.title.textContent = title ?? "";
  mosaic.title.hidden = title === null;
  mosaic.zoom = state.zoom;
  mosaic.show(content).then(() => {
    if (!content.overlay && state.set) return;
    if (!performance.getEntriesByName("lmri-mosaic").length) performance.mark("lmri-mosaic");
    // The plain canvas is available immediately; NiiVue replaces it after it has started.
    if (!mosaic.promoted) later(() => startNiivue(mosaic), { timeout: 2000 });
  });
}

function emptyWords(values, low, network) {
  if (!network || !values) return null;
  const { positive, negative } = shownAt(values, low);
  if (positive + negative) return null;
  if (state.overlay !== "members" || reach(values).high) return "No neuron exceeds this threshold.";
  if (data.rows.find((row) => row.name === network)?.rejected) return `${network} was rejected manually. Press m to see the whole map.`;
  return `${network} is empty: no neuron passes the threshold ${data.info.threshold ?? ""}. This is a valid null result. Press m to see the whole map.`;
}

function slider({ low, most, step, start, unit, on: shown }) {
  const input = $("threshold");
  input.max = Math.max(most, low);
  input.step = step;
  input.value = low;
  input.disabled = !shown;
  const digits = Math.min(6, Math.max(2, -Math.floor(Math.log10(step))));
  $("threshold-name").textContent = unit.length === 1 ? `|${unit}| ≥` : "|value| ≥";
  $("threshold-value").textContent = shown ? number(low, digits) : "–";
  input.setAttribute("aria-valuetext", number(low, digits));
  input.dataset.start = start;
  $("threshold-reset").disabled = state.threshold === null;
}

function legend(range) {
  const bar = $("colorbar");
  bar.hidden = !range;
  if (!range) return;
  const { low, high, clipped, unit } = range;
  const digits = high < 1 ? 3 : high < 100 ? 1 : 0;
  const [near, far] = [number(low, Math.max(digits, 2)), number(high, digits)];
  const ramp = (name) => {
    const node = el("i", { class: "ramp" });
    node.style.background = gradient(name);
    return node;
  };
  const end = clipped ? "≥ " : "";
  bar.replaceChildren(el("span", { text: `${clipped ? "≤ " : ""}−${far}` }), ramp("negative"), el("span", { text: `−${near}` }),
    el("span", { class: "unit", text: unit }), el("span", { text: near }), ramp("positive"), el("span", { text: `${end}${far}` }));
  bar.setAttribute("aria-label", `Colour scale: ${unit} from ${near} to ${far} in red, from −${near} to −${far} in blue`);
}

let resting = "";

function tellCoarse(side, now) {
  crowded[side] = now;
  $("coarse").hidden = !crowded.some(Boolean);
}

function tell(shown) {
  const all = data.site.n_neurons.toLocaleString("en");
  resting = shown ? `${count(shown.positive + shown.negative, "neuron")} shown (${shown.positive} above 0, ${shown.negative} below) of ${all}` : `${all} neurons`;
  $("readout").textContent = resting;
}

const placeOf = ({ layer, neuron }) => layer * data.site.shape[0] * data.site.shape[1] + neuron;

/** Describe a voxel of the first (0) or second (1) mosaic. */
export function describe(under, side) {
  const values = (side ? current(data.partner?.map, partnerNames()) : current(data.map, names()))?.values;
  const base = { mean: data.mean, volume: current(data.volume, volume()) }[state.overlay === "volume" ? "volume" : state.underlay];
  const parts = [`${data.site.layers[under.layer].name} · neuron ${under.neuron}`];
  if (values) parts.push(`${statOf(side ? state.second : state.set)} ${number(values[placeOf(under)])}`);
  if (base) parts.push(`${base === data.mean ? "mean" : "activation"} ${number(base.values[placeOf(under)], 3)}`);
  return parts;
}

let hovered = null;

/** Update the description of the voxel under the pointer; values appear when they have arrived. */
export function showHovered() {
  if (!hovered) return;
  const { under, side, x, y } = hovered;
  if (under.neuron >= (data.site.layers[under.layer]?.width ?? 0)) return; // voxel of another site, until the pointer moves
  const [name, ...rest] = describe(under, side);
  showTip(x, y, el("b", { text: name }), ...rest.map((text) => el("span", { text })));
  $("readout").textContent = [name, ...rest].join(" · ");
}

/** Remove the pictures, the colour scale and the description of the voxel under the pointer. */
export function clearScene() {
  hovered = null;
  hideTip();
  resting = "";
  $("readout").textContent = "";
  legend(null);
  mosaics.forEach((mosaic) => { mosaic.clear(); mosaic.say(null); });
}

/** Return the pointer actions of a mosaic: inspect neurons, or edit the ROI. */
function pointer(side) {
  const box = (from, to) => ({ layer: from.layer, x0: Math.min(from.x, to.x), y0: Math.min(from.y, to.y), x1: Math.max(from.x, to.x), y1: Math.max(from.y, to.y) });
  let last = null;
  return {
    failed: noNiivue,
    coarse: (now) => tellCoarse(side, now && (side === 0 || state.view === "compare")),
    hover(under, event) {
      hovered = under && { under, side, x: event.clientX, y: event.clientY };
      if (under) return showHovered();
      hideTip();
      $("readout").textContent = resting;
    },
    press(under, event) {
      last = under;
      if (state.tool === "pick") roi.toggle(under);
      if (state.tool === "paint") {
        roi.begin();
        roi.stroke(under.layer, under.x, under.y, under.x, under.y, event.shiftKey);
      }
    },
    drag(from, under, event) {
      if (state.tool === "box") mark({ band: box(from, under) });
      if (state.tool !== "paint" || under.layer !== from.layer) return;
      // Fast pointers skip voxels, so the line between two positions is filled.
      const steps = Math.max(Math.abs(under.x - last.x), Math.abs(under.y - last.y), 1);
      for (let step = 1; step <= steps; step++) {
        const [x, y] = ["x", "y"].map((axis) => Math.round(last[axis] + ((under[axis] - last[axis]) * step) / steps));
        roi.stroke(under.layer, x, y, x, y, event.shiftKey);
      }
      last = under;
    },
    release(from, to, event) {
      if (state.tool === "box" && to) {
        const { layer, x0, y0, x1, y1 } = box(from, to);
        roi.begin();
        roi.stroke(layer, x0, y0, x1, y1, event.shiftKey);
      }
      mark({ band: null });
      if (state.tool === "inspect") update({ layer: from.layer, neuron: from.neuron, panel: "neuron" });
    },
    open(under) {
      if (state.tool === "inspect") update({ zoom: state.zoom === null ? under.layer : null });
    },
  };
}

/** Return the members that are shown, as indices in the volume. */
function shownMembers() {
  const values = current(data.members, names())?.values;
  if (!values) return [];
  const low = ["members", "map"].includes(state.overlay) ? state.threshold ?? 0 : 0;
  const keys = [];
  values.forEach((value, voxel) => {
    if (value !== 0 && Math.abs(value) >= low && data.mask[voxel]) keys.push(voxel);
  });
  return keys;
}

function noNiivue(error) {
  $("no-webgl").textContent = `NiiVue failed (${error.message}). The mosaic is drawn on a plain canvas; all functions work.`;
  $("no-webgl").hidden = false;
}
