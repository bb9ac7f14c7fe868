// Live bytes of both sides and the resident set over time, with the clean-ups.

const MARGIN = { left: 64, right: 14, top: 24, bottom: 24 };

class Timeline {
  constructor(box, readout) {
    Object.assign(this, { box, readout });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    box.append(this.canvas);
    this.cursor = null;
    this.drag = null;
    this.paintSoon = oncePerFrame(() => this.paint());
    new ResizeObserver(this.paintSoon).observe(box);
    theme.onChange(this.paintSoon);
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerleave", () => this.point(null, false));
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointerup", (event) => this.release(event));
    this.canvas.addEventListener("dblclick", () => this.span(0, this.series.duration));
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("blur", () => this.point(null, false));
  }

  show(series, events, side, peak) {
    Object.assign(this, { series, events, side, peak });
    this.cursor = null;
    this.span(0, series.duration);
  }

  /** Shows the time between two moments, in seconds from the series' beginning. */
  span(from, to) {
    const shortest = this.series.duration / 1000;
    this.from = Math.max(0, from);
    this.to = Math.min(this.series.duration, Math.max(to, from + shortest));
    this.highest = this.findHighest();
    this.paintSoon();
    this.tell(false);
  }

  /** Gives the index of the reading that holds at a moment. */
  index(at) {
    const times = this.series.at;
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= at) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  value(index) {
    const { series, side } = this;
    return { c: side === 1 ? 0 : series.c[index], rust: side === 0 ? 0 : series.rust[index], rss: series.rss[index] };
  }

  findHighest() {
    const isPeakInView = this.peak && this.peak.at >= this.from && this.peak.at <= this.to;
    let highest = isPeakInView ? this.peak.bytes : 0;
    for (let index = this.index(this.from); index < this.series.at.length; index += 1) {
      if (index > 0 && this.series.at[index] > this.to) break;
      const { c, rust, rss } = this.value(index);
      highest = Math.max(highest, c + rust, rss);
    }
    return highest;
  }

  x(at) {
    return MARGIN.left + ((at - this.from) / (this.to - this.from)) * this.plotWidth;
  }

  y(bytes) {
    return MARGIN.top + this.plotHeight * (1 - bytes / this.top);
  }

  time(x) {
    return this.from + ((x - MARGIN.left) / this.plotWidth) * (this.to - this.from);
  }

  paint() {
    const { width, height } = { width: this.box.clientWidth, height: 256 };
    if (!this.series || width === 0) return;
    const context = prepare(this.canvas, width, height);
    this.plotWidth = Math.max(10, width - MARGIN.left - MARGIN.right);
    this.plotHeight = height - MARGIN.top - MARGIN.bottom;
    const step = byteStep(this.highest);
    this.top = Math.max(step, Math.ceil(this.highest / step) * step);
    context.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', 'DejaVu Sans', sans-serif";
    this.paintAxes(context, step);
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, 0, this.plotWidth + 1, MARGIN.top + this.plotHeight + 1);
    context.clip();
    this.paintArea(context, "rust", ({ c, rust }) => c + rust);
    this.paintArea(context, "c", ({ c }) => c);
    this.paintLine(context);
    this.paintPeak(context);
    this.paintEvents(context);
    this.paintCursor(context);
    context.restore();
  }

  paintAxes(context, step) {
    context.fillStyle = theme.colour("soft");
    context.strokeStyle = theme.colour("line");
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let bytes = 0; bytes <= this.top; bytes += step) {
      const y = Math.round(this.y(bytes)) + 0.5;
      context.beginPath();
      context.moveTo(MARGIN.left, y);
      context.lineTo(MARGIN.left + this.plotWidth, y);
      context.stroke();
      context.fillText(size(bytes), MARGIN.left - 8, y);
    }
    context.textBaseline = "top";
    const seconds = timeStep((this.to - this.from) / Math.max(2, this.plotWidth / 110));
    for (let at = Math.ceil(this.from / seconds) * seconds; at <= this.to * 1.0001; at += seconds) {
      const x = this.x(at);
      context.textAlign = x > MARGIN.left + this.plotWidth - 20 ? "right" : x < MARGIN.left + 20 ? "left" : "center";
      context.fillText(timeLabel(at, seconds), x, MARGIN.top + this.plotHeight + 8);
    }
  }

  /** Walks along the steps that are in view: each value holds until the next. */
  steps(visit) {
    const { at, duration } = this.series;
    for (let index = this.index(this.from); index < at.length && at[index] <= this.to; index += 1) {
      const from = this.x(Math.max(at[index], this.from));
      const to = this.x(index + 1 < at.length ? at[index + 1] : duration);
      visit(from, Math.max(to, from), this.value(index));
    }
  }

  paintArea(context, colour, height) {
    const floor = this.y(0);
    context.beginPath();
    let last = null;
    this.steps((from, to, value) => {
      if (last === null) context.moveTo(from, floor);
      context.lineTo(from, this.y(height(value)));
      context.lineTo(to, this.y(height(value)));
      last = to;
    });
    if (last === null) return;
    context.lineTo(last, floor);
    context.closePath();
    context.fillStyle = theme.colour("panel");
    context.fill();
    context.globalAlpha = 0.75;
    context.fillStyle = theme.colour(colour);
    context.fill();
    context.globalAlpha = 1;
  }

  paintLine(context) {
    context.beginPath();
    let isFirst = true;
    this.steps((from, to, { rss }) => {
      if (rss === 0) {
        isFirst = true; // it could not be read
        return;
      }
      if (isFirst) context.moveTo(from, this.y(rss));
      else context.lineTo(from, this.y(rss));
      context.lineTo(to, this.y(rss));
      isFirst = false;
    });
    context.strokeStyle = theme.colour("rss");
    context.lineWidth = 1.5;
    context.stroke();
  }

  paintPeak(context) {
    if (!this.peak || this.peak.at < this.from || this.peak.at > this.to) return;
    const x = this.x(this.peak.at);
    const y = this.y(Math.min(this.peak.bytes, this.top));
    context.beginPath();
    context.arc(x, y, 3.5, 0, 2 * Math.PI);
    context.fillStyle = theme.colour("panel");
    context.fill();
    context.strokeStyle = theme.colour("ink");
    context.lineWidth = 1.5;
    context.stroke();
    const text = `peak ${size(this.peak.bytes)}`;
    const isLeft = x + 12 + context.measureText(text).width > MARGIN.left + this.plotWidth;
    context.fillStyle = theme.colour("ink");
    context.textBaseline = "bottom";
    context.textAlign = isLeft ? "right" : "left";
    context.fillText(text, x + (isLeft ? -8 : 8), Math.max(y - 4, 12));
  }

  paintEvents(context) {
    context.fillStyle = theme.colour("event");
    context.strokeStyle = theme.colour("event");
    for (const event of this.events) {
      const from = this.x(event.at);
      const to = this.x(event.at + event.took_s);
      if (to < MARGIN.left || from > MARGIN.left + this.plotWidth) continue;
      context.globalAlpha = 0.16;
      context.fillRect(from, MARGIN.top, Math.max(to - from, 1), this.plotHeight);
      context.globalAlpha = 1;
      context.beginPath();
      context.moveTo(from - 5, MARGIN.top - 10);
      context.lineTo(from + 5, MARGIN.top - 10);
      context.lineTo(from, MARGIN.top - 2);
      context.fill();
    }
  }

  paintCursor(context) {
    context.strokeStyle = theme.colour("ink");
    context.lineWidth = 1;
    if (this.drag && this.drag.to !== this.drag.from) {
      const [left, right] = [this.drag.from, this.drag.to].sort((one, other) => one - other);
      context.globalAlpha = 0.12;
      context.fillStyle = theme.colour("ink");
      context.fillRect(left, MARGIN.top, right - left, this.plotHeight);
      context.globalAlpha = 1;
    }
    if (this.cursor === null) return;
    const x = Math.round(this.x(this.cursor)) + 0.5;
    context.beginPath();
    context.moveTo(x, MARGIN.top);
    context.lineTo(x, MARGIN.top + this.plotHeight);
    context.stroke();
  }

  point(at, isAloud) {
    this.cursor = at === null ? null : Math.min(Math.max(at, this.from), this.to);
    this.paintSoon();
    this.tell(isAloud);
  }

  local(event) {
    return event.clientX - this.canvas.getBoundingClientRect().left;
  }

  move(event) {
    if (this.drag) this.drag.to = this.local(event);
    this.point(this.time(this.local(event)), false);
  }

  press(event) {
    this.drag = { from: this.local(event), to: this.local(event) };
    this.canvas.setPointerCapture(event.pointerId);
  }

  release() {
    const { drag } = this;
    this.drag = null;
    if (!drag || Math.abs(drag.to - drag.from) < 5) return;
    const [from, to] = [drag.from, drag.to].map((x) => this.time(x)).sort((one, other) => one - other);
    this.span(from, to);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.cursor === null ? this.from : this.cursor;
    const pixel = (this.to - this.from) / Math.max(this.plotWidth || 1, 1);
    const step = pixel * (event.shiftKey ? 50 : 5);
    const half = (this.to - this.from) / 2;
    const actions = {
      ArrowLeft: () => this.point(at - step, true),
      ArrowRight: () => this.point(at + step, true),
      Home: () => this.point(this.from, true),
      End: () => this.point(this.to, true),
      PageDown: () => this.pointToEvent(this.events.find((one) => one.at > at)),
      PageUp: () => this.pointToEvent(this.events.filter((one) => one.at < at).pop()),
      "+": () => this.span(at - half / 2, at + half / 2),
      "-": () => this.span(at - half * 2, at + half * 2),
      Escape: () => this.span(0, this.series.duration),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  pointToEvent(event) {
    if (event) this.point(event.at, true);
  }

  /** Describes the moment under the cursor, or else what is in view. */
  tell(isAloud) {
    const { cursor, series } = this;
    let text = "";
    let near = "";
    if (cursor === null) {
      const isAll = this.from === 0 && this.to === series.duration;
      const drag = "Drag over the picture to look closer";
      text = isAll ? `${duration(series.duration)} in all. ${drag}; arrows, + and - do the same.` : `${duration(this.from)} to ${duration(this.to)}. Escape or a double click shows all.`;
    } else {
      const { c, rust, rss } = this.value(this.index(cursor));
      const parts = [];
      if (this.side !== 1) parts.push(`C ${size(c)}`);
      if (this.side !== 0) parts.push(`Rust ${size(rust)}`);
      if (rss > 0) parts.push(`resident ${size(rss)}`);
      text = `At ${duration(cursor)}: ${parts.join(", ")}`;
      const close = ((this.to - this.from) / this.plotWidth) * 6;
      const event = this.events.find((one) => cursor >= one.at - close && cursor <= one.at + one.took_s + close);
      if (event) near = eventText(event);
    }
    replace(this.readout, element("div", {}, text), element("div", {}, near));
    if (isAloud) announce(`${text}. ${near}`);
  }
}

function eventText(event) {
  const claimed = event.claimed_bytes === null ? "" : ` of ${size(event.claimed_bytes)} claimed${event.is_contradicted ? ", which the ledger contradicts," : ""}`;
  const ended = event.is_complete ? `in ${duration(event.took_s)}` : "and was cut short";
  return `Clean-up (${event.trigger}, ${event.level}): freed ${size(event.freed_bytes)}${claimed} ${ended}`;
}

/** Gives a step of bytes that makes two to five lines. */
function byteStep(highest) {
  let step = 1;
  while (highest / step > 5) step *= 2;
  return step;
}

/** Gives the smallest round step of seconds that is at least as long. */
function timeStep(least) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500].map((ms) => ms / 1000).concat([1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200]);
  const found = steps.find((step) => step >= least);
  if (found) return found;
  return Math.max(least > 1 ? Math.ceil(least / 86400) * 86400 : 10 ** Math.floor(Math.log10(least || 1e-6)), 1e-6);
}

function timeLabel(at, step) {
  if (at < step / 2) return "0 s";
  if (step < 1) return at < 0.9995 ? `${Math.round(at * 1000)} ms` : `${at.toFixed(step < 0.1 ? 2 : 1)} s`;
  if (at < 60) return `${Math.round(at)} s`;
  const [hours, minutes, seconds] = [Math.floor(at / 3600), Math.floor(at / 60) % 60, Math.round(at) % 60];
  if (hours > 0) return minutes > 0 ? `${hours} h ${minutes} min` : `${hours} h`;
  return seconds > 0 ? `${minutes} min ${seconds} s` : `${minutes} min`;
}

/** Gives the clean-ups of the chosen process, or of all, in the order of time. */
function chosenEvents() {
  const chosen = data.processes.flatMap((process, index) =>
    (state.get.process < 0 || state.get.process === index) && process.pressure
      ? process.pressure.events.map((event) => ({ ...event, process: index }))
      : [],
  );
  return chosen.sort((one, other) => one.at_s - other.at_s);
}

/** Builds the section. */
function timelineSection() {
  const box = element("div", {
    class: "drawing timeline",
    id: "timeline-box",
    tabindex: "0",
    role: "application",
    "aria-roledescription": "timeline",
    "aria-label": "Live bytes over time. Left and right move, plus and minus zoom, Page Up and Page Down go to clean-ups, Escape shows all.",
  });
  const readout = element("div", { class: "readout", id: "timeline-readout" });
  const legend = element("p", { class: "legend" });
  const timeline = new Timeline(box, readout);
  const missing = element("p", { class: "hint", hidden: true }, "Nobody watched this from outside: without `heapledger run` there is no timeline.");
  const section = element(
    "section",
    { class: "panel", id: "timeline", "aria-labelledby": "timeline-title" },
    element("div", { class: "head" }, element("h2", { id: "timeline-title" }, "Over time"), element("span", { class: "hint" }), legend),
    missing,
    box,
    readout,
  );
  const refresh = () => {
    const facts = state.facts();
    const series = facts && facts.timeline;
    const hasSome = Boolean(series) && series.at.length > 0 && series.duration > 0;
    missing.hidden = hasSome;
    box.hidden = readout.hidden = legend.hidden = !hasSome;
    if (!hasSome) return;
    const events = chosenEvents().map((event) => ({ ...event, at: event.at_s - series.from }));
    const entries = [];
    if (state.get.side !== 1) entries.push(["c", "C"]);
    if (state.get.side !== 0) entries.push(["rust", "Rust"]);
    if (series.rss.some((bytes) => bytes > 0)) entries.push(["rss", "Resident set (RSS)"]);
    if (events.length > 0) entries.push(["event", counted(events.length, "clean-up", "clean-ups")]);
    replace(legend, entries.map(([dot, label]) => element("span", {}, element("span", { class: `dot ${dot}` }), label)));
    const process = data.processes[state.get.process];
    const hasPeak = process && process.totals && state.get.side < 0;
    const peak = hasPeak ? { at: process.peak_at_s, bytes: Number(process.totals.all.peak_live_bytes) } : null;
    timeline.show(series, events, state.get.side, peak);
  };
  state.onChange((changes) => {
    if ("process" in changes || "side" in changes) refresh();
  });
  return { section, refresh };
}
