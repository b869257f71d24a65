/** Elements, numbers and words. Whatever comes from a study becomes text here, never markup. */

/** Find an element of the page by its id. */
export const $ = (id) => document.getElementById(id);

/**
 * Make an element. `class`, `text`, `data` and `on` are what they say; anything else is an attribute, and is left out
 * where it is null or false.
 */
export function el(name, options = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key === "class") node.className = value;
    else if (key === "data") Object.assign(node.dataset, value);
    else if (key === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Put nodes in the place of an element's content; those that are null are left out. */
export function fill(node, ...children) {
  node.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an SVG element with attributes and children. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

/** Write a number as a person would: a few digits, a true minus, and a dash where there is none. */
export function number(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.5 * 10 ** -digits || size >= 1e6) ? value.toExponential(1) : value.toFixed(digits);
  return text.replace("-", "−").replace("e−", "e−");
}

/** Write a count with its noun: "1 neuron", "3 neurons". */
export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

const NAMED = { "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\u007f": "␡" };
// What has no ink of its own, or moves the ink of others: controls, formats (zero-width, bidi), odd spaces, and halves
// of characters.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0\ufe00-\ufe0f]|(?! )\p{Zs}/u;

function sign(character) {
  if (NAMED[character]) return NAMED[character];
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (/\p{Zs}/u.test(character)) return "␣";
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/**
 * Write a token so that nothing in it is out of sight, and nothing outside it is moved: isolated in its direction,
 * with signs for what has no ink.
 *
 * @param {string} token
 * @param {boolean} exact write every space as ␣; otherwise only those of tokens that have nothing else
 * @param {boolean} breaks end the line where the token does, behind the sign
 */
export function spell(token, exact = false, breaks = false) {
  const parts = el("bdi", { class: "token-text" });
  const spaces = exact || !/[^ ]/u.test(token);
  let plain = "";
  const flush = () => { if (plain) parts.append(plain); plain = ""; };
  if (token === "") parts.append(el("span", { class: "sign", text: "∅", title: "a token without text" }));
  for (const character of token) {
    if ((character === " " && spaces) || HIDDEN.test(character)) {
      flush();
      const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      parts.append(el("span", { class: "sign", text: character === " " ? "␣" : sign(character), title: `U+${code}` }));
      if (breaks && character === "\n") parts.append(el("br"));
    } else {
      // A mark that would sit on the token before gets something of its own to sit on.
      plain += plain === "" && !parts.hasChildNodes() && /\p{M}/u.test(character) ? `◌${character}` : character;
    }
  }
  flush();
  return parts;
}

/** Write a token in one line of plain words, for labels that are read aloud. */
export function spoken(token) {
  return Array.from(token === "" ? "∅" : token, (one) => (one === " " ? "␣" : HIDDEN.test(one) ? sign(one) : one)).join("");
}

/** Put words in the place of a panel's content. */
export function say(node, words, kind = "soft") {
  node.replaceChildren(el("p", { class: kind, text: words }));
}

let folder = "STUDY";

/** Say how the study is called on the command line, for commands that are shown. */
export function nameFolder(text) {
  folder = text;
}

/** Write words with what stands in backquotes, and a command that ends them, as code that can be copied. */
export function command(words) {
  const text = words.replace(/ STUDY(?= |$)/, () => ` ${folder}`);
  // A line must not end within "--name".
  const word = (one) => (/^-.{1,30}$/.test(one) ? el("span", { text: one }) : one);
  const code = el("code", {}, ...text.split(/( )/).map(word));
  const button = el("button", { type: "button", class: "plain copy", text: "copy", "aria-label": `Copy ${text}` });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code); // no permission: selected, it is one key away
      button.textContent = "selected";
    }
  });
  return el("p", { class: "command" }, code, button);
}

const tip = $("tip");

/** Show a note beside the pointer, or beside a box; `hideTip` takes it away. */
export function showTip(x, y, ...children) {
  tip.replaceChildren(...children);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth ? x - width - 14 : x + 14;
  const top = y + 18 + height > innerHeight ? y - height - 12 : y + 18;
  tip.style.left = `${Math.max(2, left)}px`;
  tip.style.top = `${Math.max(2, top)}px`;
}

export function hideTip() {
  tip.hidden = true;
}
