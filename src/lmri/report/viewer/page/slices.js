/** Conversion of values for painting: mask, grey values of the underlay, and range of the overlay. */

/** Return the mask of voxels with a neuron: 1 inside and 0 outside, x fastest and z slowest. */
export function inside({ shape: [nx, ny, nz], layers }) {
  const mask = new Uint8Array(nx * ny * nz);
  for (let z = 0; z < nz; z++) mask.fill(1, z * nx * ny, z * nx * ny + layers[z].width);
  return mask;
}

/** Compute a quantile; for large arrays, from a sample of their values. */
export function quantile(values, share) {
  if (!values.length) return NaN;
  const step = Math.max(1, Math.floor(values.length / 20000));
  const sample = [];
  for (let index = 0; index < values.length; index += step) sample.push(values[index]);
  sample.sort((a, b) => a - b);
  return sample[Math.min(sample.length - 1, Math.floor(share * sample.length))];
}

/** Scale an underlay to 1 to 255 between its 2nd and 98th percentiles, and to 0 outside the mask; null shows the mask. */
export function grey(values, mask) {
  const greys = new Float32Array(mask.length);
  if (!values) {
    for (let voxel = 0; voxel < mask.length; voxel++) greys[voxel] = mask[voxel] ? 40 : 0;
    return greys;
  }
  const masked = values.filter((_, voxel) => mask[voxel]);
  const [low, high] = [quantile(masked, 0.02), quantile(masked, 0.98)];
  const span = high > low ? high - low : 1;
  for (let voxel = 0; voxel < mask.length; voxel++) {
    if (mask[voxel]) greys[voxel] = 1 + 254 * Math.min(1, Math.max(0, (values[voxel] - low) / span));
  }
  return greys;
}

/** Return the smallest and the largest nonzero |value|. */
export function reach(values) {
  let [low, high] = [Infinity, 0];
  for (const value of values) {
    const size = Math.abs(value);
    if (size > 0 && size < low) low = size;
    if (size > high) high = size;
  }
  return { low: Number.isFinite(low) ? low : 0, high };
}

/**
 * Choose the upper end of the colour scale: the largest value, or the 98th percentile if the largest value is an outlier.
 *
 * @param {Float32Array[]} arrays
 * @returns {{high: number, clipped: boolean}}
 */
export function ceiling(arrays, low) {
  const shown = [];
  for (const values of arrays) for (const value of values) if (Math.abs(value) >= Math.max(low, 1e-9)) shown.push(Math.abs(value));
  if (!shown.length) return { high: low + 1, clipped: false };
  let most = 0;
  for (const value of shown) if (value > most) most = value;
  const usual = quantile(shown, 0.98);
  const high = usual > low && most > 1.5 * usual ? usual : most;
  return { high: Math.max(high, low + 1e-3), clipped: high < most };
}

/** Count the neurons that an overlay shows above and below 0. */
export function shownAt(values, low) {
  let [positive, negative] = [0, 0];
  const floor = Math.max(low, 1e-9);
  for (const value of values) {
    if (value >= floor) positive++;
    else if (value <= -floor) negative++;
  }
  return { positive, negative };
}
