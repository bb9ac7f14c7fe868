// How long blocks lived, where some were sampled.

/** Writes a time that may be far below a second: `250 ns`, `3.2 µs`. */
function shortDuration(seconds) {
  const [value, unit] = seconds < 0.9995e-6 ? [seconds * 1e9, "ns"] : seconds < 0.9995e-3 ? [seconds * 1e6, "µs"] : seconds < 9.95e-3 ? [seconds * 1e3, "ms"] : [null, null];
  if (value === null) return duration(seconds);
  return `${value.toFixed(unit !== "ns" && value < 9.95 ? 1 : 0)} ${unit}`;
}

/** Gives the name of a bar: lives below 10^decade nanoseconds, and not below a tenth of that. */
function lifetimeRange(decade) {
  const written = (power) => {
    const units = ["ns", "µs", "ms", "s"];
    const unit = Math.min(Math.floor(power / 3), 3);
    return `${10 ** (power - 3 * unit)} ${units[unit]}`;
  };
  return decade === 0 ? "below 1 ns" : `${written(decade - 1)} – ${written(decade)}`;
}

function lifetimeBars(sides) {
  const decades = sides.flatMap((side) => (side ? side.bars.map(([decade]) => decade) : []));
  const living = sides.map((side) => (side ? side.never_freed : 0));
  if (decades.length === 0 && living[0] + living[1] === 0) return null;
  const numbers = (side, decade) => (side ? (side.bars.find(([one]) => one === decade) || [0, 0])[1] : 0);
  const rows = [];
  const [first, last] = [Math.min(...decades), Math.max(...decades)];
  for (let decade = first; decade <= last; decade += 1) rows.push({ name: lifetimeRange(decade), c: numbers(sides[0], decade), rust: numbers(sides[1], decade) });
  rows.push({ name: "never freed", c: living[0], rust: living[1] });
  const largest = rows.reduce((most, row) => Math.max(most, row.c + row.rust), 0);
  return element(
    "div",
    { class: "bars", role: "table", "aria-label": "Blocks by how long they lived" },
    rows.map((row) =>
      element(
        "div",
        { role: "row", class: "contents" },
        element("span", { class: "size", role: "cell" }, row.name),
        element("span", { class: "track", role: "presentation" }, width(element("i", { class: "c" }), row.c / largest), width(element("i", { class: "rust" }), row.rust / largest)),
        element("span", { class: "count", role: "cell", title: `C ${count(row.c)}, Rust ${count(row.rust)}` }, count(row.c + row.rust)),
      ),
    ),
  );
}

function lifetimeTable(sides) {
  const time = (key) => (side) => (side.count === 0 ? "–" : shortDuration(side[key]));
  const figures = [
    ["Freed blocks", (side) => count(side.count)],
    ["Half lived at most", time("p50_s")],
    ["90 % lived at most", time("p90_s")],
    ["99 % lived at most", time("p99_s")],
    ["Longest", time("max_s")],
    ["Under 1 ms", (side) => (side.under_1ms === null ? "not known" : percent(side.under_1ms, side.count))],
    ["Never freed", (side) => count(side.never_freed)],
    ["Samples freed", (side) => count(side.samples)],
  ];
  const shown = sides.map((side, index) => ({ side, index })).filter(({ side }) => side);
  const head = element("tr", {}, element("th", { scope: "col" }, ""), shown.map(({ index }) => element("th", { scope: "col", class: "number" }, sideCell(index))));
  const rows = figures.map(([title, write]) => element("tr", {}, element("th", { scope: "row" }, title), shown.map(({ side }) => element("td", { class: "number" }, write(side)))));
  return element("table", { id: "lifetimes-table", "aria-label": "How long blocks lived" }, element("thead", {}, head), element("tbody", {}, rows));
}

/** Gives the section, or null where nothing was sampled. */
function lifetimesSection() {
  if (!data.processes.some((process) => process.lifetimes)) return null;
  const place = element("div", { class: "two" });
  const hint = element("span", { class: "hint" });
  const section = element(
    "section",
    { class: "panel", id: "lifetimes", "aria-labelledby": "lifetimes-title" },
    element("div", { class: "head" }, element("h2", { id: "lifetimes-title" }, "How long blocks lived"), hint),
    place,
  );
  const refresh = () => {
    const facts = state.facts();
    const lifetimes = facts && facts.lifetimes;
    const sides = (lifetimes ? lifetimes.sides : [null, null]).map((side, index) => (state.get.side < 0 || state.get.side === index ? side : null));
    const bars = lifetimeBars(sides);
    const step = lifetimes && lifetimes.step_s > 1e-6 ? ` The clock steps by ${shortDuration(lifetimes.step_s)} here.` : "";
    hint.textContent = `Blocks from allocation to free, estimated from samples, by the side that booked them.${step}`;
    replace(place, bars ? [bars, element("div", {}, lifetimeTable(sides))] : element("p", { class: "hint" }, "Nothing was sampled."));
  };
  state.onChange((changes) => {
    if ("process" in changes || "side" in changes) refresh();
  });
  return { section, refresh };
}
