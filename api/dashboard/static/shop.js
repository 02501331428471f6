// A page's life: numbers that move by server-sent events, parts that are asked for once the page stands, charts.
import { ask, why } from "./problems.js";

const main = document.getElementById("main");
const language = document.documentElement.lang;
const { shop, currency, locale } = main.dataset;
const api = `/v1/shops/${shop}`;
// Rounded as the server does: half to even.
const rounding = { maximumFractionDigits: 0, roundingMode: "halfEven" };
const whole = new Intl.NumberFormat(locale, rounding);
const money = new Intl.NumberFormat(locale, { ...rounding, style: "currency", currency });
const percent = new Intl.NumberFormat(locale, { ...rounding, style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

const put = (element, text, value) => {
  if (!element || element.dataset.value === String(value)) return;
  element.textContent = text;
  element.dataset.value = value;
  element.classList.remove("moved");
  void element.offsetWidth; // so that the animation begins again
  element.classList.add("moved");
};

const live = (name) => document.querySelector(`[data-live="${name}"]`);

let stale = false; // whether the table of the segments is older than the map of them

const show = (snapshot) => {
  put(live("customers"), whole.format(snapshot.customers), snapshot.customers);
  put(live("active"), whole.format(snapshot.active), snapshot.active);
  put(live("revenue"), money.format(Number(snapshot.revenue.amount)), snapshot.revenue.amount);
  put(live("points"), whole.format(snapshot.points_balance), snapshot.points_balance);
  const known = new Map(snapshot.segments.map((each) => [each.segment, each]));
  for (const element of document.querySelectorAll("[data-segment]")) {
    const customers = known.get(element.dataset.segment)?.customers ?? 0;
    put(element, whole.format(customers), customers);
  }
  for (const element of document.querySelectorAll("[data-share]")) {
    const share = known.get(element.dataset.share)?.share ?? 0;
    put(element, percent.format(share), share);
  }
  for (const element of document.querySelectorAll("[data-revenue]")) {
    const found = known.get(element.dataset.revenue);
    put(element, found ? money.format(Number(found.revenue.amount)) : "–", found?.revenue.amount ?? "");
  }
  stale = true;
  const age = document.querySelector("[data-age]");
  if (age && snapshot.stored_at) age.dataset.age = snapshot.stored_at;
  tick();
};

const tick = () => {
  const element = document.querySelector("[data-age]");
  const then = Date.parse(element?.dataset.age);
  if (!then) return;
  const seconds = Math.max(0, Math.round((Date.now() - then) / 1000));
  const [n, unit] = seconds < 120 ? [seconds, "second"] : seconds < 7200 ? [Math.round(seconds / 60), "minute"]
    : seconds < 172800 ? [Math.round(seconds / 3600), "hour"] : [Math.round(seconds / 86400), "day"];
  element.textContent = relative.format(-n, unit);
};

// Pieces of a page that follow the shop: after a change the server makes the page anew, and each piece that is another by
// then takes its place. What somebody is at (with the focus in it, or a form of it open) waits until they have left it.
const pieces = new Map([...document.querySelectorAll("[data-renewed]")].map((each) => [each.dataset.renewed, each]));
const shown = new Map([...pieces].map(([name, piece]) => [name, piece.innerHTML]));
const newest = new Map();
const again = document.querySelector("[data-again]")?.dataset.again ?? location.href;
let changed = false;
let rests = 0; // until when: what takes the server long is asked for seldom

const figures = (piece) => new Map([...piece.querySelectorAll("[data-figure]")].map((each) => [each.dataset.figure, each]));
const used = (piece) => piece.contains(document.activeElement) || piece.querySelector("details[open]");

const settle = () => {
  for (const [name, html] of newest) {
    const piece = pieces.get(name);
    if (used(piece)) continue;
    newest.delete(name);
    const before = figures(piece);
    piece.innerHTML = html; // our own template, escaped on the server
    for (const [figure, element] of figures(piece)) {
      if (before.get(figure)?.textContent !== element.textContent) element.classList.add("moved");
    }
    document.dispatchEvent(new CustomEvent("renewed", { detail: name }));
  }
};

const renew = async () => {
  settle();
  const began = performance.now();
  if (!changed || document.hidden || began < rests) return;
  changed = false;
  rests = Infinity;
  try {
    const answer = await fetch(again);
    if (answer.redirected) signedOut();
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const name of pieces.keys()) {
      const html = page.querySelector(`[data-renewed="${name}"]`)?.innerHTML;
      if (html === undefined || html === shown.get(name)) continue;
      shown.set(name, html);
      newest.set(name, html);
    }
    settle();
  } catch {
    changed = true; // away: once more, in a moment
  } finally {
    rests = performance.now() + 9 * (performance.now() - began);
  }
};

const lost = document.querySelector("[data-lost]");

// The session is over: what is asked for leads to where one signs in.
const signedOut = () => {
  lost.hidden = true;
  document.querySelector("[data-signed-out]").hidden = false;
};

// Why there is no live connection a browser does not say: asked in another way, the server does.
const refused = async () => {
  const asking = new AbortController();
  const answer = await fetch(`${api}/live`, { signal: asking.signal }).catch(() => null);
  asking.abort();
  return answer?.status === 401;
};

const watch = () => {
  const source = new EventSource(`${api}/live`);
  source.addEventListener("snapshot", (event) => { lost.hidden = true; changed = true; show(JSON.parse(event.data)); });
  source.addEventListener("open", () => { lost.hidden = true; });
  source.addEventListener("error", () => {
    lost.hidden = false;
    // A refusal ends it for good: the session is over, or the server answered an error. Then ask anew in a while.
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(async () => ((await refused()) ? signedOut() : watch()), 3000);
  });
};

const latest = new Map(); // of each part what was asked last: an older answer that comes later is none

const part = async (name, query = "") => {
  const element = document.querySelector(`[data-part="${name}"]`);
  if (!element) return;
  element.setAttribute("aria-busy", "true");
  latest.set(name, query);
  try {
    const answer = await fetch(`/shops/${shop}/parts/${name}${query}`);
    const html = await answer.text();
    if (latest.get(name) !== query) return;
    if (answer.redirected) signedOut();
    else if (answer.ok) element.innerHTML = html; // our own template, escaped on the server
    else {
      const words = document.createElement("p");
      words.className = "note";
      words.textContent = new DOMParser().parseFromString(html, "text/html").querySelector("main p")?.textContent;
      element.replaceChildren(words);
    }
  } catch {
    // Away: what stands there stays, and the page says that the connection is lost.
  } finally {
    if (latest.get(name) === query) element.setAttribute("aria-busy", "false");
  }
};

for (const form of document.querySelectorAll("[data-switch]")) {
  form.addEventListener("change", (event) => { location.href = event.target.value; });
}

for (const element of document.querySelectorAll("[data-part^='orders/']")) part(element.dataset.part);

const movement = document.querySelector("[data-movement]");
if (movement) {
  const asked = () => new URLSearchParams({
    ...(movement.querySelector("input").value && { since: movement.querySelector("input").value }),
    ...(movement.dataset.movement && { segment: movement.dataset.movement }),
  });
  movement.addEventListener("submit", (event) => event.preventDefault());
  movement.addEventListener("change", () => part("movement", `?${asked()}`));
  part("movement", `?${asked()}`);
}

const adjusting = document.querySelector("[data-adjust]");
if (adjusting) {
  const foresee = () => {
    const { way, points } = Object.fromEntries(new FormData(adjusting));
    part(adjusting.dataset.adjust, `?${new URLSearchParams({ way, points })}`);
  };
  let typed;
  adjusting.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(foresee, 200); });
  document.addEventListener("renewed", ({ detail }) => { if (detail === "account") foresee(); });
  if (adjusting.elements.points.value) foresee();
}

for (const button of document.querySelectorAll("[data-replay]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    const { told, problem } = await ask(`${api}/dead-letters/${button.dataset.replay}/replay`, { method: "POST" });
    const words = document.createElement("small");
    words.textContent = problem ? why(problem) : told.problem ?? button.dataset.done;
    button.replaceWith(words);
  });
}

const table = document.querySelector("[data-table]");
if (table) {
  // Worked out by the server, and so only for who looks at it; nothing is taken from under somebody's hand.
  const follow = async () => {
    if (!stale || !table.open || document.hidden || table.querySelector("[data-part]").contains(document.activeElement)) return;
    stale = false;
    await part("segments");
  };
  table.addEventListener("toggle", follow);
  setInterval(follow, 2000);
}

if (live("customers")) {
  setInterval(tick, 1000);
  part("cohorts");
  // The chart library is larger than all else together: who does not come near the charts need not wait for it.
  const near = new IntersectionObserver((seen) => {
    if (!seen.some((each) => each.isIntersecting)) return;
    near.disconnect();
    import("/static/charts.js").then((charts) => charts.draw({ api, currency })).catch(() => {});
  }, { rootMargin: "100px" });
  for (const each of document.querySelectorAll(".chart")) near.observe(each);
}

if (live("customers") || pieces.size) watch();
if (pieces.size) setInterval(renew, 1000);

// Its tiles and grid are drawn and what is on it works: how soon that is, `make bench` reads.
requestAnimationFrame(() => setTimeout(() => performance.mark("usable")));
