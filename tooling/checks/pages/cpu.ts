import { runSuite } from '@heed/conformance';
import { createCpuBackend, type CpuBackend } from '@heed/cpu';
import { answerWith, evalIsRefused, expect, violationsOfPolicy } from './page.ts';
import type { CpuQuestion, Verdict } from './verdict.ts';

/**
 * Judges the CPU backend where it is loaded, under a Content-Security-Policy that allows WebAssembly and no eval, and sends the verdict to where the page
 * came from.
 */

/** The calling thread and one worker, on machines with one core too. */
const threads = 2;

const parameters = new URLSearchParams(location.search);
const question: CpuQuestion = {
  isolated: parameters.get('isolated') === 'true',
  vectors: parameters.get('vectors') === 'wide' ? 'wide' : 'portable',
  packed: parameters.get('packed') === 'true',
  examples: Number(parameters.get('examples')),
};

const violations = violationsOfPolicy();

/** On a busy machine the compiler that packs may need more than the 40 ms of one try. */
async function create(): Promise<CpuBackend> {
  for (let count = 1; ; count += 1) {
    const backend = await createCpuBackend({ threads, vectors: question.vectors });
    if (!question.packed || backend.runtime.wide.packed || count === 50) return backend;
    await backend.dispose();
  }
}

/** Findings about the backend that the suite does not look for. */
async function describe(): Promise<Pick<Verdict, 'description' | 'findings'>> {
  const backend = await create();
  await backend.runtime.ready();
  const description = backend.runtime.describe();
  const running = backend.runtime.threads;
  const { packed } = backend.runtime.wide;
  await backend.dispose();
  const said = description.join(' ');
  return {
    description,
    findings: [
      question.isolated
        ? expect('the worker starts', running === threads && !said.includes('did not start'), said)
        : expect('without isolation one thread works, and says why', running === 1 && said.includes('cross-origin isolated'), said),
      ...(question.packed ? [expect('vectors are packed', packed, said)] : []),
    ],
  };
}

async function judge(): Promise<Verdict> {
  const findings = [
    expect('the page is isolated, or not, as asked', crossOriginIsolated === question.isolated, `crossOriginIsolated is ${crossOriginIsolated}`),
    expect('the policy refuses eval', evalIsRefused(), 'a function was made from text'),
  ];
  const described = await describe();
  const report = await runSuite(create, { examples: question.examples });
  // One is the page's own attempt.
  const policy = expect('nothing else was refused by the policy', violations.length === 1, violations.join('; '));
  return { report, description: described.description, findings: [...findings, ...described.findings, policy] };
}

await answerWith(judge);
