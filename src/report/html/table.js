// A table that sorts and searches, and shows as many rows as were asked for.

const NARROW = matchMedia("(max-width: 40rem)");
const FIRST_ROWS = 25;
const MORE_ROWS = 100;

/** Gives the first `wanted` of so many indices in an order: to sort them all takes longer. */
function firstInOrder(length, wanted, order) {
  if (length <= wanted * 4) return Array.from({ length }, (_, index) => index).sort(order).slice(0, wanted);
  const first = [];
  for (let index = 0; index < length; index += 1) {
    if (first.length === wanted && order(index, first[wanted - 1]) > 0) continue;
    let low = 0;
    let high = first.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (order(first[middle], index) < 0) low = middle + 1;
      else high = middle;
    }
    first.splice(low, 0, index);
    if (first.length > wanted) first.pop();
  }
  return first;
}

/**
 * Columns are {key, title, isNumber, value(row), cell(row)}: `value` sorts, `cell` gives
 * a string or an element. `options`: id, label, sortBy, text(row) in lower case for the
 * search, expand(row) for what a row opens into.
 */
class Table {
  constructor(columns, options) {
    Object.assign(this, { columns, options });
    this.sortKey = options.sortBy;
    this.isDescending = true;
    this.shown = FIRST_ROWS;
    this.query = "";
    this.rows = [];
    this.top = [];
    this.found = [];
    this.open = new Set();
    this.head = element("thead", {});
    this.body = element("tbody", {});
    this.status = element("span", { role: "status" });
    this.more = element("button", { type: "button", class: "plain", onclick: () => this.showMore() });
    this.table = element("table", { id: options.id, "aria-label": options.label }, this.head, this.body);
    this.element = element("div", {}, element("div", { class: "scroll" }, this.table), element("div", { class: "under" }, this.status, this.more));
    NARROW.addEventListener("change", () => {
      this.drawHead();
      this.draw();
    });
    this.drawHead();
  }

  /** The columns from left to right: what a row is called comes first where few have room. */
  shownColumns() {
    const isName = (column) => column.kind === "name";
    return NARROW.matches ? [...this.columns.filter(isName), ...this.columns.filter((column) => !isName(column))] : this.columns;
  }

  /** Shows these rows, which may be anything that the columns understand. */
  show(rows) {
    this.rows = rows;
    this.shown = FIRST_ROWS;
    this.open.clear();
    this.arrange();
  }

  search(query) {
    this.query = query.trim().toLowerCase();
    this.shown = FIRST_ROWS;
    this.arrange();
  }

  sort(key) {
    const column = this.columns.find((one) => one.key === key);
    this.isDescending = this.sortKey === key ? !this.isDescending : column.isNumber === true;
    this.sortKey = key;
    this.drawHead();
    this.arrange();
    announce(`sorted by ${column.title}, ${this.isDescending ? "largest" : "smallest"} first`);
  }

  arrange() {
    const words = this.query.split(/\s+/).filter(Boolean);
    const { text } = this.options;
    const found = words.length > 0 ? this.rows.filter((row) => words.every((word) => text(row).includes(word))) : this.rows.slice();
    const column = this.columns.find((one) => one.key === this.sortKey);
    const keys = found.map((row) => column.value(row));
    const sign = this.isDescending ? -1 : 1;
    const order = (left, right) => (keys[left] < keys[right] ? -sign : keys[left] > keys[right] ? sign : left - right);
    this.found = found;
    this.top = firstInOrder(found.length, this.shown, order).map((index) => found[index]);
    this.draw();
  }

  drawHead() {
    const cells = this.shownColumns().map((column) =>
      element(
        "th",
        {
          scope: "col",
          class: column.isNumber ? "number" : column.kind,
          "aria-sort": column.key === this.sortKey ? (this.isDescending ? "descending" : "ascending") : null,
        },
        column.value
          ? element("button", { type: "button", "data-sort": column.key, title: column.hint, onclick: () => this.sort(column.key) }, column.title)
          : column.title,
      ),
    );
    const focused = this.head.contains(document.activeElement) ? document.activeElement.dataset.sort : null;
    replace(this.head, element("tr", {}, cells));
    if (focused) this.head.querySelector(`[data-sort="${focused}"]`).focus();
  }

  draw() {
    replace(this.body, this.top.flatMap((row) => this.drawRow(row)));
    const rest = this.found.length - this.top.length;
    const all = this.rows.length;
    const isSearched = this.query !== "";
    const what = isSearched ? `${count(this.found.length)} of ${counted(all, "row", "rows")} match` : counted(all, "row", "rows");
    this.status.textContent = rest > 0 ? `${what}, ${count(this.top.length)} shown` : what;
    this.more.hidden = rest === 0;
    this.more.textContent = `Show ${count(Math.min(MORE_ROWS, rest))} more`;
  }

  drawRow(row) {
    const { expand } = this.options;
    const isOpen = this.open.has(row);
    const cells = this.shownColumns().map((column) => {
      const content = column.cell(row);
      const kind = column.isNumber ? "number" : column.kind;
      if (!expand || !column.opens) return element("td", { class: kind }, content);
      const toggle = () => {
        if (!this.open.delete(row)) this.open.add(row);
        const at = this.top.indexOf(row);
        this.draw();
        this.body.querySelectorAll(".fold")[at].focus();
      };
      const button = element("button", { type: "button", class: "fold", "aria-expanded": String(isOpen), onclick: toggle }, content);
      return element("td", { class: kind }, button, isOpen ? expand(row) : null);
    });
    return [element("tr", {}, cells)];
  }

  showMore() {
    const focusAt = this.shown;
    this.shown += MORE_ROWS;
    this.arrange();
    const row = this.body.rows[focusAt];
    if (row) {
      row.tabIndex = -1;
      row.focus({ preventScroll: true });
    }
  }
}

/** A box for words that rows have to hold. */
function searchBox(id, label, search) {
  const input = element("input", { type: "search", id, placeholder: label, "aria-label": label, autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", oncePerFrame(() => search(input.value)));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    input.value = "";
    search("");
  });
  return input;
}

/** A bar as long as a share, split by side. */
function meter(c, rust, largest) {
  const part = (side, value) => width(element("i", { class: side }), largest > 0 ? value / largest : 0);
  return element("span", { class: "meter", "aria-hidden": "true" }, part("c", Math.max(0, c)), part("rust", Math.max(0, rust)));
}

/** A column of bytes that tells the exact number. */
function bytesColumn(key, title, value, hint) {
  return {
    key,
    title,
    hint,
    isNumber: true,
    value,
    cell: (row) => element("span", { title: `${count(value(row))} B` }, size(value(row))),
  };
}

function countColumn(key, title, value) {
  return { key, title, isNumber: true, value, cell: (row) => count(value(row)) };
}
