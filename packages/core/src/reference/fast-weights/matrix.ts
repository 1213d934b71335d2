/** A dense float64 matrix over memory that may be someone else's: a view of a state changes the state. */
export class Matrix {
  readonly rows: number;
  readonly columns: number;
  /** Row by row, [rows · columns]. */
  readonly data: Float64Array;

  constructor(rows: number, columns: number, data: Float64Array = new Float64Array(rows * columns)) {
    this.rows = rows;
    this.columns = columns;
    this.data = data;
  }

  copy(): Matrix {
    return new Matrix(this.rows, this.columns, this.data.slice());
  }

  /** Takes over all elements of a matrix of the same size. */
  set(other: Matrix): void {
    this.data.set(other.data);
  }

  row(index: number): Float64Array {
    return this.data.subarray(index * this.columns, (index + 1) * this.columns);
  }

  /** Mᵀ x, x [rows] → [columns]. */
  transposeTimes(x: Float64Array): Float64Array {
    const result = new Float64Array(this.columns);
    for (let row = 0; row < this.rows; row++) {
      const factor = x[row] ?? Number.NaN;
      for (let column = 0; column < this.columns; column++) result[column] = (result[column] ?? 0) + factor * (this.data[row * this.columns + column] ?? 0);
    }
    return result;
  }

  /** M y, y [columns] → [rows]. */
  times(y: Float64Array): Float64Array {
    return Float64Array.from({ length: this.rows }, (_, row) => dot(this.row(row), y));
  }

  /** M ← M + factor · x yᵀ. */
  addOuter(x: Float64Array, y: Float64Array, factor: number): void {
    for (let row = 0; row < this.rows; row++) {
      const scaled = factor * (x[row] ?? Number.NaN);
      for (let column = 0; column < this.columns; column++) {
        const at = row * this.columns + column;
        this.data[at] = (this.data[at] ?? 0) + scaled * (y[column] ?? Number.NaN);
      }
    }
  }

  /** M ← M + factor · N. */
  add(other: Matrix, factor: number): void {
    for (let at = 0; at < this.data.length; at++) this.data[at] = (this.data[at] ?? 0) + factor * (other.data[at] ?? 0);
  }

  /** M ← factor · M. */
  scale(factor: number): void {
    this.scaleRows(() => factor);
  }

  /** Row r times factor(r). A factor of 0 leaves zeros, whatever stood there. */
  scaleRows(factor: (row: number) => number): void {
    for (let row = 0; row < this.rows; row++) {
      const by = factor(row);
      const elements = this.row(row);
      if (by === 0) elements.fill(0);
      else for (let column = 0; column < this.columns; column++) elements[column] = by * (elements[column] ?? 0);
    }
  }
}

export function dot(x: Float64Array, y: Float64Array): number {
  let sum = 0;
  for (let index = 0; index < x.length; index++) sum += (x[index] ?? 0) * (y[index] ?? Number.NaN);
  return sum;
}

/** target ← target + factor · x. */
export function addTo(target: Float64Array, x: Float64Array, factor: number): void {
  for (let index = 0; index < target.length; index++) target[index] = (target[index] ?? 0) + factor * (x[index] ?? Number.NaN);
}
