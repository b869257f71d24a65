/** Client of the server: one function per address. Images are cached; results may change and are not cached. */

/** Error response; its message comes from the server and is shown to the user. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const CACHE_SIZE = 96;
const cache = new Map();
const slots = new Map();
const watchers = [];
let lost = null;
let scope = null;

/** Register a function that is called when the server is "gone" or "closed" to this browser, and when it is back (null). */
export const onConnection = (watch) => watchers.push(watch);

function setLost(now) {
  if (now === lost) return;
  lost = now;
  for (const watch of watchers) watch(lost);
}

/** Return the abort signal of a new request in a slot; an earlier request of the slot is aborted. */
export function newest(slot) {
  slots.get(slot)?.abort();
  const control = new AbortController();
  slots.set(slot, control);
  return control.signal;
}

/** Send all further requests to a model (null: the only one). Requests to the previous model are aborted. */
export function useScope(next) {
  if (next === scope) return;
  scope = next;
  for (const control of slots.values()) control.abort();
}

/** Whether an error only means that a request was replaced by a newer one. */
export const isStale = (error) => error?.name === "AbortError";

function address(path, names) {
  const query = new URLSearchParams(Object.entries({ scope, ...names }).filter(([, value]) => value !== null && value !== undefined));
  return `/api/${path}${query.size ? `?${query}` : ""}`;
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (!isStale(error)) setLost("gone");
    throw isStale(error) ? error : new ApiError(0, "The server does not answer.");
  }
  if (response.ok) {
    setLost(null);
    return response;
  }
  const body = await response.json().catch(() => null);
  setLost(body?.closed ? "closed" : null);
  throw new ApiError(body?.closed ? 0 : response.status, body?.error || `The server answered ${response.status} to ${url}.`);
}

/** Clear the cache of images, because the study has changed. */
export const forget = () => cache.clear();

async function remember(url, signal, read) {
  if (!cache.has(url)) {
    const content = await read(await ask(url, { signal }));
    cache.set(url, content);
    if (cache.size > CACHE_SIZE) cache.delete(cache.keys().next().value);
  }
  if (signal?.aborted) throw new DOMException("dropped", "AbortError");
  return cache.get(url);
}

async function json(path, names, slot) {
  const signal = newest(slot);
  const content = await (await ask(address(path, names), { signal })).json();
  if (signal.aborted) throw new DOMException("dropped", "AbortError");
  return content;
}

/** Fetch the overview of the model; after `patience` milliseconds without an answer the server counts as gone. */
export const study = (patience = null) =>
  ask(address("study", {}), patience ? { signal: AbortSignal.timeout(patience) } : {}).then((response) => response.json());
/** Fetch the overview of another model, which does not become the model of further requests. */
export const studyOf = (scope) => json("study", { scope }, "study");
export const networks = (site, set, slot = "networks") => json("networks", { site, set }, slot);
export const tokens = (site, corpus, run) => json("tokens", { site, corpus, run }, "tokens");
export const course = (site, set, network, corpus, run) =>
  json("course", { site, set, network, corpus, run }, "course");
export const tops = (site, set, network) => json("tops", { site, set, network }, "tops");
export const neuron = (site, set, layer, place, corpus, run) =>
  json("neuron", { site, set, layer, neuron: place, corpus, run }, "neuron");
export const scores = (site, set, network) => json("scores", { site, set, network }, "scores");
export const matches = (site, first, second) => json("matches", { site, first, second }, "matches");
export const rois = () => ask(address("rois", {}), {}).then((response) => response.json());

/**
 * Save a region of interest, given as [layer, neuron] pairs.
 *
 * @param {{root: string, scope?: string, fingerprint: string, geometry: string}} shown study and model on which it was
 *   drawn; the server refuses it if it now serves a different study, or if the request is for a different model
 */
export async function saveRoi(site, name, neurons, { root, scope: shown, fingerprint, geometry }) {
  const body = JSON.stringify({ site, name, neurons, root, scope: shown, fingerprint, geometry });
  const response = await ask(address("rois", {}), { method: "POST", headers: { "Content-Type": "application/json" }, body });
  return response.json();
}

const FILES = { map: "map.nii.gz", members: "members.nii.gz", mean: "mean.nii.gz", volume: "volume.nii" };
let asSlices = false;

/** Request plain lists of numbers instead of images from now on. */
export function useSlices() {
  asSlices = true;
}

/**
 * Fetch one image: its shape, and its values with x fastest and z slowest.
 *
 * @param {"map"|"members"|"mean"|"volume"} kind
 * @param {object} names site, set, network, corpus, run and volume of the image
 * @param {string} slot slot of the request; an older request of the slot is aborted
 * @returns {Promise<{shape: number[], values: Float32Array}>}
 */
export function image(kind, names, slot) {
  const url = asSlices ? address("slices", { kind, ...names }) : address(FILES[kind], names);
  const read = asSlices ? (response) => response.json().then(fromSlices) : (response) => response.arrayBuffer().then(decode);
  return remember(url, newest(slot), read);
}

function fromSlices({ shape, values }) {
  const [nx, ny, nz] = shape;
  const flat = new Float32Array(nx * ny * nz);
  values.forEach((layer, z) => layer.forEach((value, index) => { flat[z * nx * ny + index] = value ?? 0; }));
  return { shape, values: flat };
}

const TYPES = { 2: ["getUint8", 1], 4: ["getInt16", 2], 8: ["getInt32", 4], 16: ["getFloat32", 4], 64: ["getFloat64", 8] };

/** Read a NIfTI-1 file of one volume, compressed or not. */
export async function decode(buffer) {
  const start = new Uint8Array(buffer, 0, Math.min(2, buffer.byteLength));
  if (start[0] === 0x1f && start[1] === 0x8b) {
    const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"));
    buffer = await new Response(stream).arrayBuffer();
  }
  const view = new DataView(buffer);
  const type = buffer.byteLength > 348 && view.getInt32(0, true) === 348 ? TYPES[view.getInt16(70, true)] : null;
  if (!type) throw new ApiError(0, "The server sent an image that is not a numeric NIfTI-1 file.");
  const shape = [42, 44, 46].map((at) => Math.max(1, view.getInt16(at, true)));
  const [first, slope, intercept] = [108, 112, 116].map((at) => view.getFloat32(at, true));
  const n = shape[0] * shape[1] * shape[2];
  if (buffer.byteLength < first + n * type[1]) throw new ApiError(0, "The server sent a truncated image.");
  const values = new Float32Array(n);
  for (let index = 0; index < n; index++) {
    const value = view[type[0]](first + index * type[1], true);
    values[index] = slope && Number.isFinite(slope) ? value * slope + intercept : value;
  }
  return { shape, values };
}
