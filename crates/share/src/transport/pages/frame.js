// The binary frame of pushed audio, read and written; src/relay/frame.rs describes it. Big endian.

const HEAD = 20;
const AUDIO = 1;
const DISCONTINUITY = 1;
const FLOATS = 16;

/**
 * @typedef {object} Frame
 * @property {boolean} floats
 * @property {boolean} discontinuity
 * @property {number} sequence
 * @property {number} time
 * @property {number} sample
 * @property {Uint8Array[]} packets
 */

/**
 * Reads a frame; null for what is none.
 * @param {ArrayBuffer} buffer
 * @returns {Frame | null}
 */
export function read(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < HEAD || view.getUint8(0) !== AUDIO) return null;
  const flags = view.getUint8(1);
  const count = view.getUint16(2);
  let at = HEAD + 2 * count;
  if (at > view.byteLength) return null;
  const packets = [];
  for (let n = 0; n < count; n += 1) {
    const length = view.getUint16(HEAD + 2 * n);
    if (at + length > view.byteLength) return null;
    packets.push(new Uint8Array(buffer, at, length));
    at += length;
  }
  return {
    floats: (flags & FLOATS) !== 0,
    discontinuity: (flags & DISCONTINUITY) !== 0,
    sequence: view.getUint32(4),
    time: Number(view.getBigInt64(8)), // microseconds; exact for another 250 years
    sample: view.getUint32(16),
    packets,
  };
}

/**
 * Writes a frame of Opus packets.
 * @param {{ sequence: number, sample: number, discontinuity: boolean, time: number, packets: Uint8Array[] }} frame
 */
export function write({ sequence, sample, discontinuity, time, packets }) {
  const start = HEAD + 2 * packets.length;
  const bytes = new Uint8Array(packets.reduce((sum, packet) => sum + packet.length, start));
  const view = new DataView(bytes.buffer);
  view.setUint8(0, AUDIO);
  view.setUint8(1, discontinuity ? DISCONTINUITY : 0);
  view.setUint16(2, packets.length);
  view.setUint32(4, sequence);
  view.setBigInt64(8, BigInt(Math.round(time)));
  view.setUint32(16, sample);
  let at = start;
  packets.forEach((packet, n) => {
    view.setUint16(HEAD + 2 * n, packet.length);
    bytes.set(packet, at);
    at += packet.length;
  });
  return bytes;
}

/**
 * Samples per channel that an Opus packet plays at 48 kHz: RFC 6716 §3.1.
 * @param {Uint8Array} packet
 */
export function framesOf(packet) {
  if (packet.length === 0) return 0;
  const config = packet[0] >> 3;
  let size = [120, 240, 480, 960][config & 3];
  if (config < 12) size = [480, 960, 1920, 2880][config & 3];
  else if (config < 16) size = [480, 960][config & 1];
  const count = [1, 2, 2, packet[1] & 63][packet[0] & 3];
  return size * count;
}
