// Charts of the overview, by Plotly, which its Python package ships and our server serves.
import { local } from "./zone.js";

const { locale, zone } = document.getElementById("main").dataset;
const language = document.documentElement.lang;

const load = () => new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = "/static/plotly.min.js";
  script.addEventListener("load", () => resolve(window.Plotly));
  script.addEventListener("error", reject);
  document.head.append(script);
});

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const resolved = (name) => {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};
const colourOf = (segment) => {
  const known = document.querySelector(`.cell:has([data-segment="${CSS.escape(segment)}"])`);
  return known ? getComputedStyle(known).getPropertyValue("--seg").trim() : "#555555";
};

// The decimal sign and that of thousands, as Plotly wants them.
const separators = () => {
  const parts = new Intl.NumberFormat(locale).formatToParts(12345.6);
  return ["decimal", "group"].map((kind) => parts.find((each) => each.type === kind)?.value ?? " ").join("");
};

const layout = (title, more = {}) => ({
  title: { text: title, font: { size: 13 }, x: 0, xanchor: "left", pad: { l: 4 } },
  margin: { l: 48, r: 8, t: 28, b: 32 },
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: style("font-family") || "system-ui, sans-serif", size: 12, color: resolved("--quiet") },
  xaxis: { gridcolor: resolved("--line"), fixedrange: true },
  yaxis: { gridcolor: resolved("--line"), rangemode: "tozero", fixedrange: true },
  separators: separators(),
  bargap: 0.15, showlegend: false, hovermode: "x unified", ...more,
});
const options = { displayModeBar: false, responsive: true, locale: "page" };

// Days and months as the page's language has them, and in which order: as Plotly writes patterns.
const pattern = (form) => new Intl.DateTimeFormat(language, form).formatToParts(0)
  .map(({ type, value }) => ({ day: "%-d", month: "%b", year: "%Y" })[type] ?? value).join("");
const dayMonth = pattern({ day: "numeric", month: "short" });

const learn = (Plotly) => {
  const first = Date.UTC(2023, 0, 1); // a Sunday
  const named = (count, days, form) => Array.from({ length: count }, (_, n) =>
    new Intl.DateTimeFormat(language, { ...form, timeZone: "UTC" }).format(first + n * days * 86_400_000));
  const format = {
    days: named(7, 1, { weekday: "long" }), shortDays: named(7, 1, { weekday: "short" }),
    months: named(12, 31, { month: "long" }), shortMonths: named(12, 31, { month: "short" }),
    dayMonth, dayMonthYear: pattern({ day: "numeric", month: "short", year: "numeric" }),
    month: pattern({ month: "short", year: "numeric" }), year: "%Y",
  };
  Plotly.register({ moduleType: "locale", name: "page", dictionary: {}, format });
};

// Of each hour by the shop's clocks one window: when they are put back, one comes twice.
const byClock = (items) => {
  const found = new Map();
  for (const each of items) {
    const at = local(Date.parse(each.start), zone);
    const sum = found.get(at) ?? { at, orders: 0, net: 0, earned: 0, awarded: 0, reversed: 0, redeemed: 0 };
    sum.orders += each.orders + each.guest_orders;
    sum.net += Number(each.net.amount) + Number(each.guest_net.amount);
    for (const name of ["earned", "awarded", "reversed", "redeemed"]) sum[name] += each[`points_${name}`];
    found.set(at, sum);
  }
  return [...found.values()];
};

let chosen = "day";

const windows = async (Plotly, { api, currency }, size) => {
  const box = document.querySelector("[data-charts='windows']");
  const answer = await fetch(`${api}/points/windows?size=${size}`);
  if (!answer.ok) return;
  const { items } = await answer.json();
  if (size !== chosen) return; // another was chosen meanwhile
  document.querySelector("[data-empty]").hidden = items.length > 0;
  box.hidden = items.length === 0;
  if (!items.length) return;
  const told = byClock(items);
  const x = told.map(({ at }) => (size === "day" ? at.slice(0, 10) : at));
  const bar = (of, colour, name) => ({ type: "bar", x, y: told.map(of), name, marker: { color: colour } });
  const accent = resolved("--accent");
  const put = (name, traces, title, more) =>
    Plotly.react(document.querySelector(`[data-chart="${name}"]`), traces, layout(title, more), options);
  put("orders", [bar(({ orders }) => orders, accent, box.dataset.orders)], box.dataset.orders);
  put("net", [bar(({ net }) => net, accent, box.dataset.net)], `${box.dataset.net} (${currency})`);
  put("points", [
    bar(({ earned }) => earned, "#44aa99", box.dataset.earned),
    bar(({ awarded }) => awarded, "#88ccee", box.dataset.awarded),
    bar(({ reversed }) => -reversed, "#cc6677", box.dataset.reversed),
    bar(({ redeemed }) => -redeemed, "#aa4499", box.dataset.redeemed),
  ], box.dataset.points, { barmode: "relative" });
};

const sizes = async (Plotly, { api }) => {
  const day = (offset) => new Date(Date.now() + offset * 86400000).toISOString().slice(0, 10);
  const answer = await fetch(`${api}/segments/history?from=${day(-90)}&to=${day(1)}`);
  if (!answer.ok) return;
  const { days } = await answer.json();
  const element = document.querySelector("[data-chart='sizes']");
  element.hidden = days.length === 0;
  document.querySelector("[data-empty-sizes]").hidden = days.length > 0;
  if (!days.length) return;
  const names = JSON.parse(element.dataset.names);
  const segments = [...new Set(days.flatMap((each) => each.segments.map((one) => one.segment)))];
  const traces = segments.map((name) => ({
    type: "scatter", mode: days.length > 1 ? "lines" : "markers", stackgroup: days.length > 1 ? "all" : undefined,
    name: names[name] ?? name,
    x: days.map((each) => each.day),
    y: days.map((each) => each.segments.find((one) => one.segment === name)?.customers ?? 0),
    line: { width: 0.5, color: colourOf(name) }, fillcolor: colourOf(name), marker: { color: colourOf(name), size: 9 },
  }));
  Plotly.react(element, traces, layout("", {
    showlegend: true, legend: { orientation: "h", y: -0.12 }, margin: { l: 48, r: 8, t: 8, b: 32 },
    xaxis: { gridcolor: resolved("--line"), fixedrange: true, dtick: days.length < 10 ? 86400000 : undefined, tickformat: dayMonth },
  }), options);
};

export const draw = async (about) => {
  const Plotly = await load();
  learn(Plotly);
  const away = () => {}; // the page says so, and the next time may be better
  const buttons = [...document.querySelectorAll("[data-windows]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      chosen = button.dataset.windows;
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
      windows(Plotly, about, chosen).catch(away);
    });
  }
  await Promise.all([windows(Plotly, about, chosen).catch(away), sizes(Plotly, about).catch(away)]);
  setInterval(() => windows(Plotly, about, chosen).catch(away), 15000);
};
