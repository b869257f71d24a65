/** Current selection: one object, changed by one function, and stored in the address so that links restore it. */

export const state = {
  scope: null, site: null, set: null, network: null, corpus: null, run: 1, volume: 0,
  underlay: "mean", overlay: "members", threshold: null,
  view: "networks", second: null, partner: null,
  layer: null, neuron: null, zoom: null, panel: "network", tool: "inspect",
};

const START = { ...state };
const NUMBERS = new Set(["run", "volume", "threshold", "layer", "neuron", "zoom"]);
const IN_ADDRESS = [
  "scope", "site", "set", "network", "corpus", "run", "volume", "underlay", "overlay", "threshold", "view", "second", "partner",
  "layer", "neuron", "zoom",
];
const ALLOWED = {
  underlay: ["mean", "mask", "volume"], overlay: ["members", "map", "volume", "none"], view: ["networks", "compare"],
};
const watchers = [];
let begun = false;

/** Enable updates; earlier input is ignored, and the address is not changed before. */
export function begin() {
  begun = true;
}

/** Call `act` with the changed names after each change of one of `names`. */
export function on(names, act) {
  watchers.push({ names: new Set(names), act });
}

/** Change the selection, write it to the address, and notify the watchers. */
export function update(changes) {
  if (!begun) return;
  const changed = new Set();
  for (const [name, value] of Object.entries(changes)) {
    if (state[name] !== value) {
      state[name] = value;
      changed.add(name);
    }
  }
  if (!changed.size) return;
  writeAddress();
  for (const { names, act } of watchers) {
    if ([...changed].some((name) => names.has(name))) act(changed);
  }
}

function writeAddress() {
  const query = new URLSearchParams();
  for (const name of IN_ADDRESS) if (state[name] !== null && state[name] !== undefined) query.set(name, state[name]);
  history.replaceState(null, "", `#${query}`);
}

/** Read the selection from the address; missing and invalid values are replaced by the defaults. */
export function fromAddress() {
  const selection = { ...START };
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (!IN_ADDRESS.includes(name)) continue;
    const value = NUMBERS.has(name) ? Number(text) : text;
    if (NUMBERS.has(name) && (text === "" || !Number.isFinite(value) || value < 0)) continue;
    if (ALLOWED[name] && !ALLOWED[name].includes(value)) continue;
    selection[name] = value;
  }
  return selection;
}
