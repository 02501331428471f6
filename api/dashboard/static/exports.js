// The form of an export becomes the API's own address: what is empty is left out, a day is its first moment in UTC.
const form = document.querySelector("[data-export]");
const { shop } = document.getElementById("main").dataset;
const problem = document.querySelector("[data-problem]");
const days = new Set(["last_order_after", "last_order_before", "changed_since", "as_of"]);

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

const show = () => { document.querySelector("[data-address]").href = address(); };

if (form) {
  form.addEventListener("change", show);
  show();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    // Asked with fetch first, as far as its headers: a refusal is shown here, and a file is left to the browser.
    const asking = new AbortController();
    try {
      const answer = await fetch(address(), { signal: asking.signal });
      if (!answer.ok) {
        problem.textContent = (await answer.json()).detail;
        problem.hidden = false;
        return;
      }
    } finally {
      asking.abort();
    }
    location.assign(address());
  });
}
