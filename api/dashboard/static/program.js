// The program's form: a preview of what would change, and its announcement, held against the program that was shown.
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

const wanted = () => {
  const names = [...form.querySelectorAll("[name=grid]")].map((each) => each.value.trim());
  const program = {
    ...current,
    look_back_days: number("look_back_days"),
    zone: form.elements.zone.value,
    locale: form.elements.locale.value.trim() || null,
    batch_at: form.elements.batch_at.value || null,
    batch_weekday: form.elements.batch_weekday.value || null,
    batch_every: number("batch_every"),
    grid: [0, 1, 2, 3, 4].map((row) => names.slice(row * 5, row * 5 + 5)),
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
  const answer = await fetch(`/v1/shops/${shop}/program${path}`, {
    method, headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(wanted()),
  });
  const told = await answer.json();
  if (answer.ok) return told;
  problem.textContent = told.detail;
  problem.hidden = false;
  problem.scrollIntoView({ block: "nearest" });
  return null;
};

form.querySelector("[data-preview]").addEventListener("click", async () => {
  if (!form.reportValidity()) return;
  const told = await ask("POST", "/preview");
  if (!told) return;
  const body = previewed.querySelector("tbody");
  body.replaceChildren(...told.segments.map((each) => {
    const row = document.createElement("tr");
    const cells = [
      each.segment, whole.format(each.customers), whole.format(each.customers_then), money.format(each.revenue.amount),
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
