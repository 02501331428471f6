// The program's form: a preview of what would change, and its announcement, held against the program that was shown.
import { ask as askApi, why } from "./problems.js";

const form = document.querySelector("[data-program]");
const { shop, currency, locale } = document.getElementById("main").dataset;
const current = JSON.parse(form.dataset.current);
const problem = document.querySelector("[data-problem]");
const saved = document.querySelector("[data-saved]");
const previewed = document.querySelector("[data-previewed]");
const whole = new Intl.NumberFormat(locale);
const money = new Intl.NumberFormat(locale, { style: "currency", currency });

const number = (name) => (form.elements[name].value === "" ? null : Number(form.elements[name].value));
const instant = (name) => (form.elements[name].value ? new Date(form.elements[name].value).toISOString() : null);

// As soon as it may take effect, `days` or a quarter of an hour ahead, where nobody says when.
const starting = (name, days = 0) => {
  const minutes = Math.ceil(Date.now() / 60_000) + (days ? days * 24 * 60 : 15) + 1;
  return instant(name) ?? new Date(minutes * 60_000).toISOString();
};
const text = (name) => form.elements[name].value.trim() || null;
const amount = (name) => text(name)?.replace(",", ".") ?? null;

const names = () => Object.fromEntries((text("reward_names") ?? "").split("\n").filter((line) => line.trim()).map((line) => {
  const [tag, ...name] = line.split(":");
  return [tag.trim(), name.join(":").trim()];
}));

const reward = () => ({
  reward_id: text("reward_id"),
  effective_from: starting("reward_from"),
  until: instant("reward_until"),
  cost: number("reward_cost"),
  kind: text("reward_kind"),
  value: amount("reward_value"),
  product_id: text("reward_product"),
  min_order: amount("reward_min_order"),
  limit: text("reward_count") || text("reward_days") ? { count: number("reward_count"), days: number("reward_days") } : null,
  valid_days: number("reward_valid_days"),
  unused: text("reward_unused"),
  on_void: text("reward_on_void"),
  name: text("reward_name"),
  names: names(),
});

// What ends a reward, as the server would: the entry that holds then, and each that would begin later as it begins.
const endings = (id, at) => {
  const entries = current.rewards.filter((each) => each.reward_id === id); // by when they begin
  const begun = ({ effective_from: from }) => from === null || Date.parse(from) <= Date.parse(at);
  const later = entries.filter((each) => !begun(each));
  const held = later.filter((each, n) => later[n + 1]?.effective_from !== each.effective_from);
  const ends = [[entries.filter(begun).at(-1), at], ...held.map((each) => [each, each.effective_from])];
  return ends
    .filter(([each, when]) => each && !(each.until && Date.parse(each.until) <= Date.parse(when)))
    .map(([each, when]) => ({ ...each, effective_from: when, until: when }));
};

const account = () => {
  const { elements } = form;
  const program = {};
  if (text("hold_days")) {
    program.holds = [...current.holds, { hold_days: number("hold_days"), effective_from: starting("hold_from") }];
  }
  if (text("life_days")) {
    const [days, calendar] = [number("life_days"), elements.life_calendar.value];
    const inactive = calendar === "inactive" && days;
    const life = inactive ? { inactive_days: days } : { life_days: days || null, calendar: calendar === "year" ? "year" : "day" };
    program.expiry = [...current.expiry, { ...life, effective_from: starting("life_from", 30) }];
  }
  const added = [
    ...(["reward_id", "reward_name", "reward_cost", "reward_value"].some(text) ? [reward()] : []),
    ...(elements.ended?.value ? endings(elements.ended.value, starting("ended_from")) : []),
  ];
  if (added.length) program.rewards = [...current.rewards, ...added];
  return program;
};

form.addEventListener("click", ({ target }) => {
  const said = target.dataset.change && JSON.parse(target.dataset.change);
  if (!said) return;
  const { limit, names: others } = said;
  const values = {
    id: said.reward_id, name: said.name, cost: said.cost, kind: said.kind, value: said.value, product: said.product_id,
    min_order: said.min_order, count: limit?.count, days: limit?.days, valid_days: said.valid_days, unused: said.unused,
    on_void: said.on_void, names: Object.entries(others).map(([tag, name]) => `${tag}: ${name}`).join("\n"),
  };
  for (const [name, value] of Object.entries(values)) form.elements[`reward_${name}`].value = value ?? "";
  const details = form.querySelector("[data-reward]");
  details.open = true;
  details.scrollIntoView({ block: "nearest" });
});

const wanted = () => {
  const segments = [...form.querySelectorAll("[name=grid]")].map((each) => each.value.trim());
  const program = {
    ...current,
    ...account(),
    look_back_days: number("look_back_days"),
    zone: form.elements.zone.value,
    locale: form.elements.locale.value.trim() || null,
    batch_at: form.elements.batch_at.value || null,
    batch_weekday: form.elements.batch_weekday.value || null,
    batch_every: number("batch_every"),
    grid: [0, 1, 2, 3, 4].map((row) => segments.slice(row * 5, row * 5 + 5)),
  };
  if (form.elements.rate.value) {
    program.rules = [...current.rules, { points_per_unit: form.elements.rate.value.replace(",", "."), effective_from: instant("rate_from") }];
  }
  if (form.elements.refunds.value) {
    const { refunds, taxes } = form.elements;
    program.policies = [...current.policies, { refunds: refunds.value, taxes: taxes.value, effective_from: instant("policy_from") }];
  }
  return program;
};

const ask = async (method, path, headers = {}) => {
  problem.hidden = saved.hidden = true;
  const { told, problem: refused } = await askApi(`/v1/shops/${shop}/program${path}`, {
    method, headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(wanted()),
  });
  if (told) return told;
  problem.textContent = why(refused);
  problem.hidden = false;
  problem.scrollIntoView({ block: "nearest" });
  return null;
};

form.querySelector("[data-preview]").addEventListener("click", async () => {
  if (!form.reportValidity()) return;
  const told = await ask("POST", "/preview");
  if (!told) return;
  const names = JSON.parse(previewed.dataset.names);
  const body = previewed.querySelector("tbody");
  body.replaceChildren(...told.segments.map((each) => {
    const row = document.createElement("tr");
    const cells = [
      names[each.segment] ?? each.segment, whole.format(each.customers), whole.format(each.customers_then), money.format(each.revenue.amount),
      money.format(each.revenue_then.amount), whole.format(each.points_balance), whole.format(each.points_balance_then),
    ];
    row.append(...cells.map((text, at) => {
      const cell = document.createElement(at ? "td" : "th");
      cell.textContent = text;
      return cell;
    }));
    if (each.customers !== each.customers_then) row.classList.add("changed");
    row.dataset.segment = each.segment;
    return row;
  }));
  previewed.hidden = false;
  previewed.scrollIntoView({ block: "nearest" });
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = await ask("PUT", "", { "If-Match": form.dataset.etag });
  if (!told) return;
  saved.hidden = false;
  setTimeout(() => location.reload(), 1500);
});
