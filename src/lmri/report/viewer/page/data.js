/** What was fetched for what is being looked at, and asking for more of it. */

import { ApiError, isStale } from "./api.js";
import { $ } from "./dom.js";
import { state } from "./state.js";

/** Everything that was fetched; null is not there (yet). */
export const data = {
  study: null, site: null, mask: null, rows: [], info: {}, map: null, members: null, mean: null, volume: null,
  partner: null, unmatched: null, tokens: null, course: null, neuron: null, greys: new WeakMap(), plain: null,
};

/** Say what went wrong, above everything, until something else is looked at; a lost server is said elsewhere. */
export function fail(error) {
  if (error.status === 0) return;
  $("failed").textContent = error.message;
  $("failed").hidden = false;
}

/** Do something that asks the server; answers that came too late are dropped, other failures said. */
export async function attempt(act, failed = fail) {
  try {
    await act();
  } catch (error) {
    if (isStale(error)) return;
    failed(error);
    if (!(error instanceof ApiError)) throw error;
  }
}

/** What is asked for: the network being looked at, the one beside it, the run, and the volume. */
export const names = () => ({ site: state.site, set: state.set, network: state.network });
export const partnerNames = () => ({ site: state.site, set: state.second, network: state.partner });
export const run = () => ({ site: state.site, corpus: state.corpus, run: state.run });
export const volume = () => ({ ...run(), volume: state.volume });

/** Note on an answer what it is of: until the next one comes, the page must know that it is of something else. */
export const of = (what, found) => ({ ...found, of: JSON.stringify(what) });

const PATIENCE = 150;

/**
 * Wait for an answer. What was shown before may stay for a moment, as it flickers less; if the answer takes longer,
 * `meanwhile` takes it away, because by then it is of something else than all around it says.
 */
export async function patiently(answer, meanwhile) {
  const waiting = setTimeout(meanwhile, PATIENCE);
  try {
    return await answer;
  } finally {
    clearTimeout(waiting);
  }
}

/** What the maps of a set are: z over neurons, or the t of a localizer. */
export const statOf = (set) => data.site?.sets.find((one) => one.name === set)?.stat ?? "z";

/** How many volumes the run has that is looked at, whether its tokens have come or not. */
export const nVolumes = () => data.site?.corpora.find((one) => one.corpus === state.corpus)?.runs[state.run - 1] ?? 0;

/** Give an answer if it is of what is looked at now, else null. */
export const current = (found, what) => (found?.of === JSON.stringify(what) ? found : null);
