// The components of the mask: their colors, their list, and which of them are kept.

const DROPPED_RGB = [150, 150, 150];
const CHOSEN_RGB = [255, 255, 255];

class Choice {
  // `entry` is { count, colors, columns, listed, rows, places }; numbers of components count from 1.
  constructor(entry, changed, goTo) {
    this.entry = entry;
    this.changed = changed;
    this.goTo = goTo;
    this.dropped = new Set();
    this.selected = 0;
    this.rgb = entry.colors.map((color) => [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16)));
  }

  color(number) {
    return this.rgb[(number - 1) % this.rgb.length];
  }

  // How a voxel of a component is drawn: [color, opacity inside, opacity of its edge].
  look(number, inside, edge) {
    if (this.dropped.has(number)) return [DROPPED_RGB, 0, 0.5 * edge];
    if (number === this.selected) return [this.color(number), inside, 1, CHOSEN_RGB];
    return [this.color(number), inside, edge];
  }

  toggle(number) {
    if (number < 1) return;
    if (!this.dropped.delete(number)) this.dropped.add(number);
    this.select(number);
  }

  setAll(isDropped) {
    this.dropped.clear();
    for (let number = 1; isDropped && number <= this.entry.count; number++) this.dropped.add(number);
    this.select(this.selected);
  }

  select(number) {
    this.selected = number;
    this.show();
    this.changed();
  }

  // Options that do the same to the file; the shorter of both lists.
  options() {
    if (!this.dropped.size) return "";
    const kept = [];
    for (let number = 1; number <= this.entry.count; number++) if (!this.dropped.has(number)) kept.push(number);
    return kept.length && kept.length < this.dropped.size
      ? `--keep-components ${kept.join()}`
      : `--drop-components ${[...this.dropped].sort((a, b) => a - b).join()}`;
  }

  // Builds the list in `table`; a click on a row keeps or drops, one on its number goes there.
  build(table, details, text) {
    Object.assign(this, { table, details, text });
    const { columns, listed, rows } = this.entry;
    const row = (cells, kind) => {
      const line = document.createElement("tr");
      for (const cell of cells) line.append(Object.assign(document.createElement(kind), { textContent: cell }));
      return line;
    };
    const title = (name) => name.replace(/_(nm[23]?)$/, " ($1)").replaceAll("_", " ");
    table.append(row(["", "", ...listed.map((column) => title(columns[column]))], "th"));
    for (const [index, values] of rows.entries()) {
      const number = index + 1;
      const line = row(["", "", ...listed.map((column) => values[column] || "-")], "td");
      line.dataset.number = number;
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
      box.setAttribute("aria-label", `keep component ${number}`);
      box.style.accentColor = `rgb(${this.color(number)})`;
      const link = Object.assign(document.createElement("button"), { type: "button", textContent: number });
      link.style.borderColor = `rgb(${this.color(number)})`;
      link.title = "go to this component";
      line.cells[0].append(box);
      line.cells[1].append(link);
      line.addEventListener("click", (event) => {
        if (event.target === link) {
          this.goTo(this.entry.places[index]);
          this.select(number);
        } else this.toggle(number);
      });
      table.append(line);
    }
    this.show();
  }

  show() {
    const { count, rows, columns } = this.entry;
    for (const line of this.table.querySelectorAll("tr[data-number]")) {
      const number = Number(line.dataset.number);
      line.classList.toggle("dropped", this.dropped.has(number));
      line.classList.toggle("selected", number === this.selected);
      line.querySelector("input").checked = !this.dropped.has(number);
      if (number === this.selected) line.scrollIntoView({ block: "nearest" });
    }
    const more = count > rows.length ? `; the list has the ${rows.length} largest` : "";
    this.text.textContent = `${count - this.dropped.size} of ${count} components kept${more}`;
    this.details.replaceChildren();
    for (const [column, value] of (rows[this.selected - 1] ?? []).entries()) {
      if (value === "" || /_(q25|median|q75)/.test(columns[column])) continue;
      this.details.append(
        Object.assign(document.createElement("dt"), { textContent: columns[column].replaceAll("_", " ") }),
        Object.assign(document.createElement("dd"), { textContent: value }),
      );
    }
  }
}
