/** Time course: one line for the network, one for a neuron, and a cursor at the current token. */

import { css, onTheme } from "./color.js";
import { el, hideTip, number, showTip, spell } from "./dom.js";

const COLORS = ["--accent", "--cool"];

/** Chart on a canvas. */
export class Chart {
  constructor(canvas, { select }) {
    this.canvas = canvas;
    this.lines = [];
    this.starts = [];
    this.tokens = [];
    this.volume = 0;
    new ResizeObserver(() => this.paint()).observe(canvas.parentElement);
    onTheme(() => this.paint());
    canvas.addEventListener("click", (event) => {
      const volume = this.#volume(event);
      if (volume !== null) select(volume);
    });
    canvas.addEventListener("pointermove", (event) => {
      const volume = this.#volume(event);
      if (volume === null) return hideTip();
      const values = this.lines.map(({ name, values }) => el("span", { text: `${name}: ${number(values[volume])} sd` }));
      showTip(event.clientX, event.clientY, el("b", {}, spell(this.tokens[volume] ?? "", true)),
        el("span", { text: `volume ${volume}` }), ...values);
    });
    canvas.addEventListener("pointerleave", hideTip);
  }

  /** @param {{name: string, values: number[]}[]} lines in standard deviations */
  setLines(lines) {
    this.lines = lines;
    this.paint();
  }

  setRun(tokens, starts) {
    this.tokens = tokens;
    this.starts = starts;
    this.paint();
  }

  select(volume) {
    this.volume = volume;
    this.paint();
  }

  #volume(event) {
    const n = this.tokens.length;
    if (!n || !this.area) return null;
    const { left, width } = this.area;
    const share = (event.clientX - this.canvas.getBoundingClientRect().left - left) / width;
    if (share < -0.02 || share > 1.02) return null;
    return Math.min(n - 1, Math.max(0, Math.round(share * (n - 1))));
  }

  /** Paint once per animation frame, after all changes. */
  paint() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#paint();
    });
  }

  #paint() {
    const { canvas } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    const dpr = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * dpr), Math.round(height * dpr)];
    const context = canvas.getContext("2d");
    context.scale(dpr, dpr);
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const area = { left: 2.4 * rem, top: 0.4 * rem, width: width - 4 * rem, height: height - 1.9 * rem };
    this.area = area;
    const all = this.lines.flatMap(({ values }) => values.filter(Number.isFinite));
    const [low, high] = all.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [-1, 1]);
    const n = this.tokens.length;
    const x = (volume) => area.left + (n > 1 ? volume / (n - 1) : 0.5) * area.width;
    const y = (value) => area.top + ((high - value) / (high - low)) * area.height;
    this.#axes(context, area, { low, high, n, x, y, rem });
    this.lines.forEach(({ values }, index) => {
      context.beginPath();
      let pen = false;
      values.forEach((value, volume) => {
        if (!Number.isFinite(value)) pen = false;
        else if (pen) context.lineTo(x(volume), y(value));
        else { context.moveTo(x(volume), y(value)); pen = true; }
      });
      context.strokeStyle = css(COLORS[index]);
      context.lineWidth = (index ? 0.08 : 0.11) * rem;
      context.lineJoin = "round";
      context.stroke();
    });
    if (n) this.#cursor(context, area, x, y, rem);
  }

  #axes(context, area, { low, high, n, x, y, rem }) {
    context.font = `${0.82 * rem}px system-ui, sans-serif`;
    context.fillStyle = css("--soft");
    context.strokeStyle = css("--line");
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const step = niceStep((high - low) / Math.max(2, area.height / (2.6 * rem)));
    for (let tick = Math.ceil(low / step); tick * step <= high; tick++) {
      const level = Math.round(y(tick * step)) + 0.5;
      context.globalAlpha = tick === 0 ? 1 : 0.45;
      line(context, area.left, level, area.left + area.width, level);
      context.globalAlpha = 1;
      context.fillText(number(tick * step, step < 1 ? 1 : 0), area.left - 0.5 * rem, level);
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    const stride = Math.max(1, niceStep(n / Math.max(2, area.width / (5 * rem))));
    for (let volume = 0; volume < n; volume += stride) {
      context.fillText(String(volume), x(volume), area.top + area.height + 0.45 * rem);
    }
    for (const start of this.starts) {
      const left = Math.round(x(start)) + 0.5;
      line(context, left, area.top + area.height, left, area.top + area.height + 0.35 * rem);
    }
  }

  #cursor(context, area, x, y, rem) {
    const left = x(this.volume);
    context.strokeStyle = css("--ink");
    context.lineWidth = 1;
    line(context, Math.round(left) + 0.5, area.top, Math.round(left) + 0.5, area.top + area.height);
    this.lines.forEach(({ values }, index) => {
      if (!Number.isFinite(values[this.volume])) return;
      context.beginPath();
      context.arc(left, y(values[this.volume]), 0.24 * rem, 0, 2 * Math.PI);
      context.fillStyle = css(COLORS[index]);
      context.fill();
      context.strokeStyle = css("--paper");
      context.stroke();
    });
  }
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? power;
}

/** Convert values to standard deviations from their mean, as for the network; constant values become 0. */
export function standardized(values, mean, sd) {
  return values.map((value) => (value === null ? NaN : sd > 0 ? (value - mean) / sd : 0));
}
