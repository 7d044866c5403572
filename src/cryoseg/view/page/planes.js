// Three sections through one point. Axes are counted as in the file: 0 is z, 1 is y, 2 is x.

const AXES = ["z", "y", "x"];
const ACROSS = [2, 2, 0]; // axis that runs to the right in the plane along z, y, x
const DOWN = [1, 0, 1];
const OVERLAY_RGB = [255, 170, 0];
const MASK_RGB = [86, 180, 233];
const SURE_RGB = [60, 220, 90];
const DOUBTFUL_RGB = [255, 120, 0];
const LARGEST_ZOOM = 32;

// [begin, length] of what is seen along one axis, in page voxels.
function window_(size, center, zoom) {
  const length = size / zoom;
  const begin = Math.min(Math.max(center + 0.5 - length / 2, 0), size - length);
  return [begin, length];
}

class Plane {
  constructor(figure, axis, view) {
    this.figure = figure;
    this.axis = axis;
    this.view = view;
    this.canvas = figure.querySelector("canvas");
    this.caption = figure.querySelector("figcaption");
    this.across = ACROSS[axis];
    this.down = DOWN[axis];
    this.columns = view.shape[this.across];
    this.rows = view.shape[this.down];
    this.picture = document.createElement("canvas");
    this.picture.width = this.columns;
    this.picture.height = this.rows;
    this.pixels = new ImageData(this.columns, this.rows);
    this.marks = new Uint16Array(this.columns * this.rows);
  }

  resize(pixelsPerUnit) {
    const spacing = this.view.spacing;
    this.width = Math.max(1, Math.round(this.columns * spacing[this.across] * pixelsPerUnit));
    this.height = Math.max(1, Math.round(this.rows * spacing[this.down] * pixelsPerUnit));
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.height}px`;
    this.ratio = ratio;
  }

  seen() {
    const { shape, center, zoom } = this.view;
    const [left, columns] = window_(shape[this.across], center[this.across], zoom);
    const [top, rows] = window_(shape[this.down], center[this.down], zoom);
    return { left, columns, top, rows };
  }

  // Page voxel, as (z, y, x), under a point of the canvas in CSS pixels.
  voxelAt(x, y) {
    const { left, columns, top, rows } = this.seen();
    const voxel = this.view.at.slice();
    const clamp = (value, size) => Math.min(Math.max(Math.floor(value), 0), size - 1);
    voxel[this.across] = clamp(left + (x / this.width) * columns, this.columns);
    voxel[this.down] = clamp(top + (y / this.height) * rows, this.rows);
    return voxel;
  }

  draw() {
    this.paint();
    const { left, columns, top, rows } = this.seen();
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    // Single voxels are shown as such only where they are large enough to be meant.
    context.imageSmoothingEnabled = this.width / columns < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, left, top, columns, rows, 0, 0, this.width, this.height);
    const toX = (across) => ((across + 0.5 - left) / columns) * this.width;
    const toY = (down) => ((down + 0.5 - top) / rows) * this.height;
    this.drawPicks(context, toX, toY, this.width / columns, this.height / rows);
    this.drawCross(context, toX, toY);
    if (this.axis === 0) this.drawScaleBar(context, this.width / columns);
    this.figure.classList.toggle("active", this.axis === this.view.active);
    const place = this.view.filePosition(this.axis);
    this.caption.textContent = `${AXES[this.axis]} ${place}`;
  }

  paint() {
    const { view, columns, rows, marks } = this;
    const strides = [view.shape[1] * view.shape[2], view.shape[2], 1];
    const first = view.at[this.axis] * strides[this.axis];
    const stepAcross = strides[this.across];
    const stepDown = strides[this.down];
    const data = this.pixels.data;
    const greys = view.greys;
    for (let row = 0, to = 0; row < rows; row++) {
      let from = first + row * stepDown;
      for (let column = 0; column < columns; column++, from += stepAcross, to += 4) {
        const grey = greys[view.tomogram[from]];
        data[to] = grey;
        data[to + 1] = grey;
        data[to + 2] = grey;
        data[to + 3] = 255;
      }
    }
    // `look` gives the color of a mark, the opacities inside and at the edge, and the color of the edge.
    const blend = (volume, look) => {
      for (let row = 0, at = 0; row < rows; row++) {
        let from = first + row * stepDown;
        for (let column = 0; column < columns; column++, from += stepAcross, at++) marks[at] = volume[from];
      }
      for (let row = 0, at = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++, at++) {
          const mark = marks[at];
          if (!mark) continue;
          const isEdge =
            (column > 0 && marks[at - 1] !== mark) ||
            (column < columns - 1 && marks[at + 1] !== mark) ||
            (row > 0 && marks[at - columns] !== mark) ||
            (row < rows - 1 && marks[at + columns] !== mark);
          const [fill, inside, edge, line] = look(mark);
          const share = isEdge ? edge : inside;
          const rgb = isEdge && line ? line : fill;
          for (let k = 0; k < 3; k++) data[4 * at + k] += share * (rgb[k] - data[4 * at + k]);
        }
      }
    };
    if (view.logits && view.shows.overlay) {
      blend(view.mask, () => [OVERLAY_RGB, 0.8 * view.opacity, view.opacity]);
    }
    if (view.given && view.shows.mask) {
      const [inside, edge] = view.logits ? [0, 0.9] : [0.8 * view.maskOpacity, view.maskOpacity];
      blend(view.given, (mark) => (view.choice ? view.choice.look(mark, inside, edge) : [MASK_RGB, inside, edge]));
    }
    this.picture.getContext("2d").putImageData(this.pixels, 0, 0);
  }

  drawPicks(context, toX, toY, pixelsAcross, pixelsDown) {
    const { view } = this;
    if (!view.picks || !view.shows.picks) return;
    const { centers, scores, radius } = view.picks;
    context.lineWidth = 1.5;
    centers.forEach((center, number) => {
      const score = scores ? scores[number] : 1;
      if (scores && !(score > view.score)) return;
      const away = (center[this.axis] - view.at[this.axis]) / (radius ? radius[this.axis] : 1.5);
      if (view.shape[0] > 1 && Math.abs(away) >= 1) return;
      const share = view.shape[0] > 1 ? Math.sqrt(1 - away * away) : 1;
      const across = radius ? Math.max(1.5, share * radius[this.across] * pixelsAcross) : 5;
      const down = radius ? Math.max(1.5, share * radius[this.down] * pixelsDown) : 5;
      const rgb = SURE_RGB.map((value, k) => Math.round(score * value + (1 - score) * DOUBTFUL_RGB[k]));
      context.strokeStyle = `rgb(${rgb})`;
      context.beginPath();
      context.ellipse(toX(center[this.across]), toY(center[this.down]), across, down, 0, 0, 2 * Math.PI);
      context.stroke();
    });
  }

  drawCross(context, toX, toY) {
    if (this.view.shape[0] === 1) return;
    const x = Math.round(toX(this.view.at[this.across])) + 0.5;
    const y = Math.round(toY(this.view.at[this.down])) + 0.5;
    context.strokeStyle = "rgba(86, 180, 233, 0.45)";
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, this.height);
    context.moveTo(0, y);
    context.lineTo(this.width, y);
    context.stroke();
  }

  drawScaleBar(context, pixelsPerVoxel) {
    const angstrom = this.view.pageVoxel[2];
    if (!angstrom) return;
    const wanted = ((this.width / 4) * angstrom) / pixelsPerVoxel / 10;
    const power = 10 ** Math.floor(Math.log10(wanted));
    const nanometers = Math.max(...[1, 2, 5].map((step) => step * power).filter((value) => value <= wanted));
    const length = ((nanometers * 10) / angstrom) * pixelsPerVoxel;
    const top = this.height - 16;
    context.fillStyle = "#fff";
    context.strokeStyle = "#000";
    context.lineWidth = 3;
    context.strokeRect(10, top, length, 4);
    context.fillRect(10, top, length, 4);
    context.font = "12px system-ui, sans-serif";
    const text = `${Number(nanometers.toPrecision(3))} nm`;
    context.strokeText(text, 10, top - 6);
    context.fillText(text, 10, top - 6);
  }
}
