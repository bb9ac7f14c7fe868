// What the page carries: numbers unpacked, and the way from a row to its names.

const DIGIT = (() => {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const values = new Uint8Array(128);
  for (let index = 0; index < 64; index += 1) values[letters.charCodeAt(index)] = index;
  return values;
})();

/** Unpacks a column: five bits a letter, the lowest first, the sign in the lowest bit. */
function unpack(text) {
  if (typeof text !== "string") return new Float64Array(text.zeros);
  const values = new Float64Array(text.length);
  let next = 0;
  for (let at = 0; at < text.length; at += 1) {
    let digit = DIGIT[text.charCodeAt(at)];
    let sum = (digit & 31) >> 1;
    const isNegative = digit & 1;
    for (let scale = 16; digit >= 32; scale *= 32) {
      at += 1;
      digit = DIGIT[text.charCodeAt(at)];
      sum += (digit & 31) * scale;
    }
    values[next] = isNegative ? -sum : sum;
    next += 1;
  }
  return values.slice(0, next);
}

/** Turns steps into values. */
function addUp(values) {
  for (let index = 1; index < values.length; index += 1) values[index] += values[index - 1];
  return values;
}

function unpackSteps(text) {
  return addUp(unpack(text));
}

/** Makes a property that is found out when it is first asked for. */
function lazy(object, name, find) {
  const settle = (value) => Object.defineProperty(object, name, { value, configurable: true, enumerable: true });
  Object.defineProperty(object, name, { get: () => settle(find())[name], configurable: true, enumerable: true });
}

/** Takes packed columns over. Each is unpacked when it is first looked at. */
function takeColumns(into, packed) {
  for (const [name, value] of Object.entries(packed)) {
    if (typeof value === "string" || value.zeros !== undefined) lazy(into, name, () => unpack(value));
    else into[name] = value;
  }
  return into;
}

/** The parts of the page that are read apart: what is drawn first, and all else. */
function readPart(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

const data = (() => {
  const page = readPart("data");
  for (const name of ["functions", "frames", "places", "sites", "stacks"]) page[name] = takeColumns({}, page[name]);
  addUp(page.stacks.node);

  const up = unpack(page.nodes.up);
  const same = unpack(page.nodes.same);
  const parent = new Int32Array(up.length);
  for (let node = 1; node < up.length; node += 1) parent[node] = node - up[node];
  page.nodes = { count: up.length, parent, frame: Int32Array.from(unpack(page.nodes.frame)), same };

  const timeline = (packed) =>
    packed && {
      from: packed.from_s,
      duration: packed.duration_s,
      at: unpackSteps(packed.at_us).map((us) => us / 1e6),
      c: unpackSteps(packed.c),
      rust: unpackSteps(packed.rust),
      rss: unpackSteps(packed.rss),
    };
  for (const process of page.processes) process.timeline = timeline(process.timeline);
  page.tracked = page.processes.map((_, index) => index).filter((index) => page.processes[index].totals);
  if (page.tree) page.tree.timeline = timeline(page.tree.timeline) || page.processes[page.tracked[0]].timeline;

  page.hasStacks = page.tracked.some((index) => page.processes[index].stacks !== "count");
  /** Call sites stand for the stacks of who has none. */
  page.needsSites = page.tracked.some((index) => page.processes[index].stacks === "count");
  page.hasTemporaries = page.tracked.length > 0 && page.tracked.every((index) => page.processes[index].stacks === "full");
  /** Sums alone were kept of several processes. */
  page.isMerged = page.sites.is_merged;

  /** Whether all columns are here, which come last. */
  page.isComplete = false;
  const waiting = [];
  page.whenComplete = (work) => (page.isComplete ? work() : waiting.push(work));
  page.complete = () => {
    for (const [name, columns] of Object.entries(readPart("rest"))) takeColumns(page[name], columns);
    page.isComplete = true;
    waiting.splice(0).forEach((work) => work());
  };
  return page;
})();

const names = {
  text: (index) => data.texts[index],
  /** `from1` counts from 1; 0 is none. */
  textFrom1: (from1) => (from1 > 0 ? data.texts[from1 - 1] : null),
  library: (index) => data.libraries[index].name,
  functionName: (index) => data.texts[data.functions.name[index]],
  functionLibrary(index) {
    const library = data.functions.library[index];
    return library > 0 ? data.libraries[library - 1].name : null;
  },
  scope: (from1) => (from1 > 0 ? data.scopes[from1 - 1] : ""),
  side: (side) => (side === 0 ? "c" : "rust"),
  sideTitle: (side) => (side === 0 ? "C" : "Rust"),
  process(index) {
    const process = data.processes[index];
    return `${process.program} (pid ${process.pid})`;
  },
  frameSource(frame) {
    const file = names.textFrom1(data.frames.file[frame]);
    if (file === null) return "";
    const line = data.frames.line[frame];
    return line > 0 ? `${file}:${line}` : file;
  },
  placeSymbol: (place) => names.textFrom1(data.places.symbol[place]) || "(no symbol)",
  placeAddress(place) {
    const library = names.library(data.places.library[place]);
    return data.places.has_address[place] ? `${library}+0x${data.places.offset[place].toString(16)}` : library;
  },
  placeSource(place) {
    const file = names.textFrom1(data.places.file[place]);
    if (file === null) return "";
    const line = data.places.line[place];
    return line > 0 ? `${file}:${line}` : file;
  },
};

/** Rows that flame graphs are made of: stacks, and call sites where no stacks are known. */
const stackRows = (() => {
  const { sites, stacks } = data;
  const isWithoutStacks = (row) =>
    data.isMerged ? !data.hasStacks : data.processes[sites.process[row]].stacks === "count";
  const ofSites = [];
  if (data.needsSites) {
    for (let row = 0; row < sites.place.length; row += 1) if (isWithoutStacks(row)) ofSites.push(row);
  }
  const length = ofSites.length + stacks.node.length;
  const column = (ofSite, ofStack) => {
    if (ofSites.length === 0 && ofStack && ofStack.length === length) return ofStack;
    const values = new Float64Array(length);
    if (ofSite) for (let at = 0; at < ofSites.length; at += 1) values[at] = ofSite(ofSites[at]);
    if (ofStack) values.set(ofStack, ofSites.length);
    return values;
  };
  const rows = { length };
  const both = (name, from) => lazy(rows, name, () => column((row) => sites[from][row], stacks[from]));
  const ofStacks = (name, from) => lazy(rows, name, () => column(null, stacks[from]));
  lazy(rows, "node", () => column((row) => data.places.node[sites.place[row]], stacks.node));
  both("process", "process");
  both("side", "side");
  both("scope", "scope");
  ofStacks("thread", "thread");
  both("live", "live_bytes");
  both("blocks", "live_blocks");
  both("allocated", "allocated_bytes");
  both("peak", "peak_bytes");
  ofStacks("temporary", "temporary_bytes");
  ofStacks("samples", "samples");
  return rows;
})();

/** The same for threads: where no stacks are known, threads are known by side alone. */
function threadRows() {
  const rows = { names: [], group: [], node: [], process: [], side: [], live: [], blocks: [], allocated: [], peak: [], temporary: [], samples: [] };
  const groups = new Map();
  const group = (name) => {
    if (!groups.has(name)) {
      groups.set(name, rows.names.length);
      rows.names.push(name);
    }
    return groups.get(name);
  };
  const threadName = (thread) => thread.name || `thread ${thread.tid}`;
  for (let row = 0; row < stackRows.length; row += 1) {
    const process = data.processes[stackRows.process[row]];
    if (process.stacks === "count") continue;
    const thread = process.threads[stackRows.thread[row] - 1];
    rows.group.push(group(thread ? threadName(thread) : "(thread not known)"));
    for (const name of ["node", "process", "side", "live", "blocks", "allocated", "peak", "temporary", "samples"]) {
      rows[name].push(stackRows[name][row]);
    }
  }
  data.processes.forEach((process, index) => {
    if (process.stacks !== "count") return;
    for (const thread of process.threads) {
      thread.sides.forEach(([live, blocks, allocated], side) => {
        if (live === 0 && allocated === 0) return;
        rows.group.push(group(threadName(thread)));
        rows.node.push(0);
        rows.process.push(index);
        rows.side.push(side);
        rows.live.push(live);
        rows.blocks.push(blocks);
        rows.allocated.push(allocated);
        for (const name of ["peak", "temporary", "samples"]) rows[name].push(0);
      });
    }
  });
  rows.length = rows.group.length;
  return rows;
}
