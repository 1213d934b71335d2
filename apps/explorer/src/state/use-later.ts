import { useEffect, useState } from 'react';

/** What an asynchronous computation gives, or what went wrong; the last one asked for wins. */
export function useLater<T>(compute: () => Promise<T>, key: string): { readonly value: T | null; readonly problem: string | null } {
  const [state, setState] = useState<{ readonly value: T | null; readonly problem: string | null }>({ value: null, problem: null });
  useEffect(() => {
    let current = true;
    compute().then(
      (value) => {
        if (current) setState({ value, problem: null });
      },
      (error: unknown) => {
        if (current) setState((before) => ({ ...before, problem: error instanceof Error ? error.message : String(error) }));
      },
    );
    return () => {
      current = false;
    };
  }, [key]);
  return state;
}
