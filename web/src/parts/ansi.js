// What programs write to colour their lines: escape sequences become classes, everything else of their kind is dropped.

const SEQUENCE = /\u001b(?:\[([0-9;:]*)([A-Za-z])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;

/** `[{text, style}]`; `style` is a class or empty. */
export function pieces(line) {
  if (!line.includes("\u001b")) return [{text: line, style: ""}];
  const out = [];
  let from = 0;
  let colour = "";
  let bold = false;
  const push = (text) => text && out.push({text, style: [colour, bold ? "bold" : ""].filter(Boolean).join(" ")});
  for (const match of line.matchAll(SEQUENCE)) {
    push(line.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] !== "m") continue;
    const codes = (match[1] || "0").split(/[;:]/).map(Number);
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      if (code === 0) [colour, bold] = ["", false];
      else if (code === 1) bold = true;
      else if (code === 22) bold = false;
      else if (code === 39) colour = "";
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) colour = `ansi-${code % 10}`;
      else if (code === 38 || code === 48) at += codes[at + 1] === 5 ? 2 : 4;
    }
  }
  push(line.slice(from));
  return out;
}

export const plain = (line) => line.replace(SEQUENCE, "");
