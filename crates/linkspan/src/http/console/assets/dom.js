// The page's own small way to draw: `h` makes elements, `draw` brings what is shown to what should be shown.
//
// Data reaches the page only as text nodes and attributes, never as markup. A redraw keeps the elements that are there, and with
// them focus, selection, scroll and what the reader has opened.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = "/console/assets/icons.svg";

/// An element. `props`: attributes; `on…`: handlers; `style`: CSS properties; `key`: who it is among its siblings; `keep`: what it
/// shows belongs to whoever made it, for as long as the value is the same.
export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

/// An SVG element.
export function s(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

/// An icon of icons.svg, for the eye only.
export function icon(name, props) {
  return s("svg", { class: "icon", "aria-hidden": "true", focusable: "false", ...props }, s("use", { href: `${ICONS}#${name}` }));
}

/// Makes `root` show the children.
export function draw(root, ...children) {
  const focused = document.activeElement;
  const wanted = document.createDocumentFragment();
  append(wanted, children);
  align(root, wanted);
  if (focused && focused !== document.activeElement && focused.isConnected && root.contains(focused)) {
    focused.focus({ preventScroll: true });
  }
}

let kept = 0;

/// A place for an element that lives on its own: the same one over all redraws.
export function keep(node) {
  node.$place ??= `place-${++kept}`;
  const place = h("div", { class: "slot", key: node.$place, keep: node.$place });
  // Adopted only when it is not shown: a redraw that finds the place leaves it, and the element in it, alone.
  if (!node.isConnected) place.append(node);
  return place;
}

/// Says something to who hears the page.
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = "";
  // A change of the text is what is read out.
  requestAnimationFrame(() => {
    place.textContent = text;
  });
}

let last = 0;

/// An id for what refers to each other.
export const unique = (prefix) => `${prefix}-${++last}`;

/// Calls `work` at most once in `wait` milliseconds, the last time after the last call.
export function paced(wait, work) {
  let timer = 0;
  let due = 0;
  const run = () => {
    timer = 0;
    due = performance.now() + wait;
    work();
  };
  const call = () => {
    if (timer) return;
    timer = setTimeout(run, Math.max(0, due - performance.now()));
  };
  call.stop = () => {
    clearTimeout(timer);
    timer = 0;
  };
  return call;
}

function build(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) set(node, name, value);
  append(node, children);
  // A select's value exists only once its options do.
  if (node.$value !== undefined && node.tagName === "SELECT") node.value = node.$value;
  return node;
}

function set(node, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name.startsWith("on")) {
    (node.$on ??= {})[name] = value;
    node[name] = value;
  } else if (name === "style") {
    for (const [property, text] of Object.entries(value)) node.style.setProperty(property, text);
  } else if (name === "key") {
    node.$key = value;
  } else if (name === "keep") {
    node.$keep = value;
  } else if (name === "value") {
    node.$value = value;
    node.value = value;
  } else if (name === "checked") {
    node.$checked = true;
    node.checked = true;
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}

function append(node, children) {
  for (const child of children) {
    if (child === undefined || child === null || child === false || child === "") continue;
    if (Array.isArray(child)) append(node, child);
    else node.append(child);
  }
}

const same = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && one.$key === other.$key;

function align(root, wanted) {
  const keys = new Set();
  for (const child of wanted.childNodes) if (child.$key !== undefined) keys.add(child.$key);
  const known = new Map();
  for (const child of [...root.childNodes]) {
    if (child.$key === undefined) continue;
    if (keys.has(child.$key)) known.set(child.$key, child);
    else child.remove();
  }
  let place = root.firstChild;
  for (const child of [...wanted.childNodes]) {
    const found = child.$key === undefined ? place : known.get(child.$key);
    if (found && same(found, child)) {
      if (found === place) place = place.nextSibling;
      else root.insertBefore(found, place);
      bring(found, child);
    } else {
      root.insertBefore(child, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function bring(node, wanted) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
    return;
  }
  if (node.$keep !== undefined && node.$keep === wanted.$keep) return;
  node.$keep = wanted.$keep;
  attributes(node, wanted);
  for (const name of Object.keys(node.$on ?? {})) if (!wanted.$on?.[name]) node[name] = null;
  node.$on = wanted.$on;
  Object.assign(node, wanted.$on ?? {});
  align(node, wanted);
  if (wanted.$value !== undefined && node !== document.activeElement && node.value !== wanted.$value) node.value = wanted.$value;
  if (node.type === "checkbox" || node.type === "radio") node.checked = wanted.$checked === true;
}

function attributes(node, wanted) {
  for (const { name } of [...node.attributes]) {
    // What the reader opened stays open.
    if (name === "open" || name === "style" || wanted.hasAttribute(name)) continue;
    node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (name === "open" || name === "style") continue;
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  // By CSSOM: the policy refuses style attributes.
  const style = wanted.style?.cssText ?? "";
  if (node.style && node.style.cssText !== style) node.style.cssText = style;
}
