// Small things to draw with. Texts become text nodes, never markup; styles are set by properties, as the CSP asks.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 59;
const HEIGHT = 20;

// An element with attributes and children; children that are empty are left out.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child || child === 0));
  return element;
}

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// What is free of a total. It repeats what stands beside it in figures, so that nobody has to hear it.
export function bar() {
  const fill = el("span");
  const element = el("div", { class: "bar", "aria-hidden": "true" }, fill);
  return {
    element,
    set(free, total) {
      const share = total > 0 ? Math.min(Math.max((free ?? 0) / total, 0), 1) : 0;
      fill.style.width = `${share * 100}%`;
      element.dataset.level = level(free, share);
    },
  };
}

function level(free, share) {
  if (free === null || free === undefined) return "unknown";
  if (free <= 0) return "none";
  return share < 0.25 ? "low" : "good";
}

// The last 15 minutes, the newest at the right; a gap where nothing was known.
export function course() {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const element = svg("svg", {
    class: "course",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  element.append(area, line);
  return {
    element,
    set(points, total) {
      const highest = Math.max(total ?? 0, ...points.map((point) => point ?? 0), 1);
      const runs = runsOf(points, highest);
      line.setAttribute("d", runs.map((run) => `M${run.join("L")}h0`).join(""));
      area.setAttribute("d", runs.filter((run) => run.length > 1).map(areaOf).join(""));
    },
  };
}

function runsOf(points, highest) {
  const first = WIDTH + 1 - points.length;
  const runs = [];
  let isOpen = false;
  points.forEach((point, i) => {
    if (point !== null) {
      if (!isOpen) runs.push([]);
      const y = HEIGHT - 1 - (Math.max(point, 0) / highest) * (HEIGHT - 2);
      runs.at(-1).push(`${first + i} ${y.toFixed(1)}`);
    }
    isOpen = point !== null;
  });
  return runs;
}

function areaOf(run) {
  const [left, right] = [run[0], run.at(-1)].map((point) => point.split(" ")[0]);
  return `M${left} ${HEIGHT}L${run.join("L")}L${right} ${HEIGHT}Z`;
}

// A day of 24 hours with its open spans, given in minutes.
export function dayStrip(spans) {
  const marks = spans.filter(([begin, end]) => end > begin).map(([begin, end]) => {
    const mark = el("span");
    mark.style.left = `${(begin / 1440) * 100}%`;
    mark.style.width = `${((end - begin) / 1440) * 100}%`;
    return mark;
  });
  return el("div", { class: "strip", "aria-hidden": "true" }, ...marks);
}
