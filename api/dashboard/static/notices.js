// Endpoints of notices: added, tried, removed, and told again, by the API.
import { ask as askApi, why } from "./problems.js";

const { shop } = document.getElementById("main").dataset;
const api = `/v1/shops/${shop}/webhooks`;
const problem = document.querySelector("[data-problem]");
const secret = document.querySelector("[data-secret]");

const ask = async (method, path, body) => {
  problem.hidden = true;
  const { told, problem: refused } = await askApi(api + path, {
    method, ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
  });
  if (told) return told;
  problem.textContent = why(refused);
  problem.hidden = false;
  problem.scrollIntoView({ block: "nearest" });
  return null;
};

// What was asked for happens within a second or so: the page is shown anew then.
const anew = () => setTimeout(() => location.reload(), 1500);

document.querySelector("[data-new]").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const made = await ask("POST", "", { url: form.get("url"), events: form.getAll("events") });
  if (!made) return;
  secret.querySelector("code").textContent = made.secret;
  secret.hidden = false;
  event.target.hidden = true; // until the page is loaded again: the secret is not shown a second time
});

for (const section of document.querySelectorAll("[data-endpoint]")) {
  const path = `/${section.dataset.endpoint}`;
  section.querySelector("[data-test]").addEventListener("click", async () => { if (await ask("POST", `${path}/test`)) anew(); });
  section.querySelector("[data-remove]").addEventListener("click", async ({ target }) => {
    if (confirm(target.dataset.sure) && (await ask("DELETE", path))) location.reload();
  });
  for (const button of section.querySelectorAll("[data-again]")) {
    button.addEventListener("click", async () => {
      if (await ask("POST", `${path}/deliveries/${button.dataset.again}/replay`)) anew();
    });
  }
}
