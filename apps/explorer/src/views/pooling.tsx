import { attention, dot, hardMax, maximum, none, scaledDot, scoring, softmax, type AttentionVariant } from '@heed/core';
import { useMemo, type ReactElement } from 'react';
import { HeatMap } from '../components/heat-map.tsx';
import { SideCalls } from '../model/side-call.ts';
import { useLater } from '../state/use-later.ts';
import { planeOf, type ViewProps } from './view.ts';

interface Special {
  readonly name: string;
  readonly says: string;
  readonly variant: (of: AttentionVariant) => AttentionVariant;
}

const constantScore = scoring('constant', ({ queryElement }) => queryElement.mul(0), { scale: 1 });

/** Poolings as attention: each is a choice of stages. */
const specials: readonly Special[] = [
  { name: 'mean pooling', says: 'Every score is the same, so softmax shares alike: the query is not asked.', variant: ({ masking }) => attention({ scoring: constantScore, masking, normalization: softmax() }) },
  { name: 'attention', says: 'Scores differ, so weights do.', variant: ({ masking }) => attention({ scoring: scaledDot(), masking, normalization: softmax() }) },
  { name: 'one key takes all', says: 'The limit of ever larger scores: a look-up.', variant: ({ masking }) => attention({ scoring: dot(), masking, normalization: hardMax() }) },
  { name: 'max pooling', says: 'Constant weights, and the largest value of each channel instead of a sum.', variant: ({ masking }) => attention({ scoring: scoring('one', ({ queryElement, channel }) => channel.eq(0).select(queryElement.mul(0).add(1), 0), { scale: 1 }), masking, normalization: none(), aggregation: maximum() }) },
];

/** Mean and max pooling are attention with the stages chosen so; side by side with attention itself. */
export function Pooling({ variant, described, heads, result, state, queryLabels, keyLabels, cell, onCell }: ViewProps): ReactElement {
  const calls = useMemo(() => new SideCalls(), []);
  const head = Math.min(state.head, result.heads - 1);
  const { value: results, problem } = useLater(async () => Promise.all(specials.map(async (special) => calls.run({ variant: special.variant(variant), tables: described.tables }, heads))), `${variant.masking.name} ${heads.names.join()} ${queryLabels.join(' ')} ${heads.query.shape.join()}`);
  if (results === null) return <p className="hint" role="status">{problem ?? 'Computing …'}</p>;
  return (
    <div className="columns">
      {specials.map(({ name, says }, index) => {
        const one = results[index];
        if (one?.queryLength !== queryLabels.length) return null;
        return (
          <section key={name} className="panel">
            <h3>{name}</h3>
            <p className="hint">{says}</p>
            <HeatMap title="weights" values={planeOf(one.stages.weights, head, one.queryLength * one.keyLength)} rows={one.queryLength} columns={one.keyLength} rowLabels={queryLabels} columnLabels={keyLabels} scale="sequential" cell={cell} onCell={onCell} size={210} />
            <HeatMap title="output" values={planeOf(one.output, head, one.queryLength * one.valueDim)} rows={one.queryLength} columns={one.valueDim} scale="diverging" cell={null} onCell={() => undefined} size={150} />
          </section>
        );
      })}
    </div>
  );
}

