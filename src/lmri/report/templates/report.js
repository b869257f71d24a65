"use strict";
// Interactive functions of the page: sorting, keys, synchronized navigation, and the text under a time course.
// Text of a study is inserted only by textContent.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const data = JSON.parse(document.getElementById("data").textContent);

  // -- sortable tables -----------------------------------------------------------------------------------------------

  const collator = new Intl.Collator("en", { numeric: true });
  const value = (cell) => {
    const text = cell.dataset.v ?? cell.textContent.trim().replace("−", "-").replaceAll(",", "");
    const number = text === "" ? NaN : Number(text);
    return { number, text: cell.dataset.v === undefined ? cell.textContent.trim() : "", known: text !== "–" && text !== "nan" };
  };
  const compare = (a, b, sign) => {
    if (a.known !== b.known) return a.known ? -1 : 1; // missing values are last in both directions
    if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return sign * (a.number - b.number);
    return sign * collator.compare(a.text, b.text);
  };
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      if ("plain" in head.dataset) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        // Numbers are sorted in descending order first, text in ascending order.
        const first = head.classList.contains("t") ? "ascending" : "descending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach((head) => head.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
        rows.sort((a, b) => compare(a[0], b[0], sign));
        body.append(...rows.map((entry) => entry[1]));
      });
    });
  }

  // -- networks: links open them, keys move through them -------------------------------------------------------------

  const networks = all("details.network");
  let current = -1;
  const show = (number, focus) => {
    const network = networks[number];
    if (!network) return;
    if (current >= 0 && current !== number) networks[current].open = false;
    current = number;
    network.open = true;
    for (const link of all(".chips a")) {
      if (link.hash === "#" + network.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    if (focus) {
      network.querySelector("summary").focus({ preventScroll: true });
      network.scrollIntoView({ block: "start" });
      history.replaceState(null, "", "#" + network.id);
    }
  };
  const opened = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const network = target?.closest("details");
    if (!network) return;
    const number = networks.indexOf(network);
    if (number >= 0) show(number, false);
    network.open = true;
    target.scrollIntoView({ block: "start" });
  };
  window.addEventListener("hashchange", opened);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (link && link.hash === location.hash) setTimeout(opened); // the same address was clicked again
  });
  networks.forEach((network, number) => network.querySelector("summary").addEventListener("click", () => { current = number; }));
  // The next network depends on the scroll position.
  const nearest = () => {
    if (current >= 0 && networks[current].open) {
      const box = networks[current].getBoundingClientRect();
      if (box.bottom > 0 && box.top < innerHeight) return current;
    }
    const below = networks.findIndex((network) => network.getBoundingClientRect().bottom > 60);
    if (below < 0) return networks.length;
    return networks[below].getBoundingClientRect().top < 100 ? below : below - 0.5;
  };
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (event.target.closest?.("input, textarea, select, [role=slider], .scroll, pre")) return;
    const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
    if (!step || !networks.length) return;
    event.preventDefault();
    const from = nearest();
    const to = step > 0 ? Math.floor(from + 1) : Math.ceil(from - 1);
    show(Math.min(Math.max(to, 0), networks.length - 1), true);
  });
  for (const element of all(".keys, .live")) element.hidden = false;

  // -- synchronized navigation ---------------------------------------------------------------------------------------

  const links = new Map(all("nav li > a").map((link) => [link.hash.slice(1), link]));
  const sections = all("main section").filter((section) => links.has(section.id));
  const nav = document.querySelector(".nav");
  let shown = null;
  const follow = () => {
    const passed = sections.filter((section) => section.getBoundingClientRect().top <= innerHeight * 0.3);
    const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const section = end ? sections.at(-1) : passed.at(-1) ?? sections[0];
    if (!section || section === shown) return;
    shown = section;
    for (const link of links.values()) {
      link.removeAttribute("aria-current");
      link.parentElement.classList.remove("current");
    }
    const link = links.get(section.id);
    link.setAttribute("aria-current", "true");
    link.parentElement.classList.add("current");
    const top = link.offsetTop - nav.clientHeight / 3;
    if (nav.scrollHeight > nav.clientHeight) nav.scrollTop = top;
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; follow(); });
  }, { passive: true });
  addEventListener("resize", follow);

  // -- time courses --------------------------------------------------------------------------------------------------

  const NEAR = 24; // tokens on either side
  class Course {
    constructor(plot) {
      this.plot = plot;
      this.about = data.sets[plot.closest("[data-set]").dataset.set];
      this.low = Number(plot.dataset.low);
      this.high = Number(plot.dataset.high);
      this.n = this.about.n;
      this.bytes = Uint8Array.from(atob(plot.dataset.values), (char) => char.charCodeAt(0));
      this.bins = this.about.step > 1 ? this.bytes.length / 2 : this.bytes.length;
      this.reading = plot.closest("figure").querySelector(".reading");
      this.cursor = document.createElement("div");
      this.cursor.className = "cursor";
      this.cursor.hidden = true;
      plot.append(this.cursor);
      plot.tabIndex = 0;
      plot.setAttribute("role", "slider");
      plot.setAttribute("aria-label", "Place in the time course");
      plot.setAttribute("aria-valuemin", "0");
      plot.setAttribute("aria-valuemax", String(this.n - 1));
      plot.setAttribute("aria-valuenow", "0");
      this.place = this.extreme(0, this.n);
      plot.addEventListener("pointermove", (event) => this.point(event));
      plot.addEventListener("pointerdown", (event) => this.point(event));
      plot.addEventListener("focus", () => this.show(this.place));
      plot.addEventListener("keydown", (event) => this.key(event));
    }

    scaled(byte) { return this.low + (byte / 255) * (this.high - this.low); }

    // The value at a volume; if the page contains ranges, the end of the range that is further from 0.
    at(volume) {
      const bin = Math.floor(volume / this.about.step);
      const low = this.scaled(this.bytes[bin]);
      if (this.about.step === 1) return low;
      const high = this.scaled(this.bytes[this.bins + bin]);
      return Math.abs(low) > Math.abs(high) ? low : high;
    }

    // The volume furthest from 0 of all volumes under one pixel, so that peaks can be selected.
    extreme(first, last) {
      let best = first;
      for (let volume = first; volume < last; volume += this.about.step) {
        if (Math.abs(this.at(volume)) > Math.abs(this.at(best))) best = volume;
      }
      return best;
    }

    point(event) {
      const box = this.plot.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      const half = 1.5 / box.width;
      const first = Math.floor(Math.min(Math.max(share - half, 0), 1) * this.n);
      const last = Math.ceil(Math.min(Math.max(share + half, 0), 1) * this.n);
      this.show(this.extreme(Math.min(first, this.n - 1), Math.min(Math.max(last, first + 1), this.n)));
    }

    key(event) {
      const page = Math.max(1, Math.round(this.n / 20));
      const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: page, PageDown: -page };
      let to = null;
      if (event.key in steps) to = this.place + steps[event.key] * this.about.step;
      if (event.key === "Home") to = 0;
      if (event.key === "End") to = this.n - 1;
      if (to === null) return;
      event.preventDefault();
      event.stopPropagation();
      this.show(Math.min(Math.max(to, 0), this.n - 1));
    }

    show(place) {
      this.place = place;
      let within = place, index = 0;
      while (within >= this.about.runs[index][2]) within -= this.about.runs[index++][2];
      const [corpus, run, length] = this.about.runs[index];
      const runText = data.tokens[corpus]?.[run - 1];
      const amount = this.at(place).toFixed(1).replace("-", "−");
      const where = `${corpus}, run ${run}, volume ${within}`;
      const what = this.about.step > 1 ? `${amount} sd at most in ${this.about.step} ${this.about.units}` : `${amount} sd`;
      this.cursor.hidden = false;
      this.cursor.style.left = `${((place + 0.5) / this.n) * 100}%`;
      this.plot.setAttribute("aria-valuenow", String(place));
      const token = runText ? runText.tokens[within] : "";
      this.plot.setAttribute("aria-valuetext", `${runText ? `“${token.trim()}”, ` : ""}${what}, ${where}`);
      this.reading.hidden = false;
      const head = document.createElement("div");
      head.className = "at";
      head.textContent = `${what} · ${where}`;
      this.reading.replaceChildren(head);
      if (runText) this.reading.append(this.text(runText, place - within, within, length));
    }

    text(runText, start, within, length) {
      const line = document.createElement("p");
      line.className = "text";
      const starts = new Set(runText.starts);
      const most = Math.max(Math.abs(this.low), Math.abs(this.high));
      for (let at = Math.max(0, within - NEAR); at < Math.min(length, within + NEAR + 1); at += 1) {
        const span = document.createElement("span");
        span.textContent = runText.tokens[at];
        if (this.about.step === 1) {
          const amount = this.at(start + at);
          const colour = amount > 0 ? "204,56,33" : "33,102,189";
          span.style.background = `rgba(${colour},${(0.75 * Math.min(1, Math.abs(amount) / most)).toFixed(2)})`;
        }
        if (at === within) span.className = "here";
        else if (starts.has(at) && at > 0) span.className = "new";
        line.append(span);
      }
      return line;
    }
  }
  // A time course is unpacked when its network is first opened, because most networks are never opened.
  const unpack = (within) => all(".plot.time:not([role])", within).forEach((plot) => new Course(plot));
  for (const network of networks) {
    if (network.open) unpack(network);
    network.addEventListener("toggle", () => { if (network.open) unpack(network); });
  }

  // -- copying and printing ------------------------------------------------------------------------------------------

  for (const button of all(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("pre");
      const range = document.createRange();
      range.selectNodeContents(text);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      let done = false;
      try {
        await navigator.clipboard.writeText(text.textContent);
        done = true;
      } catch {
        done = document.execCommand("copy"); // pages from disk may have no clipboard
      }
      button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
    });
  }
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    closed.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((details) => { details.open = false; }));

  follow();
  if (location.hash) opened();
})();
