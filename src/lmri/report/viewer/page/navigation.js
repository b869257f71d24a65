/** Navigation to a token, a run or another set, with all dependent selections. */

import { data } from "./data.js";
import { inside } from "./slices.js";
import { state, update } from "./state.js";

/** Select a token. */
export function toToken(volume) {
  // The volume of the token becomes the underlay, unless it already is the overlay.
  update({ volume, underlay: state.overlay === "volume" ? state.underlay : "volume" });
}

/** Select a token of any run and corpus. */
export function goTo({ corpus, run: number_, volume }) {
  choose({ corpus, run: number_ });
  toToken(volume);
}

/** Change the selection, and adapt all dependent selections; the model is the one whose overview was fetched last. */
export function choose(wanted) {
  const next = { ...state, ...wanted };
  const scope = data.study.scope ?? null;
  const sites = data.study.sites;
  const site = sites.find((entry) => entry.site === next.site) ?? sites[0];
  const set = site.sets.find((entry) => entry.name === next.set) ?? site.sets.find((entry) => entry.n_networks > entry.n_empty) ?? site.sets[0] ?? null;
  const fitted = site.corpora.find((entry) => set?.corpora?.includes(entry.corpus));
  const corpus = site.corpora.find((entry) => entry.corpus === next.corpus) ?? fitted ?? site.corpora[0] ?? null;
  const run_ = Math.min(Math.max(1, Math.round(next.run)), corpus?.runs.length ?? 1);
  const last = Math.max(0, (corpus?.runs[run_ - 1] ?? 1) - 1);
  const layer = next.layer !== null && next.neuron !== null && next.neuron < (site.layers[next.layer]?.width ?? 0) ? next.layer : null;
  const another = state.scope !== scope;
  const moved = state.site !== site.site || another;
  if (moved) Object.assign(data, { site, mask: inside(site), plain: null, mean: null, volume: null, map: null, members: null, partner: null, neuron: null });
  // The networks of another model are not known yet; nothing is requested of a network that it may not have.
  if (another) data.wished = next.network;
  update({
    ...wanted, ...(another ? { network: null, partner: null } : {}), scope, ...(set ? {} : { network: null, partner: null }), site: site.site, set: set?.name ?? null, corpus: corpus?.corpus ?? null, run: run_,
    volume: Math.min(Math.round(next.volume), last), layer, neuron: layer === null ? null : next.neuron,
    zoom: next.zoom !== null && next.zoom < site.layers.length ? next.zoom : null,
  });
}
