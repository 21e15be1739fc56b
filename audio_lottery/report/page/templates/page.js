"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const NS = "http://www.w3.org/2000/svg";
  const COLOURS = 7;
  let clips = 0;

  const svg = (name, attributes = {}, text = null) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    return node;
  };
  const html = (name, className, text = null) => {
    const node = document.createElement(name);
    node.className = className;
    if (text !== null) node.textContent = text;
    return node;
  };

  const number = (value) => String(Number(value.toPrecision(value >= 9.95 && value < 1000 ? 3 : value < 9.95 ? 2 : 6)));
  const percent = (value) => (value >= 9.95 ? value.toFixed(0) : value >= 0.995 ? value.toFixed(1) : number(value));
  const named = (index) => `var(--c${((index % COLOURS) + COLOURS) % COLOURS})`;
  // Rounds of one training chart: from early to late, theta apart.
  const shade = (index, count) =>
    index < 0 ? "var(--c1)" : `color-mix(in oklab, var(--late) ${Math.round((100 * (index + 1)) / count)}%, var(--early))`;

  const niceTicks = (low, high, count) => {
    const rough = (high - low) / Math.max(count, 1);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough) || rough;
    const ticks = [];
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at += 1) ticks.push(Number((at * step).toPrecision(12)));
    return ticks;
  };

  // Places of the rounds whose labels have room, the first always.
  const roundTicks = (places, position, gap) => {
    const kept = [];
    for (const place of [...new Set(places)].sort((a, b) => b - a)) {
      if (!kept.length || Math.abs(position(place) - position(kept[kept.length - 1])) >= gap) kept.push(place);
    }
    return kept;
  };

  // Labels at the ends of curves, pushed apart from the top down, then back up from the bottom.
  const spread = (heights, gap, bottom) => {
    const order = heights.map((_, index) => index).sort((a, b) => heights[a] - heights[b]);
    const placed = heights.slice();
    for (let i = 1; i < order.length; i += 1) placed[order[i]] = Math.max(placed[order[i]], placed[order[i - 1]] + gap);
    let limit = bottom;
    for (let i = order.length - 1; i >= 0; i -= 1) {
      placed[order[i]] = Math.min(placed[order[i]], limit);
      limit = placed[order[i]] - gap;
    }
    return placed;
  };

  const path = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

  /* One line chart. options: weights (x falls, log or linear), height, xLabel, yLabel, names (write them at the ends). */
  const chart = (host, getSeries, options) => {
    let chosen = -1;
    const draw = () => {
      const series = getSeries().filter((one) => one.points.length);
      const width = host.clientWidth;
      if (!width) return;
      host.replaceChildren();
      if (!series.length) {
        host.append(html("p", "note", "Nothing to draw yet."));
        return;
      }
      const height = typeof options.height === "function" ? options.height(width) : options.height;
      const names = options.names && width > 560 && series.length < 9;
      const widest = names ? Math.min(150, 20 + 7.2 * Math.max(...series.map((one) => one.name.length))) : 14;
      const box = { left: 44, right: width - widest, top: 24, bottom: height - 40 };
      const points = series.flatMap((one) => one.points.map((point) => ({ ...point, series: one })));
      const xs = points.map((point) => point.x);
      const log = options.weights && options.log();
      const scale = log ? Math.log : (value) => value;
      let x0 = options.weights ? scale(Math.max(...xs)) : 0;
      let x1 = options.weights ? scale(Math.min(...xs)) : Math.max(...xs);
      if (x0 === x1) x1 = options.weights ? x0 - (log ? 0.3 : 10) : x0 + 1;
      const padding = options.weights ? 0.015 * (x1 - x0) : 0;
      x0 -= padding;
      x1 += padding;
      const X = (value) => box.left + ((scale(value) - x0) / (x1 - x0)) * (box.right - box.left);
      // Bands may be far wider than the curves (two seeds); then the curves decide what is shown, and bands are cut.
      const curveY = points.map((point) => point.y);
      const bandY = points.flatMap((point) => [point.low ?? point.y, point.high ?? point.y]);
      const span = Math.max(Math.max(...curveY) - Math.min(...curveY), 0.1 * Math.max(...curveY), 0.1);
      let y0 = Math.max(Math.min(...curveY, ...bandY), Math.min(...curveY) - 1.5 * span);
      let y1 = Math.min(Math.max(...curveY, ...bandY), Math.max(...curveY) + 1.5 * span);
      const cut = Math.min(...bandY) < Math.max(y0, 0) || Math.max(...bandY) > y1;
      const room = Math.max(0.08 * (y1 - y0), 0.02 * y1, 0.05);
      y0 = Math.max(0, y0 - room);
      y1 += cut ? 0 : room;
      const Y = (value) => box.bottom - ((value - y0) / (y1 - y0)) * (box.bottom - box.top);

      const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: "0" });
      root.setAttribute("aria-label", `${options.yLabel} against ${options.xLabel}: ${series.map((one) => one.name).join(", ")}. Arrow keys read the points.`);
      for (const tick of niceTicks(y0, y1, (box.bottom - box.top) / 40)) {
        root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: Y(tick), y2: Y(tick) }));
        root.append(svg("text", { x: box.left - 8, y: Y(tick) + 4, "text-anchor": "end" }, number(tick)));
      }
      root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
      const ticks = options.weights ? roundTicks(xs, X, 40) : niceTicks(0, Math.max(...xs), (box.right - box.left) / 90);
      for (const tick of ticks) {
        root.append(svg("line", { class: "axis", x1: X(tick), x2: X(tick), y1: box.bottom, y2: box.bottom + 5 }));
        root.append(svg("text", { x: X(tick), y: box.bottom + 18, "text-anchor": "middle" }, options.weights ? percent(tick) : number(tick)));
      }
      root.append(svg("text", { x: box.left, y: height - 5 }, options.xLabel + (options.weights ? (log ? ", log" : ", linear") : "")));
      root.append(svg("text", { x: 2, y: 12 }, options.yLabel + (cut && !options.small ? " (bands are cut at the edges)" : "")));
      const clip = svg("clipPath", { id: `clip-${(clips += 1)}` });
      clip.append(svg("rect", { x: 0, y: box.top, width, height: box.bottom - box.top }));
      root.append(clip);

      for (const one of series) {
        const colour = options.colour(one, series);
        const at = one.points.map((point) => [X(point.x), Y(point.y)]);
        if (one.dense !== null && one.points.length > 1) {
          root.append(svg("line", { class: "dense", x1: at[0][0], x2: at[at.length - 1][0], y1: Y(one.dense), y2: Y(one.dense), style: `stroke: ${colour}`, "stroke-width": 1.3, "stroke-dasharray": "5 4", opacity: 0.8 }));
        }
        const banded = one.points.filter((point) => point.low !== null && point.high !== null);
        if (banded.length > 1) {
          const upper = banded.map((point) => [X(point.x), Y(point.high)]);
          const lower = banded.map((point) => [X(point.x), Y(point.low)]).reverse();
          root.append(svg("path", { class: "band", "clip-path": `url(#clip-${clips})`, d: `${path(upper)}L${path(lower).slice(1)}Z`, style: `fill: ${colour}`, opacity: 0.15 }));
        } else if (banded.length === 1) {
          const only = banded[0];
          root.append(svg("line", { class: "band", "clip-path": `url(#clip-${clips})`, x1: X(only.x), x2: X(only.x), y1: Y(only.low), y2: Y(only.high), style: `stroke: ${colour}`, "stroke-width": 6, opacity: 0.2 }));
        }
        root.append(svg("path", { class: "line", d: path(at), fill: "none", style: `stroke: ${colour}`, "stroke-width": options.thin ? 1.6 : 2.2, "stroke-linejoin": "round" }));
      }
      const labels = [];
      for (const point of points) {
        const colour = options.colour(point.series, series);
        const [x, y] = [X(point.x), Y(point.y)];
        const marks = point.marks || [];
        const strong = marks.filter((mark) => mark === "best" || mark === "extreme");
        if (strong.length && !options.thin) {
          root.append(svg("path", { class: "ticket", d: `M${x} ${y - 8}L${x + 8} ${y}L${x} ${y + 8}L${x - 8} ${y}Z`, style: `fill: ${colour}; stroke: var(--card)`, "stroke-width": 2 }));
          labels.push([x, y, `${strong.join(" · ")} ${percent(point.x)} %`]);
        } else if (marks.includes("winning") || marks.includes("kept")) {
          root.append(svg("circle", { class: marks[0], cx: x, cy: y, r: options.thin ? 3.5 : 5, style: `fill: var(--card); stroke: ${colour}`, "stroke-width": options.thin ? 2 : 2.5 }));
        } else if (!options.dotless) {
          root.append(svg("circle", { class: "point", cx: x, cy: y, r: options.thin ? 2.2 : 3.6, style: `fill: ${colour}; stroke: var(--card)`, "stroke-width": options.thin ? 0 : 1 }));
        }
      }
      // Labels of tickets above their points; one that would cover an earlier one goes below.
      const taken = labels.map(([x, y]) => [x, y + 4, 9]);
      for (const [x, y, text] of options.small ? [] : labels) {
        const half = 3.6 * text.length;
        const middle = Math.min(Math.max(x, box.left + half), box.right - half);
        const free = (top) => top > 14 && top < box.bottom && !taken.some(([a, b, other]) => Math.abs(a - middle) < half + other && Math.abs(b - top) < 16);
        const top = [y - 15, y + 24, y - 31, y + 40, y - 47].find(free) ?? y - 15;
        taken.push([middle, top, half]);
        root.append(svg("text", { class: "mark", x: middle, y: top, "text-anchor": "middle" }, text));
      }
      if (names) {
        const ends = series.map((one) => one.points[one.points.length - 1]);
        const places = spread(ends.map((end) => Y(end.y)), 15, box.bottom);
        series.forEach((one, index) => {
          const text = one.name.length > 18 ? `${one.name.slice(0, 17)}…` : one.name;
          root.append(svg("text", { class: "name", x: box.right + 10, y: places[index] + 4, style: `fill: ${options.colour(one, series)}` }, text));
        });
      }
      const ring = svg("circle", { class: "focus", r: 9, fill: "none", style: "stroke: var(--ink)", "stroke-width": 2, visibility: "hidden" });
      root.append(ring);
      const tip = html("div", "tip");
      tip.hidden = true;
      host.append(root, tip);

      const hide = () => {
        chosen = -1;
        tip.hidden = true;
        ring.setAttribute("visibility", "hidden");
      };
      const show = (index, aloud) => {
        chosen = index;
        const point = points[index];
        const [x, y] = [X(point.x), Y(point.y)];
        ring.setAttribute("cx", x);
        ring.setAttribute("cy", y);
        ring.setAttribute("visibility", "visible");
        tip.replaceChildren(html("b", "", point.series.name), ...point.lines.map((line) => html("div", "", line)));
        tip.hidden = false;
        const wide = tip.offsetWidth;
        tip.style.left = `${Math.max(0, Math.min(width - wide, x + 16 + wide > width ? x - wide - 14 : x + 14))}px`;
        tip.style.top = `${Math.max(0, Math.min(height - tip.offsetHeight, y - tip.offsetHeight / 2))}px`;
        if (aloud) document.getElementById("announce").textContent = `${point.series.name}, ${point.lines.join(", ")}`;
      };
      const nearest = (event) => {
        const bounds = root.getBoundingClientRect();
        const [px, py] = [event.clientX - bounds.left, event.clientY - bounds.top];
        let best = -1;
        let least = 60 * 60;
        points.forEach((point, index) => {
          const distance = (X(point.x) - px) ** 2 + (Y(point.y) - py) ** 2;
          if (distance < least) [best, least] = [index, distance];
        });
        if (best < 0) hide();
        else if (best !== chosen) show(best, false);
      };
      root.addEventListener("pointermove", nearest);
      root.addEventListener("pointerdown", nearest);
      root.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
      root.addEventListener("blur", hide);
      root.addEventListener("keydown", (event) => {
        const count = points.length;
        const next = { ArrowRight: chosen + 1, ArrowLeft: chosen < 0 ? count - 1 : chosen - 1, Home: 0, End: count - 1 }[event.key];
        if (event.key === "Escape") hide();
        if (next === undefined) return;
        event.preventDefault();
        show((next + count) % count, true);
      });
    };
    let last = 0;
    new ResizeObserver(() => {
      if (host.clientWidth !== last) {
        last = host.clientWidth;
        draw();
      }
    }).observe(host);
    draw();
    return draw;
  };

  const legend = (host, series, colour, hidden, redraw) => {
    if (!host || series.length < 2) return;
    for (const one of series) {
      const button = html("button", "");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      const swatch = html("span", "swatch");
      swatch.style.setProperty("--c", colour(one, series));
      button.append(swatch, html("span", "", one.name));
      button.addEventListener("click", () => {
        if (hidden.has(one.name)) hidden.delete(one.name);
        else hidden.add(one.name);
        button.setAttribute("aria-pressed", String(!hidden.has(one.name)));
        redraw();
      });
      host.append(button);
    }
  };

  const suites = Object.keys(data.curves);
  const state = { suite: suites[0], log: true, hidden: new Set() };
  const byCurve = (one) => named(one.colour);
  const weights = { weights: true, log: () => state.log, xLabel: "remaining weights (% of prunable)", yLabel: "WER %", colour: byCurve };
  const redraws = [];
  const everything = Object.values(data.curves).flat();
  const all = [...new Map(everything.map((one) => [one.name, one])).values()];

  const main = document.getElementById("curve-chart");
  const drawMain = chart(main, () => data.curves[state.suite].filter((one) => !state.hidden.has(one.name)), {
    ...weights,
    height: (width) => Math.round(Math.min(460, Math.max(280, width * 0.45))),
    names: all.length > 1,
  });
  redraws.push(drawMain);
  const multiples = document.getElementById("multiples");
  if (multiples) {
    for (const suite of suites) {
      const host = html("div", "chart");
      const cell = html("div", "");
      cell.append(html("h3", "", suite), host);
      multiples.append(cell);
      redraws.push(chart(host, () => data.curves[suite].filter((one) => !state.hidden.has(one.name)), { ...weights, height: 190, thin: true, small: true, xLabel: "remaining weights %" }));
    }
  }
  const redrawAll = () => redraws.forEach((draw) => draw());
  legend(document.getElementById("curve-legend"), all, byCurve, state.hidden, redrawAll);
  const select = document.getElementById("suite");
  if (select) {
    select.value = state.suite;
    select.addEventListener("change", () => {
      state.suite = select.value;
      drawMain();
    });
  }
  const axes = document.querySelectorAll("[data-axis]");
  axes.forEach((button) =>
    button.addEventListener("click", () => {
      state.log = button.dataset.axis === "log";
      axes.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      redrawAll();
    })
  );

  document.querySelectorAll("[data-training]").forEach((host) => {
    const series = data.training[Number(host.dataset.training)];
    const hidden = new Set();
    const rounds = Math.max(1, ...series.map((one) => one.colour + 1));
    const colour = (one) => shade(one.colour, rounds);
    const draw = chart(host, () => series.filter((one) => !hidden.has(one.name)), {
      xLabel: "step", yLabel: "WER on dev %", colour, thin: true, dotless: true, height: (width) => Math.round(Math.min(340, Math.max(230, width * 0.34))),
    });
    legend(document.querySelector(`[data-training-legend="${host.dataset.training}"]`), series, colour, hidden, draw);
  });

  // A closed run would be missing from the paper.
  window.addEventListener("beforeprint", () => document.querySelectorAll("details.run").forEach((one) => (one.open = true)));
})();
