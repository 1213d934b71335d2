import type { PlotOptions } from '@observablehq/plot';
import { plot } from '@observablehq/plot';
import { useEffect, useRef, type ReactElement } from 'react';

/** A chart of Observable Plot; `says` is what a person who does not see it is told. */
export function Figure({ options, says }: { readonly options: PlotOptions; readonly says: string }): ReactElement {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const drawn = plot({ style: { background: 'none', color: 'inherit', fontFamily: 'inherit' }, ...options });
    // Groups without a role may have no name; what the chart says stands on the outside.
    for (const named of drawn.querySelectorAll('[aria-label]')) named.removeAttribute('aria-label');
    place.current?.replaceChildren(drawn);
  }, [options]);
  return <div className="plot" role="img" aria-label={says} ref={place} />;
}
