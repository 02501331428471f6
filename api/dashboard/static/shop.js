// The overview's life: numbers that move by server-sent events, parts that are asked for once the page stands, charts.
const main = document.getElementById("main");
const language = document.documentElement.lang;
const { shop, currency, locale } = main.dataset;
const api = `/v1/shops/${shop}`;
const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
const money = new Intl.NumberFormat(locale, { style: "currency", currency, maximumFractionDigits: 0 });
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
  for (const element of document.querySelectorAll("[data-revenue]")) {
    const found = known.get(element.dataset.revenue);
    if (found) put(element, money.format(Number(found.revenue.amount)), found.revenue.amount);
  }
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

const watch = () => {
  const lost = document.querySelector("[data-lost]");
  const source = new EventSource(`${api}/live`);
  source.addEventListener("snapshot", (event) => { lost.hidden = true; show(JSON.parse(event.data)); });
  source.addEventListener("open", () => { lost.hidden = true; });
  source.addEventListener("error", () => {
    lost.hidden = false;
    // A refusal ends it for good (the session is over, or the server answered an error): ask anew in a while.
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, 3000);
  });
};

const part = async (name, query = "") => {
  const element = document.querySelector(`[data-part="${name}"]`);
  if (!element) return;
  element.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`/shops/${shop}/parts/${name}${query}`);
    if (answer.ok) element.innerHTML = await answer.text(); // our own template, escaped on the server
  } catch {
    // Away: what stands there stays, and the page says that the connection is lost.
  } finally {
    element.setAttribute("aria-busy", "false");
  }
};

for (const form of document.querySelectorAll("[data-switch]")) {
  form.addEventListener("change", (event) => { location.href = event.target.value; });
}

for (const element of document.querySelectorAll("[data-part^='orders/']")) part(element.dataset.part);

const movement = document.querySelector("[data-movement]");
if (movement) {
  const asked = () => new URLSearchParams({
    since: movement.querySelector("input").value,
    ...(movement.dataset.movement && { segment: movement.dataset.movement }),
  });
  movement.addEventListener("submit", (event) => event.preventDefault());
  movement.addEventListener("change", () => part("movement", `?${asked()}`));
  part("movement", `?${asked()}`);
}

for (const button of document.querySelectorAll("[data-replay]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    const answer = await fetch(`${api}/dead-letters/${button.dataset.replay}/replay`, { method: "POST" });
    const told = await answer.json();
    const words = document.createElement("small");
    words.textContent = answer.ok ? told.problem ?? button.dataset.done : told.detail;
    button.replaceWith(words);
  });
}

if (live("customers")) {
  watch();
  setInterval(tick, 1000);
  part("cohorts");
  import("/static/charts.js").then((charts) => charts.draw({ api, currency })).catch(() => {});
}

// Its tiles and grid are drawn and what is on it works: how soon that is, `make bench` reads.
requestAnimationFrame(() => setTimeout(() => performance.mark("usable")));
