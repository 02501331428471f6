// What went wrong, in the page's language: by the code of a problem, as the templates have it (parts/problems.html).
const problems = JSON.parse(document.querySelector("[data-problems]")?.dataset.problems ?? "{}");

export const why = ({ type, detail }) =>
  (problems[type.replace("urn:loyalnest:problem:", "")] ?? "{detail}").replace("{detail}", () => detail);
