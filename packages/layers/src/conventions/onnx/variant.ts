import { additiveBias, attention, booleanMask, causal, full, keyPadding, modifier, scaledDot, softcap, window, type AttentionVariant, type Masking, type Modifier, type Term } from '@heed/core';

/** What a call of Attention asks of the four stages. */
export interface OnnxStages {
  readonly causal: boolean;
  /** Keys seen on each side of a query's position; Infinity: all. */
  readonly window: { readonly left: number; readonly right: number };
  readonly mask: 'boolean' | 'additive' | null;
  /** Whether the table keyCounts says how many keys of each sequence count. */
  readonly padding: boolean;
  readonly scale: number | null;
  /** Before bias and mask, or behind them. */
  readonly softcap: { readonly cap: number; readonly isFirst: boolean } | null;
}

/** The variant that a call of Attention computes; tables `mask`, `bias` and `keyCounts` where they are read. */
export function onnxVariant(stages: OnnxStages): AttentionVariant {
  const scoring = scaledDot(stages.scale === null ? {} : { scale: stages.scale });
  const bias: readonly Modifier[] = stages.mask === 'additive' ? [additiveBias()] : [];
  if (stages.softcap === null) return attention({ scoring: scoring.modify(...bias), masking: maskingOf(stages) });
  const cap = softcap(stages.softcap.cap);
  if (stages.softcap.isFirst) return attention({ scoring: scoring.modify(cap, ...bias), masking: maskingOf(stages) });
  return attention({ scoring: scoring.modify(...bias, forbidden(stages), cap), masking: full() });
}

function maskingOf({ causal: isCausal, window: { left, right }, mask, padding }: OnnxStages): Masking {
  const parts: readonly Masking[] = [
    ...(isCausal ? [causal()] : []),
    window({ left, right }),
    ...(mask === 'boolean' ? [booleanMask()] : []),
    ...(padding ? [keyPadding({ side: 'right' })] : []),
  ];
  return parts.reduce((all, one) => all.and(one), full());
}

/** So low that it ends at −cap however wide the cap, and finite, since devices may assume that scores are. */
const farBelow = -1e30;

/** The mask as a modifier, before a softcap that bends it: a forbidden key keeps some weight. */
function forbidden({ causal: isCausal, mask, padding }: OnnxStages): Modifier {
  return modifier('onnxMask', ({ score, batch, head, queryIndex, keyIndex, queryPosition, keyPosition, table }) => {
    const allowed: readonly Term<'bool'>[] = [
      ...(isCausal ? [keyPosition.le(queryPosition)] : []),
      ...(mask === 'boolean' ? [table('mask', ['batch', 'head', 'queryLength', 'keyLength'], 'bool').at(batch, head, queryIndex, keyIndex)] : []),
      ...(padding ? [keyIndex.lt(table('keyCounts', ['batch'], 'i32').at(batch))] : []),
    ];
    return allowed.reduce((kept, one) => one.select(kept, farBelow), score);
  });
}
