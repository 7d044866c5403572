// The commands that give the files of full size what the page shows.

function commandLines(parameters, chosen) {
  const lines = [];
  if (parameters.logits) {
    const filters = parameters.shape[0] > 1 && chosen.minSlices > 1;
    const recorded = parameters.logits.steps;
    const steps = [...(filters ? ["thin-noise"] : []), ...recorded.filter((step) => step !== "thin-noise")];
    const options = [`--logit-threshold ${chosen.threshold}`];
    if (!steps.length) options.push("--no-steps");
    else if (steps.join() !== recorded.join()) options.push(...steps.map((step) => `--step ${step}`));
    if (filters) options.push(`--post-process-min-slices ${chosen.minSlices}`);
    lines.push(`${parameters.logits.command} ${options.join(" ")} ${parameters.logits.into}`);
  }
  const components = chosen.choice ? chosen.choice.options() : "";
  if (components) lines.push(`${parameters.mask.command} ${components} ${parameters.mask.into}`);
  if (parameters.picks && parameters.picks.scores) {
    lines.push(`${parameters.picks.command} --score-threshold ${chosen.score}`);
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
