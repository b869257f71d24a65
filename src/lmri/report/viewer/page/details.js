/** What is known of the network and of the neuron being looked at. */

import { count, el, fill, number, say, spell } from "./dom.js";

/** Write tokens in their context, each a button that leads there. */
export function topTokens(tops, unit, go) {
  if (!tops.length) return el("p", { class: "soft", text: "No volume has a value." });
  return el("ol", { class: "tops" }, ...tops.map((top) => el("li", {}, el("button", {
    type: "button", title: `${top.corpus}, run ${top.run}, volume ${top.volume}`, on: { click: () => go(top) },
    data: { volume: top.volume, run: top.run, corpus: top.corpus },
  },
  el("span", { class: "value", text: number(top.value, unit === "activation" ? 3 : 1), title: unit }),
  el("span", { class: "context" }, spell(top.before ?? ""), el("mark", {}, spell(top.token, true)), spell(top.after ?? ""))))));
}

/** Write the tokens at which a time course is highest, and those at which it is lowest. */
export const bothEnds = ({ highest, lowest }, unit, go) => [
  el("h3", { text: "Highest at" }), topTokens(highest, unit, go), el("h3", { text: "Lowest at" }), topTokens(lowest, unit, go),
];

/** Write what the table knows of a network, its layers, and where lesions and tokens are to come. */
export function showNetwork(host, row, space, stat, overlay) {
  const signs = row.n_neurons ? ` (${row.n_positive} positive, ${row.n_neurons - row.n_positive} negative)` : "";
  const facts = [
    ["neurons", `${row.n_neurons.toLocaleString("en")}${signs}`], ["mean layer", number(row.mean_layer, 1)],
    ["variance", number(row.variance, 3)], ["stability Iq", number(row.iq, 2)], [`max |${stat}|`, number(row.max, 1)],
  ];
  fill(host,
    el("h2", {}, el("bdi", { text: row.name })),
    row.label ? el("p", { class: "label-text" }, spell(row.label)) : null,
    row.n_neurons ? null : el("p", { class: "note", text: row.rejected ? "Rejected by a person; its whole map is there to look at: press m." : "No neuron passes the threshold. An empty network is a result; its whole map is there to look at: press m." }),
    el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })])),
    el("h3", { text: "Neurons a layer" }), profile(row.profile ?? [], space),
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

/** Write which neuron it is, and how to name another. */
export function showNeuron(host, { layer, neuron, space, facts, tops, pick }) {
  const [first, second] = [layer ?? "", neuron ?? ""];
  const field = (name, value, max) => el("input", { type: "number", min: 0, max, value, name, "aria-label": name, required: true });
  const last = Math.max(...space.layers.map((one) => one.width)) - 1;
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
    host.replaceChildren(form, el("p", { class: "soft", text: "Click a voxel of the mosaic: it is one neuron. Its time course joins the network's below, and the tokens at which it is highest and lowest stand here." }));
    return;
  }
  host.replaceChildren(
    el("h2", { id: "neuron-name", text: `${space.layers[layer].name} · neuron ${neuron}` }),
    el("dl", { id: "neuron-facts" }, ...facts.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })])),
    form, ...[tops].flat(),
  );
}

/** Make a place that says what it waits for, and then what came. */
export function slot(id, words) {
  const node = el("div", { id, class: "slot" });
  say(node, words);
  return node;
}
