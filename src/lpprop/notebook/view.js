// The view of lpprop.interact. Python holds all that is chosen; this draws its state, and sends what
// is done: { do: "click", with: [row, column, label] }.

const SVG = "http://www.w3.org/2000/svg";

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function render({ model, el }) {
  let current = 0; // the class that a click marks
  let cursor = null; // [row, column] of the cross that the keyboard moves
  let waiting = []; // clicks that Python has not answered yet
  const urls = {};
  const root = make("div", { className: "lpprop" });
  // JupyterLab would take keys for its own, such as Enter and the arrows.
  root.dataset.lmSuppressShortcuts = "true";
  el.append(root);

  const state = () => model.get("_state");
  const send = (what, ...values) => {
    root.classList.add("lpprop-busy");
    model.send({ do: what, with: values });
  };

  // ------------------------------------------------------------------ the picture

  const photo = make("img", { alt: "the image", draggable: false });
  const labels = make("img", { alt: "", className: "lpprop-labels", draggable: false });
  const marks = document.createElementNS(SVG, "svg");
  marks.setAttribute("aria-hidden", "true");
  const stage = make("div", { className: "lpprop-stage", tabIndex: 0 }, photo, labels, marks);
  stage.setAttribute("role", "application");
  stage.setAttribute(
    "aria-label",
    "Image. Arrows move a cross, Enter marks the class, Delete removes the nearest click, " +
      "digits choose a class, U takes the last click back.",
  );

  const clamp = (value, end) => Math.min(Math.max(Math.floor(value), 0), end - 1);
  const place = (event) => {
    const box = photo.getBoundingClientRect();
    const [height, width] = state().size;
    return [
      clamp(((event.clientY - box.top) / box.height) * height, height),
      clamp(((event.clientX - box.left) / box.width) * width, width),
    ];
  };
  const mark = (where, away) => {
    if (away) return send("remove", ...where);
    waiting.push([...where, current]);
    drawMarks();
    send("click", ...where, current);
  };

  stage.addEventListener("click", (event) => {
    cursor = null;
    mark(place(event), event.shiftKey || removing.checked);
  });
  stage.addEventListener("keydown", (event) => {
    const [height, width] = state().size;
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(height, width) / 50));
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const here = cursor ?? [Math.floor(height / 2), Math.floor(width / 2)];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      cursor = [clamp(here[0] + step * down, height), clamp(here[1] + step * right, width)];
      drawMarks();
    } else if (event.key === "Enter" || event.key === " ") {
      cursor = here;
      mark(here, removing.checked);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      cursor = here;
      mark(here, true);
    } else if (event.key === "u") {
      send("undo");
    } else if (/^[1-9]$/.test(event.key) && +event.key <= state().classes.length) {
      current = +event.key - 1;
      drawClasses();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });

  function show(image, name, type) {
    const data = model.get(name);
    if (urls[name]) URL.revokeObjectURL(urls[name]);
    delete urls[name];
    image.hidden = !data?.byteLength;
    if (image.hidden) return;
    urls[name] = URL.createObjectURL(new Blob([data], { type }));
    image.src = urls[name];
  }

  function drawMarks() {
    const [height, width] = state().size;
    const unit = Math.max(height, width) / 100;
    // A high image should fit into the window, too.
    stage.style.maxWidth = `min(640px, ${(80 * width) / height}vh)`;
    marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    marks.replaceChildren();
    const draw = (tag, attributes) => {
      const shape = document.createElementNS(SVG, tag);
      for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
      marks.append(shape);
    };
    const known = new Set(state().clicks.map(String));
    waiting = waiting.filter((click) => !known.has(String(click)));
    for (const click of [...state().clicks, ...waiting]) {
      const [row, column, label] = click;
      const opacity = known.has(String(click)) ? 1 : 0.6;
      const centre = { cx: column + 0.5, cy: row + 0.5, opacity };
      draw("circle", { ...centre, r: 1.5 * unit, fill: "black" });
      draw("circle", { ...centre, r: 1.3 * unit, fill: "white" });
      draw("circle", { ...centre, r: 0.9 * unit, fill: state().classes[label].colour });
    }
    if (cursor) {
      const [y, x] = [cursor[0] + 0.5, cursor[1] + 0.5];
      const d = `M${x - 3 * unit} ${y}h${6 * unit}M${x} ${y - 3 * unit}v${6 * unit}`;
      draw("path", { d, stroke: "black", "stroke-width": 0.9 * unit });
      draw("path", { d, stroke: "white", "stroke-width": 0.4 * unit });
    }
  }

  // ------------------------------------------------------------------ the panel

  const button = (text, title, action) => {
    const made = make("button", { type: "button", textContent: text, title });
    made.addEventListener("click", action);
    return made;
  };
  const classes = make("div", { className: "lpprop-classes" });
  classes.setAttribute("role", "radiogroup");
  classes.setAttribute("aria-label", "The class that a click marks");
  const adding = button("Add class", "Add a class at the end of the list", () => {
    const names = state().classes.map((each) => each.name);
    let number = names.length + 1;
    while (names.includes(`class ${number}`)) number += 1;
    current = names.length;
    send("name", [...names, `class ${number}`]);
  });
  const removing = make("input", { type: "checkbox" });
  const removal = make("label", { title: "Or hold Shift, or press Delete" }, removing, "remove");
  const tools = make(
    "div",
    { className: "lpprop-tools" },
    adding,
    button("Undo", "Take the last click back", () => send("undo")),
    button("Clear", "Remove all clicks", () => send("clear")),
    removal,
  );

  const menu = make("select", { title: "What refines the clicks" });
  menu.addEventListener("change", () => send("method", menu.value));
  const note = make("div", { className: "lpprop-note" });
  const sliders = make("div", { className: "lpprop-sliders" });
  const reset = button("Reset", "Set all options back to the preset's", () => send("reset"));
  const options = make("details", {}, make("summary", { textContent: "Options" }), sliders, reset);
  const status = make("div", { className: "lpprop-status" });
  status.setAttribute("role", "status");
  const error = make("div", { className: "lpprop-error" });
  error.setAttribute("role", "alert");
  const code = make("pre", { tabIndex: 0 });
  const copy = button("Copy", "Copy the code", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch {
      // A page that is not served securely has no clipboard: the code is selected instead.
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  const source = make("details", {}, make("summary", { textContent: "Code" }), code, copy);
  const doubts = make("ul", { className: "lpprop-doubts" });

  function slider(title, what, at, shown, read, done) {
    const value = make("output", { textContent: shown });
    const input = make("input", { type: "range", min: 0, max: 1000, value: 1000 * at });
    input.addEventListener("input", () => (value.textContent = read(input.value / 1000)));
    input.addEventListener("change", () => done(read(input.value / 1000)));
    return make("label", { title: what }, make("span", { textContent: title }), input, value);
  }

  function drawControl(control) {
    const { name, kind, low, high, step, log, what, moved, unmoved, value } = control;
    if (kind === "choice" || kind === "flag") {
      const input = make(kind === "choice" ? "select" : "input");
      if (kind === "choice") {
        input.append(...control.choices.map((text, index) => new Option(text, index)));
        input.value = value;
      } else {
        Object.assign(input, { type: "checkbox", checked: value });
      }
      input.addEventListener("change", () =>
        send("option", name, kind === "choice" ? +input.value : input.checked),
      );
      return make("label", { title: what }, make("span", { textContent: name }), input);
    }
    const read = (share) => {
      const raw = log ? low * (high / low) ** share : low + (high - low) * share;
      return kind === "int"
        ? low + step * Math.round((raw - low) / step)
        : Math.min(Math.max(+raw.toPrecision(3), low), high);
    };
    const at = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    const shown = moved ? +(+value).toPrecision(4) : unmoved;
    const made = slider(name, what, at, shown, read, (chosen) => send("option", name, chosen));
    made.querySelector("output").classList.toggle("lpprop-moved", moved);
    return made;
  }

  const opacity = slider(
    "opacity",
    "How much the labels hide the picture",
    model.get("opacity"),
    model.get("opacity"),
    (share) => share,
    () => model.save_changes(),
  );
  opacity.querySelector("input").addEventListener("input", (event) => {
    model.set("opacity", event.target.value / 1000);
  });
  const radius = make("div");

  function drawClasses() {
    classes.replaceChildren(
      ...state().classes.map(({ name, colour }, index) => {
        const choice = make("input", { type: "radio", checked: index === current });
        choice.name = `lpprop-${model.model_id ?? "class"}`;
        choice.addEventListener("change", () => (current = index));
        choice.setAttribute("aria-label", name);
        const swatch = make("span", { className: "lpprop-swatch" });
        swatch.style.background = colour;
        const text = make("input", { type: "text", value: name, title: "Rename the class" });
        text.setAttribute("aria-label", `name of class ${index}`);
        text.addEventListener("focus", () => {
          current = index;
          choice.checked = true;
        });
        text.addEventListener("change", () => {
          const names = state().classes.map((each) => each.name);
          names[index] = text.value;
          send("name", names);
        });
        return make("label", {}, choice, swatch, text);
      }),
    );
  }

  function draw() {
    const { methods, method, controls, warnings } = state();
    current = Math.min(current, state().classes.length - 1);
    root.classList.remove("lpprop-busy");
    if (state().error) waiting = [];
    drawMarks();
    drawClasses();
    menu.replaceChildren(...methods.map(([name]) => new Option(name, name)));
    menu.value = method;
    note.textContent = methods.find(([name]) => name === method)?.[1] ?? "";
    sliders.replaceChildren(...controls.map(drawControl));
    reset.hidden = !controls.length;
    const most = Math.max(1, Math.round(Math.max(...state().size) / 16));
    radius.replaceChildren(
      slider(
        "click radius",
        "Pixels that each click marks around it",
        Math.min(1, state().radius / most),
        state().radius,
        (share) => Math.round(share * most),
        (chosen) => send("radius", chosen),
      ),
    );
    status.textContent = state().status;
    error.textContent = state().error;
    doubts.replaceChildren(...warnings.map((text) => make("li", { textContent: text })));
    code.textContent = state().code;
  }

  // ------------------------------------------------------------------ from Python

  const listeners = {
    "change:_state": draw,
    "change:_picture": () => show(photo, "_picture", "image/jpeg"),
    "change:_painted": () => show(labels, "_painted", "image/png"),
    "change:opacity": () => {
      labels.style.opacity = model.get("opacity");
      opacity.querySelector("input").value = 1000 * model.get("opacity");
      opacity.querySelector("output").textContent = +model.get("opacity").toFixed(2);
    },
  };
  for (const [name, listener] of Object.entries(listeners)) {
    model.on(name, listener);
    listener();
  }
  root.append(
    stage,
    make(
      "div",
      { className: "lpprop-panel" },
      classes,
      tools,
      make("label", {}, make("span", { textContent: "method" }), menu),
      note,
      opacity,
      radius,
      options,
      status,
      error,
      doubts,
      source,
    ),
  );
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    Object.values(urls).forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
