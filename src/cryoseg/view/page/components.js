// The threshold and the filter, with the very results of `cryoseg postprocess`.

// Smallest byte that counts as marked, from -128 to 128. Logits are compared as float32, as there;
// a byte times a power of two is exact.
function cutOf(threshold, step) {
  const limit = Math.fround(threshold);
  let cut = -128;
  while (cut < 128 && !(cut * step > limit)) cut++;
  return cut;
}

function markAbove(logits, cut, mask) {
  let count = 0;
  for (let i = 0; i < logits.length; i++) {
    const marked = logits[i] >= cut ? 1 : 0;
    mask[i] = marked;
    count += marked;
  }
  return count;
}

// Erases from `mask` (z, y, x) the 26-connected components on fewer than `minSlices` slices.
// Runs along x are the nodes of the graph, so that the work grows with the surface of the mask.
function dropThin(mask, [depth, height, width], minSlices) {
  const rows = depth * height;
  const rowRuns = new Int32Array(rows + 1);
  let total = 0;
  for (let row = 0, i = 0; row < rows; row++) {
    let before = 0;
    for (const end = i + width; i < end; i++) {
      if (mask[i] > before) total++;
      before = mask[i];
    }
    rowRuns[row + 1] = total;
  }
  const begins = new Int32Array(total);
  const ends = new Int32Array(total); // exclusive; both count from the beginning of the row
  for (let row = 0, run = -1; row < rows; row++) {
    const first = row * width;
    let before = 0;
    for (let x = 0; x < width; x++) {
      const here = mask[first + x];
      if (here > before) begins[++run] = x;
      if (here < before) ends[run] = x;
      before = here;
    }
    if (before) ends[run] = width;
  }

  const parent = new Int32Array(total);
  for (let run = 0; run < total; run++) parent[run] = run;
  const root = (run) => {
    while (parent[run] !== run) {
      parent[run] = parent[parent[run]];
      run = parent[run];
    }
    return run;
  };
  const join = (row, other) => {
    let a = rowRuns[row];
    let b = rowRuns[other];
    while (a < rowRuns[row + 1] && b < rowRuns[other + 1]) {
      // Runs that meet at a corner only are neighbors too.
      if (begins[a] <= ends[b] && begins[b] <= ends[a]) {
        const one = root(a);
        const two = root(b);
        if (one < two) parent[two] = one;
        else parent[one] = two;
      }
      if (ends[a] < ends[b]) a++;
      else b++;
    }
  };
  for (let z = 0, row = 0; z < depth; z++) {
    for (let y = 0; y < height; y++, row++) {
      if (rowRuns[row] === rowRuns[row + 1]) continue;
      if (y > 0) join(row, row - 1);
      if (z === 0) continue;
      const below = row - height;
      for (let dy = y > 0 ? -1 : 0; dy <= (y < height - 1 ? 1 : 0); dy++) join(row, below + dy);
    }
  }

  // The smaller root always wins, so that a root is the first run of its component: its lowest.
  const top = new Int32Array(total);
  const bottom = new Int32Array(total);
  for (let z = 0; z < depth; z++) {
    for (let run = rowRuns[z * height]; run < rowRuns[(z + 1) * height]; run++) {
      const first = root(run);
      if (first === run) bottom[run] = z;
      top[first] = z;
    }
  }
  let components = 0;
  let dropped = 0;
  let erased = 0;
  for (let row = 0; row < rows; row++) {
    for (let run = rowRuns[row]; run < rowRuns[row + 1]; run++) {
      const first = root(run);
      const isThin = top[first] - bottom[first] + 1 < minSlices;
      if (first === run) {
        components++;
        if (isThin) dropped++;
      }
      if (!isThin) continue;
      mask.fill(0, row * width + begins[run], row * width + ends[run]);
      erased += ends[run] - begins[run];
    }
  }
  return { components, dropped, erased };
}
