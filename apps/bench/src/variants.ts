import { additive, alibi, attention, type AttentionVariant, causal, entmax, full, type HostTensor, type Masking, type Modifier, modifier, type Normalization, type Scoring, scaledDot, softcap, softmax, sparsemax, window } from '@heed/core';
import type { Parameters } from './inputs.ts';
import type { AttentionLayer } from './models.ts';

/** The variant of attention that a layer computes. */
export function variantOf(layer: AttentionLayer): AttentionVariant {
  return attention({ scoring: scoringOf(layer), masking: maskingOf(layer), normalization: normalizationOf(layer) });
}

function scoringOf({ scoring, scale, softcap: cap, position }: AttentionLayer): Scoring {
  const base = scoring.kind === 'additive' ? additive({ width: scoring.width }) : scaledDot({ scale });
  const modifiers: readonly (Modifier | null)[] = [
    cap === null ? null : softcap(cap),
    position.kind === 'alibi' ? alibi() : null,
    position.kind === 'decomposed' ? decomposedPositions(position.side) : null,
  ];
  return base.modify(...modifiers.filter((step) => step !== null));
}

/** score + q · height[Δy + side − 1] + q · width[Δx + side − 1] on an image of side × side, row by row (Li 2022, MViTv2, equation 4). */
function decomposedPositions(side: number): Modifier {
  return modifier('decomposedPositions', ({ score, queryPosition, keyPosition, queryTable }) => {
    const rows = 2 * side - 1;
    const height = queryPosition.floorDiv(side).sub(keyPosition.floorDiv(side)).add(side - 1);
    const width = queryPosition.mod(side).sub(keyPosition.mod(side)).add(side - 1);
    return score.add(queryTable('relativeHeight', rows).at(height)).add(queryTable('relativeWidth', rows).at(width));
  });
}

function maskingOf({ mask }: AttentionLayer): Masking {
  switch (mask.kind) {
    case 'all':
      return full();
    case 'causal':
      return causal();
    case 'causal-window':
      return window({ left: mask.left, right: 0 });
  }
}

function normalizationOf({ normalization, sink }: AttentionLayer): Normalization {
  switch (normalization) {
    case 'softmax':
      return softmax({ sink });
    case 'sparsemax':
      return sparsemax();
    case 'entmax-1.5':
      return entmax(1.5);
  }
}

/** A layer's parameters under the table names of {@link variantOf}. */
export function tablesOf({ sink, slopes, relative, additive: projected }: Parameters): Readonly<Record<string, HostTensor>> {
  return {
    ...(sink === undefined ? {} : { sink }),
    ...(slopes === undefined ? {} : { slopes }),
    ...(relative === undefined ? {} : { relativeHeight: relative.height, relativeWidth: relative.width }),
    ...(projected === undefined ? {} : { ...projected }),
  };
}
