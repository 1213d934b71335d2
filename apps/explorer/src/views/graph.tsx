import type { ReactElement } from 'react';
import { shown } from '../model/formula.ts';
import { planeOf, type ViewProps } from './view.ts';

/** The mask as a directed graph: an arrow from each key to each query that may see it, as wide as its weight. */
export function Graph({ state, result, variant, queryLabels, keyLabels, cell, onCell }: ViewProps): ReactElement {
  const head = Math.min(state.head, result.heads - 1);
  const { queryLength, keyLength } = result;
  const pairs = queryLength * keyLength;
  const weights = planeOf(result.stages.weights, head, pairs);
  const masked = planeOf(result.stages.masked, head, pairs);
  const most = weights.reduce((largest, weight) => Math.max(largest, Math.abs(weight)), 1e-9);
  const step = Math.max(18, Math.min(46, 560 / Math.max(queryLength, keyLength)));
  const height = Math.max(queryLength, keyLength) * step + 30;
  const y = (index: number): number => 24 + index * step;
  const edges = Array.from({ length: pairs }, (_, place) => ({ query: Math.floor(place / keyLength), key: place % keyLength, weight: weights[place] ?? 0, seen: (masked[place] ?? -Infinity) > -Infinity }));
  const seen = edges.filter((edge) => edge.seen);
  const drawn = seen.filter(({ query, weight }) => (cell === null ? Math.abs(weight) > 0.02 * most || seen.length < 200 : query === cell.row));
  return (
    <>
      <p>Keys are the nodes on the left, queries those on the right. Each arrow is a pair that the mask <strong>{variant.masking.name}</strong> allows: along it goes the message weight · value, and a query adds up what arrives. {seen.length} of {pairs} arrows exist.</p>
      <svg className="graph" viewBox={`0 0 640 ${height}`} role="img" aria-label={`A directed graph of ${seen.length} edges from ${keyLength} keys to ${queryLength} queries`}>
        {drawn.map(({ query, key, weight }) => (
          <path key={`${query} ${key}`} d={`M 180 ${y(key)} C 320 ${y(key)}, 320 ${y(query)}, 460 ${y(query)}`} fill="none" stroke="var(--accent)" strokeWidth={0.6 + (5 * Math.abs(weight)) / most} strokeOpacity={0.12 + (0.8 * Math.abs(weight)) / most}>
            <title>{`${keyLabels[key] ?? ''} → ${queryLabels[query] ?? ''}: ${shown(weight)}`}</title>
          </path>
        ))}
        {keyLabels.map((label, index) => <text key={index} x={172} y={y(index) + 4} textAnchor="end" fontSize="13" fill="currentColor" opacity={cell === null || seen.some(({ query, key }) => key === index && query === cell.row) ? 1 : 0.4}>{label}</text>)}
        {queryLabels.map((label, index) => <text key={index} x={468} y={y(index) + 4} fontSize="13" fill={cell?.row === index ? 'var(--ring)' : 'currentColor'}>{label}</text>)}
      </svg>
      <label className="choice">
        <span>Messages to</span>
        <select value={cell === null ? '' : cell.row} onChange={(event) => onCell(event.target.value === '' ? null : { row: Number(event.target.value), column: cell?.column ?? 0 })}>
          <option value="">every query</option>
          {queryLabels.map((label, index) => <option key={index} value={index}>{`${index + 1}. ${label}`}</option>)}
        </select>
      </label>
    </>
  );
}
