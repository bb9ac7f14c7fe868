// Elements. What comes from a recording enters the page here, as text.

/** Makes an element. Strings among the children become text, never mark-up. */
function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  append(made, children);
  return made;
}

function append(parent, children) {
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) parent.append(child);
  }
}

function replace(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

/** Sets a length of an element's style, which the page's policy allows to scripts. */
function width(made, share) {
  made.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return made;
}

/** Says to screen readers what a picture shows. */
function announce(text) {
  document.getElementById("live").textContent = text;
}

/**
 * A row of buttons of which one is chosen: arrows move, as in a group of radio buttons.
 * `options` are {value, label, dot, title, disabled}; gives the element with `show(value)`.
 */
function choices(label, options, chosen, role = "radiogroup") {
  const isTabs = role === "tablist";
  const state = isTabs ? "aria-selected" : "aria-checked";
  const buttons = options.map((option) =>
    element(
      "button",
      {
        type: "button",
        role: isTabs ? "tab" : "radio",
        "data-value": option.value,
        "aria-controls": option.controls,
        id: option.id,
        onclick: () => chosen(option.value),
      },
      option.dot && element("span", { class: `dot ${option.dot}`, "aria-hidden": "true" }),
      option.label,
    ),
  );
  const group = element("div", { class: "choices", role, "aria-label": label }, buttons);
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const open = buttons.filter((button) => !button.disabled);
    const at = open.indexOf(document.activeElement);
    const next = open[(at + step + open.length) % open.length];
    next.focus();
    next.click();
  };
  group.addEventListener("keydown", move);
  group.show = (value) => {
    for (const button of buttons) {
      const isChosen = button.dataset.value === String(value);
      button.setAttribute(state, String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
    }
  };
  /** Says for each value why it cannot be chosen, or null. */
  group.limit = (reason) => {
    for (const [index, option] of options.entries()) {
      const why = reason(option.value);
      buttons[index].disabled = why !== null;
      buttons[index].title = why || option.title || "";
    }
  };
  return group;
}

/** Draws on a canvas that is as sharp as the screen. Gives its context and its size. */
function prepare(canvas, cssWidth, cssHeight) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(cssWidth * scale);
  canvas.height = Math.round(cssHeight * scale);
  canvas.style.height = `${cssHeight}px`;
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, cssWidth, cssHeight);
  return context;
}

/** Calls once a frame at most. */
function oncePerFrame(work) {
  let isWaiting = false;
  return () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      work();
    });
  };
}
