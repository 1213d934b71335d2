import { useEffect, useRef, type ReactElement } from 'react';
import { paint, type Scale } from './colors.ts';

/** Numbers as an image of one pixel for each, painted again when they or the theme change. */
export function CanvasImage({ values, rows, columns, scale }: { readonly values: Float32Array; readonly rows: number; readonly columns: number; readonly scale: Scale }): ReactElement {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const repaint = (): void => {
      if (canvas.current !== null) paint(canvas.current, values, rows, columns, scale);
    };
    repaint();
    const theme = matchMedia('(prefers-color-scheme: dark)');
    theme.addEventListener('change', repaint);
    return () => theme.removeEventListener('change', repaint);
  }, [values, rows, columns, scale]);
  return <canvas ref={canvas} width={Math.max(1, columns)} height={Math.max(1, rows)} />;
}
