// How requests spread over sizes.

/** Gives the name of a bar: requests below 2^power, and not below half of that. */
function sizeRange(power) {
  if (power === 0) return "0 B";
  const from = 2 ** (power - 1);
  return power <= 1 ? "1 B" : `${size(from)} – ${size(2 ** power - 1)}`;
}

function sizeBars(sides) {
  const powers = [...new Set(sides.flatMap((side) => (side ? side.bars.map(([power]) => power) : [])))].sort((one, other) => one - other);
  if (powers.length === 0) return null;
  const last = powers[powers.length - 1];
  const numbers = (side, power) => (side ? (side.bars.find(([one]) => one === power) || [0, 0])[1] : 0);
  const rows = [];
  for (let power = powers[0]; power <= last; power += 1) rows.push({ power, c: numbers(sides[0], power), rust: numbers(sides[1], power) });
  const largest = rows.reduce((most, row) => Math.max(most, row.c + row.rust), 0);
  return element(
    "div",
    { class: "bars", role: "table", "aria-label": "Requests by size" },
    rows.map((row) =>
      element(
        "div",
        { role: "row", style: null, class: "contents" },
        element("span", { class: "size", role: "cell" }, sizeRange(row.power)),
        element("span", { class: "track", role: "presentation" }, width(element("i", { class: "c" }), row.c / largest), width(element("i", { class: "rust" }), row.rust / largest)),
        element("span", { class: "count", role: "cell", title: `C ${count(row.c)}, Rust ${count(row.rust)}` }, count(row.c + row.rust)),
      ),
    ),
  );
}

function percentileTable(sides) {
  const figures = [
    ["count", "Requests", count],
    ["mean", "Mean", size],
    ["p50", "Half are at most", size],
    ["p90", "90 % are at most", size],
    ["p99", "99 % are at most", size],
    ["max", "Largest", size],
  ];
  const shown = sides.map((side, index) => ({ side, index })).filter(({ side, index }) => side && (state.get.side < 0 || state.get.side === index));
  const head = element("tr", {}, element("th", { scope: "col" }, ""), shown.map(({ index }) => element("th", { scope: "col", class: "number" }, sideCell(index))));
  const rows = figures.map(([key, title, write]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, title),
      shown.map(({ side }) => element("td", { class: "number", title: key === "mean" ? null : `${count(side[key])}${key === "count" ? "" : " B"}` }, write(side[key]))),
    ),
  );
  return element("table", { id: "sizes-table", "aria-label": "Percentiles of sizes" }, element("thead", {}, head), element("tbody", {}, rows));
}

function sizesSection() {
  const place = element("div", { class: "two" });
  const section = element(
    "section",
    { class: "panel", id: "sizes", "aria-labelledby": "sizes-title" },
    element("div", { class: "head" }, element("h2", { id: "sizes-title" }, "Sizes asked for"), element("span", { class: "hint" }, "Requests by size, by the side that booked them.")),
    place,
  );
  const refresh = () => {
    const facts = state.facts();
    const sides = facts ? facts.sizes.map((side, index) => (state.get.side < 0 || state.get.side === index ? side : null)) : [null, null];
    const bars = sizeBars(sides);
    replace(place, bars ? [bars, element("div", {}, percentileTable(facts.sizes))] : element("p", { class: "hint" }, "Nothing was asked for."));
  };
  state.onChange((changes) => {
    if ("process" in changes || "side" in changes) refresh();
  });
  return { section, refresh };
}
