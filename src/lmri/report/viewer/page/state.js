/** What is being looked at. One object, changed in one place, kept in the address so that a link leads back here. */

export const state = {
  site: null, set: null, network: null, corpus: null, run: 1, volume: 0,
  underlay: "mean", overlay: "members", threshold: null,
  view: "networks", second: null, partner: null,
  layer: null, neuron: null, zoom: null, panel: "network", tool: "inspect",
};

const START = { ...state };
const NUMBERS = new Set(["run", "volume", "threshold", "layer", "neuron", "zoom"]);
const IN_ADDRESS = [
  "site", "set", "network", "corpus", "run", "volume", "underlay", "overlay", "threshold", "view", "second", "partner",
  "layer", "neuron", "zoom",
];
const ALLOWED = {
  underlay: ["mean", "mask", "volume"], overlay: ["members", "map", "volume", "none"], view: ["networks", "compare"],
};
const watchers = [];
let begun = false;

/** From now on there is something to look at; what is pressed before goes nowhere, and the address stays as it came. */
export function begin() {
  begun = true;
}

/** Call `act` with the names that changed, whenever one of `names` did. */
export function on(names, act) {
  watchers.push({ names: new Set(names), act });
}

/** Change something, write it into the address, and tell whoever watches it. */
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

/** Read what an address asks for, where it says nothing as at the start; what is no value of its kind is left out. */
export function fromAddress() {
  const found = { ...START };
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (!IN_ADDRESS.includes(name)) continue;
    const value = NUMBERS.has(name) ? Number(text) : text;
    if (NUMBERS.has(name) && (text === "" || !Number.isFinite(value) || value < 0)) continue;
    if (ALLOWED[name] && !ALLOWED[name].includes(value)) continue;
    found[name] = value;
  }
  return found;
}
