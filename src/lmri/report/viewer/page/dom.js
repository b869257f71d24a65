/** Elements, numbers and text. Content of a study is inserted as text, never as markup. */

/** Find an element of the page by its id. */
export const $ = (id) => document.getElementById(id);

/**
 * Create an element. `class`, `text`, `data` and `on` set its class, text, data attributes and listeners; all other
 * options are attributes, which are omitted if they are null or false.
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

/** Replace the content of an element; null nodes are omitted. */
export function fill(node, ...children) {
  node.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

const SVG = "http://www.w3.org/2000/svg";

/** Create an SVG element with attributes and children. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

/** Format a number: few digits, a true minus sign, and a dash if it is missing. */
export function number(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.5 * 10 ** -digits || size >= 1e6) ? value.toExponential(1) : value.toFixed(digits);
  return text.replace("-", "−").replace("e−", "e−");
}

/** Format a count with its noun: "1 neuron", "3 neurons". */
export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

const NAMED = { "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\u007f": "␡" };
// Invisible characters, and characters that affect others: controls, formats (zero-width, bidi), unusual spaces, and
// surrogates.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0\ufe00-\ufe0f]|(?! )\p{Zs}/u;

function sign(character) {
  if (NAMED[character]) return NAMED[character];
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (/\p{Zs}/u.test(character)) return "␣";
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/**
 * Show a token with all of its characters visible and its text direction isolated; invisible characters become signs.
 *
 * @param {string} token
 * @param {boolean} exact write every space as ␣; otherwise only in tokens that consist of spaces
 * @param {boolean} breaks break the line after the sign of a line break
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
      // A combining mark gets its own base, so that it is not combined with the previous token.
      plain += plain === "" && !parts.hasChildNodes() && /\p{M}/u.test(character) ? `◌${character}` : character;
    }
  }
  flush();
  return parts;
}

/** Format a token as one line of plain text, for screen readers. */
export function spoken(token) {
  return Array.from(token === "" ? "∅" : token, (character) => (character === " " ? "␣" : HIDDEN.test(character) ? sign(character) : character)).join("");
}

/** Replace the content of a panel with a text. */
export function say(node, words, kind = "soft") {
  node.replaceChildren(el("p", { class: kind, text: words }));
}

let folder = "STUDY";

/** Set the path of the study in the commands that are shown. */
export function nameFolder(text) {
  folder = text;
}

/** Show a command as code, with a button to copy it. */
export function command(words) {
  const text = words.replace(/ STUDY(?= |$)/, () => ` ${folder}`);
  // A line must not end within "--name".
  const word = (part) => (/^-.{1,30}$/.test(part) ? el("span", { text: part }) : part);
  const code = el("code", {}, ...text.split(/( )/).map(word));
  const button = el("button", { type: "button", class: "plain copy", text: "copy", "aria-label": `Copy ${text}` });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code); // no permission: the text is selected for copying
      button.textContent = "selected";
    }
  });
  return el("p", { class: "command" }, code, button);
}

const tip = $("tip");

/** Show a tooltip next to the pointer; `hideTip` removes it. */
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
