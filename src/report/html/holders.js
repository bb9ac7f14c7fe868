// Who holds what: call sites, libraries, scopes, threads, stacks, processes, clean-ups.

/** Gives what has something in common its sums, which begin at nothing. */
function sums(group) {
  return Object.assign(group, { live: 0, blocks: 0, allocated: 0, allocatedBlocks: 0, peak: 0, c: 0, rust: 0 });
}

/** Puts the chosen rows of call sites together by a key; `seedOf` says what a group is. */
function collectSites(keyOf, seedOf) {
  const { sites } = data;
  const { place, side, live_bytes: live, live_blocks: blocks, allocated_bytes: allocated, allocated_blocks: allocatedBlocks, peak_bytes: peak } = sites;
  const takes = state.filter(sites);
  const groups = new Map();
  for (let row = 0; row < place.length; row += 1) {
    if (!takes(row)) continue;
    const key = keyOf(row);
    let group = groups.get(key);
    if (!group) {
      group = sums(seedOf(row));
      groups.set(key, group);
    }
    group.live += live[row];
    group.blocks += blocks[row];
    group.allocated += allocated[row];
    group.allocatedBlocks += allocatedBlocks[row];
    group.peak += peak[row];
    group[side[row] === 0 ? "c" : "rust"] += live[row];
  }
  return [...groups.values()];
}

const kindsOfHolders = {
  sites: {
    label: "Call sites",
    rows() {
      const { place, scope, side } = data.sites;
      const scopes = data.scopes.length + 1;
      const key = (row) => (place[row] * scopes + scope[row]) * 2 + side[row];
      return collectSites(key, (row) => ({ place: place[row], side: side[row], scope: scope[row] }));
    },
    name: { title: "Call site", text: (row) => names.placeSymbol(row.place), under: (row) => [names.placeAddress(row.place), shortPath(names.placeSource(row.place))] },
    sides: true,
    scopes: true,
  },
  libraries: {
    label: "Libraries",
    rows() {
      const { library: libraryOf } = data.places;
      const { place } = data.sites;
      const library = (row) => libraryOf[place[row]];
      return collectSites(library, (row) => ({ library: library(row) }));
    },
    name: { title: "Library", text: (row) => names.library(row.library), under: (row) => [data.libraries[row.library].path || ""] },
  },
  scopes: {
    label: "Scopes",
    rows() {
      const { scope } = data.sites;
      return collectSites((row) => scope[row], (row) => ({ scope: scope[row] }));
    },
    name: { title: "Scope", text: (row) => names.scope(row.scope) || "(no scope)", under: () => [] },
  },
  threads: {
    label: "Threads",
    rows() {
      const rows = [];
      data.processes.forEach((process, index) => {
        for (const thread of process.threads) {
          const row = sums({ thread, process: index });
          thread.sides.forEach(([live, blocks, allocated, allocatedBlocks], side) => {
            if (!(state.get.process < 0 || index === state.get.process) || !(state.get.side < 0 || side === state.get.side)) return;
            row.live += live;
            row.blocks += blocks;
            row.allocated += allocated;
            row.allocatedBlocks += allocatedBlocks;
            row[names.side(side)] += live;
          });
          if (row.allocated > 0 || row.live !== 0) rows.push(row);
        }
      });
      return rows;
    },
    name: {
      title: "Thread",
      text: (row) => row.thread.name || `thread ${row.thread.tid}`,
      under: (row) => [row.thread.tid > 0 ? `tid ${row.thread.tid}` : "", data.tracked.length > 1 ? names.process(row.process) : ""],
    },
    hasNoPeak: true,
  },
};

function holderColumns(kind, rows) {
  const { name } = kind;
  const largest = rows.reduce((most, row) => Math.max(most, row.c + row.rust), 0);
  const columns = [
    { key: "share", title: "", kind: "share", cell: (row) => meter(row.c, row.rust, largest) },
    bytesColumn("live", "Live", (row) => row.live, "held at the end"),
    countColumn("blocks", "Blocks", (row) => row.blocks),
  ];
  if (state.hasPeak() && !kind.hasNoPeak) columns.push(bytesColumn("peak", "At the peak", (row) => row.peak, "held when the peak was captured"));
  columns.push(bytesColumn("allocated", "Allocated", (row) => row.allocated, "ever allocated"), countColumn("allocatedBlocks", "Blocks", (row) => row.allocatedBlocks));
  if (kind.sides) columns.push({ key: "side", title: "Side", kind: "side", value: (row) => row.side, cell: (row) => sideCell(row.side) });
  const under = (row) => name.under(row).filter(Boolean).join("  ·  ");
  columns.push({
    key: "name",
    title: name.title,
    kind: "name",
    value: (row) => name.text(row).toLowerCase(),
    cell: (row) => [name.text(row), element("small", {}, under(row))],
  });
  if (kind.scopes && rows.some((row) => row.scope > 0)) {
    columns.push({ key: "scope", title: "Scope", kind: "soft", value: (row) => names.scope(row.scope), cell: (row) => names.scope(row.scope) });
  }
  return columns;
}

function sideCell(side) {
  return element("span", {}, element("span", { class: `dot ${names.side(side)}`, "aria-hidden": "true" }), names.sideTitle(side));
}

/** Builds the section: a tab a kind. */
function holdersSection() {
  let shown = "sites";
  let table = null;
  const place = element("div", { id: "holders-panel", role: "tabpanel", "aria-labelledby": "holders-tab-sites" });
  const search = searchBox("holders-search", "Search names, files, scopes", (query) => table.search(query));
  const tabs = choices(
    "Kinds of holders",
    Object.entries(kindsOfHolders).map(([value, { label }]) => ({ value, label, id: `holders-tab-${value}`, controls: "holders-panel" })),
    (kind) => {
      shown = kind;
      refresh();
    },
    "tablist",
  );
  const refresh = () => {
    const kind = kindsOfHolders[shown];
    const rows = kind.rows();
    const sortBy = table && table.columns.some((column) => column.key === table.sortKey) ? table.sortKey : "live";
    const { name } = kind;
    table = new Table(holderColumns(kind, rows), {
      id: "holders-table",
      label: kind.label,
      sortBy,
      text: (row) => {
        row.words ||= [name.text(row), ...name.under(row), row.scope === undefined ? "" : names.scope(row.scope)].join(" ").toLowerCase();
        return row.words;
      },
    });
    table.query = search.value.trim().toLowerCase();
    table.show(rows);
    tabs.show(shown);
    place.setAttribute("aria-labelledby", `holders-tab-${shown}`);
    replace(place, table.element);
  };
  state.onChange((changes) => {
    if ("process" in changes || "side" in changes) refresh();
  });
  const hint = data.narrowing ? `Tables show ${data.narrowing}; totals, times and sizes are of all.` : "Exact, by who asked for the memory.";
  const section = element(
    "section",
    { class: "panel", id: "holders", "aria-labelledby": "holders-title" },
    element("div", { class: "head" }, element("h2", { id: "holders-title" }, "Who holds it"), element("span", { class: "hint" }, hint)),
    element("div", { class: "controls" }, tabs, element("span", { class: "grow" }), search),
    place,
  );
  return { section, refresh, search };
}

/** Live bytes at the end by stack, the largest first. */
function leakRows() {
  const groups = new Map();
  const nodes = data.nodes.count;
  const { length, node, side, scope, live, blocks } = stackRows;
  const takes = state.filter(stackRows);
  for (let row = 0; row < length; row += 1) {
    if (live[row] <= 0 || !takes(row)) continue;
    const key = (scope[row] * 2 + side[row]) * nodes + node[row];
    let group = groups.get(key);
    if (!group) {
      group = { node: node[row], side: side[row], scope: scope[row], live: 0, blocks: 0 };
      groups.set(key, group);
    }
    group.live += live[row];
    group.blocks += blocks[row];
  }
  return [...groups.values()];
}

/** Gives the functions of a stack, the innermost first. */
function stackFrames(node) {
  const frames = [];
  for (let at = node; at > 0; at = data.nodes.parent[at]) frames.push(data.nodes.frame[at]);
  return frames;
}

/** The same from the call into a standard library on: not how that gets its memory. */
function ownFrames(node) {
  const frames = stackFrames(node);
  const first = frames.findIndex((frame) => !data.frames.plumbing[frame]);
  return first > 1 ? frames.slice(first - 1) : frames;
}

function stackList(node) {
  const items = stackFrames(node).map((frame) => {
    const index = data.frames.function[frame];
    const where = [names.functionLibrary(index), names.frameSource(frame), data.frames.inlined[frame] ? "inlined" : ""].filter(Boolean);
    return element("li", {}, names.functionName(index), " ", element("small", {}, where.join("  ·  ")));
  });
  return element("ol", { class: "path" }, items);
}

function leaksSection() {
  const frameName = (frame) => names.functionName(data.frames.function[frame]);
  const innermost = (row) => frameName(ownFrames(row.node)[0] || 0);
  const callers = (row) => ownFrames(row.node).slice(1, 4).map(frameName).join(" ← ");
  let all = 0;
  const columns = [
    { key: "share", title: "", kind: "share", cell: (row) => meter(row.side === 0 ? row.live : 0, row.side === 1 ? row.live : 0, all) },
    bytesColumn("live", "Live", (row) => row.live),
    { key: "percent", title: "Share", isNumber: true, value: (row) => row.live, cell: (row) => percent(row.live, all) },
    countColumn("blocks", "Blocks", (row) => row.blocks),
    { key: "mean", title: "Mean", isNumber: true, hint: "bytes a block", value: (row) => row.live / Math.max(1, row.blocks), cell: (row) => size(Math.round(row.live / Math.max(1, row.blocks))) },
    { key: "side", title: "Side", kind: "side", value: (row) => row.side, cell: (row) => sideCell(row.side) },
    {
      key: "name",
      title: data.hasStacks ? "Stack" : "Call site",
      kind: "name",
      opens: true,
      value: (row) => innermost(row).toLowerCase(),
      cell: (row) => [innermost(row), callers(row) && element("small", {}, `← ${callers(row)}`)],
    },
  ];
  const scopeColumn = { key: "scope", title: "Scope", kind: "soft", value: (row) => names.scope(row.scope), cell: (row) => names.scope(row.scope) };
  const table = new Table(columns, {
    id: "leaks-table",
    label: "Live at the end",
    sortBy: "live",
    expand: (row) => stackList(row.node),
    text: (row) => {
      row.words ||= stackFrames(row.node).map((frame) => `${frameName(frame)} ${names.frameSource(frame)}`).concat(names.scope(row.scope)).join(" ").toLowerCase();
      return row.words;
    },
  });
  const search = searchBox("leaks-search", "Search stacks", (query) => table.search(query));
  const sum = element("span", { class: "hint" });
  const refresh = () => {
    const rows = leakRows();
    if (!columns.includes(scopeColumn) && rows.some((row) => row.scope > 0)) {
      columns.push(scopeColumn);
      table.drawHead();
    }
    all = rows.reduce((bytes, row) => bytes + row.live, 0);
    const blocks = rows.reduce((number, row) => number + row.blocks, 0);
    const estimated = data.estimates ? " by estimate" : "";
    sum.textContent = `${size(all)} in ${counted(blocks, "block", "blocks")}${estimated}. Not all of it is a leak: what a program keeps to its last moment is here too.`;
    table.show(rows);
  };
  state.onChange((changes) => {
    if ("process" in changes || "side" in changes) refresh();
  });
  const section = element(
    "section",
    { class: "panel", id: "leaks", "aria-labelledby": "leaks-title" },
    element("div", { class: "head" }, element("h2", { id: "leaks-title" }, "Live at the end"), sum, search),
    table.element,
  );
  return { section, refresh };
}

/** What reclaimers say they freed, and that the ledger contradicts it. */
function claimedCell(event) {
  if (event.claimed_bytes === null) return "–";
  return event.is_contradicted ? [size(event.claimed_bytes), " ", element("span", { class: "bad" }, "contradicted")] : size(event.claimed_bytes);
}

/** Clean-ups, or nothing where there were none. */
function cleanupsSection() {
  if (!data.processes.some((process) => process.pressure)) return null;
  const asked = (event) => event.calls.map((call) => (call.ending === "returned" ? call.name : `${call.name} (${call.ending})`)).join(", ");
  const columns = [
    { key: "at", title: "At", isNumber: true, value: (event) => event.at_s, cell: (event) => duration(event.at_s) },
    { key: "trigger", title: "Because of", value: (event) => event.trigger, cell: (event) => event.trigger },
    { key: "level", title: "Level", value: (event) => event.level, cell: (event) => event.level },
    bytesColumn("before", "Live before", (event) => event.before_bytes),
    bytesColumn("freed", "Freed", (event) => event.freed_bytes, "by the ledger"),
    {
      key: "claimed",
      title: "Claimed",
      isNumber: true,
      hint: "by the reclaimers",
      value: (event) => event.claimed_bytes ?? -1,
      cell: claimedCell,
    },
    { key: "took", title: "Took", isNumber: true, value: (event) => event.took_s, cell: (event) => (event.is_complete ? duration(event.took_s) : "cut short") },
    { key: "calls", title: "Asked", kind: "soft", value: asked, cell: asked },
  ];
  if (data.tracked.length > 1) columns.push({ key: "process", title: "Process", kind: "soft", value: (event) => event.process, cell: (event) => names.process(event.process) });
  const table = new Table(columns, { id: "cleanups-table", label: "Clean-ups", sortBy: "at", text: () => "" });
  table.isDescending = false;
  table.drawHead();
  const sum = element("span", { class: "hint" });
  const notes = element("ul", { class: "plainly" });
  const refresh = () => {
    const chosen = data.processes.filter((process, index) => process.pressure && (state.get.process < 0 || index === state.get.process));
    const total = (name) => chosen.reduce((all, process) => all + process.pressure[name], 0);
    const left = total("left_out") > 0 ? ` The first ${count(total("left_out"))} are not listed.` : "";
    sum.textContent = `${counted(total("cycles"), "clean-up", "clean-ups")} freed ${size(total("freed_bytes"))}.${left}`;
    replace(notes, chosen.flatMap((process) => process.pressure.notes).map((note) => element("li", {}, note)));
    table.show(chosenEvents());
  };
  state.onChange((changes) => {
    if ("process" in changes) refresh();
  });
  const section = element(
    "section",
    { class: "panel", id: "cleanups", "aria-labelledby": "cleanups-title" },
    element("div", { class: "head" }, element("h2", { id: "cleanups-title" }, "Clean-ups"), sum),
    table.element,
    notes,
  );
  return { section, refresh };
}

/** All processes, where there are several. */
function processesSection() {
  if (data.processes.length < 2) return null;
  const live = (process) => (process.totals ? Number(process.totals.all.live_bytes ?? 0) : -1);
  const figureOf = (process, name) => (process.totals && process.totals.all[name] !== null ? Number(process.totals.all[name]) : -1);
  const bytes = (key, title, name) => ({
    key,
    title,
    isNumber: true,
    value: (index) => figureOf(data.processes[index], name),
    cell: (index) => (figureOf(data.processes[index], name) < 0 && live(data.processes[index]) < 0 ? "–" : size(figureOf(data.processes[index], name))),
  });
  const columns = [
    { key: "started", title: "Started", isNumber: true, value: (index) => data.processes[index].started_s, cell: (index) => duration(data.processes[index].started_s) },
    { key: "lasted", title: "Lasted", isNumber: true, value: (index) => data.processes[index].duration_s, cell: (index) => duration(data.processes[index].duration_s) },
    bytes("peak", "Peak", "peak_live_bytes"),
    bytes("live", "Live at the end", "live_bytes"),
    bytes("allocated", "Allocated", "allocated_bytes"),
    {
      key: "name",
      title: "Process",
      kind: "name",
      value: (index) => data.processes[index].command.toLowerCase(),
      cell: (index) => {
        const process = data.processes[index];
        const untracked = process.untracked_reason === null ? "" : `untracked: ${process.untracked_reason}`;
        const under = [`pid ${process.pid}`, process.outcome, untracked].filter(Boolean).join("  ·  ");
        return [element("span", { class: "clamp", title: process.command }, process.command), element("small", { class: process.untracked_reason === null ? null : "bad" }, under)];
      },
    },
  ];
  const table = new Table(columns, {
    id: "processes-table",
    label: "Processes",
    sortBy: "peak",
    text: (index) => `${data.processes[index].command} ${data.processes[index].pid}`.toLowerCase(),
  });
  const search = searchBox("processes-search", "Search processes", (query) => table.search(query));
  const section = element(
    "section",
    { class: "panel", id: "processes-list", "aria-labelledby": "processes-title" },
    element("div", { class: "head" }, element("h2", { id: "processes-title" }, "Processes"), element("span", { class: "hint" }, `${count(data.processes.length)} in all, ${count(data.tracked.length)} with books.`), search),
    table.element,
  );
  return { section, refresh: () => table.show(data.processes.map((_, index) => index)) };
}
