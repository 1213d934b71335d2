import type { KeyboardEvent, PointerEvent, ReactElement } from 'react';
import { shown } from '../model/formula.ts';
import { CanvasImage } from './canvas-image.tsx';
import type { Scale } from './colors.ts';

/** A cell of a heat map. */
export interface Cell {
  readonly row: number;
  readonly column: number;
}

export interface HeatMapProps {
  readonly title: string;
  /** [rows, columns], dense. */
  readonly values: Float32Array;
  readonly rows: number;
  readonly columns: number;
  readonly rowLabels?: readonly string[];
  readonly columnLabels?: readonly string[];
  readonly scale: Scale;
  /** Longest edge in CSS pixels. */
  readonly size?: number;
  readonly cell: Cell | null;
  readonly onCell: (cell: Cell | null) => void;
}

/** Numbers as colours on a canvas, one pixel of the image for each; the chosen cell is ringed, arrow keys move it. */
export function HeatMap({ title, values, rows, columns, rowLabels = [], columnLabels = [], scale, size = 260, cell, onCell }: HeatMapProps): ReactElement {
  const edge = Math.max(1, Math.min(size / Math.max(rows, columns, 1), 44));
  const fromPointer = (event: PointerEvent<HTMLElement>): void => {
    const box = event.currentTarget.getBoundingClientRect();
    const [row, column] = [Math.floor(((event.clientY - box.top) / box.height) * rows), Math.floor(((event.clientX - box.left) / box.width) * columns)];
    if (row >= 0 && row < rows && column >= 0 && column < columns) onCell({ row, column });
  };
  const onKey = (event: KeyboardEvent): void => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const { row, column } = cell ?? { row: 0, column: 0 };
    onCell({ row: Math.max(0, Math.min(rows - 1, row + (step[0] ?? 0))), column: Math.max(0, Math.min(columns - 1, column + (step[1] ?? 0))) });
  };
  const value = cell === null ? undefined : values[cell.row * columns + cell.column];
  const label = cell === null || value === undefined ? `${title}: ${rows} by ${columns}. Arrow keys choose a cell.` : `${title}, ${rowLabels[cell.row] ?? `row ${cell.row}`} to ${columnLabels[cell.column] ?? `column ${cell.column}`}: ${shown(value)}`;
  const named = rows <= 32 && rowLabels.length === rows;
  return (
    <figure className="heat-map">
      <figcaption>{title}</figcaption>
      <div className="heat-map-body">
        {named ? <ol className="labels labels-rows" aria-hidden="true">{rowLabels.map((text, row) => <li key={row} style={{ height: edge }} className={cell?.row === row ? 'is-chosen' : ''}>{text}</li>)}</ol> : null}
        <div className="cells" role="slider" aria-label={title} aria-valuetext={label} aria-valuemin={0} aria-valuemax={Math.max(0, rows * columns - 1)} aria-valuenow={cell === null ? 0 : cell.row * columns + cell.column} tabIndex={0}
          style={{ width: columns * edge, height: rows * edge }} onPointerMove={fromPointer} onPointerDown={fromPointer} onKeyDown={onKey}>
          <CanvasImage {...{ values, rows, columns, scale }} />
          {cell === null || cell.row >= rows || cell.column >= columns ? null : <span className="ring" style={{ left: cell.column * edge, top: cell.row * edge, width: edge, height: edge }} />}
        </div>
        {named && columnLabels.length === columns ? <ol className="labels labels-columns" aria-hidden="true" style={{ width: columns * edge }}>{columnLabels.map((text, column) => <li key={column} style={{ width: edge }} className={cell?.column === column ? 'is-chosen' : ''}><span>{text}</span></li>)}</ol> : null}
      </div>
      <output className="readout">{value === undefined ? ' ' : shown(value)}</output>
    </figure>
  );
}
