// The page itself: what is chosen, and what each choice draws again.
//
// `parameters`, written by cryoseg, all triples as z, y, x:
//   title, made          name of the tomogram; what made the page
//   shape, fileShape     voxels of the page and of the file
//   binning              voxels of the file in one of the page
//   voxelSize            of the file in angstrom; 0 where nobody knows it
//   grey                 { low, step }: value = low + step * byte
//   contrast             { black, white }, in bytes, to begin with
//   minSlices            of the file, to begin with
//   logits               null or { step, threshold, steps, command, into, logitsName, maskName }
//   mask                 null or { name, components (null or as `Choice` takes), command, into }
//   picks                null or { centers (of the file), scores or null, diameter or null, score, command }
//   notes                sentences

const parameters = JSON.parse(document.getElementById("parameters").textContent);
const find = (id) => document.getElementById(id);

const view = {
  shape: parameters.shape,
  fileShape: parameters.fileShape,
  binning: parameters.binning,
  pageVoxel: parameters.voxelSize.map((size, axis) => size * parameters.binning[axis]),
  spacing: null, // relative edge of a page voxel
  at: parameters.shape.map((size) => Math.floor(size / 2)),
  center: parameters.shape.map((size) => size / 2 - 0.5),
  zoom: 1,
  active: 0,
  black: parameters.contrast.black,
  white: parameters.contrast.white,
  greys: new Uint8Array(256),
  tomogram: null,
  logits: null,
  given: null, // the mask of --mask
  mask: null, // what the threshold and the filter leave of the logits
  threshold: parameters.logits ? parameters.logits.threshold : 0,
  minSlices: parameters.minSlices,
  opacity: 0.5,
  maskOpacity: 0.5,
  choice: null, // of the components of `given`
  picks: null,
  score: parameters.picks ? parameters.picks.score : 0,
  shows: { overlay: true, mask: true, picks: true },
  filePosition: (axis) => String(toFile(view.at[axis], parameters.binning[axis], parameters.fileShape[axis])),
};
view.spacing = view.pageVoxel.every((size) => size > 0) ? view.pageVoxel : parameters.binning.slice();

let planes = [];
let counts = null; // of the histogram
const waiting = { mask: false, planes: false, frame: false };

// Everything is drawn at most once a frame, however fast a slider moves.
function soon(what) {
  waiting.planes = true;
  if (what === "mask") waiting.mask = true;
  if (waiting.frame) return;
  waiting.frame = true;
  requestAnimationFrame(() => {
    waiting.frame = false;
    drawNow();
  });
}

function drawNow() {
  if (waiting.mask) segment();
  waiting.mask = false;
  waiting.planes = false;
  for (const plane of planes) plane.draw();
  showNumbers();
}

function segment() {
  if (!view.logits) return;
  const cut = cutOf(view.threshold, parameters.logits.step);
  const above = markAbove(view.logits, cut, view.mask);
  const least = pageSlices(view.minSlices, parameters.binning[0]);
  let text = "";
  let left = above;
  if (least > 1 && view.shape[0] > 1) {
    const { components, dropped, erased } = dropThin(view.mask, view.shape, least);
    left -= erased;
    text = `; ${components - dropped} of ${components} components left`;
  }
  find("marked").textContent =
    `${((100 * left) / view.mask.length).toFixed(2)} % marked, ${left} voxels of the page${text}`;
  drawHistogram(cut);
}

function drawHistogram(cut) {
  const canvas = find("histogram");
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  if (counts === null) {
    counts = new Float64Array(256);
    for (const value of view.logits) counts[value + 128]++;
  }
  const first = counts.findIndex((count) => count > 0);
  const last = 255 - [...counts].reverse().findIndex((count) => count > 0);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const tallest = Math.log1p(Math.max(...counts));
  const column = width / (last - first + 1);
  for (let i = first; i <= last; i++) {
    const tall = (Math.log1p(counts[i]) / tallest) * (height - 2);
    context.fillStyle = i - 128 >= cut ? "#ffaa00" : "#5c6670";
    context.fillRect((i - first) * column, height - tall, column + 0.5, tall);
  }
}

function grey() {
  const span = Math.max(view.white - view.black, 1);
  for (let i = 0; i < 256; i++) {
    view.greys[i] = Math.max(0, Math.min(255, Math.round(((i - view.black) / span) * 255)));
  }
}

function short(value) {
  return String(Number(value.toPrecision(4)));
}

function showVoxel(voxel) {
  const place = voxel.map((index, axis) => toFile(index, parameters.binning[axis], parameters.fileShape[axis]));
  find("at-voxel").textContent = place.slice().reverse().join(", ");
  find("at-angstrom").textContent = parameters.voxelSize.every((size) => size > 0)
    ? place.map((value, axis) => (value * parameters.voxelSize[axis]).toFixed(1)).reverse().join(", ")
    : "the voxel size is not known";
  const index = (voxel[0] * view.shape[1] + voxel[1]) * view.shape[2] + voxel[2];
  find("at-grey").textContent = short(parameters.grey.low + parameters.grey.step * view.tomogram[index]);
  if (view.logits) find("at-logit").textContent = String(view.logits[index] * parameters.logits.step);
}

function showNumbers() {
  for (const [axis, name] of AXES.entries()) {
    find(name).value = view.at[axis];
    find(name).parentElement.querySelector("output").textContent =
      `${view.filePosition(axis)} / ${parameters.fileShape[axis] - 1}`;
  }
  const outputOf = (id) => find(id).parentElement.querySelector("output");
  outputOf("black").textContent = short(parameters.grey.low + parameters.grey.step * view.black);
  outputOf("white").textContent = short(parameters.grey.low + parameters.grey.step * view.white);
  outputOf("opacity").textContent = `${Math.round(100 * view.opacity)} %`;
  outputOf("mask-opacity").textContent = `${Math.round(100 * view.maskOpacity)} %`;
  find("black").value = view.black;
  find("white").value = view.white;
  showVoxel(view.at);
  if (parameters.picks) {
    const { scores, centers } = parameters.picks;
    const kept = scores ? scores.filter((score) => score > view.score).length : centers.length;
    find("picked").textContent = `${kept} of ${centers.length} picks`;
    outputOf("score").textContent = view.score.toFixed(2);
  }
  const lines = commandLines(parameters, view);
  document.querySelector(".of-command").hidden = lines.length === 0;
  find("command").textContent = lines.join("\n");
  find("copied").textContent = "";
}

function setThreshold(value) {
  if (!parameters.logits || !Number.isFinite(value)) return;
  view.threshold = value;
  find("threshold").value = value;
  find("threshold-number").value = value;
  soon("mask");
}

function setMinSlices(value) {
  if (!Number.isFinite(value)) return;
  view.minSlices = Math.min(Math.max(1, Math.round(value)), Math.max(1, parameters.fileShape[0]));
  find("min-slices").value = view.minSlices;
  find("min-slices-number").value = view.minSlices;
  soon("mask");
}

function setScore(value) {
  view.score = value;
  find("score").value = value;
  soon();
}

function setSlice(axis, index) {
  view.at[axis] = Math.min(Math.max(0, index), view.shape[axis] - 1);
  soon();
}

function setZoom(zoom) {
  view.zoom = Math.min(Math.max(1, zoom), LARGEST_ZOOM);
  view.center = view.zoom > 1 ? view.at.slice() : view.shape.map((size) => size / 2 - 0.5);
  soon();
}

function setShown(name, isShown) {
  view.shows[name] = isShown;
  find(`show-${name}`).checked = isShown;
  soon();
}

function resetContrast() {
  view.black = parameters.contrast.black;
  view.white = parameters.contrast.white;
  grey();
  soon();
}

async function copyCommand() {
  const done = await copyText(find("command").textContent);
  find("copied").textContent = done ? "copied" : "select it and copy it by hand";
}

function layOut() {
  const stage = find("stage");
  const [depth, height, width] = view.shape.map((size, axis) => size * view.spacing[axis]);
  const room = { width: stage.clientWidth - 30, height: stage.clientHeight - 30 };
  const isFlat = view.shape[0] === 1;
  const across = width + (isFlat ? 0 : depth);
  const down = height + (isFlat ? 0 : depth);
  const pixels = Math.max(Math.min(room.width / across, room.height / down), 1e-6);
  for (const plane of planes) plane.resize(pixels);
  soon(view.logits ? "mask" : undefined);
}

function listenToPlane(plane) {
  const { canvas, axis } = plane;
  let before = null; // of a drag that moves the picture
  const pointed = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const activate = () => {
    view.active = axis;
    soon();
  };
  canvas.addEventListener("focus", activate);
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    activate();
    before = event.shiftKey || event.button === 1 ? pointed(event) : null;
    if (before === null) {
      view.at = plane.voxelAt(...pointed(event));
      if (view.choice && numberAt()) view.choice.select(numberAt());
      soon();
    }
  });
  canvas.addEventListener("dblclick", () => view.choice?.toggle(numberAt()));
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = pointed(event);
    if (before !== null && event.buttons) {
      const { columns, rows } = plane.seen();
      view.center[plane.across] -= ((x - before[0]) / plane.width) * columns;
      view.center[plane.down] -= ((y - before[1]) / plane.height) * rows;
      before = [x, y];
      soon();
    } else if (event.buttons) {
      view.at = plane.voxelAt(x, y);
      soon();
    } else {
      showVoxel(plane.voxelAt(x, y));
    }
  });
  canvas.addEventListener("pointerup", () => (before = null));
  canvas.addEventListener("pointerleave", () => showVoxel(view.at));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      view.active = axis;
      if (event.ctrlKey) setZoom(view.zoom * (event.deltaY < 0 ? 1.25 : 0.8));
      else setSlice(axis, view.at[axis] + Math.sign(event.deltaY) * (event.shiftKey ? 10 : 1));
    },
    { passive: false },
  );
}

function pressed(event) {
  const isTyping = event.target.matches?.("input[type=number]");
  const isSlider = event.target.matches?.("input[type=range]");
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const axis = view.active;
  const far = event.shiftKey ? 10 : 1;
  const step = parameters.logits ? parameters.logits.step : 0;
  const actions = {
    1: () => (view.active = 0),
    2: () => (view.active = view.shape[0] > 1 ? 1 : 0),
    3: () => (view.active = view.shape[0] > 1 ? 2 : 0),
    "[": () => setThreshold((Math.ceil(view.threshold / step) - 1) * step),
    "]": () => setThreshold((Math.floor(view.threshold / step) + 1) * step),
    ",": () => setMinSlices(view.minSlices - 1),
    ".": () => setMinSlices(view.minSlices + 1),
    o: () => setShown("overlay", !view.shows.overlay),
    m: () => setShown("mask", !view.shows.mask),
    p: () => setShown("picks", !view.shows.picks),
    "+": () => setZoom(view.zoom * 1.5),
    "=": () => setZoom(view.zoom * 1.5),
    "-": () => setZoom(view.zoom / 1.5),
    0: () => setZoom(1),
    a: resetContrast,
    d: () => view.choice?.toggle(numberAt() || view.choice.selected),
    c: copyCommand,
  };
  // A slider keeps the keys that move it.
  const moves = {
    ArrowUp: () => setSlice(axis, view.at[axis] + far),
    ArrowDown: () => setSlice(axis, view.at[axis] - far),
    PageUp: () => setSlice(axis, view.at[axis] + 10),
    PageDown: () => setSlice(axis, view.at[axis] - 10),
    Home: () => setSlice(axis, 0),
    End: () => setSlice(axis, view.shape[axis] - 1),
  };
  const action = actions[event.key] ?? (isSlider ? undefined : moves[event.key]);
  if (action === undefined) return;
  event.preventDefault();
  action();
  if (event.key !== "c") soon();
}

function listen() {
  for (const plane of planes) listenToPlane(plane);
  const onInput = (id, act) => find(id).addEventListener("input", (event) => act(event.target.valueAsNumber));
  for (const [axis, name] of AXES.entries()) {
    find(name).max = view.shape[axis] - 1;
    onInput(name, (value) => setSlice(axis, value));
  }
  onInput("black", (value) => {
    view.black = Math.min(value, view.white - 1);
    grey();
    soon();
  });
  onInput("white", (value) => {
    view.white = Math.max(value, view.black + 1);
    grey();
    soon();
  });
  find("contrast-reset").addEventListener("click", resetContrast);
  if (parameters.logits) {
    const { step } = parameters.logits;
    Object.assign(find("threshold"), { min: -128 * step, max: 126 * step, step });
    Object.assign(find("threshold-number"), { step, value: view.threshold });
    find("threshold").value = view.threshold;
    find("min-slices").max = Math.min(parameters.fileShape[0], Math.max(50, 2 * view.minSlices));
    find("min-slices-number").max = parameters.fileShape[0];
    setMinSlices(view.minSlices);
  }
  onInput("threshold", setThreshold);
  onInput("min-slices", setMinSlices);
  for (const [id, set] of [["threshold-number", setThreshold], ["min-slices-number", setMinSlices]]) {
    find(id).addEventListener("change", (event) => set(event.target.valueAsNumber));
  }
  onInput("opacity", (value) => {
    view.opacity = value;
    soon();
  });
  onInput("mask-opacity", (value) => {
    view.maskOpacity = value;
    soon();
  });
  find("score").value = view.score;
  onInput("score", setScore);
  for (const name of ["overlay", "mask", "picks"]) {
    find(`show-${name}`).addEventListener("change", (event) => setShown(name, event.target.checked));
  }
  find("copy").addEventListener("click", copyCommand);
  find("save-mask").addEventListener("click", () => saveAs(maskFile(), parameters.logits.maskName));
  find("save-logits").addEventListener("click", () => saveAs(logitsFile(), parameters.logits.logitsName));
  document.addEventListener("keydown", pressed);
  window.addEventListener("resize", layOut);
}

function maskFile() {
  if (waiting.mask) drawNow();
  return mrcOfMask(view.headers.mask, view.mask);
}

function logitsFile() {
  return mrcOfLogits(view.headers.logits, view.logits, parameters.logits.step);
}

function dress() {
  find("title").textContent = parameters.title;
  find("made").textContent = parameters.made;
  if (parameters.mask) find("mask-name").textContent = parameters.mask.name;
  for (const note of parameters.notes) {
    const item = document.createElement("li");
    item.textContent = note;
    find("notes").append(item);
  }
  const isFlat = view.shape[0] === 1;
  const hide = (selector, isHidden) => {
    for (const element of document.querySelectorAll(selector)) if (isHidden) element.hidden = true;
  };
  hide(".of-logits", !parameters.logits);
  hide(".of-mask", !parameters.mask);
  hide(".of-mask-alone", Boolean(parameters.logits));
  hide(".of-picks", !parameters.picks);
  hide(".of-scores", !parameters.picks?.scores);
  hide(".of-depth, #plane-y, #plane-x, [data-axis=z]", isFlat);
  hide(".of-components", !parameters.mask?.components);
  if (isFlat) find("stage").style.gridTemplateColumns = "auto";
}

// Number of the component at the point; 0 outside of all.
function numberAt() {
  return view.given[(view.at[0] * view.shape[1] + view.at[1]) * view.shape[2] + view.at[2]];
}

function placeComponents() {
  const goTo = (place) => {
    view.at = place.map((value, axis) => Math.floor(value / parameters.binning[axis]));
    if (view.zoom > 1) view.center = view.at.slice();
  };
  view.choice = new Choice(parameters.mask.components, () => soon(), goTo);
  view.choice.build(find("component-list").firstChild, find("component-row"), find("kept"));
  find("keep-all").addEventListener("click", () => view.choice.setAll(false));
  find("drop-all").addEventListener("click", () => view.choice.setAll(true));
}

function placePicks() {
  const { centers, scores, diameter } = parameters.picks;
  view.picks = {
    centers: centers.map((center) => center.map((value, axis) => toPage(value, parameters.binning[axis]))),
    scores,
    radius: diameter && diameter.map((value, axis) => value / 2 / parameters.binning[axis]),
  };
}

async function start() {
  dress();
  view.tomogram = await unpack("tomogram");
  view.logits = await unpack("logits").then((bytes) => bytes && new Int8Array(bytes.buffer));
  view.given = await unpack("mask");
  // More than 255 components have two bytes each.
  if (view.given && view.given.length > view.tomogram.length) view.given = new Uint16Array(view.given.buffer);
  if (parameters.mask?.components) placeComponents();
  view.headers = { logits: await unpack("logits-header"), mask: await unpack("mask-header") };
  if (view.logits) view.mask = new Uint8Array(view.logits.length);
  if (parameters.picks) placePicks();
  planes = AXES.map((name, axis) => new Plane(find(`plane-${name}`), axis, view));
  if (view.shape[0] === 1) planes.length = 1;
  grey();
  listen();
  layOut();
  drawNow();
  find("wait").remove();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  find("wait").textContent = `The page cannot be shown: ${error.message}. Take a browser of 2023 or later.`;
  throw error;
});
