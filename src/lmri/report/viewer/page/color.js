/** Colours: red above 0 and blue below 0, as in the report, in a light and a dark theme. */

const STOPS = {
  light: { positive: ["#efb3a3", "#cc3821", "#7d1407"], negative: ["#aecaea", "#2166bd", "#0a2f68"], grey: ["#f1f3f5", "#a3adb7"] },
  dark: { positive: ["#7c2d1e", "#ea5b40", "#ffd5c4"], negative: ["#1c4170", "#4c92e6", "#d3e7ff"], grey: ["#1d2328", "#77828d"] },
};
const media = matchMedia("(prefers-color-scheme: dark)");
const watchers = [];
const root = document.documentElement;

/** Current theme: "light" or "dark". */
export const theme = () => root.dataset.theme || (media.matches ? "dark" : "light");

/** Register a function that is called when the theme changes. */
export const onTheme = (act) => watchers.push(act);

const resolved = new Map();

function tell() {
  resolved.clear();
  for (const act of watchers) act();
}

/** Switch between the light and dark themes, and store the choice in this browser. */
export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  try {
    localStorage.setItem("lmri-theme", next);
  } catch { /* no storage: the choice is not kept */ }
  tell();
}

try {
  const stored = localStorage.getItem("lmri-theme");
  if (stored === "light" || stored === "dark") root.dataset.theme = stored;
} catch { /* as above */ }
media.addEventListener("change", tell);

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function table(stops) {
  const points = stops.map(channels);
  const colors = new Uint8ClampedArray(256 * 3);
  for (let index = 0; index < 256; index++) {
    const at = (index / 255) * (points.length - 1);
    const low = Math.min(Math.floor(at), points.length - 2);
    for (let c = 0; c < 3; c++) colors[index * 3 + c] = points[low][c] + (at - low) * (points[low + 1][c] - points[low][c]);
  }
  return colors;
}

const tables = Object.fromEntries(
  Object.entries(STOPS).map(([name, scale]) => [name, Object.fromEntries(Object.entries(scale).map(([k, v]) => [k, table(v)]))]),
);

/** Colour tables of "positive", "negative" and "grey", each with 256 colours as red, green, blue. */
export const scales = () => tables[theme()];

/** Return a colour table as a CSS gradient; "negative" runs from the strongest to the weakest colour. */
export function gradient(name) {
  const stops = [...STOPS[theme()][name]];
  return `linear-gradient(to right, ${(name === "negative" ? stops.reverse() : stops).join(", ")})`;
}

/** Resolve a colour of the stylesheet, for canvases. */
export function css(name) {
  if (resolved.has(name)) return resolved.get(name);
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  resolved.set(name, color);
  return color;
}
