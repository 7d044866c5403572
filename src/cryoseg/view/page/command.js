// The commands that give the files of full size what the page shows.

function commandLines(facts, chosen) {
  const lines = [];
  if (facts.logits) {
    const filter =
      facts.shape[0] > 1 && chosen.minSlices > 1 ? `--post-process-min-slices ${chosen.minSlices}` : "--no-steps";
    lines.push(`${facts.logits.command} --logit-threshold ${chosen.threshold} ${filter} ${facts.logits.into}`);
  }
  if (facts.picks && facts.picks.scores) {
    lines.push(`${facts.picks.command} --score-threshold ${chosen.score}`);
  }
  return lines;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Some browsers keep the clipboard from pages of the disk; the old way asks no permission.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
