import { useCallback, useEffect, useState } from 'react';
import { fromHash, toHash, type ExplorerState } from './state.ts';

/** The state of the page, which its address says too. */
export function useExplorer(): readonly [ExplorerState, (changes: Partial<ExplorerState>) => void] {
  const [state, setState] = useState(() => fromHash(location.hash));
  useEffect(() => {
    const follow = (): void => setState(fromHash(location.hash));
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  const change = useCallback((changes: Partial<ExplorerState>) => {
    setState((before) => {
      const after = { ...before, ...changes };
      const hash = toHash(after);
      // Another view is another page of the history; a slider that moves is not.
      const address = hash === '' ? location.pathname + location.search : `#${hash}`;
      if (after.view === before.view) history.replaceState(null, '', address);
      else history.pushState(null, '', address);
      return after;
    });
  }, []);
  return [state, change];
}
