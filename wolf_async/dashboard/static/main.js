// The page: the settings in its address, the controls, and the stream that feeds the list.

import { AccountList } from "./accounts.js";
import { ask } from "./addresses.js";
import { Stream } from "./stream.js";
import { LANGUAGES, figure, language, setLanguage, text } from "./texts.js";

const SEARCH_DELAY = 150; // milliseconds from the last key to the question
const NEWS_DELAY = 2000; // so that a screen reader hears of an outage once, not of each account

const byId = (id) => document.getElementById(id);
const settings = new URLSearchParams(location.search);
const list = new AccountList(byId("list"), summarize);
let searchTimer = 0;
let newsTimer = 0;
let failing = 0;

function remember(name, value, usual) {
  if (value === usual) settings.delete(name);
  else settings.set(name, value);
  history.replaceState(null, "", location.pathname + (settings.size ? `?${settings}` : ""));
}

function translate() {
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  document.title = text("title");
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  byId("filter").placeholder = text("filterHint");
  byId("accounts").setAttribute("aria-label", text("accounts"));
  const other = LANGUAGES.find((each) => each !== language());
  const button = byId("language");
  button.textContent = text(`language.${other}`);
  button.lang = other === "zh" ? "zh-CN" : "en";
  showConnection(byId("connection").dataset.kind);
  list.redraw();
}

function showConnection(kind) {
  const line = byId("connection");
  const words = text(`connection.${kind}`);
  line.dataset.kind = kind;
  if (line.textContent !== words) line.textContent = words;
}

function summarize(sums) {
  byId("sum-free").textContent = text("of", { free: figure(sums.free), total: figure(sums.total) });
  byId("sum-accounts").textContent =
    sums.shown === sums.all ? sums.all : text("of", { free: sums.shown, total: sums.all });
  for (const state of ["stale", "failing"]) {
    byId(`sum-${state}`).textContent = sums[state];
    byId(`sum-${state}`).parentElement.classList.toggle("some", sums[state] > 0);
  }
  const none = byId("none");
  none.hidden = sums.shown > 0;
  none.textContent = sums.all ? text("none") : text("connection.connecting");
  if (sums.failing !== failing) {
    failing = sums.failing;
    newsTimer ||= setTimeout(tellNews, NEWS_DELAY);
  }
}

function tellNews() {
  newsTimer = 0;
  byId("news").textContent = text("news", { count: failing });
}

async function search() {
  const wanted = byId("filter").value.trim();
  if (!wanted) {
    list.match(null);
    return;
  }
  const found = await ask("search", { q: wanted });
  if (found && byId("filter").value.trim() === wanted) list.match(found);
}

function searchSoon() {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(search, SEARCH_DELAY);
}

function listen() {
  byId("filter").addEventListener("input", () => {
    remember("q", byId("filter").value.trim(), "");
    searchSoon();
  });
  byId("sort").addEventListener("change", () => {
    remember("sort", byId("sort").value, "free");
    list.sort(byId("sort").value);
  });
  byId("language").addEventListener("click", () => {
    setLanguage(LANGUAGES.find((each) => each !== language()));
    remember("lang", language(), null);
    translate();
  });
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
}

const stream = new Stream({
  snapshot(data) {
    list.reset(data);
    stream.expectEvery(data.every);
    search();
  },
  changes(patches) {
    if (list.patch(patches)) searchSoon();
  },
  points: (points) => list.addPoints(points),
  tick: (data) => list.tick(data),
  connected() {
    list.found();
    showConnection("live");
  },
  lost() {
    list.lost();
    showConnection("lost");
  },
});

setLanguage(settings.get("lang"));
byId("filter").value = settings.get("q") ?? "";
byId("sort").value = settings.get("sort") === "name" ? "name" : "free";
list.sort(byId("sort").value);
if (byId("filter").value) list.match([]); // until the server has said which accounts have it
listen();
translate();
stream.open();
