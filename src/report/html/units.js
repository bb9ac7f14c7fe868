// Figures as people read them, the same as in the text report.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** Writes bytes: `512 MiB`, `1.5 KiB`. */
function size(bytes) {
  let value = Math.abs(bytes);
  let unit = 0;
  // 1023.5 would be shown as 1024 of the smaller unit.
  while (value >= 1023.5 && unit + 1 < UNITS.length) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${bytes < 0 ? "-" : ""}${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Writes a whole number, or its digits, with thousands apart. */
function count(value) {
  const digits = typeof value === "string" ? value : value.toFixed(0);
  return digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

function counted(value, one, many) {
  return `${count(value)} ${Number(value) === 1 ? one : many}`;
}

function duration(seconds) {
  const whole = Math.round(seconds);
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 99.95) return `${seconds.toFixed(1)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${count(Math.floor(whole / 3600))} h ${Math.floor(whole / 60) % 60} min`;
}

function percent(part, all) {
  if (!(all > 0)) return "0 %";
  const share = (100 * part) / all;
  if (share > 0 && share < 0.05) return "< 0.1 %";
  return `${share.toFixed(1)} %`;
}

/** Cuts a path to its file with its directory. */
function shortPath(path) {
  return path.split("/").slice(-2).join("/");
}
