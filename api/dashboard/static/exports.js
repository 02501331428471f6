// The form of an export becomes the API's own address: what is empty is left out, a day is its first moment in UTC.
import { why } from "./problems.js";

const form = document.querySelector("[data-export]");
const { shop, locale } = document.getElementById("main").dataset;
const problem = document.querySelector("[data-problem]");
const whole = new Intl.NumberFormat(locale);
const days = new Set(["points_expire_before", "last_order_after", "last_order_before", "changed_since", "as_of"]);
const numbers = new Set(["points_from", "points_to"]);

const address = () => {
  const asked = new URLSearchParams();
  const columns = [];
  for (const [name, value] of new FormData(form)) {
    if (value === "") continue;
    if (name === "columns") columns.push(value);
    else asked.append(name, days.has(name) ? `${value}T00:00:00Z` : value);
  }
  if (columns.length) asked.append("columns", columns.join(","));
  const query = asked.toString();
  return `/v1/shops/${shop}/exports/segments.csv${query && `?${query}`}`;
};

// The same question as the API's JSON: what may stand several times is a list.
const question = () => {
  const asked = {};
  for (const [name, value] of new URLSearchParams(address().split("?")[1] ?? "")) {
    if (name === "segment") (asked.segment ??= []).push(value);
    else if (name === "columns") asked.columns = value.split(",");
    else asked[name] = numbers.has(name) ? Number(value) : value;
  }
  return asked;
};

const refused = async (answer) => {
  problem.textContent = why(await answer.json());
  problem.hidden = false;
};

const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

const aside = async () => {
  problem.hidden = true;
  const asked = await fetch(`/v1/shops/${shop}/exports`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question()),
  });
  if (!asked.ok) return refused(asked);
  let job = await asked.json();
  const box = document.querySelector("[data-job]");
  const [bar, words, file] = ["progress", "span", "a"].map((name) => box.querySelector(name));
  box.hidden = false;
  bar.hidden = false;
  file.hidden = true;
  while (job.status === "waiting" || job.status === "running") {
    bar.max = job.customers || 1;
    bar.value = job.done;
    words.textContent = whole.format(job.done);
    await pause(500);
    const answer = await fetch(`/v1/shops/${shop}/exports/${job.id}`);
    if (!answer.ok) return refused(answer);
    job = await answer.json();
  }
  bar.hidden = true;
  words.textContent = job.status === "done" ? `${box.dataset.done} ${whole.format(job.rows)}` : `${box.dataset.failed} ${job.detail}`;
  file.href = `/v1/shops/${shop}/exports/${job.id}/file`;
  file.hidden = job.status !== "done";
  return null;
};

const show = () => { document.querySelector("[data-address]").href = address(); };

if (form) {
  form.addEventListener("change", show);
  show();
  form.querySelector("[data-aside]").addEventListener("click", aside);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    // Asked with fetch first, as far as its headers: a refusal is shown here, and a file is left to the browser.
    const asking = new AbortController();
    try {
      const answer = await fetch(address(), { signal: asking.signal });
      if (!answer.ok) {
        await refused(answer);
        return;
      }
    } finally {
      asking.abort();
    }
    location.assign(address());
  });
}
