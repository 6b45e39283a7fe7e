"use strict";
// Bytes and whole numbers as range_coding.py writes them.
const Packed = (() => {
  const ALPHABET = [...Array(94)].map((_, k) => String.fromCharCode(33 + k)).filter((letter) => !'"<\\'.includes(letter)).join("");
  const PLACE = new Uint8Array(128);
  for (let k = 0; k < ALPHABET.length; k++) PLACE[ALPHABET.charCodeAt(k)] = k;

  // 13 bits in two letters.
  const bytes = (text) => {
    const out = new Uint8Array(Math.floor((text.length / 2) * 13 / 8));
    let bits = 0, held = 0, place = 0;
    for (let k = 0; k < text.length; k += 2) {
      held = (held << 13) | (PLACE[text.charCodeAt(k)] * 91 + PLACE[text.charCodeAt(k + 1)]);
      bits += 13;
      while (bits >= 8) { bits -= 8; out[place++] = held >>> bits; held &= (1 << bits) - 1; }
    }
    return out;
  };

  // The bytes of a zlib stream; `size` of them are its own.
  const inflated = async (text, size) => {
    const stream = new Blob([bytes(text).subarray(0, size)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  // Whole numbers; `side` has one small number for each.
  const integers = (text, side) => {
    const data = bytes(text), count = data[0] + data[1] * 256 + data[2] * 65536 + data[3] * 16777216, out = new Int32Array(count);
    const lengths = new Uint16Array(32 * 32 * 40).fill(2048), below = new Uint16Array(40 * 64).fill(2048);
    let range = 4294967295, code = 0, place = 9, before = 0, last = 0;
    for (let k = 5; k < 9; k++) code = code * 256 + data[k];
    const normal = () => { while (range < 16777216) { code = code * 256 + (place < data.length ? data[place] : 0); range *= 256; place++; } };
    const take = (models, k) => {
      const p = models[k], bound = (range >>> 12) * p, zero = code < bound;
      if (zero) { range = bound; models[k] = p + ((4096 - p) >> 5); } else { code -= bound; range -= bound; models[k] = p - (p >> 5); }
      if (range < 16777216) normal();
      return zero ? 0 : 1;
    };
    const even = () => {
      const bound = (range >>> 12) * 2048, zero = code < bound;
      if (zero) range = bound; else { code -= bound; range -= bound; }
      if (range < 16777216) normal();
      return zero ? 0 : 1;
    };
    for (let i = 0; i < count; i++) {
      const first = (Math.min(before + last, 31) * 32 + (side ? side[i] : 0)) * 40;
      let length = 0, node = 1;
      while (take(lengths, first + length)) length++;
      let folded = length ? 1 : 0;
      for (let j = 1; j < length; j++) {
        const bit = node < 64 ? take(below, length * 64 + node) : even();
        node = 2 * node + bit;
        folded = folded * 2 + bit;
      }
      out[i] = folded % 2 ? -(folded + 1) / 2 : folded / 2;
      before = last;
      last = length;
    }
    return out;
  };

  // How many binary digits the size of each number has, at most `most`.
  const digits = (values, most) => Uint8Array.from(values, (value) => Math.min(32 - Math.clz32(Math.abs(value)), most));

  return { inflated, integers, digits };
})();
