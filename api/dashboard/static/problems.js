// What went wrong, in the page's language: by the code of a problem, as the templates have it (parts/problems.html).
const problems = JSON.parse(document.querySelector("[data-problems]")?.dataset.problems ?? "{}");

export const why = ({ type = "", detail = "" }) =>
  (problems[type.replace("urn:loyalnest:problem:", "")] ?? "{detail}").replace("{detail}", () => detail);

// The server cannot be reached, or somebody on the way to it answered.
export const AWAY = { type: "away" };

// The problem of an answer that is none of those asked for.
export const problemOf = (answer) => answer.json().catch(() => AWAY);

// What the API says to something: { told }, or { problem }; never an error, whatever becomes of the connection.
export const ask = async (path, options) => {
  try {
    const answer = await fetch(path, options);
    if (!answer.ok) return { problem: await problemOf(answer) };
    return { told: answer.status === 204 ? {} : await answer.json() };
  } catch {
    return { problem: AWAY };
  }
};
