import { describe, expect, test } from 'vitest';
import { type Contender, measure, summarize, type Verdict } from '../src/measure.ts';

const right: Verdict = { passed: true, maxAbsError: 0, maxRelError: 0, bound: { absolute: 1e-5, relative: 1e-4 }, worstShare: 0, compared: 1, elements: 1 };

/** Contenders on a clock of their own: each call takes the next of its durations, the last one again and again. */
function scripted(durations: Readonly<Record<string, readonly number[]>>, verdicts: Readonly<Record<string, Verdict>> = {}): { readonly contenders: readonly Contender[]; readonly now: () => number; readonly calls: string[] } {
  let time = 0;
  const calls: string[] = [];
  const contenders = Object.entries(durations).map(([name, each]) => {
    let call = 0;
    return {
      name,
      verdict: verdicts[name] ?? right,
      run: () => {
        time += each[Math.min(call++, each.length - 1)] ?? 0;
        calls.push(name);
      },
    };
  });
  return { contenders, calls, now: () => time };
}

describe('measuring', () => {
  test('takes turns, each round in the opposite order', async () => {
    const { contenders, calls, now } = scripted({ a: [2], b: [3] });
    await measure(contenders, { budget: 1000, warmUp: 0, maxRuns: 3, now });
    expect(calls).toEqual([...['a', 'a', 'b', 'b'], ...['a', 'b'], ...['b', 'a'], ...['a', 'b']]);
  });

  test('leaves warm-up out of the median', async () => {
    const { contenders, now } = scripted({ a: [100, 50, 2, 4, 3] });
    const [only] = await measure(contenders, { budget: 1000, warmUp: 0, maxRuns: 3, now });
    expect(only).toEqual({ name: 'a', timing: { median: 3, min: 2, max: 4, runs: 3 } });
  });

  test('calls until each contender is warm', async () => {
    const { contenders, calls, now } = scripted({ a: [20, 10, 5, 5, 5, 5, 1] });
    const [only] = await measure(contenders, { budget: 1000, warmUp: 50, maxRuns: 1, minSample: 1, now });
    // 20 + 10 + 5 + 5 + 5 + 5 are the 50 milliseconds.
    expect(only).toEqual({ name: 'a', timing: { median: 1, min: 1, max: 1, runs: 1 } });
    expect(calls).toHaveLength(7);
  });

  test('stops within the budget', async () => {
    const { contenders, calls, now } = scripted({ a: [10] });
    await measure(contenders, { budget: 100, now });
    expect(calls.length).toBe(10);
  });

  test('takes one sample of a call that is longer than the budget, and does not repeat it', async () => {
    const { contenders, calls, now } = scripted({ slow: [5000] });
    expect(await measure(contenders, { budget: 100, now })).toEqual([{ name: 'slow', timing: { median: 5000, min: 5000, max: 5000, runs: 1 } }]);
    expect(calls).toEqual(['slow']);
  });

  test('repeats a short call within a sample and reports the time of one', async () => {
    const { contenders, calls, now } = scripted({ quick: [0.01] });
    const [only] = await measure(contenders, { budget: 1000, warmUp: 0, maxRuns: 2, minSample: 1, now });
    expect(only).toMatchObject({ timing: { runs: 2 } });
    expect(only && 'timing' in only ? only.timing.median : 0).toBeCloseTo(0.01, 12);
    expect(calls.length).toBe(2 + 2 * 100);
  });

  test('never runs a contender whose error exceeds the tolerance', async () => {
    const { contenders, calls, now } = scripted({ wrong: [1], fine: [1] }, { wrong: { ...right, passed: false, worstShare: 7 } });
    const [wrong, fine] = await measure(contenders, { budget: 10, maxRuns: 1, now });
    expect(wrong).toMatchObject({ name: 'wrong', refusal: expect.stringContaining('7.00 times the tolerance') as string });
    expect(fine).toHaveProperty('timing');
    expect(calls).not.toContain('wrong');
  });

  test('waits for asynchronous calls', async () => {
    let running = 0;
    const run = async (): Promise<void> => {
      expect(++running).toBe(1);
      await Promise.resolve();
      running--;
    };
    await measure([{ name: 'a', verdict: right, run }, { name: 'b', verdict: right, run }], { budget: 20, maxRuns: 3 });
  });
});

test('the median of an even number of samples is the mean of the middle two', () => {
  expect(summarize([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4, runs: 4 });
  expect(summarize([5])).toEqual({ median: 5, min: 5, max: 5, runs: 1 });
});

test('a contender that keeps cores busy after its work is waited for, at its own expense, and its time is not longer for it', async () => {
  const turns: string[] = [];
  const called = performance.now();
  const resting: Contender = { name: 'resting', verdict: right, restMilliseconds: 20, run: () => void turns.push(`resting`) };
  const timings = await measure([resting], { budget: 100, warmUp: 0, minSample: 0 });
  // The budget has room for five rests, and work that takes no time may begin another.
  expect(turns.length).toBeLessThanOrEqual(6);
  expect(performance.now() - called).toBeGreaterThanOrEqual(20 * (turns.length - 1));
  expect(timings[0]).toMatchObject({ timing: { median: expect.toSatisfy((median: number) => median < 10) as number } });
});

test('a contender that times itself is believed', async () => {
  const elsewhere: Contender = { name: 'elsewhere', verdict: right, run: () => Promise.reject(new Error('not to be called')), time: (calls) => Promise.resolve(calls * 7) };
  expect(await measure([elsewhere], { budget: 100 })).toMatchObject([{ timing: { median: 7, min: 7, max: 7 } }]);
});
