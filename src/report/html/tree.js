// Stacks put together: callers above callees, in arrays that hold a million nodes.

/** Finds the child of a node by its label; makes it where there is none. */
class Nodes {
  constructor(expected) {
    let capacity = 1024;
    while (capacity < expected * 2) capacity *= 2;
    this.parent = new Int32Array(capacity / 2);
    this.label = new Int32Array(capacity / 2);
    this.frame = new Int32Array(capacity / 2).fill(-1);
    this.slots = null; // made when a node is first looked for
    this.length = 1; // the root, which no slot names
    this.label[0] = -1;
  }

  /** Makes a child that is known to be new; nothing can be looked for beside it. */
  add(parent, label, frame) {
    const node = this.length;
    this.parent[node] = parent;
    this.label[node] = label;
    this.frame[node] = frame;
    this.length += 1;
    return node;
  }

  child(parent, label, frame) {
    this.slots ||= new Int32Array(this.parent.length * 2);
    const mask = this.slots.length - 1;
    let slot = (Math.imul(parent, 0x9e3779b1) ^ Math.imul(label, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & mask;
    for (;;) {
      const node = this.slots[slot];
      if (node === 0) break;
      if (this.parent[node] === parent && this.label[node] === label) {
        // Where several places in a function are one node, none of them is shown.
        if (this.frame[node] !== frame) this.frame[node] = -1;
        return node;
      }
      slot = (slot + 1) & mask;
    }
    if (this.length === this.parent.length) {
      this.grow();
      return this.child(parent, label, frame);
    }
    this.slots[slot] = this.length;
    return this.add(parent, label, frame);
  }

  grow() {
    const larger = new Nodes(this.length * 2);
    for (let node = 1; node < this.length; node += 1) larger.child(this.parent[node], this.label[node], this.frame[node]);
    Object.assign(this, larger);
  }
}

/** Every way to put stacks together: a tree, and the node of each row. */
class CallTree {
  constructor(by) {
    this.by = by;
    this.rows = by === "thread" ? threadRows() : stackRows;
    this.extra = [];
    this.extraIndex = new Map();
    this.nodes = new Nodes(data.nodes.count);
    this.node = new Int32Array(this.rows.length);
    if (by === "scope" || by === "thread") this.placeInGroups();
    else this.place();
    this.linkChildren();
  }

  /** Gives the label of what is no function. */
  named(name) {
    if (!this.extraIndex.has(name)) {
      this.extraIndex.set(name, data.functions.name.length + this.extra.length);
      this.extra.push(name);
    }
    return this.extraIndex.get(name);
  }

  place() {
    const to = this.by === "library" ? this.placeLibraries() : this.placeFunctions();
    const { node } = this.rows;
    for (let row = 0; row < node.length; row += 1) this.node[row] = to[node[row]];
  }

  placeLibraries() {
    const { parent, frame } = data.nodes;
    const to = new Int32Array(parent.length);
    const below = this.libraryStep();
    for (let node = 1; node < parent.length; node += 1) to[node] = below(to[parent[node]], frame[node], parent[node]);
    return to;
  }

  /** The page says which places are of the same function, so nothing need be looked for. */
  placeFunctions() {
    const { parent, frame, same } = data.nodes;
    const functions = data.frames.function;
    const { nodes } = this;
    const to = new Int32Array(parent.length);
    for (let node = 1; node < parent.length; node += 1) {
      const place = frame[node];
      if (same[node] === 0) {
        to[node] = nodes.add(to[parent[node]], functions[place], place);
      } else {
        to[node] = to[node - same[node]];
        if (nodes.frame[to[node]] !== place) nodes.frame[to[node]] = -1;
      }
    }
    return to;
  }

  /** Stacks of libraries; where stacks are not known, call sites below their library. */
  libraryStep() {
    const labels = data.libraries.map((library) => this.named(library.name));
    const other = this.named("(no library)");
    const libraryOf = (frame) => {
      const library = data.functions.library[data.frames.function[frame]];
      return library > 0 ? labels[library - 1] : other;
    };
    const { nodes } = this;
    if (!data.hasStacks) {
      return (parent, frame, caller) => {
        const below = caller === 0 ? nodes.child(0, libraryOf(frame), -1) : parent;
        return nodes.child(below, data.frames.function[frame], frame);
      };
    }
    return (parent, frame) => {
      const library = libraryOf(frame);
      return parent > 0 && nodes.label[parent] === library ? parent : nodes.child(parent, library, -1);
    };
  }

  /** Puts each row below its scope or thread. */
  placeInGroups() {
    const { rows } = this;
    const groupOf = this.by === "scope" ? (row) => rows.scope[row] : (row) => rows.group[row];
    const nameOf = this.by === "scope" ? (group) => names.scope(group) || "(no scope)" : (group) => rows.names[group];
    const byGroup = new Map();
    for (let row = 0; row < rows.length; row += 1) {
      const group = groupOf(row);
      if (!byGroup.has(group)) byGroup.set(group, []);
      byGroup.get(group).push(row);
    }
    const { parent, frame } = data.nodes;
    const to = new Int32Array(parent.length);
    const seen = new Int32Array(parent.length);
    const path = [];
    let round = 0;
    for (const [group, list] of byGroup) {
      round += 1;
      to[0] = this.nodes.child(0, this.named(nameOf(group)), -1);
      seen[0] = round;
      for (const row of list) {
        for (let node = rows.node[row]; seen[node] !== round; node = parent[node]) path.push(node);
        while (path.length > 0) {
          const node = path.pop();
          to[node] = this.nodes.child(to[parent[node]], data.frames.function[frame[node]], frame[node]);
          seen[node] = round;
        }
        this.node[row] = to[rows.node[row]];
      }
    }
  }

  linkChildren() {
    const { length, parent } = this.nodes;
    this.first = new Int32Array(length + 1);
    for (let node = 1; node < length; node += 1) this.first[parent[node] + 1] += 1;
    for (let node = 0; node < length; node += 1) this.first[node + 1] += this.first[node];
    const next = this.first.slice();
    this.children = new Int32Array(length);
    for (let node = 1; node < length; node += 1) this.children[next[parent[node]]++] = node;
  }

  /** Sums a measure up, of the chosen process and side. */
  measure(name) {
    const { length, parent } = this.nodes;
    const { rows } = this;
    const total = new Float64Array(length);
    const ofC = new Float64Array(length);
    // All 0 where figures are no estimates: then nobody asks.
    const samples = data.estimates ? new Float64Array(length) : null;
    this.sorted = new Uint8Array(length);
    this.negative = 0;
    const takes = state.filter(rows);
    const { side, [name]: values, samples: samplesOf } = rows;
    for (let row = 0; row < rows.length; row += 1) {
      const value = values[row];
      if (value === 0 || !takes(row)) continue;
      if (value < 0) {
        this.negative += 1;
        continue;
      }
      const node = this.node[row];
      total[node] += value;
      if (samples) samples[node] += samplesOf[row];
      if (side[row] === 0) ofC[node] += value;
    }
    for (let node = length - 1; node > 0; node -= 1) {
      const value = total[node];
      if (value === 0) continue;
      const above = parent[node];
      total[above] += value;
      ofC[above] += ofC[node];
      if (samples) samples[above] += samples[node];
    }
    Object.assign(this, { total, ofC, samples });
  }

  /** Gives what a node holds by itself. */
  own(node) {
    return this.callees(node).reduce((left, callee) => left - this.total[callee], this.total[node]);
  }

  /** Gives the callees of a node, the largest first. They are sorted when first asked for. */
  callees(node) {
    const list = this.children.subarray(this.first[node], this.first[node + 1]);
    if (this.sorted[node] === 0) {
      const { total } = this;
      list.sort((left, right) => total[right] - total[left] || left - right);
      this.sorted[node] = 1;
    }
    return list;
  }

  /** Gives the callees that are worth at least so much, the largest first, and the sum of the others. */
  wideCallees(node, least) {
    const { total, children } = this;
    const wide = [];
    let rest = 0;
    for (let at = this.first[node]; at < this.first[node + 1]; at += 1) {
      const callee = children[at];
      if (total[callee] >= least) wide.push(callee);
      else rest += total[callee];
    }
    wide.sort((left, right) => total[right] - total[left] || left - right);
    return { wide, rest };
  }

  labelName(label) {
    if (label < 0) return "all";
    const functions = data.functions.name.length;
    return label < functions ? names.functionName(label) : this.extra[label - functions];
  }

  name(node) {
    return this.labelName(this.nodes.label[node]);
  }

  library(node) {
    const label = this.nodes.label[node];
    return label >= 0 && label < data.functions.name.length ? names.functionLibrary(label) : null;
  }

  source(node) {
    const frame = this.nodes.frame[node];
    return frame >= 0 ? names.frameSource(frame) : "";
  }

  /** Gives the way from the root to a node. */
  path(node) {
    const path = [node];
    while (path[0] > 0) path.unshift(this.nodes.parent[path[0]]);
    return path;
  }
}

/** Each is built when it is first looked at. */
const trees = (() => {
  const built = new Map();
  return (by) => {
    if (!built.has(by)) built.set(by, new CallTree(by));
    return built.get(by);
  };
})();
