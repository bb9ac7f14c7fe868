// The flame graph: callers above callees, as wide as what they hold.

const ROW = 21;
/** Higher than this, the picture scrolls. */
const HIGHEST = 28 * ROW;
/** Narrower than this, frames are not drawn one by one. */
const NARROWEST = 0.75;

class Flame {
  constructor(box, readout, crumbs, found) {
    Object.assign(this, { box, readout, crumbs, found });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.sizer = element("div", { class: "sizer" }, this.canvas);
    box.append(this.sizer);
    this.zoom = 0;
    this.selected = 0;
    this.hovered = -1;
    this.query = "";
    this.widths = new Map();
    this.paintSoon = oncePerFrame(() => this.paint());
    this.layoutSoon = oncePerFrame(() => this.layout(true));
    box.addEventListener("scroll", this.paintSoon);
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("focus", () => this.paintSoon());
    box.addEventListener("blur", () => this.paintSoon());
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.canvas.addEventListener("pointermove", (event) => this.hover(this.at(event)));
    this.canvas.addEventListener("pointerleave", () => this.hover(-1));
    // It is told once at the beginning too, of what is drawn already.
    new ResizeObserver(() => this.box.clientWidth !== this.width && this.layoutSoon()).observe(box);
    theme.onChange(this.paintSoon);
  }

  /** Shows a tree, zoomed to where the last one was, as far as it has the same names. */
  show(tree, measure) {
    const names = this.tree ? this.tree.path(this.zoom).slice(1).map((node) => this.tree.name(node)) : [];
    const isSame = this.tree === tree;
    this.tree = tree;
    this.measure = measure;
    tree.measure(measure);
    if (!isSame) this.zoom = this.find(names);
    while (this.zoom > 0 && tree.total[this.zoom] === 0) this.zoom = tree.nodes.parent[this.zoom];
    this.selected = this.zoom;
    this.hovered = -1;
    this.search(this.query);
  }

  find(path) {
    let node = 0;
    for (const name of path) {
      const next = this.tree.callees(node).find((callee) => this.tree.name(callee) === name);
      if (next === undefined) break;
      node = next;
    }
    return node;
  }

  /** Zooms to a node: it becomes as wide as the picture. */
  zoomTo(node) {
    this.zoom = node;
    this.selected = node;
    this.layout();
    this.tell(true);
  }

  search(text) {
    this.query = text;
    const { tree } = this;
    const wanted = text.trim().toLowerCase();
    this.matches = null;
    if (wanted !== "") {
      const labels = data.functions.name.length + tree.extra.length;
      const hits = new Uint8Array(labels);
      for (let label = 0; label < labels; label += 1) {
        const library = label < data.functions.name.length ? names.functionLibrary(label) : null;
        const isHit = tree.labelName(label).toLowerCase().includes(wanted) || (library || "").toLowerCase().includes(wanted);
        hits[label] = isHit ? 1 : 0;
      }
      this.matches = hits;
    }
    this.layout();
  }

  /** Sums up what lies at or below frames that match, each byte once. */
  sumOfMatches() {
    const { tree, zoom } = this;
    const { parent, label, length } = tree.nodes;
    const isBelow = new Uint8Array(length);
    const isInView = new Uint8Array(length);
    isInView[zoom] = 1;
    let sum = 0;
    let frames = 0;
    for (let node = zoom; node < length; node += 1) {
      if (node > zoom && !isInView[parent[node]]) continue;
      isInView[node] = 1;
      const isHit = node > 0 && this.matches[label[node]] === 1 && tree.total[node] > 0;
      frames += isHit ? 1 : 0;
      const wasBelow = node > zoom && isBelow[parent[node]] === 1;
      if (isHit && !wasBelow) sum += tree.total[node];
      isBelow[node] = isHit || wasBelow ? 1 : 0;
    }
    return { sum, frames };
  }

  layout(isResized = false) {
    if (!this.tree || this.box.clientWidth === 0) return;
    this.arrange();
    // The bar takes width, and so may take the rows that asked for it: it stays then.
    this.isTall = this.rows * ROW > HIGHEST || (isResized && this.isTall === true);
    this.box.classList.toggle("tall", this.isTall);
    if (this.box.clientWidth !== this.width) this.arrange();
    this.sizer.style.height = `${this.rows * ROW}px`;
    this.box.style.height = `${Math.min(this.rows * ROW, HIGHEST) + 2}px`;
    this.showCrumbs(this.tree.path(this.zoom));
    this.showFound();
    this.paint();
    this.tell(false);
  }

  /** Finds out which frames are wide enough to be drawn, and where. */
  arrange() {
    const { tree, zoom } = this;
    this.width = this.box.clientWidth;
    const path = tree.path(zoom);
    this.boxes = path.map((node, row) => ({ node, row, x: 0, width: this.width, isAbove: row + 1 < path.length }));
    const perPixel = tree.total[zoom] > 0 ? this.width / tree.total[zoom] : 0;
    const stack = [{ node: zoom, row: path.length - 1, x: 0 }];
    this.rows = path.length;
    while (stack.length > 0 && perPixel > 0) {
      const { node, row, x } = stack.pop();
      let from = x;
      const { wide, rest } = tree.wideCallees(node, NARROWEST / perPixel);
      for (const callee of wide) {
        const box = { node: callee, row: row + 1, x: from, width: tree.total[callee] * perPixel, isAbove: false };
        this.boxes.push(box);
        stack.push(box);
        from += box.width;
      }
      const hasRest = rest * perPixel >= 1;
      if (hasRest) this.boxes.push({ node: -1, row: row + 1, x: from, width: rest * perPixel, isAbove: false });
      if (hasRest || wide.length > 0) this.rows = Math.max(this.rows, row + 2);
    }
  }

  paint() {
    const { tree } = this;
    if (!tree || !this.boxes) return;
    const height = Math.min(this.rows * ROW, HIGHEST);
    const context = prepare(this.canvas, this.width, height);
    context.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', 'DejaVu Sans', sans-serif";
    context.textBaseline = "middle";
    const top = this.box.scrollTop;
    const first = Math.floor(top / ROW);
    const last = Math.ceil((top + height) / ROW);
    const ink = theme.colour("frame-ink");
    const dimInk = theme.colour("dim-ink");
    for (const box of this.boxes) {
      if (box.row < first || box.row > last) continue;
      const y = box.row * ROW - top;
      const isDim = this.isDim(box);
      context.fillStyle = isDim ? theme.colour("dim-frame") : this.colour(box.node);
      const gap = box.width > 3 ? 1 : 0;
      context.fillRect(box.x, y, Math.max(box.width - gap, 0.5), ROW - 1);
      if (box.width > 26 && box.node >= 0) this.label(context, box, y, isDim ? dimInk : ink);
    }
    this.outline(context, this.hovered, top, 1);
    const isFocused = document.activeElement === this.box;
    if (isFocused || this.selected !== this.zoom) this.outline(context, this.selected, top, 2);
  }

  isDim(box) {
    if (!this.matches) return box.isAbove === true;
    return box.node < 0 || box.node === 0 || this.matches[this.tree.nodes.label[box.node]] !== 1;
  }

  /** Blue is C, orange is Rust, and what calls both lies between. */
  colour(node) {
    if (node < 0) return theme.colour("plain-frame");
    const { tree } = this;
    const share = tree.total[node] > 0 ? tree.ofC[node] / tree.total[node] : 0.5;
    const mixed = theme.colour("mixed-frame");
    const pure = share >= 0.5 ? theme.colour("c-frame") : theme.colour("rust-frame");
    const tinted = blend(mixed, pure, Math.abs(share - 0.5) * 2);
    return tinted;
  }

  label(context, box, y, ink) {
    const { tree } = this;
    const room = box.width - 10;
    const name = tree.name(box.node);
    context.fillStyle = ink;
    const fitted = this.fit(context, name, room);
    context.fillText(fitted, box.x + 5, y + ROW / 2);
    const left = room - this.measured(context, fitted) - 14;
    const value = figure(tree.total[box.node], this.measure);
    if (fitted !== name || left < this.measured(context, value)) return;
    context.globalAlpha = 0.65;
    context.fillText(value, box.x + 5 + room - this.measured(context, value), y + ROW / 2);
    context.globalAlpha = 1;
  }

  /** The width of a letter. Texts are measured by their letters: to have each measured takes longer. */
  letter(context, letter) {
    let width = this.widths.get(letter);
    if (width === undefined) {
      if (this.widths.size > 20_000) this.widths.clear();
      width = context.measureText(letter).width;
      this.widths.set(letter, width);
    }
    return width;
  }

  measured(context, text) {
    let width = 0;
    for (const letter of text) width += this.letter(context, letter);
    return width;
  }

  /** Cuts a text to what has room. */
  fit(context, text, room) {
    const dots = this.letter(context, "…");
    let width = 0;
    let cut = 0; // what goes before the dots
    let at = 0;
    for (const letter of text) {
      width += this.letter(context, letter);
      if (width > room) return cut > 0 ? `${text.slice(0, cut)}…` : "";
      at += letter.length;
      if (width + dots <= room) cut = at;
    }
    return text;
  }

  outline(context, node, top, line) {
    const box = this.boxes.find((one) => one.node === node);
    if (node < 0 || !box) return;
    context.strokeStyle = theme.colour("ink");
    context.lineWidth = line;
    const inset = line / 2;
    context.strokeRect(box.x + inset, box.row * ROW - top + inset, Math.max(box.width - 1 - line, 1), ROW - 1 - line);
  }

  /** Gives the node at a pointer, or -1. */
  at(event) {
    const bounds = this.canvas.getBoundingClientRect();
    const x = event.clientX - bounds.left;
    const row = Math.floor((event.clientY - bounds.top + this.box.scrollTop) / ROW);
    const hit = (this.boxes || []).find((box) => box.row === row && x >= box.x && x < box.x + box.width);
    return hit ? hit.node : -1;
  }

  click(event) {
    const node = this.at(event);
    this.box.focus({ preventScroll: true });
    if (node >= 0) this.zoomTo(node);
  }

  hover(node) {
    if (node === this.hovered) return;
    this.hovered = node;
    this.paintSoon();
    this.tell(false);
  }

  key(event) {
    const { tree, selected } = this;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const parent = tree.nodes.parent[selected];
    const withSome = (node) => tree.callees(node).filter((callee) => tree.total[callee] > 0);
    const beside = (step) => {
      const siblings = withSome(parent);
      return selected === this.zoom ? selected : siblings[siblings.indexOf(selected) + step];
    };
    const moves = {
      ArrowDown: () => withSome(selected)[0],
      ArrowUp: () => (selected === 0 ? undefined : parent),
      ArrowLeft: () => beside(-1),
      ArrowRight: () => beside(1),
    };
    if (moves[event.key]) {
      event.preventDefault();
      const next = moves[event.key]();
      if (next !== undefined) this.select(next);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.zoomTo(selected);
    } else if (event.key === "Escape" && this.zoom > 0) {
      event.preventDefault();
      this.zoomTo(tree.nodes.parent[this.zoom]);
    } else if (event.key === "Home") {
      event.preventDefault();
      this.zoomTo(0);
    }
  }

  select(node) {
    this.selected = node;
    this.hovered = -1;
    // Above the zoomed frame there is nothing to see but the way back.
    if (!this.tree.path(node).includes(this.zoom)) this.zoomTo(node);
    const row = this.tree.path(node).length - 1;
    const { scrollTop, clientHeight } = this.box;
    if (row * ROW < scrollTop) this.box.scrollTop = row * ROW;
    if ((row + 1) * ROW > scrollTop + clientHeight) this.box.scrollTop = (row + 1) * ROW - clientHeight;
    this.paintSoon();
    this.tell(true);
  }

  /** Describes the frame under the pointer, or else the selected one. */
  tell(isAloud) {
    const { tree } = this;
    const node = this.hovered >= 0 ? this.hovered : this.selected;
    const all = tree.total[0];
    const value = tree.total[node];
    const where = [tree.library(node), tree.source(node)].filter(Boolean).join("  ·  ");
    const parts = [figure(value, this.measure) + (MEASURES[this.measure].isBytes ? ` (${count(value)} B)` : ""), `${percent(value, all)} of all`];
    if (this.zoom > 0 && node !== this.zoom) parts.push(`${percent(value, tree.total[this.zoom])} of ${tree.name(this.zoom)}`);
    const own = tree.own(node);
    if (own > 0 && own < value) parts.push(`${figure(own, this.measure)} by itself`);
    const c = tree.ofC[node];
    if (c > 0 && c < value) parts.push(`C ${figure(c, this.measure)}, Rust ${figure(value - c, this.measure)}`);
    else if (value > 0) parts.push(c > 0 ? "C" : "Rust");
    const samples = tree.samples ? tree.samples[node] : 0;
    if (samples > 0) parts.push(`${counted(samples, "sample", "samples")}, ± about ${percent(1.96, Math.sqrt(samples))}`);
    replace(
      this.readout,
      element("div", {}, element("b", {}, node === 0 ? "All" : tree.name(node)), where && `  ·  ${where}`),
      element("div", {}, value > 0 ? parts.join("  ·  ") : "Nothing to show here."),
    );
    this.readout.dataset.bytes = String(value);
    if (isAloud) announce(`${node === 0 ? "all" : tree.name(node)}: ${parts.join(", ")}`);
  }

  showCrumbs(path) {
    const { tree } = this;
    const crumbs = path.map((node, index) =>
      element(
        "button",
        {
          type: "button",
          title: node === 0 ? "all" : tree.name(node),
          "aria-current": index + 1 === path.length ? "true" : null,
          onclick: () => this.zoomTo(node),
        },
        node === 0 ? "all" : tree.name(node),
      ),
    );
    replace(this.crumbs, crumbs.flatMap((crumb, index) => (index > 0 ? [element("span", { "aria-hidden": "true" }, "›"), crumb] : [crumb])));
  }

  showFound() {
    if (!this.matches) {
      replace(this.found);
      return;
    }
    const { sum, frames } = this.sumOfMatches();
    const all = this.tree.total[this.zoom];
    const text = frames === 0 ? "no frame matches" : `${counted(frames, "frame", "frames")}, ${figure(sum, this.measure)}, ${percent(sum, all)} of what is shown`;
    replace(this.found, text);
  }
}

/** Builds the section. */
function flameSection() {
  const box = element("div", {
    class: "drawing flame",
    id: "flame-box",
    tabindex: "0",
    role: "application",
    "aria-roledescription": "flame graph",
    "aria-label": "Flame graph. Arrows go to callees, callers and neighbours, Enter zooms, Escape zooms out.",
  });
  const readout = element("div", { class: "readout", id: "flame-readout" });
  const crumbs = element("nav", { class: "crumbs", id: "flame-crumbs", "aria-label": "Zoomed to" });
  const found = element("span", { class: "found", id: "flame-found", role: "status" });
  const search = element("input", {
    type: "search",
    id: "flame-search",
    placeholder: "Search frames ( / )",
    "aria-label": "Search frames by function or library",
    autocomplete: "off",
    spellcheck: "false",
  });
  const flame = new Flame(box, readout, crumbs, found);
  search.addEventListener("input", oncePerFrame(() => flame.search(search.value)));
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      search.value = "";
      flame.search("");
      box.focus();
    }
    if (event.key === "Enter") box.focus();
  });
  const measures = choices(
    "Measure",
    Object.entries(MEASURES).map(([value, { label, title }]) => ({ value, label, title })),
    (measure) => state.set({ measure }),
  );
  measures.id = "flame-measure";
  const groups = choices(
    "Put together by",
    [
      { value: "stack", label: data.hasStacks ? "Stack" : "Call site" },
      { value: "library", label: "Library" },
      { value: "scope", label: "Scope" },
      { value: "thread", label: "Thread" },
    ],
    (by) => state.set({ by }),
  );
  groups.id = "flame-by";
  const hint = element("p", { class: "hint", id: "flame-hint" });
  const refresh = () => {
    const chosen = state.get;
    measures.limit((measure) => whyNot(measure));
    groups.limit(() => null);
    if (whyNot(chosen.measure) !== null) chosen.measure = "live";
    measures.show(chosen.measure);
    groups.show(chosen.by);
    flame.show(trees(chosen.by), chosen.measure);
    replace(hint, flameHint(flame.tree));
  };
  state.onChange(refresh);
  const section = element(
    "section",
    { class: "panel", id: "flame", "aria-labelledby": "flame-title" },
    element("div", { class: "head" }, element("h2", { id: "flame-title" }, "Flame graph"), hint),
    element("div", { class: "controls" }, measures, groups, element("span", { class: "grow" }), search),
    element("div", { class: "above" }, crumbs, found),
    box,
    readout,
  );
  return { section, refresh, search, flame };
}

/** Says why a measure cannot be shown; null when it can. */
function whyNot(measure) {
  if (measure === "temporary" && !data.hasTemporaries) return "Only recordings of mode full know temporary blocks";
  if (measure === "peak" && data.estimates) return "Which stacks held the peak is not known from samples";
  if (measure === "peak" && !state.hasPeak()) return "Processes peak at different times: choose one of them";
  if (measure === "peak" && state.get.by === "thread" && !data.hasStacks) return "Who held the peak is not known by thread";
  return null;
}

function flameHint(tree) {
  const parts = [`The width is ${MEASURES[state.get.measure].title}.`];
  if (data.estimates) parts.push(`${data.estimates[0].toUpperCase()}${data.estimates.slice(1)}.`);
  if (data.unsampled) parts.push(`${data.unsampled[0].toUpperCase()}${data.unsampled.slice(1)}.`);
  else if (!data.hasStacks) parts.push("This recording knows call sites, and not who called them.");
  if (state.get.by === "thread" && !data.hasStacks) parts.push("Threads are known by side alone.");
  const folded = data.stacks.folded + data.sites.folded;
  if (folded > 0) parts.push(`The smallest ${count(folded)} rows are one, for want of room.`);
  if (tree.negative > 0) parts.push(`${counted(tree.negative, "row", "rows")} left out that held less than nothing.`);
  return parts.join(" ");
}
