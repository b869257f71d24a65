/** Details of the selected network and neuron. */

import { count, el, fill, number, say, spell } from "./dom.js";

/** List tokens with their context, each as a button that selects the token. */
export function topTokens(tops, unit, go) {
  if (!tops.length) return el("p", { class: "soft", text: "No volume has a value." });
  return el("ol", { class: "tops" }, ...tops.map((top) => el("li", {}, el("button", {
    type: "button", title: `${top.corpus}, run ${top.run}, volume ${top.volume}`, on: { click: () => go(top) },
    data: { volume: top.volume, run: top.run, corpus: top.corpus },
  },
  el("span", { class: "value", text: number(top.value, unit === "activation" ? 3 : 1), title: unit }),
  el("span", { class: "context" }, spell(top.before ?? ""), el("mark", {}, spell(top.token, true)), spell(top.after ?? ""))))));
}

/** List the tokens with the highest and lowest values of a time course. */
export const bothEnds = ({ highest, lowest }, unit, go) => [
  el("h3", { text: "Highest values" }), topTokens(highest, unit, go), el("h3", { text: "Lowest values" }), topTokens(lowest, unit, go),
];

/** Show the metrics of a network, its layer profile, and containers for lesions and tokens. */
export function showNetwork(host, row, space, stat, overlay) {
  const signs = row.n_neurons ? ` (${row.n_positive} positive, ${row.n_neurons - row.n_positive} negative)` : "";
  const facts = [
    ["neurons", `${row.n_neurons.toLocaleString("en")}${signs}`], ["mean layer", number(row.mean_layer, 1)],
    ["variance", number(row.variance, 3)], ["stability Iq", number(row.iq, 2)], [`max |${stat}|`, number(row.max, 1)],
  ];
  fill(host,
    el("h2", {}, el("bdi", { text: row.name })),
    row.label ? el("p", { class: "label-text" }, spell(row.label)) : null,
    row.n_neurons ? null : el("p", { class: "note", text: row.rejected ? "Rejected manually. Press m to see the whole map." : "No neuron passes the threshold. An empty network is a valid result. Press m to see the whole map." }),
    el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })])),
    el("h3", { text: "Neurons per layer" }), profile(row.profile ?? [], space),
    el("h3", { text: "Lesions" }), overlay.lesions,
    overlay.tops,
  );
}

function profile(counts, { layers }) {
  const most = Math.max(1, ...counts);
  const bars = counts.map((n, layer) => {
    const bar = el("i", { title: `${layers[layer]?.name ?? layer}: ${count(n, "neuron")}` });
    bar.style.setProperty("--share", n / most);
    return bar;
  });
  const words = counts.map((n, layer) => `${layers[layer]?.name ?? layer}: ${n}`).join(", ");
  return el("div", { class: "profile" },
    el("div", { class: "bars", role: "img", "aria-label": words }, ...bars),
    el("div", { class: "ends soft" }, el("span", { text: layers[0].name }), el("span", { text: layers[layers.length - 1].name })));
}

/** Show the selected neuron, and a form to select another one. */
export function showNeuron(host, { layer, neuron, space, facts, tops, pick }) {
  const [first, second] = [layer ?? "", neuron ?? ""];
  const field = (name, value, max) => el("input", { type: "number", min: 0, max, value, name, "aria-label": name, required: true });
  const last = Math.max(...space.layers.map((entry) => entry.width)) - 1;
  const inputs = [field("layer", first, space.layers.length - 1), field("neuron", second, last)];
  const form = el("form", { class: "go" }, el("label", {}, "Layer ", inputs[0]), el("label", {}, "Neuron ", inputs[1]), el("button", { text: "Go" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [z, n] = inputs.map((input) => Number(input.value));
    const width = space.layers[z]?.width ?? 0;
    inputs[1].setCustomValidity(n < width ? "" : `layer ${z} has neurons 0 to ${width - 1}`);
    if (form.reportValidity()) pick(z, n);
  });
  inputs[1].addEventListener("input", () => inputs[1].setCustomValidity(""));
  if (layer === null) {
    host.replaceChildren(form, el("p", { class: "soft", text: "Click a voxel of the mosaic to select one neuron. Its time course is added below, and its tokens with the highest and lowest values are listed here." }));
    return;
  }
  host.replaceChildren(
    el("h2", { id: "neuron-name", text: `${space.layers[layer].name} · neuron ${neuron}` }),
    el("dl", { id: "neuron-facts" }, ...facts.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })])),
    form, ...[tops].flat(),
  );
}

/** Create a container with a placeholder text. */
export function slot(id, words) {
  const node = el("div", { id, class: "slot" });
  say(node, words);
  return node;
}
