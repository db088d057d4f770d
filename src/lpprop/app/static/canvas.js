// The picture: one clicks on it, compares results on it, and reads the legend above it.
// What the user marks lives here, as text in props.value; the server is sent all of it each time, and only answers
// with label maps in props.layers. So a click shows at once, and an answer that comes late undoes nothing.
const find = (name) => element.querySelector(`.lp-${name}`);
const stage = find("stage");
let classes = [], points = [], active = 0, cross = [0.5, 0.5], busy = false;

const make = (tag, name, text) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text; // never HTML: names are the user's
  return made;
};
const colour = (number) => props.colours[number % props.colours.length];
const ink = (hex) => {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff";
};
const dot = (number, name, grey) => {
  const made = make("span", name, grey ? "–" : String(number + 1));
  made.style.background = grey ? props.none : colour(number);
  made.style.color = ink(grey ? props.none : colour(number));
  return made;
};
const byClicks = () => props.mode === "clicks";
const layers = () => props.layers || [];
const layer = (name) => layers().find((one) => one.method === name);

const clicked = () => new Set(points.map((point) => point[2])).size;

function readValue() {
  const read = JSON.parse(props.value || "{}");
  classes = read.classes || [];
  points = read.points || [];
  active = Math.min(active, Math.max(0, classes.length - 1));
}

function tell() {
  props.value = JSON.stringify({ picture: props.pictureKey, classes, points });
  drawAll();
  if (clicked() >= 2) trigger("input");
  else if (layers().length) { // a single class would be the label of every pixel
    props.layers = [];
    drawAll();
    drawStatus();
  }
}

function percent(share) {
  return share === undefined ? "" : share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
}

function drawLegend() {
  const shown = layer(find("choose-left").value) || layers().find((one) => one.src);
  const names = byClicks() ? classes : shown ? shown.names : [];
  const all = shown && shown.names.length > names.length ? [...names, shown.names.at(-1)] : names;
  find("classes").style.display = all.length ? "" : "none";
  const focused = element.contains(document.activeElement) && document.activeElement.name === "lp-class";
  find("chips").replaceChildren(...all.map((name, number) => {
    const grey = shown && number === shown.names.length - 1 && shown.none;
    const plain = !byClicks() || grey;
    const chip = make(plain ? "span" : "label", plain ? "lp-chip lp-plain" : "lp-chip");
    if (!plain) {
      const radio = make("input");
      Object.assign(radio, { type: "radio", name: "lp-class", value: String(number), checked: number === active });
      radio.addEventListener("change", () => { active = number; drawAll(); });
      chip.append(radio);
    }
    chip.append(dot(number, "lp-dot", grey), make("span", "lp-called", name));
    if (shown && shown.shares) chip.append(make("span", "lp-share", percent(shown.shares[number])));
    return chip;
  }));
  if (focused) find("chips").querySelector("input:checked")?.focus();
  find("edit").style.display = byClicks() ? "" : "none";
  if (document.activeElement !== find("name")) find("name").value = classes[active] || "";
  find("add").disabled = classes.length >= props.most;
  find("remove").disabled = classes.length <= 2;
  find("undo").disabled = find("clear").disabled = !points.length;
}

function drawMarks() {
  const [height, width] = props.size || [1, 1];
  find("marks").replaceChildren(...(byClicks() ? points : []).map(([row, column, label]) => {
    const mark = dot(label, "lp-mark");
    mark.style.left = `${(100 * (column + 0.5)) / width}%`;
    mark.style.top = `${(100 * (row + 0.5)) / height}%`;
    return mark;
  }));
}

function fillChoices() {
  const names = ["picture", ...layers().filter((one) => one.src).map((one) => one.method)];
  for (const [side, preferred] of [["choose-left", names[1]], ["choose-right", names[2] || "picture"]]) {
    const select = find(side), before = select.value;
    select.replaceChildren(...names.map((name) => {
      const option = make("option", "", name === "picture" ? "the picture itself" : name);
      option.value = name;
      return option;
    }));
    const kept = names.includes(before) && (before !== "picture" || select.dataset.touched);
    select.value = kept ? before : preferred || "picture";
  }
}

function showLayer(image, name) {
  const found = layer(name);
  image.classList.toggle("lp-bare", !found);
  const src = found ? found.src : props.picture;
  if (!src) image.removeAttribute("src");
  else if (image.getAttribute("src") !== src) image.src = src;
}

function drawStage() {
  const any = layers().some((one) => one.src);
  const [height, width] = props.size || [2, 3];
  element.style.setProperty("--lp-aspect", String(width / height));
  const photo = find("photo");
  if (!props.picture) photo.removeAttribute("src");
  else if (photo.getAttribute("src") !== props.picture) photo.src = props.picture;
  for (const side of ["left", "right"]) {
    const image = find(side);
    if (any) showLayer(image, find(`choose-${side}`).value);
    else image.removeAttribute("src");
  }
  stage.classList.toggle("lp-covered", any);
  stage.classList.toggle("lp-clickable", byClicks());
  stage.setAttribute("aria-label", byClicks()
    ? "The picture. Arrow keys move the cross, Enter clicks, Delete removes the nearest click, Backspace the last one, digits choose a class."
    : "The picture and its classes.");
  find("compare").style.display = any ? "" : "none";
  const split = Number(find("split").value);
  find("left").style.clipPath = `inset(0 ${100 - split}% 0 0)`;
  find("right").style.clipPath = `inset(0 0 0 ${split}%)`;
  find("line").style.left = `${split}%`;
  find("line").style.display = any && split > 0 && split < 100 ? "block" : "none";
  find("cross").style.left = `${100 * cross[1]}%`;
  find("cross").style.top = `${100 * cross[0]}%`;
  const words = "Name what to look for, and press Segment.";
  find("hint").textContent = !props.picture ? "Choose a picture, or drop one here."
    : any || busy ? "" : byClicks() ? ask() : words;
}

function ask() {
  if (!points.length) return `Click on: ${classes[active] || ""}`;
  const mine = points.some((point) => point[2] === active);
  return mine ? "Now choose another class above, and click on what belongs to it" : `Click on: ${classes[active]}`;
}

function drawGrid() {
  const shown = layers().length > 1 ? layers() : [];
  find("grid").replaceChildren(...shown.map((one) => {
    const figure = make("figure", "lp-figure"), frame = make("div", "lp-frame");
    figure.setAttribute("role", "listitem");
    if (one.src) {
      for (const [name, src] of [["lp-photo", props.picture], ["lp-layer", one.src]]) {
        const image = make("img", name);
        image.src = src;
        image.alt = name === "lp-photo" ? `What ${one.method} made of the picture` : "";
        frame.append(image);
      }
    } else frame.append(make("p", "lp-why", one.said.join(" ")));
    const caption = make("figcaption", "", `${one.method} `);
    const shares = one.src ? one.names.map((name, i) => `${name} ${percent(one.shares[i])}`).slice(0, 4).join(" · ") : "";
    caption.append(make("small", "", one.src ? `${one.seconds.toFixed(2)} s · ${shares}` : "could not run"));
    if (one.src && one.said.length) {
      const note = make("details", "lp-note");
      note.append(make("summary", "", "a note on it"), make("span", "", one.said.join(" ")));
      caption.append(note);
    }
    figure.append(frame, caption);
    return figure;
  }));
}

function drawAll() { fillChoices(); drawLegend(); drawMarks(); drawStage(); drawGrid(); }

function drawStatus() {
  const shown = layers().filter((one) => one.src);
  const times = shown.map((one) => `${one.method} ${one.seconds.toFixed(2)} s`).join(" · ");
  const said = shown.length === 1 ? shown[0].said.join(" ") : ""; // the grid has them if there are several
  find("status").textContent = busy ? "Working …" : [times, said].filter(Boolean).join(" — ");
  stage.classList.toggle("lp-busy", busy);
}

function clickAt(y, x) {
  if (!byClicks() || !props.picture || points.length >= props.mostClicks) return;
  const [height, width] = props.size;
  const inside = (share, length) => Math.min(length - 1, Math.max(0, Math.floor(share * length)));
  points = [...points, [inside(y, height), inside(x, width), active]];
  tell();
}

function removeNear(y, x) {
  if (!byClicks() || !points.length) return;
  const [height, width] = props.size;
  const distances = points.map(([row, column]) => (row + 0.5 - y * height) ** 2 + (column + 0.5 - x * width) ** 2);
  const nearest = distances.lastIndexOf(Math.min(...distances));
  points = points.filter((_, number) => number !== nearest);
  tell();
}

stage.addEventListener("click", (event) => {
  const box = stage.getBoundingClientRect();
  cross = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
  (event.shiftKey ? removeNear : clickAt)(...cross);
});
stage.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 0.005 : 0.025;
  const moves = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] };
  if (event.ctrlKey || event.metaKey || event.altKey || !byClicks()) return;
  if (moves[event.key]) cross = cross.map((at, i) => Math.min(1, Math.max(0, at + moves[event.key][i])));
  else if (event.key === "Enter" || event.key === " ") clickAt(...cross);
  else if (event.key === "Delete") removeNear(...cross);
  else if (event.key === "Backspace" && points.length) { points = points.slice(0, -1); tell(); }
  else if (/^[1-9]$/.test(event.key) && classes.length >= Number(event.key)) { active = Number(event.key) - 1; drawAll(); }
  else return;
  event.preventDefault();
  drawStage();
});
find("undo").addEventListener("click", () => { points = points.slice(0, -1); tell(); });
find("clear").addEventListener("click", () => { points = []; tell(); });
find("add").addEventListener("click", () => {
  let number = classes.length + 1;
  while (classes.includes(`class ${number}`)) number += 1;
  classes = [...classes, `class ${number}`];
  active = classes.length - 1;
  props.value = JSON.stringify({ picture: props.pictureKey, classes, points });
  drawAll();
  find("name").focus();
  find("name").select();
});
find("remove").addEventListener("click", () => {
  classes = classes.filter((_, number) => number !== active);
  points = points.filter((point) => point[2] !== active).map(([r, c, l]) => [r, c, l > active ? l - 1 : l]);
  active = Math.max(0, active - 1);
  tell();
});
find("name").addEventListener("input", () => {
  classes = classes.map((name, number) => (number === active ? find("name").value : name));
  props.value = JSON.stringify({ picture: props.pictureKey, classes, points });
  drawLegend();
});
find("name").addEventListener("change", () => {
  const own = find("name").value.trim() || `class ${active + 1}`;
  const taken = classes.some((name, number) => number !== active && name === own);
  classes = classes.map((name, number) => (number === active ? (taken ? `${own} (${active + 1})` : own) : name));
  find("name").value = classes[active];
  tell();
});
find("split").addEventListener("input", drawStage);
for (const side of ["choose-left", "choose-right"]) {
  find(side).addEventListener("change", () => {
    find(side).dataset.touched = "yes";
    drawLegend();
    drawStage();
  });
}
const hear = (event) => {
  if (!element.isConnected) return window.removeEventListener("lp-busy", hear);
  busy = event.detail;
  drawStatus();
  drawStage();
};
window.addEventListener("lp-busy", hear);
// A picture that is dropped here goes the way of the upload button.
stage.addEventListener("dragover", (event) => event.preventDefault());
stage.addEventListener("drop", (event) => {
  event.preventDefault();
  const input = document.querySelector(`#${props.upload} input[type=file]`) || document.querySelector(`input#${props.upload}`);
  if (!input || !event.dataTransfer.files.length) return;
  input.files = event.dataTransfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});

watch(["value", "pictureKey"], () => { readValue(); drawAll(); });
watch(["layers", "picture", "mode"], () => { readValue(); drawAll(); drawStatus(); });
readValue();
drawAll();
drawStatus();
