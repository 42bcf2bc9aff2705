// Enhances pages that work without it. Each part looks for its own elements and does nothing where they are missing.

// Keyboard: `/` moves to the search box.
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const box = document.querySelector("form[role=search] input");
    if (box) {
      event.preventDefault();
      box.focus();
      box.select();
    }
  }
});

// Navigation that scrolls sideways on small screens begins at the current entry.
for (const entry of document.querySelectorAll(".tabs [aria-current], .side-nav [aria-current]")) {
  const list = entry.closest("ul");
  list.scrollLeft = entry.offsetLeft - list.offsetLeft - (list.clientWidth - entry.offsetWidth) / 2;
}

// Copy buttons: `data-copy` has the text. Without a clipboard (plain http), the button stays hidden.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    button.classList.add("copied");
    setTimeout(() => {
      button.textContent = label;
      button.classList.remove("copied");
    }, 1500);
  });
}

// The list of versions closes when it is left.
for (const picker of document.querySelectorAll("details.picker")) {
  const close = () => (picker.open = false);
  addEventListener("click", (event) => picker.contains(event.target) || close());
  picker.addEventListener("focusout", (event) => event.relatedTarget && !picker.contains(event.relatedTarget) && close());
  picker.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !picker.open) return;
    close();
    picker.querySelector("summary").focus();
  });
}

// Theme: changes at once, without loading the page again.
const themes = document.querySelector("form.theme");
themes?.addEventListener("submit", (event) => {
  const chosen = event.submitter?.value;
  if (!chosen) return;
  event.preventDefault();
  const theme = chosen === "system" ? "" : chosen;
  const seconds = theme ? 31536000 : 0;
  document.cookie = `theme=${theme}; path=/; max-age=${seconds}; samesite=lax`;
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  for (const button of themes.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.value === chosen));
  }
});

// Selects of a form that applies at once, such as the order of results.
for (const select of document.querySelectorAll("select[data-submit]")) {
  select.form.querySelector("[data-submit-button]")?.setAttribute("hidden", "");
  select.addEventListener("change", () => select.form.requestSubmit());
}

// Filters a list while one types: `data-filter` names it, and `data-words` of each item has the words to look for.
for (const input of document.querySelectorAll("input[data-filter]")) {
  const list = document.getElementById(input.dataset.filter);
  const empty = document.querySelector("[data-filter-empty]");
  input.form.querySelector("[data-filter-button]")?.setAttribute("hidden", "");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const item of list.querySelectorAll("[data-words]")) {
      item.hidden = !words.every((word) => item.dataset.words.includes(word));
    }
    for (const group of list.querySelectorAll("[data-group]")) {
      group.hidden = !group.querySelector("[data-words]:not([hidden])");
    }
    if (empty) empty.hidden = Boolean(list.querySelector("[data-words]:not([hidden])"));
  });
}

// Suggestions below the search box, as a combobox (WAI-ARIA Authoring Practices).
for (const form of document.querySelectorAll("form[role=search]")) suggest(form, form.querySelector("input"));

function suggest(form, input) {
  const list = document.createElement("ul");
  list.id = `${input.id}-suggestions`;
  list.className = "suggestions";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Packages");
  list.hidden = true;
  form.append(list);
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", list.id);
  input.setAttribute("aria-expanded", "false");
  let active = -1;
  let waiting;
  let asked;

  const close = () => {
    clearTimeout(waiting);
    asked?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const open = (name) => {
    location.href = `/packages/${encodeURIComponent(name)}`;
  };
  const mark = (index) => {
    active = index;
    for (const [at, item] of [...list.children].entries()) item.setAttribute("aria-selected", String(at === index));
    if (index < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", list.children[index].id);
  };
  const show = (names) => {
    list.replaceChildren(
      ...names.slice(0, 8).map((name, at) => {
        const item = document.createElement("li");
        item.id = `${list.id}-${at}`;
        item.setAttribute("role", "option");
        item.textContent = name;
        item.addEventListener("mousedown", (event) => event.preventDefault());
        item.addEventListener("click", () => open(name));
        return item;
      }),
    );
    if (!names.length) return close();
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(-1);
  };
  const ask = async () => {
    asked?.abort();
    asked = new AbortController();
    const typed = input.value.trim();
    if (typed.length < 2) return close();
    try {
      const answer = await fetch(`/search/suggest?q=${encodeURIComponent(typed)}`, { signal: asked.signal });
      if (answer.ok) show((await answer.json()).suggestions);
      else close();
    } catch (error) {
      if (error.name !== "AbortError") close();
    }
  };
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, 120);
  });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const count = list.children.length;
    if (event.key === "ArrowDown") mark(active + 1 < count ? active + 1 : -1);
    else if (event.key === "ArrowUp") mark(active < 0 ? count - 1 : active - 1);
    else if (event.key === "Escape") close();
    else if (event.key === "Enter" && active >= 0) open(list.children[active].textContent);
    else return;
    event.preventDefault();
  });
}

// Passkeys: asks the page's server for a challenge, lets the browser sign it, and sends the form with the answer.
for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", async (event) => {
    const field = form.elements.credential;
    if (field.value || !globalThis.PublicKeyCredential) return;
    event.preventDefault();
    const problem = form.querySelector("[data-passkey-error]");
    problem.textContent = "";
    const answer = await fetch(form.dataset.options, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    // The page that answers the form says what is wrong, or asks for the password.
    if (!answer.headers.get("Content-Type")?.startsWith("application/json")) return form.submit();
    try {
      field.value = JSON.stringify(await signed(form.dataset.passkey, await answer.json()));
    } catch (error) {
      problem.textContent =
        error.name === "InvalidStateError"
          ? "This device has a passkey of your account already."
          : "The browser gave no passkey. Try again, or choose another way.";
      return;
    }
    form.submit();
  });
}

async function signed(act, options) {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    buffer &&
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  options.challenge = bytes(options.challenge);
  if (options.user) options.user.id = bytes(options.user.id);
  for (const key of [...(options.excludeCredentials ?? []), ...(options.allowCredentials ?? [])]) key.id = bytes(key.id);
  const made = await navigator.credentials[act]({ publicKey: options });
  const { response } = made;
  return {
    id: made.id,
    rawId: text(made.rawId),
    type: made.type,
    clientExtensionResults: made.getClientExtensionResults(),
    response: {
      clientDataJSON: text(response.clientDataJSON),
      attestationObject: text(response.attestationObject),
      transports: response.getTransports?.(),
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
      userHandle: text(response.userHandle),
    },
  };
}

// Charts: shows at once what a bar says in its title.
for (const chart of document.querySelectorAll(".chart")) {
  const tip = document.createElement("div");
  tip.className = "chart-tip";
  tip.hidden = true;
  chart.append(tip);
  const texts = new Map();
  for (const slot of chart.querySelectorAll(".chart-slots rect")) {
    const title = slot.querySelector("title");
    texts.set(slot, title.textContent);
    title.remove(); // the browser would show it as well
  }
  chart.addEventListener("pointermove", (event) => {
    const text = texts.get(event.target);
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const frame = chart.getBoundingClientRect();
    const bar = event.target.getBoundingClientRect();
    const right = bar.right - frame.left + 8;
    const fits = right + tip.offsetWidth <= frame.width;
    tip.style.left = `${fits ? right : Math.max(bar.left - frame.left - tip.offsetWidth - 8, 0)}px`;
    tip.style.top = `${bar.top - frame.top + 8}px`;
  });
  chart.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
}
