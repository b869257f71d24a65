/** Layout of the slices of a mosaic, and the neuron at a point. */

/** Minimum length of the longer side of a slice in CSS pixels; if the slices do not fit, the mosaic scrolls. */
const LEAST = 36;

/**
 * Arrange slices of nx × ny voxels as large as possible, each with space for a label above it.
 *
 * @returns {{scale: number, height: number, tiles: {layer: number, x: number, y: number, w: number, h: number}[]}} in CSS
 *   pixels; the height exceeds the available height if slices would be too small
 */
export function place([nx, ny], layers, width, height, { label, gap, dpr }) {
  let best = { scale: 0, columns: 1 };
  for (let columns = 1; columns <= layers.length; columns++) {
    const rows = Math.ceil(layers.length / columns);
    const scale = Math.min((width - gap * (columns - 1)) / columns / nx, ((height - gap * (rows - 1)) / rows - label) / ny);
    if (scale > best.scale) best = { scale, columns };
  }
  // Voxels of whole pixels have equal sizes; fractional sizes are used only if the slices would be much smaller.
  const whole = Math.floor(best.scale * dpr) / dpr;
  let scale = whole > 0.84 * best.scale ? whole : best.scale;
  let { columns } = best;
  if (scale * Math.max(nx, ny) < LEAST) {
    scale = LEAST / Math.max(nx, ny);
    columns = Math.max(1, Math.floor((width + gap) / (nx * scale + gap)));
  }
  const rows = Math.ceil(layers.length / columns);
  const snap = (value) => Math.round(value * dpr) / dpr;
  const [w, h] = [Math.max(1, snap(nx * scale)), Math.max(1, snap(ny * scale))];
  const left = Math.max(0, snap((width - columns * w - (columns - 1) * gap) / 2));
  const top = Math.max(0, snap((height - rows * (h + label) - (rows - 1) * gap) / 2));
  const tiles = layers.map((layer, index) => ({
    layer,
    x: snap(left + (index % columns) * (w + gap)),
    y: snap(top + Math.floor(index / columns) * (h + label + gap) + label),
    w,
    h,
  }));
  return { scale, tiles, height: rows * (h + label) + (rows - 1) * gap };
}

/** Return the screen pixels of a slice: left, top, width and height. */
export const pixels = ({ x, y, w, h }, dpr) => [x, y, w, h].map((length) => Math.round(length * dpr));

/** Whether any slice has fewer pixels than voxels, so that several neurons share one. */
export const isCoarse = (tiles, [nx, ny], dpr) => tiles.some((tile) => {
  const [, , wide, high] = pixels(tile, dpr);
  return wide < nx || high < ny;
});

/**
 * Assign the voxels of a slice to pixels if it has fewer pixels: a pixel shows its strongest neuron over the mean of the
 * underlay.
 *
 * @returns {{wide: number, high: number, winners: Int32Array, under: Float32Array}} by pixel, from the upper left:
 *   the index of the strongest neuron in the layer, -1 without a neuron, and the mean of the underlay
 */
export function shared([nx, ny], layer, wide, high, underlay, overlay) {
  const winners = new Int32Array(wide * high).fill(-1);
  const under = new Float32Array(wide * high);
  const range = (place, n, all) => {
    const first = Math.floor((place * all) / n);
    return [first, Math.max(first + 1, Math.floor(((place + 1) * all) / n))];
  };
  for (let row = 0; row < high; row++) {
    const [top, bottom] = range(row, high, ny);
    for (let column = 0; column < wide; column++) {
      const [left, right] = range(column, wide, nx);
      let [best, most, sum, n] = [-1, -1, 0, 0];
      for (let line = top; line < bottom; line++) {
        for (let x = left; x < right; x++) {
          const place = (ny - 1 - line) * nx + x;
          const from = layer * nx * ny + place;
          if (!underlay[from]) continue;
          const size = overlay ? Math.abs(overlay[from]) : 0;
          if (best < 0 || size > most) [best, most] = [place, size];
          sum += underlay[from];
          n++;
        }
      }
      winners[row * wide + column] = best;
      under[row * wide + column] = n ? sum / n : 0;
    }
  }
  return { wide, high, winners, under };
}

/**
 * Find the neuron painted at a point: neuron n of a layer is the voxel x = n % nx, y = n // nx, and y goes up.
 *
 * @param {Map} coarse results of `shared` by layer, if it was used
 * @returns {{layer: number, neuron: number, x: number, y: number}|null} null between slices and outside the mask
 */
export function at(tiles, [nx, ny], widths, px, py, dpr = 1, coarse = null) {
  // A pixel shows the neuron under its centre.
  [px, py] = [px, py].map((length) => (Math.floor(length * dpr) + 0.5) / dpr);
  const tile = tiles.find(({ x, y, w, h }) => px >= x && px < x + w && py >= y && py < y + h);
  if (!tile) return null;
  const assigned = coarse?.get(tile.layer);
  if (assigned) {
    const [left, top] = pixels(tile, dpr);
    const [column, row] = [Math.floor(px * dpr) - left, Math.floor(py * dpr) - top];
    const neuron = assigned.winners[row * assigned.wide + column] ?? -1;
    return neuron < 0 ? null : { layer: tile.layer, neuron, x: neuron % nx, y: Math.floor(neuron / nx) };
  }
  const x = Math.min(nx - 1, Math.floor(((px - tile.x) / tile.w) * nx));
  const y = Math.max(0, ny - 1 - Math.floor(((py - tile.y) / tile.h) * ny));
  const neuron = x + y * nx;
  return neuron < widths[tile.layer] ? { layer: tile.layer, neuron, x, y } : null;
}

/** Return the box of a voxel within its slice, in CSS pixels. */
export function box(tile, [nx, ny], x, y, nWide = 1, nHigh = 1) {
  const [w, h] = [tile.w / nx, tile.h / ny];
  return [tile.x + x * w, tile.y + tile.h - (y + nHigh) * h, w * nWide, h * nHigh];
}
