/** A matrix in a lane's own memory: float32, rows one after another, `stride` numbers apart. What stands behind `columns` stays zero. */
export interface Matrix {
  readonly name: string;
  /** Numbers from the start of the lane's memory. */
  readonly at: number;
  readonly rows: number;
  readonly columns: number;
  readonly stride: number;
}

/** Numbers of a cache line. */
const line = 16;
/** Columns that kernels compute at once, and rows. */
const columnTile = 8;
const rowTile = 4;

/** Gives matrices their places, one after another. Rows are whole tiles of columns and there are whole tiles of rows, so that kernels know no edges. */
export class Layout {
  #size = 0;

  /** Numbers in use. */
  get size(): number {
    return this.#size;
  }

  matrix(name: string, rows: number, columns: number): Matrix {
    const stride = strideOf(columns);
    const at = this.#size;
    this.#size += Math.ceil((Math.ceil(rows / rowTile) * rowTile * stride) / line) * line;
    return { name, at, rows, columns, stride };
  }

  /** One piece of memory for matrices of the same number of rows that are not needed at once. */
  shared(name: string, rows: number, widths: readonly number[]): (columns: number) => Matrix {
    const at = this.#size;
    this.#size += Math.ceil((Math.ceil(rows / rowTile) * rowTile * strideOf(Math.max(...widths))) / line) * line;
    return (columns) => ({ name, at, rows, columns, stride: strideOf(columns) });
  }
}

/** Whole tiles; not a multiple of 32 numbers, so that the rows of a tile do not meet in the same few lines of a cache. */
function strideOf(columns: number): number {
  const whole = Math.ceil(columns / columnTile) * columnTile;
  return whole % 32 === 0 ? whole + columnTile : whole;
}
