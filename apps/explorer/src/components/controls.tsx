import type { ReactElement } from 'react';
import type { AttentionVariant, UniformDeclaration } from '@heed/core';
import { aggregations, maskings, modifiers, normalizations, scorings, type Member } from '../model/members.ts';
import type { Problem } from '../model/variant.ts';
import { backends, type ExplorerState } from '../state/state.ts';

export interface ControlsProps {
  readonly state: ExplorerState;
  readonly variant: AttentionVariant;
  readonly queryDim: number;
  readonly problems: readonly Problem[];
  readonly change: (changes: Partial<ExplorerState>) => void;
}

/** The four stages, their parameters, and who computes. */
export function Controls({ state, variant, queryDim, problems, change }: ControlsProps): ReactElement {
  return (
    <form className="controls" onSubmit={(event) => event.preventDefault()}>
      <Choice label="Scoring" members={scorings} value={state.scoring} onChange={(scoring) => change({ scoring, uniforms: {} })} />
      <fieldset>
        <legend>Modifiers</legend>
        {Object.entries(modifiers).map(([name, { label, says }]) => (
          <label key={name} className="check" title={says}>
            <input type="checkbox" checked={state.modifiers.includes(name)} onChange={(event) => change({ modifiers: event.target.checked ? [...state.modifiers, name] : state.modifiers.filter((each) => each !== name), uniforms: {} })} /> {label}
          </label>
        ))}
        <Typed id="typedScore" label="your own score" placeholder="score - 0.2 * abs(q - k)" value={state.typedScore} problems={problems} onChange={(typedScore) => change({ typedScore })} />
      </fieldset>
      <Choice label="Masking" members={maskings} value={state.masking} onChange={(masking) => change({ masking, uniforms: {} })} />
      <Typed id="typedMask" label="and a rule of your own" placeholder="k <= q && (q - k) % 2 == 0" value={state.typedMask} problems={problems} onChange={(typedMask) => change({ typedMask })} />
      <Choice label="Normalization" members={normalizations} value={state.normalization} onChange={(normalization) => change({ normalization, uniforms: {} })} />
      <Choice label="Aggregation" members={aggregations} value={state.aggregation} onChange={(aggregation) => change({ aggregation, uniforms: {} })} />
      {Object.keys(variant.uniforms).length === 0 ? null : (
        <fieldset>
          <legend>Parameters</legend>
          {Object.entries(variant.uniforms).map(([name, uniform]) => (
            <Slider key={name} name={name} uniform={uniform} value={state.uniforms[name] ?? defaultOf(uniform, queryDim)} onChange={(value) => change({ uniforms: { ...state.uniforms, [name]: value } })} />
          ))}
        </fieldset>
      )}
      <label className="choice">
        <span>Computed by</span>
        <select value={state.backend} onChange={(event) => change({ backend: backends.find((name) => name === event.target.value) ?? 'cpu' })}>
          {backends.map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
      </label>
      <Problems of="backend" problems={problems} />
      <Problems of="variant" problems={problems} />
    </form>
  );
}

function Choice<T>({ label, members, value, onChange }: { readonly label: string; readonly members: Readonly<Record<string, Member<T>>>; readonly value: string; readonly onChange: (name: string) => void }): ReactElement {
  return (
    <label className="choice">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.target.value)}>
        {Object.entries(members).map(([name, member]) => <option key={name} value={name}>{member.label}</option>)}
      </select>
      <small>{members[value]?.says}</small>
    </label>
  );
}

function Typed({ id, label, placeholder, value, problems, onChange }: { readonly id: 'typedScore' | 'typedMask'; readonly label: string; readonly placeholder: string; readonly value: string; readonly problems: readonly Problem[]; readonly onChange: (text: string) => void }): ReactElement {
  const wrong = problems.some(({ place }) => place === id);
  return (
    <label className="typed">
      <span>{label}</span>
      <input type="text" spellCheck={false} autoComplete="off" value={value} placeholder={placeholder} aria-invalid={wrong} onChange={(event) => onChange(event.target.value)} />
      <Problems of={id} problems={problems} />
    </label>
  );
}

/** What is wrong at a place, said there. */
export function Problems({ of, problems }: { readonly of: Problem['place']; readonly problems: readonly Problem[] }): ReactElement | null {
  const own = problems.filter(({ place }) => place === of);
  if (own.length === 0) return null;
  return <p className="problem" role="alert">{own.map(({ message }) => message).join(' ')}</p>;
}

function defaultOf({ value }: UniformDeclaration, queryDim: number): number {
  return value === 'inverseSqrtDim' ? 1 / Math.sqrt(Math.max(1, queryDim)) : value;
}

function Slider({ name, uniform, value, onChange }: { readonly name: string; readonly uniform: UniformDeclaration; readonly value: number; readonly onChange: (value: number) => void }): ReactElement {
  const whole = uniform.type === 'i32';
  const middle = Math.max(Math.abs(typeof uniform.value === 'number' ? uniform.value : 0.5), whole ? 4 : 0.25);
  const [least, most] = [Math.max(uniform.range?.[0] ?? (whole ? 0 : -2 * middle), whole ? 0 : -2 * middle), Math.min(uniform.range?.[1] ?? Infinity, whole ? 4 * middle : 4 * middle)];
  const step = whole ? 1 : (most - least) / 200;
  return (
    <label className="slider">
      <span>{name}</span>
      <input type="range" min={whole ? least : Math.max(least, uniform.range?.[0] === undefined ? least : least + step)} max={most} step={step} value={value} onChange={(event) => onChange(Number(event.target.value))} />
      <output>{whole ? value : value.toPrecision(3)}</output>
    </label>
  );
}
