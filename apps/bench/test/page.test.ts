import { describe, expect, test } from 'vitest';
import { html } from '../src/html.ts';
import { type AttentionLayer, attentionLayer } from '../src/models.ts';
import { renderPage } from '../src/page.ts';
import { type Outcome, recordsOf, type Report, totalsOf } from '../src/results.ts';
import { renderTable } from '../src/table.ts';
import type { Workload } from '../src/workloads.ts';

const layer: AttentionLayer = attentionLayer({ name: 'self', count: 3, heads: 2, queryDim: 8 });

function workload(id: string, phase: Workload['phase'], keyLength: number, change: Partial<Workload> = {}): Workload {
  return { id, suite: 'model', phase, layer, dtype: 'f32', batch: 1, queryLength: phase === 'decode' ? 1 : keyLength, keyLength, queryOffset: 0, ...change };
}

function outcome(of: string, competitor: string, role: Outcome['role'], median: number | null, worstShare = 0.01): Outcome {
  return {
    workload: of,
    competitor,
    role,
    way: null,
    verdict: { passed: worstShare <= 1, maxAbsError: 1e-7, maxRelError: 1e-6, bound: { absolute: 1e-5, relative: 1e-5 }, worstShare, compared: 10, elements: 40 },
    timing: median === null ? null : { median, min: median / 2, max: median * 2, runs: 5 },
    refusal: median === null ? 'too slow' : null,
    compiling: { cold: 3, cached: 0.01 },
    peakBytes: 4096,
    usefulGigaflopsPerSecond: median === null ? null : 1 / median,
    gigabytesPerSecond: median === null ? null : 2 / median,
    limitShare: median === null ? null : 0.25,
  };
}

function report(workloads: readonly Workload[], outcomes: readonly Outcome[], name = 'gpt2'): Report {
  const competitors = outcomes.filter(({ competitor }, index) => outcomes.findIndex((other) => other.competitor === competitor) === index);
  return {
    schema: 1,
    createdAt: '2030-01-02T03:04:05.678Z',
    subject: { name, tokens: 16, decode: 10, batch: 1, dtype: 'f32' },
    machine: { processor: 'A processor', threads: 2, memoryBytes: 2 ** 33, platform: 'os 1 cpu', runtime: 'Node 0', engine: 'V8 0' },
    limits: { javascript: { description: 'JavaScript', threads: 1, gigaflopsPerSecond: 2, readGigabytesPerSecond: 4, copyGigabytesPerSecond: 3 } },
    competitors: competitors.map(({ competitor, role }) => ({ name: competitor, role, about: 'as it is' })),
    records: recordsOf(workloads, outcomes),
    totals: totalsOf(workloads, outcomes, competitors),
    workloads,
    outcomes,
  };
}

const workloads = [workload('model/p', 'prefill', 16), workload('model/d', 'decode', 16), workload('model/c', 'curve', 8)];
const timed = workloads.flatMap(({ id }, index) => [outcome(id, 'ours', 'backend', index + 1), outcome(id, 'theirs', 'peer', (index + 1) * 4)]);

describe('records', () => {
  test('are one for each workload, backend and peer, with the ratio of medians', () => {
    const records = recordsOf(workloads, timed);
    expect(records.map(({ workload: id, backend, peer, ratio, peerMilliseconds }) => [id, backend, peer, ratio, peerMilliseconds])).toEqual([
      ['model/p', 'ours', 'theirs', 4, 4],
      ['model/d', 'ours', 'theirs', 4, 8],
      ['model/c', 'ours', 'theirs', 4, 12],
    ]);
  });

  test('have no peer where none was timed, and leave out what was not timed', () => {
    const [first] = workloads;
    const id = first?.id ?? '';
    expect(recordsOf(workloads.slice(0, 1), [outcome(id, 'ours', 'backend', 1), outcome(id, 'theirs', 'peer', null)])).toMatchObject([{ peer: null, peerMilliseconds: null, ratio: null }]);
    expect(recordsOf(workloads.slice(0, 1), [outcome(id, 'ours', 'backend', null), outcome(id, 'theirs', 'peer', 1)])).toEqual([]);
  });
});

describe('totals', () => {
  test('count each layer as often as it occurs, and no curve', () => {
    expect(totalsOf(workloads, timed, [{ competitor: 'ours', role: 'backend' }])).toEqual([{ competitor: 'ours', role: 'backend', prefillMilliseconds: 3 * 1, decodeMilliseconds: 3 * 2 }]);
  });

  test('are unknown where a layer was not timed', () => {
    const missing = [outcome('model/p', 'ours', 'backend', null), outcome('model/d', 'ours', 'backend', 2)];
    expect(totalsOf(workloads, missing, [{ competitor: 'ours', role: 'backend' }])).toEqual([{ competitor: 'ours', role: 'backend', prefillMilliseconds: null, decodeMilliseconds: 6 }]);
  });
});

describe('the page', () => {
  const page = renderPage(report(workloads, timed));

  test('answers the question in its heading, with the fastest backend and how the peer compares', () => {
    expect(page).toContain('<h1>Attention of gpt2 takes 3 ms on this machine</h1>');
    expect(page).toContain('theirs needs 12 ms, 4× as long.');
  });

  test('is self-contained: no script and nothing from a network', () => {
    expect(page).not.toMatch(/<script|<link|<img|@import|url\(/i);
    const addresses = [...page.matchAll(/https?:\/\/[^"'\s>]+/g)].map(([address]) => address).filter((address) => !address.startsWith('http://www.w3.org/'));
    expect(addresses).toEqual([]);
  });

  test('has a plot for the model, each call, growth, exactness, memory and the limit, each with a name', () => {
    expect(page.match(/<svg[^>]*aria-label="[^"]+"/g)).toHaveLength(8);
  });

  test('shows why something was not timed, and what is wrong', () => {
    const wrong = renderPage(report(workloads, [...timed.slice(0, 1), outcome('model/p', 'broken', 'backend', null, 12)]));
    expect(wrong).toContain('too slow');
    expect(wrong).toContain('class="bad">1200 %');
  });

  test('escapes what comes from files', () => {
    const hostile = renderPage(report([workload('model/p', 'prefill', 16, { layer: { ...layer, name: '<script>alert(1)</script>' } })], [outcome('model/p', '<b>x', 'backend', 1)], '<script>'));
    expect(hostile).not.toContain('<script');
    expect(hostile).not.toContain('<b>x');
  });

  test('is made also when nothing could be timed', () => {
    expect(renderPage(report(workloads, workloads.map(({ id }) => outcome(id, 'ours', 'backend', null))))).toContain('too slow');
  });
});

test('a template escapes texts and puts markup in as it is', () => {
  expect(html`<p title="${'"<&\'>'}">${html`<b>${1}</b>`}${null}${[html`<i></i>`, html`<u></u>`]}</p>`.text).toBe('<p title="&quot;&lt;&amp;&#39;&gt;"><b>1</b><i></i><u></u></p>');
});

test('the table names every workload, time, refusal and total', () => {
  const text = renderTable(report(workloads, [...timed.slice(0, -1), outcome('model/c', 'theirs', 'peer', null)]));
  for (const part of ['model/p ×3', 'model/d ×3', 'model/c', 'too slow', '4× theirs', 'whole model', '3 ms', '63 ms', 'A processor']) expect(text).toContain(part);
  expect(text).toMatch(/^×12: twelve layers make this call\. error \/ tolerance: .*$/m);
});
