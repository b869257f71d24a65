/** Stored scores of a network: its effect on every task, compared with matched controls. */

import { command, el, number, svg } from "./dom.js";

const WIDTH = 240;

/** Show the stored scores of one network in an element. */
export function showScores(host, rows, { set, network }) {
  if (!rows.length) {
    host.replaceChildren(
      el("p", { class: "soft", text: `No lesion of ${network} is stored. This page does not run the model. Run:` }),
      command(`lmri lesion STUDY --networks ${set}`),
    );
    return;
  }
  const scales = new Map();
  for (const row of rows) {
    const key = `${row.task}\n${row.metric}`;
    const values = [0, row.diff, row.ci_low, row.ci_high, row.control_mean].filter(Number.isFinite);
    const [low, high] = scales.get(key) ?? [0, 0];
    scales.set(key, [Math.min(low, ...values), Math.max(high, ...values)]);
  }
  // Doses of one network differ only in the name of the condition or of the split.
  const heading = (row) => [row.task, row.metric, row.intervention, row.name].join("\n");
  const alike = (row) => rows.filter((other) => heading(other) === heading(row));
  const differs = (row, key) => row[key] && new Set(alike(row).map((other) => other[key])).size > 1;
  const about = (row) => ["condition", "split"].filter((key) => differs(row, key)).map((key) => row[key]).join(" · ");
  const cards = rows.map((row) => card(row, scales.get(`${row.task}\n${row.metric}`), about(row)));
  const legend = el("p", { class: "key soft" },
    el("i", { class: "dot" }), "this network, with 95 % interval", el("i", { class: "tick" }), "mean of the matched controls");
  host.replaceChildren(legend, ...cards);
}

function card(row, scale, about) {
  const metric = String(row.metric ?? "").replaceAll("_", " ");
  const head = el("div", { class: "score-head" }, el("b", { text: row.task }), el("span", { class: "soft", text: `${row.intervention} · ${row.name}` }));
  const controls = row.n_controls
    ? `controls ${number(row.control_mean, 4)} (${row.n_controls}${row.control_family ? `, ${row.control_family}` : ""})`
    : "no matched controls";
  const facts = [
    ["difference from intact", `${number(row.diff, 4)}`],
    ["95 % interval", Number.isFinite(row.ci_low) ? `${number(row.ci_low, 4)} to ${number(row.ci_high, 4)}` : "–"],
    ["controls, mean", row.n_controls ? `${number(row.control_mean, 4)}` : "none"],
    ["effect relative to controls", number(row.effect, 4)],
    ["p · q", `${number(row.p, 3)} · ${number(row.q, 3)}`],
    ["number of controls", `${row.n_controls ?? 0}${row.control_family ? `, ${row.control_family}` : ""}`],
  ];
  const list = el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]));
  const label = `${row.task}${about ? `, ${about}` : ""}: ${metric} differs from intact by ${number(row.diff, 4)}; ${controls}`;
  return el("div", { class: "score", data: { task: row.task, entry: row.name } }, head,
    about ? el("p", { class: "condition" }, el("bdi", { text: about })) : null, el("p", { class: "soft", text: metric }), plot(row, scale, label), list);
}

function plot(row, [low, high], label) {
  const span = high - low || 1;
  const x = (value) => 8 + ((value - low) / span) * (WIDTH - 16);
  const node = svg("svg", { viewBox: `0 0 ${WIDTH} 26`, class: "dots", role: "img", "aria-label": label });
  const add = (name, attributes) => node.append(svg(name, attributes));
  add("line", { x1: 0, x2: WIDTH, y1: 13, y2: 13, class: "rule" });
  add("line", { x1: x(0), x2: x(0), y1: 3, y2: 23, class: "zero" });
  if (Number.isFinite(row.control_mean)) add("line", { x1: x(row.control_mean), x2: x(row.control_mean), y1: 7, y2: 19, class: "control" });
  if (Number.isFinite(row.ci_low)) add("line", { x1: x(row.ci_low), x2: x(row.ci_high), y1: 13, y2: 13, class: "interval" });
  if (Number.isFinite(row.diff)) add("circle", { cx: x(row.diff), cy: 13, r: 4, class: "own" });
  return node;
}
