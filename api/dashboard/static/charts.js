// Charts of the overview, by Plotly, which its Python package ships and our server serves.
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
  const parts = new Intl.NumberFormat(document.getElementById("main").dataset.locale).formatToParts(12345.6);
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
const options = { displayModeBar: false, responsive: true };

const windows = async (Plotly, { api, currency }, size) => {
  const box = document.querySelector("[data-charts='windows']");
  const answer = await fetch(`${api}/points/windows?size=${size}`);
  if (!answer.ok) return;
  const { items } = await answer.json();
  document.querySelector("[data-empty]").hidden = items.length > 0;
  box.hidden = items.length === 0;
  if (!items.length) return;
  const x = items.map((each) => (size === "day" ? each.label : each.start));
  const bar = (y, colour, name) => ({ type: "bar", x, y, name, marker: { color: colour } });
  const accent = resolved("--accent");
  const put = (name, traces, title, more) =>
    Plotly.react(document.querySelector(`[data-chart="${name}"]`), traces, layout(title, more), options);
  put("orders", [bar(items.map((each) => each.orders + each.guest_orders), accent, box.dataset.orders)], box.dataset.orders);
  put("net", [bar(items.map((each) => Number(each.net.amount) + Number(each.guest_net.amount)), accent, box.dataset.net)], `${box.dataset.net} (${currency})`);
  put("points", [
    bar(items.map((each) => each.points_earned), "#44aa99", box.dataset.earned),
    bar(items.map((each) => each.points_awarded), "#88ccee", box.dataset.awarded),
    bar(items.map((each) => -each.points_reversed), "#cc6677", box.dataset.reversed),
    bar(items.map((each) => -each.points_redeemed), "#aa4499", box.dataset.redeemed),
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
  const names = [...new Set(days.flatMap((each) => each.segments.map((one) => one.segment)))];
  const traces = names.map((name) => ({
    type: "scatter", mode: days.length > 1 ? "lines" : "markers", stackgroup: days.length > 1 ? "all" : undefined, name,
    x: days.map((each) => each.day),
    y: days.map((each) => each.segments.find((one) => one.segment === name)?.customers ?? 0),
    line: { width: 0.5, color: colourOf(name) }, fillcolor: colourOf(name), marker: { color: colourOf(name), size: 9 },
  }));
  Plotly.react(element, traces, layout("", {
    showlegend: true, legend: { orientation: "h", y: -0.12 }, margin: { l: 48, r: 8, t: 8, b: 32 },
    xaxis: { gridcolor: resolved("--line"), fixedrange: true, dtick: days.length < 10 ? 86400000 : undefined, tickformat: "%d %b" },
  }), options);
};

export const draw = async (about) => {
  const Plotly = await load();
  const buttons = [...document.querySelectorAll("[data-windows]")];
  let size = "day";
  for (const button of buttons) {
    button.addEventListener("click", () => {
      size = button.dataset.windows;
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
      windows(Plotly, about, size);
    });
  }
  const away = () => {}; // the page says so, and the next time may be better
  await Promise.all([windows(Plotly, about, size).catch(away), sizes(Plotly, about).catch(away)]);
  setInterval(() => windows(Plotly, about, size).catch(away), 15000);
};
