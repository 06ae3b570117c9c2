// The address within the page: `#/jobs/ID?state=failed`.

/// `{parts: ["jobs", "ID"], query: {state: "failed"}}`.
export function parse(hash) {
  const [path, search = ""] = hash.replace(/^#?\/?/, "").split("?");
  const decode = (part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  };
  return { parts: path.split("/").filter(Boolean).map(decode), query: Object.fromEntries(new URLSearchParams(search)) };
}

/// `/jobs?state=failed`; what is empty is left out.
export function to(parts, query) {
  const search = new URLSearchParams(
    Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== ""),
  );
  const text = search.toString();
  return `/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/// Goes there; `quietly`: in place of where we are.
export function go(parts, query, quietly = false) {
  const hash = `#${to(parts, query)}`;
  if (hash === location.hash) return;
  if (quietly) location.replace(hash);
  else location.hash = hash;
}
