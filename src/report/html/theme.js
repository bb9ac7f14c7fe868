// Light and dark: as the system says, until the reader says otherwise.

const theme = (() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null;
  const colours = new Map();
  const listeners = [];

  function remembered() {
    try {
      return localStorage.getItem("heapledger-theme");
    } catch {
      return null; // files may have no storage
    }
  }

  function remember(name) {
    try {
      localStorage.setItem("heapledger-theme", name);
    } catch {
      // the choice lasts as long as the page
    }
  }

  function apply() {
    const isDark = (chosen || (system.matches ? "dark" : "light")) === "dark";
    root.dataset.theme = isDark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(isDark));
    button.setAttribute("aria-label", "Dark colours");
    button.textContent = isDark ? "☀" : "☾";
    colours.clear();
    listeners.forEach((listener) => listener());
  }

  chosen = remembered();
  apply();
  system.addEventListener("change", apply);
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    remember(chosen);
    apply();
  });

  return {
    /** Gives a colour of the style sheet: `c-frame`. */
    colour(name) {
      if (!colours.has(name)) colours.set(name, getComputedStyle(root).getPropertyValue(`--${name}`).trim());
      return colours.get(name);
    },
    onChange: (listener) => listeners.push(listener),
  };
})();

/** Gives a colour between two, both written #rrggbb. */
function blend(from, to, share) {
  const part = (colour, at) => parseInt(colour.slice(at, at + 2), 16);
  const mixed = [1, 3, 5].map((at) => Math.round(part(from, at) + (part(to, at) - part(from, at)) * share));
  return `rgb(${mixed.join(" ")})`;
}
