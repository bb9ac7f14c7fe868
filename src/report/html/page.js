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
    ["Misuse", misuseSection()],
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
  // What is seen first is drawn first, down to the flame graph; each of the rest in a
  // task of its own, once the columns for it are read.
  const parts = sections.map(([, part]) => part);
  const root = document.documentElement;
  const stamp = (name) => {
    root.dataset[name] = performance.now().toFixed(1);
  };
  const waiting = parts.splice(parts.indexOf(flame) + 1);
  for (const part of waiting) part.section.inert = true;
  for (const part of parts) part.refresh();
  const next = () => {
    const part = waiting.shift();
    if (!part) return stamp("readyMs");
    part.refresh();
    part.section.inert = false;
    return setTimeout(next);
  };
  const complete = () => {
    data.complete();
    setTimeout(next);
  };
  // Once a frame with the flame graph has gone to the screen.
  requestAnimationFrame(() =>
    setTimeout(() => {
      stamp("flameMs");
      if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", complete);
      else complete();
    }),
  );
})();
