/** Mosaic: one slice per layer with labels and gaps, the neuron under the pointer, and marks. */

import { css, onTheme } from "./color.js";
import { el } from "./dom.js";
import { at, box, isCoarse, place } from "./layout.js";
import { CanvasPainter, NiivuePainter, fit } from "./painters.js";

/** Mosaic in an element of the page. */
export class Mosaic {
  /**
   * @param {HTMLElement} host
   * @param {string} name name for screen readers
   * @param {{hover: Function, press: Function, drag: Function, release: Function, open: Function, coarse: Function, failed: Function}} acts
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
    this.frame = el("div", { class: "frame" }, ...layers);
    this.room = el("div"); // scroll height; the frame stays visible
    this.stage = el("div", { class: "stage", tabindex: "0", role: "application", "aria-label": name }, this.frame, this.room);
    host.append(el("div", { class: "mosaic" }, this.title, this.words, this.stage));
    this.flat = new CanvasPainter(this.plain);
    this.painter = this.flat;
    this.drawn = { roi: null, selected: null, hover: null, band: null };
    this.tiles = [];
    this.zoom = null;
    this.#listen();
    new ResizeObserver(() => this.paint()).observe(this.stage);
    this.stage.addEventListener("scroll", () => this.paint());
    onTheme(() => this.paint());
  }

  /** Switch to NiiVue after it has started; until then, or if it fails, the plain canvas is used. */
  async promote() {
    if (this.promoted) return;
    this.promoted = true;
    const scene = this.#scene();
    const painter = await NiivuePainter.on(this.gl, scene ?? { width: 8, height: 8, dpr: 1 });
    this.gl.addEventListener("webglcontextlost", () => this.#demote());
    this.painter = painter;
    await this.paint();
  }

  #demote() {
    this.painter = this.flat;
    return this.paint();
  }

  /** Show the canvas of the painter, and report whether several neurons share a pixel. */
  #present(painter, scene) {
    const flat = painter === this.flat;
    this.frame.style.visibility = "";
    this.gl.hidden = flat;
    this.plain.hidden = !flat;
    if (flat) delete this.stage.dataset.painter;
    else this.stage.dataset.painter = "niivue";
    this.acts.coarse?.(Boolean(scene.coarse));
  }

  /** Scroll to a layer, if the mosaic scrolls. */
  reveal(layer) {
    this.wanted = this.places ? null : layer; // positions are unknown before the first picture
    const tile = this.places?.find((entry) => entry.layer === layer);
    if (!tile || !this.stage.classList.contains("scrolls")) return;
    const { scrollTop, clientHeight } = this.stage;
    const label = tile.label + 2;
    if (tile.y - label < scrollTop) this.stage.scrollTop = tile.y - label;
    else if (tile.y + tile.h > scrollTop + clientHeight) this.stage.scrollTop = tile.y + tile.h + 2 - clientHeight;
  }

  /** Remove the picture until the next one is painted. */
  clear() {
    this.scene = null;
    this.content = null;
    this.places = null;
    this.frame.style.visibility = "hidden";
    Object.assign(this.drawn, { selected: null, hover: null, band: null });
  }

  /** @param {{space: object, underlay: Float32Array, overlay: Float32Array|null, low: number, high: number}} content */
  show(content) {
    this.content = content;
    return this.paint();
  }

  /** Show only one layer, or all layers with null. */
  enlarge(layer) {
    this.zoom = layer;
    return this.paint();
  }

  /** Show a message above the mosaic, or reserve the space of the message of the other mosaic. */
  say(words, otherWords = null) {
    this.words.textContent = words || otherWords || "";
    this.words.hidden = !(words || otherWords);
    this.words.style.visibility = words ? "" : "hidden";
  }

  #scene() {
    if (!this.content) return null;
    const { space, underlay, overlay, low, high } = this.content;
    let { width } = this.stage.getBoundingClientRect();
    const { height } = this.stage.getBoundingClientRect();
    if (width < 8 || height < 8) return null;
    const dpr = window.devicePixelRatio || 1;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const all = space.layers.map((_, layer) => layer);
    const layers = this.zoom !== null && this.zoom < all.length ? [this.zoom] : all;
    const room = { label: Math.round(1.25 * rem), gap: Math.round(0.5 * rem), dpr };
    let layout = place(space.shape, layers, width, height, room);
    const scrolls = layout.height > height + 1;
    this.stage.classList.toggle("scrolls", scrolls);
    if (scrolls) {
      width = this.stage.clientWidth; // without the scroll bar
      layout = place(space.shape, layers, width, height, room);
    }
    this.room.style.height = `${scrolls ? layout.height - height : 0}px`;
    this.frame.style.height = scrolls ? `${height}px` : "";
    this.places = layout.tiles.map((tile) => ({ ...tile, label: room.label }));
    if (Number.isInteger(this.wanted)) this.reveal(this.wanted);
    const past = scrolls ? Math.round(this.stage.scrollTop * dpr) / dpr : 0;
    const tiles = layout.tiles.map((tile) => ({ ...tile, y: tile.y - past }))
      .filter((tile) => !scrolls || (tile.y + tile.h > 0 && tile.y - room.label < height));
    return { shape: space.shape, tiles, width, height, dpr, underlay, overlay, low, high, scrolls };
  }

  /** Repaint everything at the current size. */
  async paint() {
    const scene = this.#scene();
    if (!scene) return;
    this.tiles = scene.tiles;
    this.scene = scene;
    this.#label();
    this.mark({});
    // NiiVue shows one neuron per pixel, the one under its centre, and would hide the others.
    const painter = scene.scrolls || isCoarse(scene.tiles, scene.shape, scene.dpr) ? this.flat : this.painter;
    try {
      await painter.paint(scene);
    } catch (error) {
      if (painter === this.flat) throw error;
      this.acts.failed?.(error);
      return this.#demote();
    }
    if (this.scene === scene) {
      this.#present(painter, scene);
      if (painter.tiles) {
        this.tiles = painter.tiles(scene);
        this.#label();
        this.mark({});
      }
    }
    this.stage.dataset.painted = String(Number(this.stage.dataset.painted ?? 0) + 1);
  }

  #label() {
    const { layers } = this.content.space;
    const labels = this.labels.children;
    while (labels.length > this.tiles.length) labels[labels.length - 1].remove();
    while (labels.length < this.tiles.length) this.labels.append(el("div", { class: "tile" }, el("span", { class: "label" })));
    this.tiles.forEach(({ layer, x, y, w, h }, index) => {
      Object.assign(labels[index].style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
      labels[index].dataset.layer = layer;
      labels[index].firstChild.textContent = layers[layer].name;
    });
  }

  /** Draw marks: the ROI, the selected neuron, the voxel under the pointer, and the selection rectangle. */
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
      if (!tile) continue;
      const [x, y, w, h] = box(tile, shape, key % shape[0], Math.floor((key % n) / shape[0]));
      context.rect(x, y, Math.max(w, 1 / this.scene.dpr), Math.max(h, 1 / this.scene.dpr));
    }
    context.fillStyle = css("--gold");
    context.fill();
  }

  #frame(context, layer, x, y, nWide, nHigh, color, line, margin = 0) {
    const tile = this.tiles.find((entry) => entry.layer === layer);
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

  /** Return the neuron under the pointer; with `clamp`, the nearest voxel of that slice. */
  #at(event, clamp = null) {
    if (!this.scene) return null;
    const { dpr } = this.scene;
    const stage = this.stage.getBoundingClientRect();
    // A stage with a fractional position is painted from the nearest pixel.
    const [left, top] = [stage.left, stage.top].map((length) => Math.round(length * dpr) / dpr);
    let [x, y] = [event.clientX - left, event.clientY - top];
    const { shape, layers } = this.content.space;
    const widths = layers.map((layer) => layer.width);
    const tile = clamp !== null && this.tiles.find((entry) => entry.layer === clamp);
    if (tile) {
      x = Math.min(Math.max(x, tile.x), tile.x + tile.w - 0.01);
      y = Math.min(Math.max(y, tile.y), tile.y + tile.h - 0.01);
      return at([tile], shape, widths.map(() => Infinity), x, y, this.scene.dpr, this.scene.coarse);
    }
    return at(this.tiles, shape, widths, x, y, this.scene.dpr, this.scene.coarse);
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
