// What the reader has chosen, and who wants to know.

const state = (() => {
  const listeners = [];
  const chosen = {
    /** Place in the list of processes; -1 is all. */
    process: data.tracked.length === 1 ? data.tracked[0] : -1,
    /** 0 = c, 1 = rust; -1 is both. */
    side: -1,
    measure: data.measure,
    by: data.by || (data.hasStacks ? "stack" : "library"),
  };
  return {
    get: chosen,
    /** Takes a choice over, at the latest when all is there that it may need. */
    set(changes) {
      data.whenComplete(() => {
        Object.assign(chosen, changes);
        listeners.forEach((listener) => listener(changes));
      });
    },
    onChange: (listener) => listeners.push(listener),
    /** Gives what tells whether a row of these columns is looked at. */
    filter(rows) {
      const { process, side } = rows;
      const isAny = chosen.process < 0 || data.isMerged;
      const { process: wanted, side: wantedSide } = chosen;
      return (row) => (isAny || process[row] === wanted) && (wantedSide < 0 || side[row] === wantedSide);
    },
    /** Tells whether peaks can be added up: those of several processes come at different times. */
    hasPeak: () => !data.isMerged && (chosen.process >= 0 || data.tracked.length === 1),
    /** Gives what is known of the chosen process, or of all together. */
    facts: () => (chosen.process < 0 ? data.tree : data.processes[chosen.process]),
  };
})();

const MEASURES = {
  live: { label: "Live", title: "bytes held at the end", isBytes: true },
  allocated: { label: "Allocated", title: "bytes ever allocated", isBytes: true },
  peak: { label: "Peak", title: "bytes held when the peak was captured", isBytes: true },
  blocks: { label: "Blocks", title: "blocks held at the end", isBytes: false },
  temporary: { label: "Temporary", title: "bytes freed by the next operation of the same thread", isBytes: true },
};

function figure(value, measure) {
  return MEASURES[measure].isBytes ? size(value) : counted(value, "block", "blocks");
}
