// Reading what the page carries, and the arithmetic between page voxels and those of the file.

async function unpack(name) {
  const element = document.getElementById(`data-${name}`);
  if (element === null) return null;
  const text = element.textContent;
  const pieces = [];
  // Pieces of whole groups of four letters; one string of all bytes would double the memory.
  for (let begin = 0; begin < text.length; begin += 1 << 20) {
    const letters = atob(text.slice(begin, begin + (1 << 20)));
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    pieces.push(bytes);
  }
  element.remove();
  const stream = new Blob(pieces).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Center of page voxel `index` of one axis, in voxels of the file. The last block may be smaller.
function toFile(index, binning, fileSize) {
  const first = index * binning;
  const last = Math.min(first + binning, fileSize) - 1;
  return (first + last) / 2;
}

function toPage(coordinate, binning) {
  return (coordinate + 0.5) / binning - 0.5;
}

// The page's part of a minimum of slices. Rounded up: n slices of the file touch at least so many.
function pageSlices(fileSlices, binning) {
  return Math.max(1, Math.ceil(fileSlices / binning));
}
