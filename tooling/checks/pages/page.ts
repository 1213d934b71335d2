/** What the pages have in common: checks of the page itself, and the way back. */
import type { PageFinding, Verdict } from './verdict.ts';

/** Everything that the Content-Security-Policy refuses from now on. */
export function violationsOfPolicy(): readonly string[] {
  const violations: string[] = [];
  document.addEventListener('securitypolicyviolation', ({ violatedDirective, sourceFile, lineNumber }) => {
    violations.push(`${violatedDirective} at ${sourceFile}:${lineNumber}`);
  });
  return violations;
}

export function expect(check: string, holds: boolean, problem: string): PageFinding {
  return { check, problems: holds ? [] : [problem] };
}

export function evalIsRefused(): boolean {
  try {
    Reflect.construct(Function, ['return 1']);
    return false;
  } catch {
    return true;
  }
}

/** Sends the verdict, or why there is none, to where the page came from. */
export async function answerWith(judge: () => Promise<Verdict>): Promise<void> {
  const answer = await judge().then(
    (verdict) => ({ path: 'verdict', body: JSON.stringify(verdict) }),
    (error: unknown) => ({ path: 'failure', body: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
  );
  await fetch(`/${answer.path}`, { method: 'POST', body: answer.body });
}
