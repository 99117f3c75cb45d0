"use strict";
(() => {
const find = (id) => document.getElementById(id);
const seg = JSON.parse(find("seg").textContent), steps = seg.preprocessing, classes = seg.metadata;
const isMulticlass = seg.task === "multiclass";
let session, chosen, last;

const say = (text, tone = "") => { find("status").textContent = text; find("status").className = tone; };
const setState = (state) => { document.body.dataset.state = state; };

// ---- from an image to the model's input -----------------------------------------------------------------------------

// The (height, width) of the model's input, as seg predict resizes an image.
function inputSize(height, width) {
  if (seg.size) return seg.size;
  let size = [height, width];
  const half = (x) => { const low = Math.floor(x); return x - low === 0.5 ? low + low % 2 : Math.round(x); };
  if (steps.size) size = steps.size;
  else if (steps.scale) size = size.map((side) => Math.max(1, half(side * steps.scale)));
  else if (steps.shorter_side) {
    size = size.map((side) => Math.floor(side * steps.shorter_side / Math.min(height, width)));
  } else if (steps.longer_side) {
    size = size.map((side) => Math.max(1, Math.floor(side * steps.longer_side / Math.max(height, width))));
  }
  const most = Number(find("size").value), longer = Math.max(...size);
  return most && longer > most ? size.map((side) => Math.max(1, Math.floor(side * most / longer))) : size;
}

// Bilinear weights of one axis, over all the pixels that a smaller one covers: antialiased, unlike a canvas. They are
// integers of 16 bits, as torch's are, so that every pixel is equal to what seg predict computes.
function resizeWeights(from, to) {
  const scale = from / to, reach = Math.max(scale, 1);
  const table = Array.from({ length: to }, (_, index) => {
    const center = (index + 0.5) * scale, weights = [];
    const start = Math.max(0, Math.trunc(center - reach + 0.5));
    const stop = Math.min(from, Math.trunc(center + reach + 0.5));
    for (let at = start; at < stop; at++) weights.push(Math.max(0, 1 - Math.abs(at - center + 0.5) / reach));
    const sum = weights.reduce((one, other) => one + other, 0);
    return { start, weights: weights.map((weight) => weight / sum) };
  });
  const largest = table.reduce((most, { weights }) => Math.max(most, ...weights), 0);
  let bits = 0;
  while (bits < 22 && largest * 2 ** (bits + 1) + 0.5 < 2 ** 15) bits++;
  for (const row of table) row.weights = row.weights.map((weight) => Math.trunc(weight * 2 ** bits + 0.5));
  return { table, bits };
}

// RGBA bytes with one axis resized: of each line of pixels, which are `step` apart and begin `next` after each other.
function resizeLines(source, target, lines, from, to, { next, step, newNext, newStep }) {
  const { table, bits } = resizeWeights(from, to);
  for (let line = 0; line < lines; line++) {
    for (let at = 0; at < to; at++) {
      const { start, weights } = table[at];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (bits - 1);
        for (let k = 0; k < weights.length; k++) {
          sum += weights[k] * source[4 * (line * next + (start + k) * step) + channel];
        }
        target[4 * (line * newNext + at * newStep) + channel] = sum >> bits;
      }
    }
  }
  return target;
}

function resizeImage({ data, width, height }, [newHeight, newWidth]) {
  let pixels = data;
  if (newWidth !== width) {
    const steps = { next: width, step: 1, newNext: newWidth, newStep: 1 };
    pixels = resizeLines(pixels, new Uint8ClampedArray(4 * height * newWidth), height, width, newWidth, steps);
  }
  if (newHeight !== height) {
    const steps = { next: 1, step: newWidth, newNext: 1, newStep: newWidth };
    pixels = resizeLines(pixels, new Uint8ClampedArray(4 * newHeight * newWidth), newWidth, height, newHeight, steps);
  }
  return { data: pixels, width: newWidth, height: newHeight };
}

// float32 (1, 3, H, W); a small image is padded with the mean color.
function toInput({ data, width, height }) {
  const [paddedHeight, paddedWidth] = [height, width].map((side) => Math.max(side, seg.min_size));
  const plane = paddedHeight * paddedWidth, values = new Float32Array(3 * plane);
  for (let channel = 0; channel < 3; channel++) {
    const mean = steps.mean[channel], std = steps.std[channel];
    const factor = Math.fround(seg.normalizes ? 1 : 1 / (255 * std));
    const offset = Math.fround(seg.normalizes ? 0 : mean / std);
    if (seg.normalizes) values.fill(255 * mean, channel * plane, (channel + 1) * plane);
    for (let y = 0; y < height; y++) {
      const row = channel * plane + y * paddedWidth;
      for (let x = 0; x < width; x++) {
        values[row + x] = Math.fround(data[4 * (y * width + x) + channel] * factor) - offset;
      }
    }
  }
  return new ort.Tensor("float32", values, [1, 3, paddedHeight, paddedWidth]);
}

// ---- from logits to labels ------------------------------------------------------------------------------------------

// Where each pixel of a resized axis lies between two of the axis before, pixel centers aligned.
function places(from, to) {
  return Array.from({ length: to }, (_, index) => {
    const place = Math.max(0, (index + 0.5) * from / to - 0.5), low = Math.min(Math.floor(place), from - 1);
    return [low, Math.min(low + 1, from - 1), place - low];
  });
}

// Ids (H, W) of logits (K, h, w), resized bilinearly row by row; of other tasks than multiclass planes (K, H, W).
function decide(logits, [height, width], size) {
  const [, count, rows, stride] = logits.dims, data = logits.data;
  const ys = places(height, size[0]), xs = places(width, size[1]), isSame = height === size[0] && width === size[1];
  const area = size[0] * size[1], best = new Float32Array(size[1]);
  const labels = isMulticlass ? new Uint16Array(area) : new Uint8Array(count * area);
  const limits = isMulticlass ? [] : seg.thresholds.map((t) => Math.fround(Math.log(t / (1 - t))));
  ys.forEach(([low, high, share], y) => {
    for (let k = 0; k < count; k++) {
      const upper = (k * rows + low) * stride, lower = (k * rows + high) * stride;
      for (let x = 0; x < size[1]; x++) {
        const [left, right, part] = xs[x];
        const logit = isSame ? data[upper + x]
          : (data[upper + left] * (1 - part) + data[upper + right] * part) * (1 - share)
            + (data[lower + left] * (1 - part) + data[lower + right] * part) * share;
        const at = y * size[1] + x;
        if (!isMulticlass) labels[k * area + at] = logit > limits[k] ? 1 : 0;
        else if (k === 0 || logit > best[x]) { best[x] = logit; labels[at] = k; }
      }
    }
  });
  return labels;
}

// ---- what is seen ---------------------------------------------------------------------------------------------------

function countPixels({ labels, height, width }) {
  const counts = new Array(classes.labels.length).fill(0), area = height * width;
  for (let at = 0; at < labels.length; at++) {
    if (isMulticlass) counts[labels[at]]++;
    else counts[Math.floor(at / area)] += labels[at];
  }
  return counts;
}

function paint() {
  const { labels, height, width } = last, area = height * width;
  const shown = new Set([...document.querySelectorAll("#legend input:checked")].map((box) => Number(box.value)));
  const image = new ImageData(width, height), pixels = image.data;
  for (let at = 0; at < area; at++) {
    let [red, green, blue, count] = [0, 0, 0, 0];
    const add = (k) => {
      if (!shown.has(k)) return;
      const color = classes.colors[k];
      red += color[0]; green += color[1]; blue += color[2]; count++;
    };
    if (isMulticlass) add(labels[at]);
    else for (let k = 0; k < classes.labels.length; k++) if (labels[k * area + at]) add(k);
    if (count) pixels.set([red / count, green / count, blue / count, 255], 4 * at); // several: their mean
  }
  find("colors").getContext("2d").putImageData(image, 0, 0);
}

function writeLegend() {
  const counts = countPixels(last), area = last.height * last.width;
  const order = counts.map((_, k) => k).filter((k) => counts[k]).sort((one, other) => counts[other] - counts[one]);
  find("legend").replaceChildren(...order.map((k) => {
    const [item, label, box, color, name, share] = ["li", "label", "input", "i", "span", "output"]
      .map((tag) => document.createElement(tag));
    Object.assign(box, { type: "checkbox", checked: true, value: k, onchange: paint });
    color.style.background = `rgb(${classes.colors[k].join()})`;
    name.textContent = classes.labels[k];
    share.textContent = `${(100 * counts[k] / area).toFixed(1)} %`;
    label.append(box, color, name, share);
    item.append(label);
    return item;
  }));
  if (!order.length) find("legend").append("No pixel is of a class.");
}

function showSize({ height, width }) {
  for (const id of ["image", "colors"]) Object.assign(find(id), { width, height });
  find("stack").style.maxWidth = `${(80 * width / height).toFixed(1)}vh`; // a high image fits the window
}

// ---- one image ------------------------------------------------------------------------------------------------------

async function decode(blob) {
  // upright, and the bytes of the file: no conversion to the color space of the screen
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

async function segment(blob, name) {
  chosen = [blob, name];
  setState("busy");
  for (const id of ["file", "size"]) find(id).disabled = true;
  try {
    say(`Segmenting ${name} …`);
    let image;
    try {
      image = await decode(blob);
    } catch {
      throw new Error(`${name} is not an image that this browser reads`);
    }
    const size = inputSize(image.height, image.width);
    const start = performance.now();
    const input = toInput(resizeImage(image, size));
    const { logits } = await session.run({ images: input }, ["logits"]);
    const ran = performance.now();
    const { height, width } = image;
    last = { height, width, labels: decide(logits, size, [height, width]) };
    window.segmentation = { height, width, labels: last.labels, inputSize: size };
    const end = performance.now();
    showSize(image);
    find("image").getContext("2d").putImageData(image, 0, 0);
    writeLegend();
    paint();
    find("result").hidden = false;
    // pixels of a small image stay sharp, those of a large one are averaged
    find("colors").style.imageRendering = find("colors").clientWidth > width ? "pixelated" : "auto";
    const seconds = (from, to) => `${((to - from) / 1000).toFixed(2)} s`;
    say(`${name}: ${width} × ${height} pixels, computed at ${size[1]} × ${size[0]} in ${seconds(start, end)} `
      + `(model ${seconds(start, ran)})`);
    setState("done");
  } catch (error) {
    const reason = String(error?.message ?? error);
    const isMemory = typeof error === "number" || /memory|alloc/i.test(reason);
    say(isMemory ? `${name} needs more memory than the browser has; choose a smaller network input` : reason, "error");
    setState("error");
  } finally {
    for (const id of ["file", "size"]) find(id).disabled = false;
  }
}

function offer(file) {
  if (file && !find("file").disabled) segment(file, file.name);
}

// ---- the page -------------------------------------------------------------------------------------------------------

function loadRuntime() {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src: "ort/ort.wasm.min.js", onload: resolve, onerror: reject });
    document.head.append(script);
  });
}

function refuse(advice, text) {
  find(`advice-${advice}`).hidden = false;
  find("choices").hidden = true;
  say(text, "error");
  setState("error");
}

async function start() {
  if (location.protocol === "file:") return refuse("serve", "This page was opened as a file.");
  try {
    await loadRuntime();
  } catch {
    return refuse("runtime", "The page cannot compute without onnxruntime-web.");
  }
  try {
    ort.env.wasm.wasmPaths = new URL("ort/", location).href;
    ort.env.wasm.proxy = true; // computes in a worker, so that the page stays alive
    session = await ort.InferenceSession.create(new URL("model.onnx", location).href, { executionProviders: ["wasm"] });
  } catch (error) {
    say(`The model cannot be loaded: ${error?.message ?? error}`, "error");
    return setState("error");
  }
  find("file").disabled = false;
  say("");
  setState("ready");
  const name = new URLSearchParams(location.search).get("image");
  if (!name) return;
  const answer = await fetch(name).catch(() => null);
  if (answer?.ok) await segment(await answer.blob(), name);
  else {
    say(`There is no file ${name} in the folder of this page.`, "error");
    setState("error");
  }
}

find("file").addEventListener("change", () => { offer(find("file").files[0]); find("file").value = ""; });
find("size").addEventListener("change", () => { if (chosen) segment(...chosen); });
find("alpha").addEventListener("input", () => { find("colors").style.opacity = find("alpha").value / 100; });
find("colors").style.opacity = find("alpha").value / 100;
document.addEventListener("dragover", (event) => { event.preventDefault(); find("drop").classList.add("over"); });
document.addEventListener("dragleave", () => find("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  offer(event.dataTransfer.files[0]);
});
start();
})();
