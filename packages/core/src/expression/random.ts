/** Rotation distances of Threefry-2x32 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", table 2). */
export const threefryRotations: readonly number[] = [13, 15, 26, 6, 17, 29, 16, 24];

/** Key-schedule parity word of Threefry-2x32. */
export const threefryParity = 0x1bd11bda;

/** Threefry-2x32 with 20 rounds: two words of counter under two words of key give two words of noise. Words are i32. */
export function threefry2x32(key0: number, key1: number, counter0: number, counter1: number): readonly [number, number] {
  const keys: readonly number[] = [key0, key1, threefryParity ^ key0 ^ key1];
  let x0 = (counter0 + key0) | 0;
  let x1 = (counter1 + key1) | 0;
  for (let round = 0; round < 20; round++) {
    const distance = threefryRotations[round % 8] ?? 0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << distance) | (x1 >>> (32 - distance))) ^ x0;
    if (round % 4 === 3) {
      const injection = (round + 1) / 4;
      x0 = (x0 + (keys[injection % 3] ?? 0)) | 0;
      x1 = (x1 + (keys[(injection + 1) % 3] ?? 0) + injection) | 0;
    }
  }
  return [x0, x1];
}

/** The key of one (seed, stream, sequence, head): what all pairs of a head share. */
export function randomKey(seed: number, stream: number, sequence: number, head: number): readonly [number, number] {
  return threefry2x32(seed, stream, sequence, head);
}

/** A word as a number strictly between 0 and 1, exact in float32: (23 upper bits + ½) · 2⁻²³. */
export function unitInterval(word: number): number {
  return ((word >>> 9) + 0.5) * 2 ** -23;
}

/** The number that a `random` node has at one pair. */
export function randomAt(seed: number, stream: number, sequence: number, head: number, queryPosition: number, keyPosition: number): number {
  const [key0, key1] = randomKey(seed, stream, sequence, head);
  return unitInterval(threefry2x32(key0, key1, queryPosition, keyPosition)[0]);
}
