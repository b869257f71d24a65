/** Main module of the page: content, event handlers, and start. */

import * as api from "./api.js";
import { onTheme, theme, toggleTheme } from "./color.js";
import { attempt, current, data, fail, nVolumes, run } from "./data.js";
import { $, command, count, el, hideTip, nameFolder, say, showTip } from "./dom.js";
import { choose, toToken } from "./navigation.js";
import { listen } from "./keys.js";
import * as load from "./loading.js";
import { describe, mosaics, render, roi, showHovered, showOverlay } from "./scene.js";
import { begin, fromAddress, on, state, update } from "./state.js";

function fill() {
  const options = (node, list, value) => {
    node.replaceChildren(...list.map(([key, text]) => el("option", { value: key, text })));
    node.disabled = list.length < 1;
    node.value = value ?? "";
  };
  const { sites } = data.study;
  options($("site"), sites.map((entry) => [entry.site, entry.site]), state.site);
  const empty = (entry) => (entry.n_empty ? `, ${entry.n_empty} empty` : "");
  options($("set"), data.site.sets.map((entry) => [entry.name, `${entry.name} · ${entry.n_networks}${empty(entry)} · ${entry.threshold}`]), state.set);
  if (!data.site.sets.length) options($("set"), [["", "none"]], "");
  options($("corpus"), data.site.corpora.map((entry) => [entry.corpus, entry.corpus]), state.corpus);
  const { runs, unit } = data.site.corpora.find((entry) => entry.corpus === state.corpus) ?? { runs: [], unit: "volume" };
  options($("run"), runs.map((n, index) => [index + 1, `${index + 1} of ${runs.length} · ${count(n, unit)}`]), state.run);
  // The unit of a volume may be a word or a sentence.
  for (const name of ["underlay", "overlay"]) $(name).querySelector('[value="volume"]').textContent = unit;
  $("tokens").setAttribute("aria-label", `Text, ${unit} by ${unit}, coloured by the time course of the network`);
  $("set").title = data.site.sets.find((entry) => entry.name === state.set)?.description ?? "";
}

function showPanel() {
  for (const name of ["network", "neuron", "roi"]) {
    const selected = state.panel === name;
    $(`tab-${name}`).setAttribute("aria-selected", String(selected));
    $(`tab-${name}`).tabIndex = selected ? 0 : -1;
    $(`panel-${name}`).hidden = !selected;
  }
}

// -- wiring -----------------------------------------------------------------------------------------------------------

on(Object.keys(state), () => { $("failed").hidden = true; });
const PLACE = ["scope", "site"]; // a change of one of them changes the neurons
on(["scope"], load.clear);
on([...PLACE, "set", "corpus", "run"], fill);
on(PLACE, () => { roi.setSpace(state.scope, state.site, data.site); render(); });
on([...PLACE, "set"], load.loadNetworks);
on(["network"], load.loadNetwork);
on([...PLACE, "set", "network", "corpus", "run"], load.loadCourse);
on([...PLACE, "corpus", "run"], load.loadTokens);
on([...PLACE, "corpus"], load.loadMean);
on([...PLACE, "corpus", "run", "volume", "underlay", "overlay"], load.loadVolume);
on(["volume"], load.showVolume);
on([...PLACE, "set", "layer", "neuron", "corpus", "run"], load.loadNeuron);
on(["underlay", "overlay", "threshold", "zoom"], () => { controls(); render(); });
on(["view", ...PLACE, "set", "second", "network", "partner"], (changed) => {
  if (changed.has("partner") && changed.size === 1) load.loadPartner();
  else load.loadComparison();
});
on([...PLACE, "set", "network", "partner", "corpus", "run", "volume", "underlay", "overlay"], showHovered);
on(["panel"], showPanel);
on(["tool"], () => {
  roi.setTool(state.tool);
  document.body.dataset.tool = state.tool;
  if (state.tool !== "inspect") update({ panel: "roi" });
});

function controls() {
  $("underlay").value = state.underlay;
  $("overlay").value = state.overlay;
  $("zoom").setAttribute("aria-pressed", String(state.zoom !== null));
  $("zoom").textContent = state.zoom === null ? "enlarge" : "all layers";
}

const act = {
  token: (step) => toToken(Math.max(0, Math.min(state.volume + step, nVolumes() - 1))),
  end: (last) => toToken(last ? Math.max(0, nVolumes() - 1) : 0),
  text(step) {
    const starts = current(data.tokens, run())?.text_starts ?? [];
    const next = step > 0 ? starts.find((start) => start > state.volume) : starts.findLast((start) => start < state.volume);
    if (next !== undefined) toToken(next);
  },
  network: (step) => (state.view === "compare" ? load.comparison.pairs : load.table).move(step),
  threshold(step) {
    const input = $("threshold");
    if (input.disabled) return;
    const next = Number(input.value) + step * Math.max(Number(input.step), Number(input.max) / 40);
    update({ threshold: Math.min(Number(input.max), Math.max(0, next)) });
  },
  stored: () => update({ threshold: null }),
  members: () => showOverlay(state.overlay === "members" ? "map" : "members"),
  underlay: () => update({ underlay: { mean: "mask", mask: "volume", volume: "mean" }[state.underlay] }),
  zoom: () => update({ zoom: state.zoom === null ? state.layer ?? 0 : null }),
  compare: () => update({ view: state.view === "compare" ? "networks" : "compare" }),
  panel: (panel) => update({ panel }),
  nextPanel(step) {
    const all = ["network", "neuron", "roi"];
    update({ panel: all[(all.indexOf(state.panel) + step + 3) % 3] });
    $(`tab-${state.panel}`).focus();
  },
  tool() {
    const all = ["inspect", "pick", "paint", "box"];
    update({ tool: all[(all.indexOf(state.tool) + 1) % all.length] });
  },
  theme: toggleTheme,
  filter: () => (state.view === "compare" ? load.comparison.pairs : load.table).filter.focus(),
  undo: () => roi.undo(),
  enter() {
    if (state.layer === null) update({ layer: 0, neuron: 0 });
    else if (state.tool !== "inspect") roi.toggle({ layer: state.layer, neuron: state.neuron });
    else update({ panel: "neuron" });
  },
  escape() {
    if (state.tool !== "inspect") update({ tool: "inspect" });
    else if (state.zoom !== null) update({ zoom: null });
    else if (state.layer !== null) update({ layer: null, neuron: null });
  },
  voxel(dx, dy, dz) {
    if (!data.site) return;
    const [nx] = data.site.shape;
    if (state.layer === null) return update({ layer: state.zoom ?? 0, neuron: 0 });
    const layer = state.layer + dz;
    const x = (state.neuron % nx) + dx;
    const neuron = state.neuron + dx + dy * nx;
    if (x < 0 || x >= nx || neuron < 0 || neuron >= (data.site.layers[layer]?.width ?? 0)) return;
    update({ layer, neuron, zoom: state.zoom === null ? null : layer });
    $("readout").textContent = describe({ layer, neuron }, 0).join(" · ");
  },
};

let turn = 0;
let switching = false;

/**
 * Show another model: its overview is fetched, and then its other contents are. Meanwhile nothing is shown, because the
 * menu already names the next model.
 */
function showModel(scope, wanted = {}) {
  const own = ++turn;
  const wait = (now) => {
    switching = now;
    document.querySelector("main").setAttribute("aria-busy", String(now));
  };
  $("model").value = scope;
  wait(true);
  return attempt(async () => {
    const next = await api.studyOf(scope);
    if (!next.sites.length || !data.study.sites.length) {
      history.replaceState(null, "", `#scope=${scope}`);
      return location.reload();
    }
    showStudy(next);
    choose(wanted);
  }).finally(() => {
    if (own !== turn) return; // a newer choice is being fetched
    showMenu(data.study);
    wait(false);
  });
}

/** Follow a link to a selection; a link that names no model is to the model that is shown first. */
function follow(wanted) {
  const { study } = data;
  if (!study) return undefined;
  const scope = study.models?.some((model) => model.scope === wanted.scope) ? wanted.scope : study.first ?? null;
  if (scope !== null && (switching || scope !== study.scope)) return showModel(scope, wanted);
  return study.sites.length ? choose(wanted) : undefined;
}

function wire() {
  $("model").addEventListener("change", () => showModel($("model").value));
  for (const name of ["site", "set", "corpus"]) $(name).addEventListener("change", () => choose({ [name]: $(name).value, ...(name === "set" ? { network: null } : {}) }));
  $("run").addEventListener("change", () => choose({ run: Number($("run").value) }));
  $("underlay").addEventListener("change", () => update({ underlay: $("underlay").value }));
  $("overlay").addEventListener("change", () => showOverlay($("overlay").value));
  $("threshold").addEventListener("input", () => update({ threshold: Number($("threshold").value) }));
  $("threshold-reset").addEventListener("click", act.stored);
  $("zoom").addEventListener("click", act.zoom);
  $("view-networks").addEventListener("click", () => update({ view: "networks" }));
  $("view-compare").addEventListener("click", () => update({ view: "compare" }));
  $("theme").addEventListener("click", toggleTheme);
  for (const name of ["network", "neuron", "roi"]) $(`tab-${name}`).addEventListener("click", () => update({ panel: name }));
  window.addEventListener("hashchange", () => follow(fromAddress()));
  const themed = () => {
    $("theme").textContent = theme() === "dark" ? "Light" : "Dark";
    if (data.site) render();
  };
  onTheme(themed);
  themed();
  listen(act);
}

api.onConnection((lost) => {
  $("lost").hidden = !lost;
  if (!lost) return lookAgain(true);
  const name = el("code", { text: "lmri view" });
  $("lost").replaceChildren(...(lost === "closed"
    ? [name, " was restarted, or this browser is not authorized: open the complete address that it printed." +
      " Your ROI is still here; this page continues automatically if it is the same study."]
    : ["Connection lost: the server does not answer. Is ", name,
      " still running? Your ROI is still here; this page reconnects automatically."]));
  clearTimeout(trying);
  trying = setTimeout(retry, 3000);
});

let trying = null;
// A connection to a stopped server may stay open, and requests on it are never answered.
const SOON = 5000;
const retry = () => api.study(SOON).catch(() => { trying = setTimeout(retry, 3000); });

/** Whether the server now serves something else than this page shows: another study, or other neurons. */
const isOther = (now, next) => now.root !== next.root || now.fingerprint !== next.fingerprint ||
  now.sites.length === 0 !== (next.sites.length === 0) ||
  now.sites.some(({ site, geometry }) => next.sites.find((entry) => entry.site === site)?.geometry !== geometry);

/** Check whether the server still serves this study, and whether the study has changed. */
function lookAgain(reconnected = false) {
  if (!data.study) return reconnected ? start() : undefined;
  const { scope } = data.study;
  return attempt(async () => {
    const next = await api.study(SOON);
    if (switching || data.study.scope !== scope) return; // the answer is of the previous model
    if (isOther(data.study, next)) return location.reload();
    const same = next.state === data.study.state && next.scope === scope;
    showStudy(next);
    if (!data.site) return;
    roi.refresh();
    if (same && !reconnected) return;
    api.forget();
    data.site = next.sites.find((entry) => entry.site === state.site);
    choose({});
    fill();
    loadAgain();
  }, (error) => (error.status === 404 && scope ? location.reload() : fail(error))); // the model is gone
}

window.addEventListener("focus", () => lookAgain());

function loadAgain() {
  load.loadTokens();
  load.loadMean();
  load.loadVolume();
  load.loadNeuron();
  load.loadCourse();
  load.loadNetworks();
  load.loadComparison();
}

function showProblems(problems) {
  const node = $("problems");
  node.hidden = !problems.length;
  if (!problems.length) return;
  node.replaceChildren(el("summary", { text: `${count(problems.length, "part")} of this study could not be read; the rest is shown.` }),
    el("ul", {}, ...problems.map((text) => el("li", { text }))));
}

/** List the models; without others there is no menu. */
function showMenu({ models, scope }) {
  $("models").hidden = !models;
  const listed = JSON.stringify(models ?? []);
  if ($("model").dataset.listed !== listed) { // new options would close an open menu
    $("model").replaceChildren(...(models ?? []).map((model) => el("option", { value: model.scope, text: model.label })));
    $("model").dataset.listed = listed;
  }
  $("model").value = scope ?? "";
}

function showStudy(study) {
  data.study = study;
  api.useScope(study.scope ?? null);
  showMenu(study);
  $("study-name").textContent = study.name;
  $("study-model").textContent = `${study.model}`;
  $("study-model").title = `weights ${study.fingerprint}, lmri ${study.version}`;
  const label = study.models?.find((model) => model.scope === study.scope)?.label;
  document.title = [study.name, label, "lmri view"].filter(Boolean).join(" · ");
  nameFolder(study.folder);
  showProblems(study.problems);
}

async function start() {
  await attempt(async () => {
    const first = await api.study();
    const { scope } = fromAddress();
    const isOfAnother = scope !== first.scope && first.models?.some((model) => model.scope === scope);
    showStudy(isOfAnother ? await api.studyOf(scope) : first);
    const { study } = data;
    if (!study.sites.length) {
      for (const id of ["site", "set", "corpus", "run", "view-compare", "view-networks"]) $(id).disabled = true;
      mosaics[0].say("This study has no readable recording yet, so there is nothing to show.");
      mosaics[1].stage.parentElement.hidden = true;
      say($("panel-network"), "Record a model first:", "note");
      $("panel-network").append(command("lmri record MODEL TEXTS --out STUDY"));
      return;
    }
    begin();
    choose(fromAddress());
    roi.setTool(state.tool);
    controls();
    showPanel();
    load.neuronPanel();
    roi.refresh();
  });
}

// The token is removed from the address, so that it is not passed on with links; the browser has a cookie now.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
wire();
showTip(0, 0);
hideTip();
start();
