// The form of an export becomes the API's own address: what is empty is left out, a day is its first moment by the shop's
// clocks.
import { AWAY, ask, problemOf, why } from "./problems.js";
import { beginning } from "./zone.js";

const form = document.querySelector("[data-export]");
const { shop, locale, zone } = document.getElementById("main").dataset;
const problem = document.querySelector("[data-problem]");
const whole = new Intl.NumberFormat(locale);
const days = new Set(["points_expire_before", "last_order_after", "last_order_before", "changed_since", "as_of"]);

// Points run out at a midnight, the end of their last day: that of the day before is in time.
const moment = (name, day) => new Date(beginning(day, zone) + (name === "points_expire_before" ? 1 : 0)).toISOString();
const numbers = new Set(["points_from", "points_to"]);

const address = () => {
  const asked = new URLSearchParams();
  const columns = [];
  for (const [name, value] of new FormData(form)) {
    if (value === "") continue;
    if (name === "columns") columns.push(value);
    else asked.append(name, days.has(name) ? moment(name, value) : value);
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

const refused = (told) => {
  problem.textContent = why(told);
  problem.hidden = false;
};

const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

const aside = async () => {
  problem.hidden = true;
  let { told: job, problem: wrong } = await ask(`/v1/shops/${shop}/exports`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question()),
  });
  if (wrong) return refused(wrong);
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
    ({ told: job, problem: wrong } = await ask(`/v1/shops/${shop}/exports/${job.id}`));
    if (wrong) return refused(wrong);
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
    // Asked first whether it would be answered: a refusal is shown here, and a file is left to the browser.
    try {
      if (!(await fetch(address(), { method: "HEAD" })).ok) {
        // An answer to HEAD does not say why. What is refused is refused again; should it not be, it is not read.
        const asking = new AbortController();
        const answer = await fetch(address(), { signal: asking.signal });
        if (!answer.ok) {
          refused(await problemOf(answer));
          return;
        }
        asking.abort();
      }
    } catch {
      refused(AWAY);
      return;
    }
    location.assign(address());
  });
}
