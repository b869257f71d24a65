/** The mosaic: one slice a layer, with labels and gaps, what lies under the pointer, and what is drawn on it. */

import { css, onTheme } from "./color.js";
import { el } from "./dom.js";
import { at, box, place } from "./layout.js";
import { CanvasPainter, NiivuePainter, fit } from "./painters.js";

/** One mosaic in an element of the page. */
export class Mosaic {
  /**
   * @param {HTMLElement} host
   * @param {string} name what it is, for those who hear the page
   * @param {{hover: Function, press: Function, drag: Function, release: Function, open: Function}} acts
   */
  constructor(host, name, acts) {
    this.acts = acts;
    this.title = el("h2", { class: "mosaic-title", hidden: true });
    this.plain = el("canvas", { class: "layer", "aria-hidden": "true" });
    this.gl = el("canvas", { class: "layer", "aria-hidden": "true", hidden: true });
    this.labels = el("div", { class: "layer labels" });
    this.marks = el("canvas", { class: "layer marks", "aria-hidden": "true" });
    this.words = el("p", { class: "over", role: "status", hidden: true });
    const layers = [this.plain, el("div", { class: "layer" }, this.gl), this.labels, this.marks];
    this.stage = el("div", { class: "stage", tabindex: "0", role: "application", "aria-label": name }, ...layers);
    host.append(el("div", { class: "mosaic" }, this.title, this.words, this.stage));
    this.painter = new CanvasPainter(this.plain);
    this.drawn = { roi: null, selected: null, hover: null, band: null };
    this.tiles = [];
    this.zoom = null;
    this.#listen();
    new ResizeObserver(() => this.paint()).observe(this.stage);
    onTheme(() => this.paint());
  }

  /** Go over to NiiVue, once it has started; until then, and if it cannot, the plain canvas stays. */
  async promote() {
    if (this.promoted) return;
    this.promoted = true;
    const scene = this.#scene();
    const painter = await NiivuePainter.on(this.gl, scene ?? { width: 8, height: 8, dpr: 1 });
    this.gl.addEventListener("webglcontextlost", () => this.#demote());
    this.painter = painter;
    await this.paint();
    this.gl.hidden = false;
    this.plain.hidden = true;
    this.stage.dataset.painter = "niivue";
  }

  #demote() {
    this.painter = new CanvasPainter(this.plain);
    this.gl.hidden = true;
    this.plain.hidden = false;
    delete this.stage.dataset.painter;
    this.paint();
  }

  /** @param {{space: object, underlay: Float32Array, overlay: Float32Array|null, low: number, high: number}} content */
  show(content) {
    this.content = content;
    return this.paint();
  }

  /** Show one layer alone, or with null all of them. */
  enlarge(layer) {
    this.zoom = layer;
    return this.paint();
  }

  /** Write words above the mosaic, as where there is nothing to see. */
  say(words) {
    this.words.textContent = words ?? "";
    this.words.hidden = !words;
  }

  #scene() {
    if (!this.content) return null;
    const { space, underlay, overlay, low, high } = this.content;
    const { width, height } = this.stage.getBoundingClientRect();
    if (width < 8 || height < 8) return null;
    const dpr = window.devicePixelRatio || 1;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const all = space.layers.map((_, layer) => layer);
    const layers = this.zoom !== null && this.zoom < all.length ? [this.zoom] : all;
    const room = { label: Math.round(1.25 * rem), gap: Math.round(0.5 * rem), dpr };
    const { tiles } = place(space.shape, layers, width, height, room);
    return { shape: space.shape, tiles, width, height, dpr, underlay, overlay, low, high };
  }

  /** Paint everything anew, at the size that there is now. */
  async paint() {
    const scene = this.#scene();
    if (!scene) return;
    this.tiles = scene.tiles;
    this.scene = scene;
    this.#label();
    this.mark({});
    const { painter } = this;
    await painter.paint(scene);
    if (painter.tiles && this.scene === scene) {
      this.tiles = painter.tiles(scene);
      this.#label();
      this.mark({});
    }
    this.stage.dataset.painted = String(Number(this.stage.dataset.painted ?? 0) + 1);
  }

  #label() {
    const { layers } = this.content.space;
    const made = this.labels.children;
    while (made.length > this.tiles.length) made[made.length - 1].remove();
    while (made.length < this.tiles.length) this.labels.append(el("div", { class: "tile" }, el("span", { class: "label" })));
    this.tiles.forEach(({ layer, x, y, w, h }, place) => {
      Object.assign(made[place].style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
      made[place].dataset.layer = layer;
      made[place].firstChild.textContent = layers[layer].name;
    });
  }

  /** Draw on top: the set of neurons being made, the neuron selected, the voxel under the pointer, a rubber band. */
  mark(changes) {
    Object.assign(this.drawn, changes);
    if (!this.scene) return;
    const { width, height, dpr, shape } = this.scene;
    fit(this.marks, this.scene);
    const context = this.marks.getContext("2d");
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    context.clearRect(0, 0, width, height);
    const { roi, selected, hover, band } = this.drawn;
    if (roi?.size) this.#fill(context, roi);
    if (band) this.#frame(context, band.layer, band.x0, band.y0, band.x1 - band.x0 + 1, band.y1 - band.y0 + 1, "--gold", 1.5);
    if (selected) {
      const [x, y] = [selected.neuron % shape[0], Math.floor(selected.neuron / shape[0])];
      this.#frame(context, selected.layer, x, y, 1, 1, "--ink", 1.5, 2.5);
    }
    if (hover) this.#frame(context, hover.layer, hover.x, hover.y, 1, 1, "--ink", 1, 0.5);
  }

  #fill(context, roi) {
    const { shape } = this.scene;
    const n = shape[0] * shape[1];
    const tiles = new Map(this.tiles.map((tile) => [tile.layer, tile]));
    context.beginPath();
    for (const key of roi) {
      const tile = tiles.get(Math.floor(key / n));
      if (tile) context.rect(...box(tile, shape, key % shape[0], Math.floor((key % n) / shape[0])));
    }
    context.fillStyle = css("--gold");
    context.fill();
  }

  #frame(context, layer, x, y, nWide, nHigh, color, line, margin = 0) {
    const tile = this.tiles.find((one) => one.layer === layer);
    if (!tile) return;
    const [left, top, w, h] = box(tile, this.scene.shape, x, y, nWide, nHigh);
    const outline = [left - margin, top - margin, w + 2 * margin, h + 2 * margin];
    context.lineWidth = line + 2;
    context.strokeStyle = css("--paper");
    context.strokeRect(...outline);
    context.lineWidth = line;
    context.strokeStyle = css(color);
    context.strokeRect(...outline);
  }

  /** Find the neuron under a pointer event; with `clamp`, the nearest voxel of that slice. */
  #at(event, clamp = null) {
    if (!this.scene) return null;
    const { left, top } = this.stage.getBoundingClientRect();
    let [x, y] = [event.clientX - left, event.clientY - top];
    const { shape, layers } = this.content.space;
    const widths = layers.map((layer) => layer.width);
    const tile = clamp !== null && this.tiles.find((one) => one.layer === clamp);
    if (tile) {
      x = Math.min(Math.max(x, tile.x), tile.x + tile.w - 0.01);
      y = Math.min(Math.max(y, tile.y), tile.y + tile.h - 0.01);
      return at([tile], shape, widths.map(() => Infinity), x, y);
    }
    return at(this.tiles, shape, widths, x, y);
  }

  #listen() {
    const { stage, acts } = this;
    let from = null;
    stage.addEventListener("pointermove", (event) => {
      const under = this.#at(event, from?.layer ?? null);
      this.mark({ hover: from ? null : under });
      acts.hover?.(under, event);
      if (from && under) acts.drag?.(from, under, event);
    });
    stage.addEventListener("pointerleave", () => {
      this.mark({ hover: null });
      acts.hover?.(null);
    });
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = this.#at(event);
      if (!from) return;
      stage.setPointerCapture(event.pointerId);
      acts.press?.(from, event);
    });
    const end = (event) => {
      if (!from) return;
      const to = this.#at(event, from.layer);
      const began = from;
      from = null;
      acts.release?.(began, to, event);
    };
    stage.addEventListener("pointerup", end);
    stage.addEventListener("pointercancel", () => { from = null; this.mark({ band: null }); });
    stage.addEventListener("dblclick", (event) => {
      const under = this.#at(event);
      if (under) acts.open?.(under);
    });
  }
}
