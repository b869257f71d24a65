/** Where the slices of a mosaic lie, and which neuron is under a point. */

/**
 * Place slices of nx × ny voxels, as large as fits, each with room for a label above it.
 *
 * @returns {{scale: number, tiles: {layer: number, x: number, y: number, w: number, h: number}[]}} in CSS pixels
 */
export function place([nx, ny], layers, width, height, { label, gap, dpr }) {
  let best = { scale: 0, columns: 1 };
  for (let columns = 1; columns <= layers.length; columns++) {
    const rows = Math.ceil(layers.length / columns);
    const scale = Math.min((width - gap * (columns - 1)) / columns / nx, ((height - gap * (rows - 1)) / rows - label) / ny);
    if (scale > best.scale) best = { scale, columns };
  }
  // Voxels of whole pixels are even; where that costs much size, uneven ones are the lesser evil.
  const whole = Math.floor(best.scale * dpr) / dpr;
  const scale = whole > 0.84 * best.scale ? whole : Math.max(best.scale, 1 / nx);
  const { columns } = best;
  const rows = Math.ceil(layers.length / columns);
  const snap = (value) => Math.round(value * dpr) / dpr;
  const [w, h] = [Math.max(1, snap(nx * scale)), Math.max(1, snap(ny * scale))];
  const left = Math.max(0, snap((width - columns * w - (columns - 1) * gap) / 2));
  const top = Math.max(0, snap((height - rows * (h + label) - (rows - 1) * gap) / 2));
  const tiles = layers.map((layer, index) => ({
    layer,
    x: left + (index % columns) * (w + gap),
    y: top + Math.floor(index / columns) * (h + label + gap) + label,
    w,
    h,
  }));
  return { scale, tiles };
}

/**
 * Find the neuron at a point: neuron n of a layer is the voxel x = n % nx, y = n // nx, and y goes up.
 *
 * @returns {{layer: number, neuron: number, x: number, y: number}|null} null between slices and outside the mask
 */
export function at(tiles, [nx, ny], widths, px, py) {
  const tile = tiles.find((one) => px >= one.x && px < one.x + one.w && py >= one.y && py < one.y + one.h);
  if (!tile) return null;
  const x = Math.min(nx - 1, Math.floor(((px - tile.x) / tile.w) * nx));
  const y = Math.max(0, ny - 1 - Math.floor(((py - tile.y) / tile.h) * ny));
  const neuron = x + y * nx;
  return neuron < widths[tile.layer] ? { layer: tile.layer, neuron, x, y } : null;
}

/** Give the box of a voxel within its slice, in CSS pixels. */
export function box(tile, [nx, ny], x, y, nWide = 1, nHigh = 1) {
  const [w, h] = [tile.w / nx, tile.h / ny];
  return [tile.x + x * w, tile.y + tile.h - (y + nHigh) * h, w * nWide, h * nHigh];
}
