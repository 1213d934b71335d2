import { lazy, Suspense, useMemo, useState, type ComponentType, type ReactElement } from 'react';
import { Controls } from './components/controls.tsx';
import type { Cell } from './components/heat-map.tsx';
import { TextInput } from './components/text-input.tsx';
import { slowness } from './model/backends.ts';
import { headsFor, type HeadTables } from './model/heads.ts';
import { shown } from './model/formula.ts';
import { headFromTables } from './model/number-tables.ts';
import { maxTokens, tokensOf } from './model/tokens.ts';
import { uniformsOf, variantOf, type Problem } from './model/variant.ts';
import { views, type View } from './state/state.ts';
import { useExplorer } from './state/use-explorer.ts';
import { useResult } from './state/use-result.ts';
import { Stages } from './views/stages.tsx';
import type { ViewProps } from './views/view.ts';

/** What each view is called, and the question that it answers. */
const titles: Readonly<Record<View, readonly [name: string, question: string]>> = {
  stages: ['Stages', 'What happens between a query and a key?'],
  pooling: ['Attention and pooling', 'What if every key counted the same, or only one?'],
  graph: ['Graph', 'Who sends messages to whom?'],
  scale: ['Scale', 'Why divide by √d?'],
  position: ['Position', 'Does order matter?'],
  blocks: ['Blocks', 'What need not be computed?'],
  kernel: ['Kernel', 'What code was made of this?'],
  cost: ['Cost', 'What does length cost?'],
  dynamics: ['Dynamics', 'How do weights move while a text grows?'],
  state: ['State', 'What does a memory of fixed size keep?'],
};

/** Views behind the first are loaded when they are opened. */
const others: Readonly<Record<Exclude<View, 'stages'>, ComponentType<ViewProps>>> = {
  pooling: lazy(async () => ({ default: (await import('./views/pooling.tsx')).Pooling })),
  graph: lazy(async () => ({ default: (await import('./views/graph.tsx')).Graph })),
  scale: lazy(async () => ({ default: (await import('./views/scale.tsx')).ScaleView })),
  position: lazy(async () => ({ default: (await import('./views/position.tsx')).Position })),
  blocks: lazy(async () => ({ default: (await import('./views/blocks.tsx')).Blocks })),
  kernel: lazy(async () => ({ default: (await import('./views/kernel.tsx')).Kernel })),
  cost: lazy(async () => ({ default: (await import('./views/cost.tsx')).Cost })),
  dynamics: lazy(async () => ({ default: (await import('./views/dynamics.tsx')).Dynamics })),
  state: lazy(async () => ({ default: (await import('./views/state.tsx')).StateView })),
};

export function App(): ReactElement {
  const [state, change] = useExplorer();
  const [cell, onCell] = useState<Cell | null>(null);
  const [file, setFile] = useState<{ readonly name: string; readonly heads: HeadTables } | null>(null);
  const [fileProblem, setFileProblem] = useState<string | null>(null);
  const formula = JSON.stringify([state.scoring, state.modifiers, state.masking, state.normalization, state.aggregation, state.typedScore, state.typedMask]);
  const tokens = useMemo(() => tokensOf(state.text).slice(0, maxTokens), [state.text]);
  const source = useMemo((): { readonly heads: HeadTables | null; readonly problems: readonly Problem[] } => {
    if (file !== null) return { heads: file.heads, problems: [] };
    if (state.tables !== null) {
      const made = headFromTables(state.tables);
      return 'heads' in made ? { heads: made.heads, problems: [] } : { heads: null, problems: made.problems.map(({ table, message }) => ({ place: table, message })) };
    }
    return tokens.length === 0 ? { heads: null, problems: [{ place: 'text', message: 'There is no text: type a word or two.' }] } : { heads: headsFor(tokens), problems: [] };
  }, [file, state.tables, tokens]);
  const [queryLength = 1, queryDim = 16] = source.heads?.query.shape.slice(2) ?? [];
  const built = useMemo(() => variantOf(state, { queryDim, queryLength }), [formula, queryDim, queryLength]);
  const uniforms = useMemo(() => uniformsOf(built.variant, state.uniforms), [built, state.uniforms]);
  const { result, heads, problem } = useResult(state.backend, built, source.heads, uniforms);
  const problems: readonly Problem[] = [...built.problems, ...source.problems, ...(problem === null ? [] : [{ place: 'backend' as const, message: problem }]), ...(fileProblem === null ? [] : [{ place: 'text' as const, message: fileProblem }])];
  const open = async (given: File | null): Promise<void> => {
    setFileProblem(null);
    if (given === null) {
      setFile(null);
      return;
    }
    try {
      const { headsFromFile } = await import('./model/recorded.ts');
      setFile({ name: given.name, heads: await headsFromFile(given) });
      change({ head: 0 });
    } catch (error) {
      setFileProblem(error instanceof Error ? error.message : String(error));
    }
  };
  const texts = file === null && state.tables === null ? tokens : null;
  const labels = (length: number, letter: string): readonly string[] => Array.from({ length }, (_, index) => texts?.[index] ?? `${letter}${index}`);
  const slow = slowness(state.backend);
  const [name, question] = titles[state.view];
  const View = state.view === 'stages' ? Stages : others[state.view];
  return (
    <div className="page">
      <header>
        <h1><a href="#">heed</a></h1>
        <p>Attention that you can look at. Everything here is computed in this page, by the backend you pick.</p>
      </header>
      <nav aria-label="Views">{views.map((view) => <button key={view} type="button" aria-current={view === state.view ? 'page' : undefined} onClick={() => change({ view })}>{titles[view][0]}</button>)}</nav>
      <aside aria-label="The variant"><Controls state={state} variant={built.variant} queryDim={queryDim} problems={problems} change={change} /></aside>
      <main>
        <TextInput state={state} problems={problems} dropped={file?.name ?? null} change={change} onFile={(given) => void open(given)} />
        <h2>{name} <small>{question}</small></h2>
        {result === null || heads === null ? <p className="hint" role="status">{problems.length > 0 ? 'Nothing to show yet.' : 'Computing …'}</p> : (
          <Suspense fallback={<p className="hint" role="status">Loading the view …</p>}>
            <View {...{ state, change, variant: built.variant, described: built, uniforms, heads, result, cell, onCell }} queryLabels={labels(result.queryLength, 'q')} keyLabels={labels(result.keyLength, 'k')} />
          </Suspense>
        )}
      </main>
      <footer>
        <p>{result === null ? '' : `${state.backend}: ${shown(result.milliseconds)} ms for ${result.heads} heads of ${result.queryLength} × ${result.keyLength}, looking at every stage.`} {slow}</p>
      </footer>
    </div>
  );
}
