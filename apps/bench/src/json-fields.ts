import { AttentionError } from '@heed/core';

/** The fields of a JSON object, each read with the kind it must have; anything else is an AttentionError `invalid-file`. */
export class Fields {
  readonly #object: object;
  readonly #where: string;

  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw unexpected(where, value, 'a JSON object');
    this.#object = value;
    this.#where = where;
  }

  #get(name: string): unknown {
    const value: unknown = Object.hasOwn(this.#object, name) ? Reflect.get(this.#object, name) : undefined;
    return value ?? undefined;
  }

  #read<T>(name: string, expected: string, accepts: (value: unknown) => value is T, fallback?: T): T {
    const value = this.#get(name) ?? fallback;
    if (!accepts(value)) throw unexpected(`${this.#where}: ${name}`, value, expected);
    return value;
  }

  has(name: string): boolean {
    return this.#get(name) !== undefined;
  }

  /** An integer of at least 1. Without a fallback the field is required. */
  count(name: string, fallback?: number): number {
    return this.#read(name, `an integer from 1 to ${maxCount}`, isCount, fallback);
  }

  /** An integer of at least 0. */
  index(name: string, fallback?: number): number {
    return this.#read(name, `an integer from 0 to ${maxCount}`, (value): value is number => value === 0 || isCount(value), fallback);
  }

  /** Like {@link index}; null in the file, which differs from silence, is null. */
  indexOrNull(name: string, fallback: number | null): number | null {
    return this.#nullOr(name, fallback, (given) => this.index(name, given));
  }

  positive(name: string, fallback?: number): number {
    return this.#read(name, 'a positive number', (value): value is number => typeof value === 'number' && value > 0 && Number.isFinite(value), fallback);
  }

  /** Like {@link positive}; null in the file, which differs from silence, is null. */
  positiveOrNull(name: string, fallback: number | null): number | null {
    return this.#nullOr(name, fallback, (given) => this.positive(name, given));
  }

  #nullOr(name: string, fallback: number | null, read: (fallback?: number) => number): number | null {
    if (this.has(name)) return read();
    const saysNull = Object.hasOwn(this.#object, name);
    return saysNull || fallback === null ? null : read(fallback);
  }

  flag(name: string, fallback: boolean): boolean {
    return this.#read(name, 'true or false', (value): value is boolean => typeof value === 'boolean', fallback);
  }

  text(name: string, fallback?: string): string {
    return this.#read(name, 'a text', (value): value is string => typeof value === 'string', fallback);
  }

  indices(name: string, fallback: readonly number[]): readonly number[] {
    return this.#read(name, 'a list of integers', (value): value is readonly number[] => isListOf(value, (item) => item === 0 || isCount(item)), fallback);
  }

  texts(name: string): readonly string[] {
    return this.#read(name, 'a list of texts', (value): value is readonly string[] => isListOf(value, (item) => typeof item === 'string'));
  }

  nested(name: string): Fields {
    return new Fields(this.#get(name) ?? {}, `${this.#where}: ${name}`);
  }

  /** How this file calls the field, for messages. */
  at(name: string): string {
    return `${this.#where}: ${name}`;
  }
}

// Larger than any published layer count, head count, width or length; small enough that their products stay exact.
const maxCount = 2 ** 24;

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= maxCount;
}

function isListOf(value: unknown, accepts: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(accepts);
}

/** The error for a field that is not what it must be. */
export function unexpected(where: string, got: unknown, expected: string): AttentionError {
  const text = (JSON.stringify(got) as string | undefined) ?? 'missing';
  const shown = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return new AttentionError('invalid-file', `${where} is ${shown}; expected ${expected}.`, 'Pass the config.json that is published with the weights.');
}
