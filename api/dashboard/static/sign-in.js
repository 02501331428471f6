// A link's token stands behind `#`, where neither a log nor another site sees it: it is sent from here, once.
const form = document.querySelector("[data-sign-in]");
const token = location.hash.slice(1);
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.link.value = token;
  form.elements.key.required = false;
  form.requestSubmit();
}
