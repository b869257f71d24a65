/** Fetched data of the current selection, and requests for more. */

import { ApiError, isStale } from "./api.js";
import { $ } from "./dom.js";
import { state } from "./state.js";

/** Fetched data; null for data that is not available (yet). */
export const data = {
  study: null, site: null, mask: null, rows: [], info: {}, map: null, members: null, mean: null, volume: null,
  partner: null, unmatched: null, wished: null, tokens: null, course: null, neuron: null, greys: new WeakMap(), plain: null,
};

/** Show an error message until the selection changes; a lost connection is shown elsewhere. */
export function fail(error) {
  if (error.status === 0) return;
  $("failed").textContent = error.message;
  $("failed").hidden = false;
}

/** Run a function that sends requests; aborted requests are ignored, and other errors are shown. */
export async function attempt(act, failed = fail) {
  try {
    await act();
  } catch (error) {
    if (isStale(error)) return;
    failed(error);
    if (!(error instanceof ApiError)) throw error;
  }
}

const place = () => ({ ...(state.scope === null ? {} : { scope: state.scope }), site: state.site });
/** Parameters of requests: current network, its partner in the comparison, run, and volume. */
export const names = () => ({ ...place(), set: state.set, network: state.network });
export const partnerNames = () => ({ ...place(), set: state.second, network: state.partner });
export const run = () => ({ ...place(), corpus: state.corpus, run: state.run });
export const volume = () => ({ ...run(), volume: state.volume });

/** Tag an answer with its request, so that an outdated answer can be recognized until the next one arrives. */
export const of = (request, answer) => ({ ...answer, of: JSON.stringify(request) });

const PATIENCE = 150;

/**
 * Wait for an answer. The previous content stays for a moment, which avoids flicker; if the answer takes longer,
 * `meanwhile` removes it, because it no longer matches the selection.
 */
export async function patiently(answer, meanwhile) {
  const waiting = setTimeout(meanwhile, PATIENCE);
  try {
    return await answer;
  } finally {
    clearTimeout(waiting);
  }
}

/** Statistic of the maps of a set: z over neurons, or t of a localizer. */
export const statOf = (set) => data.site?.sets.find((entry) => entry.name === set)?.stat ?? "z";

/** Number of volumes of the current run, even before its tokens have arrived. */
export const nVolumes = () => data.site?.corpora.find((entry) => entry.corpus === state.corpus)?.runs[state.run - 1] ?? 0;

/** Return an answer if it belongs to the current selection, else null. */
export const current = (answer, request) => (answer?.of === JSON.stringify(request) ? answer : null);
