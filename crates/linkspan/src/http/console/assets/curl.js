// The curl command that makes the same call. The key is never in it.

/// A word for a POSIX shell.
export function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/// A longer text does not stand in the command.
const LONGEST = 2000;

/// The body of a call whose text is too long to stand in the command, which takes it from `body.json`; else nothing.
export const separate = ({ text, params, claim }) => (text?.length > LONGEST ? JSON.stringify({ text, params, claim }) : undefined);

/// The command for a call: `{integration, asynchronous, wait, file, text, asJson, params, claim, auth}`.
export function command({ integration, prefer, file, text, params, claim, auth, multipart }) {
  const lines = [`curl -sS ${quoted(`${location.origin}/v1/integrations/${encodeURIComponent(integration)}/invocations`)}`];
  if (auth !== "none") lines.push(`-H "Authorization: Bearer $LINKSPAN_KEY"`);
  if (prefer) lines.push(`-H ${quoted(`Prefer: ${prefer}`)}`);
  if (text !== undefined) {
    const data = text.length > LONGEST ? "@body.json" : quoted(JSON.stringify({ text, params, claim }));
    lines.push(`-H 'Content-Type: application/json'`, `--data-binary ${data}`);
  } else {
    // A name that a shell or curl could take for more than a name is left to whoever runs the command.
    const path = file && /^[\p{L}\p{N} ._-]+$/u.test(file.name) && !file.name.startsWith("-") ? file.name : "document";
    if (multipart) {
      lines.push(`-F ${quoted(`document=@"${path}"${file?.type ? `;type=${file.type}` : ""}`)}`);
      if (claim) lines.push(`-F ${quoted(`claim=${JSON.stringify(claim)}`)}`);
      if (params) lines.push(`-F ${quoted(`params=${JSON.stringify(params)}`)}`);
    } else {
      lines.push(`-H ${quoted(`Content-Type: ${file?.type || "application/octet-stream"}`)}`, `--data-binary ${quoted(`@${path}`)}`);
    }
  }
  return lines.join(" \\\n  ");
}
