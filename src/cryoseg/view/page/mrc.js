// Saving the page's own voxels as MRC; the headers come with the page.

function mrcOfMask(header, mask) {
  return new Blob([header, mask], { type: "application/octet-stream" });
}

function mrcOfLogits(header, logits, step) {
  const values = new Float32Array(logits.length);
  for (let i = 0; i < logits.length; i++) values[i] = logits[i] * step;
  return new Blob([header, values], { type: "application/octet-stream" });
}

function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
