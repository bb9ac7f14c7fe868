// Misuse of the allocator: both ends of each, with all callers.

/** What happened at an end, by whom, and the way there. */
function misuseEnd(end) {
  const head = element("h4", {}, end.what, end.thread && element("small", {}, ` by ${end.thread}`));
  return element("div", { class: "end" }, head, stackList(end.node));
}

/** All misuse, or nothing where there was none. */
function misuseSection() {
  if (data.misuse.length === 0) return null;
  const callers = (row) => row.ends.map((end) => `${end.what} in ${end.caller}`).join(", ");
  const columns = [
    { key: "at", title: "At", isNumber: true, hint: "for the first time", value: (row) => row.at_s, cell: (row) => duration(row.at_s) },
    { key: "count", title: "Times", isNumber: true, value: (row) => Number(row.count), cell: (row) => count(row.count) },
    {
      key: "what",
      title: "What",
      kind: "name",
      opens: true,
      value: (row) => row.kind,
      cell: (row) => [row.what, element("small", {}, callers(row))],
    },
  ];
  if (data.tracked.length > 1) columns.push({ key: "process", title: "Process", kind: "soft", value: (row) => row.process, cell: (row) => names.process(row.process) });
  const frames = (node) => stackFrames(node).map((frame) => `${names.functionName(data.frames.function[frame])} ${names.frameSource(frame)}`);
  const table = new Table(columns, {
    id: "misuse-table",
    label: "Misuse of the allocator",
    sortBy: "at",
    expand: (row) => element("div", { class: "ends" }, row.ends.map(misuseEnd)),
    text: (row) => {
      row.words ||= [row.what, row.kind, ...row.ends.flatMap((end) => frames(end.node))].join(" ").toLowerCase();
      return row.words;
    },
  });
  table.isDescending = false;
  table.drawHead();
  const search = searchBox("misuse-search", "Search misuse", (query) => table.search(query));
  const sum = element("span", { class: "hint" });
  const refresh = () => {
    const rows = data.misuse.filter((row) => state.get.process < 0 || row.process === state.get.process);
    const calls = (belongs) => rows.filter(belongs).reduce((all, row) => all + Number(row.count), 0);
    const isUnseen = (row) => row.kind === "free_of_unseen";
    const certain = calls((row) => row.certain);
    const likely = calls((row) => !row.certain && !isUnseen(row));
    const unseen = calls(isUnseen);
    const parts = [];
    if (certain > 0) parts.push(`${counted(certain, "call", "calls")} that no correct program makes.`);
    if (likely > 0) parts.push(`${counted(likely, "call is", "calls are")} likely misuse: their memory may have been given out again past malloc.`);
    if (unseen > 0) parts.push(`${counted(unseen, "free", "frees")} of what nobody saw allocated, which another allocator may have given out.`);
    sum.textContent = parts.concat("A filter hides none.").join(" ");
    table.show(rows);
  };
  state.onChange((changes) => {
    if ("process" in changes) refresh();
  });
  const section = element(
    "section",
    { class: "panel", id: "misuse", "aria-labelledby": "misuse-title" },
    element("div", { class: "head" }, element("h2", { id: "misuse-title" }, "Misuse of the allocator"), sum, search),
    table.element,
  );
  return { section, refresh };
}
