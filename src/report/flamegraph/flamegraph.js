"use strict";
// Click or Enter: zoom. Escape: back. Ctrl-F or /: search.
(() => {
  const left = 10, room = 1180, letter = 7.25;
  const said = document.getElementById("said");
  const boxes = [...document.querySelectorAll("g.f")].map((group) => {
    const rect = group.querySelector("rect");
    return {
      group, rect,
      text: group.querySelector("text"),
      name: group.querySelector("title").textContent,
      level: Number(group.dataset.l),
      x: Number(rect.getAttribute("x")),
      y: Number(rect.getAttribute("y")),
      width: Number(rect.getAttribute("width")),
    };
  });

  function lay(box, x, width) {
    box.rect.setAttribute("x", x);
    box.rect.setAttribute("width", width);
    const letters = Math.floor((width - 6) / letter);
    if (letters < 3) {
      if (box.text) box.text.style.display = "none";
      return;
    }
    if (!box.text) {
      box.text = document.createElementNS("http://www.w3.org/2000/svg", "text");
      box.text.setAttribute("y", box.y + 12.5);
      box.group.appendChild(box.text);
    }
    const name = box.name.split("\n")[0].replace(/ \([^()]*\)$/, "");
    box.text.style.display = "";
    box.text.setAttribute("x", x + 3);
    box.text.textContent = name.length > letters ? name.slice(0, letters - 1) + "…" : name;
  }

  function zoom(to) {
    const scale = room / to.width, end = to.x + to.width, close = 0.6;
    for (const box of boxes) {
      const above = box.level >= to.level;
      const within = box.x >= to.x - close && box.x + box.width <= end + close;
      const around = box.x <= to.x + close && box.x + box.width >= end - close;
      const shown = above ? within : around;
      box.group.style.display = shown ? "" : "none";
      box.group.classList.toggle("above", shown && !above);
      if (shown && above) lay(box, left + Math.max(0, box.x - to.x) * scale, box.width * scale);
      if (shown && !above) lay(box, left, room);
    }
  }

  function search() {
    const wanted = prompt("Functions or libraries that match (a regular expression):", "");
    let pattern = null;
    try {
      pattern = wanted ? new RegExp(wanted, "i") : null;
    } catch (error) {
      said.textContent = String(error.message);
      return;
    }
    let found = 0;
    for (const box of boxes) {
      const matches = pattern !== null && pattern.test(box.name.split("\n")[0]);
      box.group.classList.toggle("found", matches);
      found += matches ? 1 : 0;
    }
    said.textContent = pattern ? `${found} boxes match ${wanted}` : "";
  }

  for (const box of boxes) {
    box.group.addEventListener("click", () => zoom(box));
    box.group.addEventListener("keydown", (event) => {
      if (event.key === "Enter") zoom(box);
    });
  }
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && boxes.length > 0) zoom(boxes[0]);
    if (event.key === "/" || (event.key === "f" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      search();
    }
  });
  said.textContent = "click: zoom, Esc: back, /: search";
})();
