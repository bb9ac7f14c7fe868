// The whole page: its sections in order, and the keys that work everywhere.

function processChoice() {
  if (data.tracked.length < 2) return null;
  const options = [element("option", { value: "-1" }, `All ${count(data.tracked.length)} processes`)].concat(
    data.tracked.map((index) => element("option", { value: String(index) }, names.process(index))),
  );
  const select = element("select", { id: "process", "aria-label": "Process" }, options);
  select.addEventListener("change", () => state.set({ process: Number(select.value) }));
  return select;
}

function sideChoice() {
  const group = choices(
    "Side",
    [
      { value: "-1", label: "Both" },
      { value: "0", label: "C", dot: "c" },
      { value: "1", label: "Rust", dot: "rust" },
    ],
    (side) => state.set({ side: Number(side) }),
  );
  group.id = "side";
  state.onChange(() => group.show(state.get.side));
  group.show(state.get.side);
  return group;
}

function keysHelp() {
  const key = (name) => element("kbd", {}, name);
  return element("p", {}, "Keys: ", key("/"), " search, ", key("Tab"), " next part; in pictures ", key("← ↑ → ↓"), " move, ", key("Enter"), " zooms, ", key("Esc"), " goes back.");
}

(() => {
  const flame = flameSection();
  const sections = [
    ["Totals", cardsSection()],
    ["Timeline", timelineSection()],
    ["Flame graph", flame],
    ["Holders", holdersSection()],
    ["Live at the end", leaksSection()],
    ["Sizes", sizesSection()],
    ["Lifetimes", lifetimesSection()],
    ["Clean-ups", cleanupsSection()],
    ["Processes", processesSection()],
    ["Losses", gapsSection()],
  ].filter(([, made]) => made !== null);
  const live = element("div", { id: "live", class: "aside", role: "status", "aria-live": "polite" });
  append(document.getElementById("content"), [titleSection(), notices(), sections.map(([, made]) => made.section), live]);
  append(document.getElementById("processes"), [processChoice()]);
  append(document.getElementById("sides"), [sideChoice()]);
  append(document.getElementById("sections"), sections.map(([label, made]) => element("a", { href: `#${made.section.id}` }, label)));
  const made = data.heapledger ? `Recorded by heapledger ${data.heapledger}.` : "";
  append(document.getElementById("foot"), [keysHelp(), element("p", {}, `${made} This file is complete in itself and asks no network for anything.`)]);

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const holders = document.getElementById("holders");
    const search = holders.contains(document.activeElement) ? document.getElementById("holders-search") : flame.search;
    search.focus();
    search.select();
  });
  // What is seen first is drawn first; each of the rest in a task of its own.
  const waiting = sections.map(([, part]) => part);
  waiting.splice(0, 3).forEach((part) => part.refresh());
  const root = document.documentElement;
  root.dataset.firstMs = performance.now().toFixed(0);
  const next = () => {
    const part = waiting.shift();
    if (part) {
      part.refresh();
      setTimeout(next);
    } else {
      root.dataset.readyMs = performance.now().toFixed(0);
    }
  };
  requestAnimationFrame(() => setTimeout(next));
})();
