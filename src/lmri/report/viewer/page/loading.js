/** Requests that follow a change of the selection, and the panels that show the answers. */

import * as api from "./api.js";
import { Comparison } from "./compare.js";
import { Chart, standardized } from "./course.js";
import { attempt, current, data, fail, names, nVolumes, of, partnerNames, patiently, run, statOf, volume } from "./data.js";
import { bothEnds, showNetwork, showNeuron, slot } from "./details.js";
import { $, command, el, number, say } from "./dom.js";
import { goTo, toToken } from "./navigation.js";
import { showScores } from "./lesions.js";
import { clearScene, mark, mosaics, render } from "./scene.js";
import { state, update } from "./state.js";
import { Grid } from "./table.js";
import { Strip } from "./text.js";

const COLUMNS = [
  {
    key: "name", label: "Network", text: true,
    cell: (row) => el("span", {}, el("bdi", { text: row.name }), row.label ? el("small", {}, el("bdi", { text: row.label })) : ""),
  },
  { key: "n_neurons", label: "n", title: "neurons", digits: 0 },
  { key: "mean_layer", label: "layer", title: "mean layer of its neurons", digits: 1 },
  { key: "variance", label: "var", title: "share of the variance", digits: 3 },
  { key: "iq", label: "Iq", title: "stability over initializations (Iq, at most 1)", digits: 2 },
  { key: "max", label: "max", title: "largest |z| (|t| of a localizer)", digits: 1 },
];
export const table = new Grid($("table-pane"), {
  name: "Networks", noun: "network", columns: COLUMNS, key: (row) => row.name, words: (row) => `${row.name} ${row.label ?? ""}`,
  quiet: (row) => !row.n_neurons,
  select(row) {
    if (!data.rows.includes(row)) return; // row of the previous set; the next set is loading
    update({ network: row.name, panel: state.panel === "neuron" ? "network" : state.panel });
  },
});
export const comparison = new Comparison($("compare-pane"), {
  choose: (second) => update({ second, partner: null }), select: (pair) => update({ network: pair.first, partner: pair.second }),
});
const select = (place) => current(data.tokens, run()) && toToken(place); // the click may belong to the previous run
const strip = new Strip($("tokens"), { select });
const chart = new Chart($("course"), { select });
const lesions = slot("lesions", "…");
const tops = slot("network-tops", "…");

const NO_TOKENS = { tokens: [], text_ids: [], text_starts: [] };

/** Remove everything of the previous model at once: in the next model, equal names are of other neurons and tokens. */
export function clear() {
  Object.assign(data, {
    rows: [], info: {}, map: null, members: null, mean: null, volume: null, partner: null, unmatched: null, tokens: null, course: null, neuron: null,
  });
  clearScene();
  table.setRows([]);
  comparison.clear();
  for (const node of [$("panel-network"), $("panel-neuron"), lesions, tops]) say(node, "…");
  strip.setTokens(NO_TOKENS);
  chart.setRun([], []);
  showCourse(null, "");
}

export function loadNetworks() {
  Object.assign(data, { rows: [], info: {}, map: null, members: null });
  if (!state.set) {
    table.setRows([]);
    say($("panel-network"), "There are no networks at this site yet. Run:", "note");
    $("panel-network").append(command("lmri decompose STUDY"));
    return render();
  }
  return attempt(async () => {
    const answer = await patiently(api.networks(state.site, state.set), () => { table.setRows([]); render(); });
    Object.assign(data, { rows: answer.networks, info: answer });
    table.setRows(answer.networks);
    loadNetwork();
  });
}

export function loadNetwork() {
  const row = data.rows.find((entry) => entry.name === state.network);
  table.select(state.network);
  if (!row) {
    // No network of this set is selected: select the one that was wished for, or the first non-empty network.
    const first = data.rows.find((entry) => entry.name === data.wished) ?? data.rows.find((entry) => entry.n_neurons) ?? data.rows[0];
    if (!first) return undefined;
    data.wished = null;
    return update({ network: first.name });
  }
  showNetwork($("panel-network"), row, data.site, statOf(state.set), { lesions, tops });
  const request = names();
  const drawn = (map, members) => {
    Object.assign(data, { map, members });
    render();
    if (state.layer !== null) neuronPanel();
  };
  attempt(async () => {
    const both = Promise.all([api.image("map", request, "map"), api.image("members", request, "members")]);
    const [map, members] = await patiently(both, render);
    drawn(of(request, map), of(request, members));
  }, (error) => { drawn(null, null); fail(error); });
  for (const node of [lesions, tops]) say(node, "…");
  attempt(async () => showScores(lesions, await api.scores(state.site, state.set, state.network), request), (error) => say(lesions, error.message, "bad"));
  attempt(async () => {
    const answer = await api.tops(state.site, state.set, state.network);
    tops.replaceChildren(...bothEnds(answer, "sd", goTo));
  }, (error) => say(tops, error.message, "bad"));
}

export function loadCourse() {
  if (!state.network || !state.corpus) return showCourse(null, state.set ? "" : "There are no networks yet, so there is no time course.");
  const what = { ...names(), ...run() };
  strip.wait(); // colours may stay until the next values arrive, but not the numbers
  showVolume();
  return attempt(async () => {
    const answer = api.course(state.site, state.set, state.network, state.corpus, state.run);
    showCourse(of(what, await patiently(answer, () => { showCourse(null, ""); strip.waiting = true; })), "");
  }, (error) => showCourse(null, error.message));
}

const currentCourse = () => current(data.course, { ...names(), ...run() })?.values ?? null;

function showCourse(course, words) {
  data.course = course;
  $("course-note").textContent = words;
  $("course-note").hidden = !words;
  showLines();
  showVolume();
}

function showLines() {
  const lines = [];
  const legend = [];
  const add = (name, values, kind) => {
    lines.push({ name, values });
    legend.push(el("i", { class: `line ${kind}` }), el("bdi", { text: name }));
  };
  const tokens = current(data.tokens, run());
  const course = tokens && currentCourse();
  strip.setValues(course);
  if (course) add(state.network, course.map((value) => value ?? NaN), "first");
  const neuron = tokens && currentNeuron();
  if (neuron) {
    if (!lines.length) lines.push({ name: "no network", values: [] });
    add(`${neuron.layer_name} · ${neuron.neuron}`, standardized(neuron.values, neuron.baseline.mean, neuron.baseline.sd), "second");
  }
  // Both lines are scaled by the same corpora: the corpora of the decomposition, if it includes the current corpus.
  const corpora = neuron?.baseline.corpora ?? data.site.sets.find((entry) => entry.name === state.set)?.corpora ?? [];
  const unit = legend.length ? `in sd over ${corpora.join(", ")}` : "";
  $("course-legend").replaceChildren(...legend, el("span", { class: "soft", text: unit }));
  chart.setLines(lines);
  $("course").setAttribute("aria-label", `Time course of ${lines.map((line) => line.name).join(" and ") || "nothing"}, by volume`);
}

export function loadTokens() {
  if (!state.corpus) return undefined;
  const request = run();
  const show = (answer) => {
    data.tokens = answer;
    strip.setTokens(answer);
    chart.setRun(answer.tokens, answer.text_starts);
    showLines();
    showVolume();
  };
  const none = () => show(NO_TOKENS);
  return attempt(async () => show(of(request, await patiently(api.tokens(state.site, state.corpus, state.run), none))),
    (error) => { none(); fail(error); });
}

export function showVolume() {
  strip.select(state.volume);
  chart.select(state.volume);
  const n = nVolumes();
  const value = currentCourse()?.[state.volume];
  $("strip-note").replaceChildren(el("span", { text: n ? `volume ${state.volume} of ${n.toLocaleString("en")}` : "" }),
    el("span", { id: "token-value", text: Number.isFinite(value) ? ` · ${number(value)} sd` : "" }));
  if (state.layer !== null) neuronPanel();
}

export function loadMean() {
  data.mean = null;
  if (!state.corpus) return undefined;
  return attempt(async () => {
    data.mean = await patiently(api.image("mean", { site: state.site, corpus: state.corpus }, "mean"), render);
    render();
  });
}

export function loadVolume() {
  if (!state.corpus || (state.underlay !== "volume" && state.overlay !== "volume")) return undefined;
  return attempt(async () => {
    const request = volume();
    data.volume = of(request, await patiently(api.image("volume", request, "volume"), render));
    render();
  }, (error) => { data.volume = null; render(); fail(error); });
}

export function loadNeuron() {
  mark({ selected: state.layer === null ? null : { layer: state.layer, neuron: state.neuron } });
  if (state.layer !== null) mosaics.forEach((mosaic) => mosaic.reveal(state.layer));
  if (state.layer === null || !state.corpus) {
    data.neuron = null;
    neuronPanel();
    return showLines();
  }
  return attempt(async () => {
    const request = neuronNames();
    neuronPanel();
    data.neuron = of(request, await api.neuron(state.site, state.set, state.layer, state.neuron, state.corpus, state.run));
    neuronPanel();
    showLines();
  }, (error) => { data.neuron = null; showLines(); fail(error); });
}

const neuronNames = () => ({ ...run(), set: state.set, layer: state.layer, neuron: state.neuron });
const currentNeuron = () => current(data.neuron, neuronNames());

export function neuronPanel() {
  if (!data.site) return;
  const neuron = currentNeuron();
  const place = state.layer === null ? 0 : state.layer * data.site.shape[0] * data.site.shape[1] + state.neuron;
  const z = current(data.map, names())?.values[place];
  const member = current(data.members, names())?.values[place];
  const facts = [
    [`${statOf(state.set)} in ${state.network ?? "–"}`, `${number(z)}${member === undefined ? "" : member ? ", member" : ", not a member"}`],
    [`at volume ${state.volume}`, number(neuron?.values[state.volume], 3)],
    ["mean over the corpus", number(neuron?.mean, 3)], ["sd over the corpus", number(neuron?.sd, 3)],
  ];
  const list = neuron ? bothEnds(neuron, "activation", goTo) : el("p", { class: "soft", text: "…" });
  showNeuron($("panel-neuron"), { layer: state.layer, neuron: state.neuron, space: data.site, facts, tops: list, pick: (layer, number) => update({ layer, neuron: number }) });
}

export function loadComparison() {
  const comparing = state.view === "compare";
  $("table-pane").hidden = comparing;
  $("compare-pane").hidden = !comparing;
  $("view-networks").setAttribute("aria-pressed", String(!comparing));
  $("view-compare").setAttribute("aria-pressed", String(comparing));
  document.body.dataset.view = state.view;
  if (!comparing || !data.site) return render();
  const second = state.set ? comparison.offer(data.site, state.set, state.second) : null;
  if (second !== state.second) return update({ second, partner: null });
  return attempt(async () => {
    const pairs = await comparison.load(state.site, state.set, second);
    const lacking = comparison.stored ? `${state.network} has no match in ${second}.` : `${state.set} and ${second} were not compared yet.`;
    data.unmatched = second ? lacking : "There is no second set at this site.";
    const pair = pairs.find((entry) => entry.first === state.network) ?? null;
    if (pair && pair.second !== state.partner) update({ partner: pair.second });
    else if (!pair && state.partner) update({ partner: null });
    else loadPartner();
  });
}

export function loadPartner() {
  data.partner = null;
  comparison.pairs.select(`${state.network}\n${state.partner}`);
  if (state.view !== "compare" || !state.partner) return render();
  return attempt(async () => {
    const request = partnerNames();
    const both = Promise.all([api.image("map", request, "map2"), api.image("members", request, "members2")]);
    const [map, members] = await patiently(both, render);
    data.partner = { map: of(request, map), members: of(request, members) };
    render();
  });
}
