/** Two painters of the same slices at the same positions: NiiVue on WebGL2, or a plain canvas. */

import { scales } from "./color.js";
import { isCoarse, pixels, shared } from "./layout.js";

/** Input of a painter. `underlay` is 0 outside the mask and 1 to 255 inside; `overlay` is shown from `low` upwards.
 * @typedef {{shape: number[], tiles: object[], width: number, height: number, dpr: number, underlay: Float32Array,
 *   overlay: Float32Array|null, low: number, high: number, coarse?: Map}} Scene; `coarse` is set by the painter */

/** Whether this browser can draw with WebGL2. */
export function hasWebGL2() {
  try {
    const context = document.createElement("canvas").getContext("webgl2");
    context?.getExtension("WEBGL_lose_context")?.loseContext();
    return Boolean(context);
  } catch {
    return false;
  }
}

/** Set a canvas to whole pixels and to their size on the screen, because fractional stretching shifts voxels. */
export function fit(canvas, { width, height, dpr }) {
  const [w, h] = [Math.max(1, Math.round(width * dpr)), Math.max(1, Math.round(height * dpr))];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  Object.assign(canvas.style, { width: `${w / dpr}px`, height: `${h / dpr}px` });
}

/** Painter on a plain canvas, without WebGL. */
export class CanvasPainter {
  constructor(canvas) {
    this.canvas = canvas;
    this.sheet = document.createElement("canvas");
  }

  /** @param {Scene} scene */
  paint(scene) {
    fit(this.canvas, scene);
    const [nx, ny, nz] = scene.shape;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = false;
    const top = indices(scene);
    scene.coarse = isCoarse(scene.tiles, scene.shape, scene.dpr) ? new Map() : null;
    if (this.sheet.width !== nx || this.sheet.height !== ny) [this.sheet.width, this.sheet.height] = [nx, ny];
    for (const { layer, x, y, w, h } of scene.tiles) {
      if (layer >= nz) continue;
      const [left, up, wide, high] = pixels({ x, y, w, h }, scene.dpr);
      if (scene.coarse) {
        const assigned = shared(scene.shape, layer, wide, high, scene.underlay, scene.overlay);
        scene.coarse.set(layer, assigned);
        context.putImageData(strongest(assigned, top, layer * nx * ny), left, up);
        continue;
      }
      this.sheet.getContext("2d").putImageData(colors(scene, top, layer), 0, 0);
      context.drawImage(this.sheet, left, up, wide, high);
    }
  }
}

function strongest({ wide, high, winners, under }, top, first) {
  const image = new ImageData(wide, high);
  const tables = scales();
  winners.forEach((winner, pixel) => {
    if (winner >= 0) tint(image.data, 4 * pixel, tables, top[first + winner], under[pixel]);
  });
  return image;
}

/** Write the colour of a pixel: of the overlay if it is shown there, else the grey of the underlay. */
function tint(data, to, { positive, negative, grey }, index, grey_) {
  const table = index ? (index > 0 ? positive : negative) : grey;
  const entry = 3 * (Math.abs(index) || Math.round(grey_));
  for (let channel = 0; channel < 3; channel++) data[to + channel] = table[entry + channel];
  data[to + 3] = 255;
}

/**
 * Convert an overlay to indices of the colour scale: 0 is not shown, 1 to 255 is positive, -1 to -255 negative. Both
 * painters use these indices, so that values at the threshold are treated identically.
 */
function indices({ overlay, underlay, low, high }) {
  const indexed = new Float32Array(underlay.length);
  if (!overlay) return indexed;
  const floor = Math.max(low, 1e-9);
  const span = Math.max(high - floor, 1e-9);
  for (let voxel = 0; voxel < indexed.length; voxel++) {
    const size = Math.abs(overlay[voxel]);
    if (size < floor || !underlay[voxel]) continue;
    indexed[voxel] = Math.sign(overlay[voxel]) * (1 + Math.round(254 * Math.min(1, (size - floor) / span)));
  }
  return indexed;
}

function colors({ shape: [nx, ny], underlay }, top, layer) {
  const image = new ImageData(nx, ny);
  const tables = scales(); // once, because querying the theme is slow
  for (let y = 0; y < ny; y++) {
    for (let x = 0; x < nx; x++) {
      const from = layer * nx * ny + y * nx + x;
      const to = 4 * ((ny - 1 - y) * nx + x);
      if (underlay[from] < 1) continue;
      tint(image.data, to, tables, top[from], underlay[from]);
    }
  }
  return image;
}

let loading = null;

function loadScript(source) {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${source} could not be loaded`));
    document.head.append(script);
  });
  return loading;
}

/** Painter with NiiVue, created by `NiivuePainter.on(canvas)`. */
export class NiivuePainter {
  static async on(canvas, scene) {
    await loadScript("/niivue.umd.js");
    fit(canvas, scene);
    const nv = new window.niivue.Niivue({
      backColor: [0, 0, 0, 0], isNearestInterpolation: true, crosshairWidth: 0, isOrientationTextVisible: false,
      isResizeCanvas: false, interactive: false, dragAndDropEnabled: false, drawingEnabled: false, logLevel: "error",
    });
    // Drawing is triggered explicitly; the loading text of NiiVue would appear on an empty canvas.
    nv.opts.loadingText = "";
    const parent = canvas.parentElement;
    const background = parent.style.backgroundColor;
    await nv.attachToCanvas(canvas, false);
    parent.style.backgroundColor = background;
    return new NiivuePainter(canvas, nv);
  }

  constructor(canvas, nv) {
    this.canvas = canvas;
    this.nv = nv;
    this.shape = "";
    this.busy = Promise.resolve();
  }

  /** @param {Scene} scene */
  paint(scene) {
    this.next = scene;
    const turn = this.busy.then(() => this.next === scene && this.#paint(scene));
    this.busy = turn.catch(() => {}); // the caller gets the error; the next scene is painted independently
    return turn;
  }

  async #paint(scene) {
    const { nv } = this;
    fit(this.canvas, scene);
    setColormaps(nv);
    const overlay = indices(scene);
    if (this.shape !== String(scene.shape)) {
      while (nv.volumes.length) nv.removeVolume(nv.volumes[nv.volumes.length - 1]);
      const load = (name, values, options) =>
        window.niivue.NVImage.loadFromUrl({ url: nifti(scene.shape, values), name: `${name}.nii`, ...options });
      nv.addVolume(await load("underlay", scene.underlay, { colormap: "lmri-grey", cal_min: 0, cal_max: 255 }));
      nv.addVolume(await load("overlay", overlay, {
        colormap: "lmri-positive", colormapNegative: "lmri-negative", cal_min: 0, cal_max: 255,
      }));
      this.shape = String(scene.shape);
    }
    const [base, top] = nv.volumes;
    base.img = scene.underlay;
    top.img = overlay;
    nv.customLayout = layout(scene, this.canvas);
    nv.updateGLVolume();
  }

  /** Positions of the slices in NiiVue, in CSS pixels; they determine the neuron under the pointer. */
  tiles({ tiles, dpr }) {
    const { height } = this.canvas;
    return this.nv.screenSlices.map(({ leftTopWidthHeight: [x, y, w, h] }, place) => {
      // WebGL truncates positions to whole pixels, counted from the bottom.
      const [left, bottom, wide, high] = [x, height - y - h, w, h].map(Math.trunc);
      return { layer: tiles[place].layer, x: left / dpr, y: (height - bottom - high) / dpr, w: wide / dpr, h: high / dpr };
    });
  }
}

function layout({ tiles, dpr }, { width, height }) {
  // A margin is added, because rounding errors would otherwise lose a whole pixel in the truncation.
  const some = 0.25;
  return tiles.map(({ layer, x, y, w, h }) => ({
    sliceType: 0, // axial
    position: [
      (x * dpr + some) / width, (y * dpr - 2 * some) / height, (w * dpr + some) / width, (h * dpr + some) / height,
    ],
    sliceMM: layer, // the affine is the identity: millimetres are voxels
  }));
}

function setColormaps(nv) {
  const places = Array.from({ length: 256 }, (_, place) => place);
  for (const [name, table] of Object.entries(scales())) {
    const [R, G, B] = [0, 1, 2].map((c) => places.map((place) => table[3 * place + c]));
    // Voxels outside the mask or below the threshold are 0 and transparent.
    const A = places.map((place) => (place === 0 ? 0 : 255));
    nv.addColormap(`lmri-${name}`, { R, G, B, A, I: places });
  }
}

function nifti([nx, ny, nz], values) {
  const buffer = new ArrayBuffer(352 + 4 * values.length);
  const view = new DataView(buffer);
  view.setInt32(0, 348, true);
  [3, nx, ny, nz, 1, 1, 1, 1].forEach((size, place) => view.setInt16(40 + 2 * place, size, true));
  view.setInt16(70, 16, true); // float32
  view.setInt16(72, 32, true);
  for (let place = 0; place < 8; place++) view.setFloat32(76 + 4 * place, 1, true);
  view.setFloat32(108, 352, true);
  view.setFloat32(112, 1, true);
  view.setInt16(252, 1, true);
  view.setInt16(254, 1, true);
  [280, 300, 320].forEach((diagonal) => view.setFloat32(diagonal, 1, true));
  [0x6e, 0x2b, 0x31, 0].forEach((byte, place) => view.setUint8(344 + place, byte));
  new Float32Array(buffer, 352).set(values);
  return buffer;
}
