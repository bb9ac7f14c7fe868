// What was recorded, the sums, and what could not be seen.

function titleSection() {
  const facts = [];
  if (data.outcome) facts.push(element("span", { class: data.is_failure ? "bad" : null }, data.outcome));
  facts.push(duration(data.duration_s));
  facts.push(counted(data.processes.length, "process", "processes"));
  const modes = [...new Set(data.tracked.map((index) => data.processes[index].mode))];
  if (modes.length > 0) facts.push(`mode ${modes.join(", ")}`);
  if (data.recorded_unix_ms > 0) facts.push(new Date(data.recorded_unix_ms).toISOString().slice(0, 16).replace("T", " ") + " UTC");
  const line = facts.flatMap((fact, index) => (index > 0 ? ["  ·  ", fact] : [fact]));
  const command = data.command || "(unknown program)";
  document.title = `${command.slice(0, 80)} – heapledger`;
  return element("div", { class: "title" }, element("p", { class: "command mono clamp", id: "command", title: command }, command), element("p", { class: "facts" }, line));
}

const CARDS = [
  { key: "live_bytes", name: "Live at the end", blocks: "live_blocks", isSum: true },
  { key: "peak_live_bytes", name: "Peak", isSum: false },
  { key: "allocated_bytes", name: "Allocated in all", blocks: "allocated_blocks", isSum: true },
  { key: "freed_bytes", name: "Freed", blocks: "freed_blocks", isSum: true },
];

function card(definition, totals) {
  const of = (side, key) => (totals[side][key] === null ? null : totals[side][key]);
  const all = of("all", definition.key);
  const [c, rust] = [of("c", definition.key), of("rust", definition.key)];
  const children = [element("h3", { class: "name" }, definition.name)];
  if (all === null) {
    const heaviest = definition.key === "peak_live_bytes" ? heaviestProcess() : null;
    children.push(element("div", { class: "figure" }, heaviest ? size(Number(heaviest.totals.all.peak_live_bytes)) : "not seen"));
    const why = heaviest ? `the highest of one process, ${heaviest.program} (pid ${heaviest.pid}); they peak at different times` : "nobody watched";
    children.push(element("div", { class: "exact" }, why));
    return element("div", { class: "panel card" }, children);
  }
  const exact = [`${count(all)} B`];
  if (!definition.isSum && state.get.process >= 0) exact.push(`after ${duration(data.processes[state.get.process].peak_at_s)}`);
  if (definition.blocks) exact.push(counted(of("all", definition.blocks), "block", "blocks"));
  children.push(element("div", { class: "figure" }, size(Number(all))));
  children.push(element("div", { class: "exact", "data-total": definition.key, "data-value": all }, exact.join("  ·  ")));
  const share = (value) => (Number(all) > 0 && value !== null ? Number(value) / Number(all) : 0);
  if (definition.isSum) {
    children.push(element("div", { class: "split", "aria-hidden": "true" }, width(element("i", { class: "c" }), share(c)), width(element("i", { class: "rust" }), share(rust))));
  } else {
    children.push(element("div", { class: "split none", "aria-hidden": "true" }));
  }
  const part = (side, title, value) =>
    element("span", { "data-side": side, title: value === null ? null : `${count(value)} B` }, element("span", { class: `dot ${side}`, "aria-hidden": "true" }), value === null ? `${title} not known` : `${title} ${size(Number(value))}`);
  children.push(element("div", { class: "parts" }, part("c", "C", c), part("rust", "Rust", rust)));
  return element("div", { class: "panel card" }, children);
}

function heaviestProcess() {
  const peak = (index) => Number(data.processes[index].totals.all.peak_live_bytes);
  const order = data.tracked.slice().sort((one, other) => peak(other) - peak(one));
  return order.length > 0 ? data.processes[order[0]] : null;
}

function cardsSection() {
  const section = element("section", { class: "cards", id: "overview", "aria-label": "Totals" });
  const refresh = () => {
    const facts = state.facts();
    if (!facts || !facts.totals) {
      replace(section, element("p", { class: "notice" }, "No process was tracked: there are no books to show."));
      return;
    }
    replace(section, CARDS.map((definition) => card(definition, facts.totals)));
  };
  state.onChange((changes) => {
    if ("process" in changes) refresh();
  });
  return { section, refresh };
}

/** Everything that the books do not hold, one line each. */
function gaps() {
  const lines = [...data.warnings];
  const several = data.tracked.length > 1;
  for (const index of data.tracked) {
    const process = data.processes[index];
    lines.push(...process.losses.map((text) => (several ? `${names.process(index)}: ${text}` : text)));
  }
  data.processes.forEach((process, index) => {
    if (process.untracked_reason !== null) lines.push(`${names.process(index)} untracked: ${process.untracked_reason}`);
  });
  return lines;
}

const MOST_LINES = 12;

function list(lines, kind) {
  const shown = lines.slice(0, MOST_LINES).map((line) => element("li", { class: kind }, line));
  const rest = lines.slice(MOST_LINES);
  if (rest.length === 0) return element("ul", { class: "plainly" }, shown);
  const more = element("button", { type: "button", class: "plain" }, `and ${count(rest.length)} more`);
  const made = element("ul", { class: "plainly" }, shown, element("li", {}, more));
  more.addEventListener("click", () => replace(made, lines.map((line) => element("li", { class: kind }, line))));
  return made;
}

function gapsSection() {
  const lines = gaps();
  const notes = [];
  if (data.tree && data.tree.crossed) notes.push(data.tree.crossed);
  const said = new Map();
  for (const index of data.tracked) for (const note of data.processes[index].notes) said.set(note, (said.get(note) || 0) + 1);
  for (const [note, times] of said) notes.push(times > 1 ? `${note} (${count(times)} processes)` : note);
  if (data.suppressed.owners > 0) {
    notes.push(`suppressed: ${counted(data.suppressed.owners, "owner", "owners")} with ${size(data.suppressed.live_bytes)} in ${counted(data.suppressed.live_blocks, "block", "blocks")} live at the end`);
  }
  if (data.stacks.suppressed > 0) notes.push(`suppressed: ${counted(data.stacks.suppressed, "stack", "stacks")}`);
  const children = [element("div", { class: "head" }, element("h2", { id: "gaps-title" }, "What could not be seen"))];
  if (lines.length > 0) children.push(list(lines, "bad"));
  else if (data.tracked.length > 0) children.push(element("p", { class: "good", id: "nothing-lost" }, "Nothing was lost, and all sums agree."));
  if (notes.length > 0) children.push(element("div", { class: "gap" }), list(notes, null));
  return { section: element("section", { class: "panel", id: "gaps", "aria-labelledby": "gaps-title" }, children), refresh: () => {} };
}

/** What has to be known before anything is read. */
function notices() {
  const made = [];
  const lost = gaps().length;
  if (lost > 0) {
    made.push(element("p", { class: "notice warning" }, element("a", { href: "#gaps" }, `${counted(lost, "thing", "things")} could not be seen in full`), "."));
  }
  if (data.narrowing) made.push(element("p", { class: "notice" }, `Pictures and tables show ${data.narrowing}; totals, times and sizes are of all.`));
  if (data.isMerged) made.push(element("p", { class: "notice" }, "Too many rows for one page: of all processes it holds the sums. `heapledger report` has each of them."));
  return made.length > 0 ? element("div", { class: "notices" }, made) : null;
}
