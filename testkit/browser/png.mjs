// Pictures for guides, small: 256 colours are enough for what a page shows.

import {deflateSync, inflateSync, crc32} from "node:zlib";

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const COLOURS = 256;

/** The pixels of a PNG as browsers write them: 8 bits, RGB or RGBA, not interlaced. */
function pixels(png) {
  const parts = [];
  let width, height, kind;
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const name = png.toString("latin1", at + 4, at + 8);
    const body = png.subarray(at + 8, at + 8 + length);
    if (name === "IHDR") [width, height, kind] = [body.readUInt32BE(0), body.readUInt32BE(4), body[9]];
    if (name === "IDAT") parts.push(body);
    at += length + 12;
  }
  const size = kind === 6 ? 4 : 3;
  const raw = inflateSync(Buffer.concat(parts));
  const line = width * size;
  const out = new Uint32Array(width * height);
  let above = new Uint8Array(line);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (line + 1)];
    const row = raw.subarray(y * (line + 1) + 1, (y + 1) * (line + 1));
    for (let x = 0; x < line; x += 1) {
      const left = x >= size ? row[x - size] : 0;
      const corner = x >= size ? above[x - size] : 0;
      const up = above[x];
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = up;
      else if (filter === 3) guess = (left + up) >> 1;
      else if (filter === 4) {
        const sum = left + up - corner;
        const [a, b, c] = [Math.abs(sum - left), Math.abs(sum - up), Math.abs(sum - corner)];
        guess = a <= b && a <= c ? left : b <= c ? up : corner;
      }
      row[x] = (row[x] + guess) & 255;
    }
    for (let x = 0; x < width; x += 1) {
      out[y * width + x] = (row[x * size] << 16) | (row[x * size + 1] << 8) | row[x * size + 2];
    }
    above = row;
  }
  return {width, height, colours: out};
}

/** The commonest colours; others become the nearest of them. */
function palette(colours) {
  const counts = new Map();
  for (const colour of colours) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  const chosen = [...counts].sort(([, a], [, b]) => b - a).slice(0, COLOURS).map(([colour]) => colour);
  const index = new Map(chosen.map((colour, at) => [colour, at]));
  const nearest = (colour) => {
    let best = 0;
    let least = Infinity;
    chosen.forEach((other, at) => {
      const [r, g, b] = [16, 8, 0].map((bits) => ((colour >> bits) & 255) - ((other >> bits) & 255));
      const distance = 2 * r * r + 4 * g * g + b * b;
      if (distance < least) [best, least] = [at, distance];
    });
    return best;
  };
  for (const colour of counts.keys()) if (!index.has(colour)) index.set(colour, nearest(colour));
  return {chosen, index};
}

function chunk(name, body) {
  const out = Buffer.alloc(body.length + 12);
  out.writeUInt32BE(body.length, 0);
  out.write(name, 4, "latin1");
  body.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, body.length + 8)), body.length + 8);
  return out;
}

export function small(png) {
  const {width, height, colours} = pixels(png);
  const {chosen, index} = palette(colours);
  const rows = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) rows[y * (width + 1) + 1 + x] = index.get(colours[y * width + x]);
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  const table = Buffer.from(chosen.flatMap((colour) => [(colour >> 16) & 255, (colour >> 8) & 255, colour & 255]));
  return Buffer.concat([SIGNATURE, chunk("IHDR", head), chunk("PLTE", table), chunk("IDAT", deflateSync(rows, {level: 9})), chunk("IEND", Buffer.alloc(0))]);
}
